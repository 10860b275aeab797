"""``mpvit compare-attn``: attention as the number of tokens grows."""

import typer

from mpvit.attention import KINDS
from mpvit.compare_attention import CROSSING, attention_costs, met_tokens, stage_sizes, sweep, sweep_tokens
from mpvit.config import get_variant
from mpvit.tables.attention import attention_document, numerics_document
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format


def compare_attn(
    ctx: typer.Context,
    tokens: options.Tokens = 3136,
    variant: options.Variant = "xsmall",
    stage: options.Stage = 2,
    dim: options.Dim = None,
    heads: options.Heads = None,
    kind: options.Kinds = None,
    swept: options.Sweep = None,
    numerics: options.Numerics = False,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Compare the kinds of attention at N tokens and as N grows.

    Factorized attention costs 2·N·C·d multiply-adds, full softmax attention 2·N²·C: the first is linear in N.

    Examples:
      mpvit compare-attn --tokens 3136

      mpvit compare-attn --variant base --stage 5 --kind softmax,factorized --format csv
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    network = get_variant(variant).config
    sizes = stage_sizes(network, stage, tokens, dim=dim, heads=heads)
    chosen = options.parse_names(kind, KINDS, [options.ALL])
    first, last = options.parse_range(swept) if swept else (None, None)
    if numerics:
        from mpvit.attention_numerics import implied_maps, rounding_errors

        grown = sweep_tokens(tokens, first or 64, last or 4096)[::2]
        terminal.show(numerics_document(rounding_errors(chosen, sizes, grown), implied_maps(sizes)), form, output)
        return
    document = attention_document(
        attention_costs(chosen, sizes),
        sweep(chosen if kind else CROSSING, sizes, sweep_tokens(tokens, first, last)),
        met_tokens(network) if dim is None else [],
        variant,
    )
    terminal.show(document, form, output)
