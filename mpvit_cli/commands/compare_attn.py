"""``mpvit compare-attn``: attention as the number of tokens grows."""

import typer

from mpvit.attention import KINDS
from mpvit.compare_attention import CROSSING, attention_costs, met_tokens, stage_sizes, sweep, sweep_tokens
from mpvit.config import get_variant
from mpvit.errors import UsageError
from mpvit.results import AttentionPoint
from mpvit.tables.attention import attention_document, measured_document, numerics_document
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

_MEASURED_TOKENS = (64, 65_536)
_NUMERICS_TOKENS = (64, 4096)


def compare_attn(
    ctx: typer.Context,
    tokens: options.Tokens = 3136,
    variant: options.Variant = "xsmall",
    stage: options.Stage = 2,
    dim: options.Dim = None,
    heads: options.Heads = None,
    kind: options.Kinds = None,
    swept: options.Sweep = None,
    measure: options.Measure = False,
    backward: options.Backward = False,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    budget: options.Budget = 60.0,
    numerics: options.Numerics = False,
    plot: options.Plot = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Compare the kinds of attention at N tokens and as N grows, in closed form or measured.

    Factorized attention costs 2·N·C·d multiply-adds, full softmax attention 2·N²·C: the first is linear in N.

    Examples:
      mpvit compare-attn --tokens 3136

      mpvit compare-attn --measure --kind softmax,sdpa,factorized --plot growth.svg
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    if measure and numerics:
        raise UsageError("--measure with --numerics: must be one of them")
    network = get_variant(variant).config
    sizes = stage_sizes(network, stage, tokens, dim=dim, heads=heads)
    chosen = options.parse_names(kind, KINDS, [options.ALL])
    ends = options.parse_range(swept) if swept else _MEASURED_TOKENS if measure else _NUMERICS_TOKENS if numerics else ()
    at = sweep_tokens(tokens, *ends)
    points: list[AttentionPoint] = []
    interrupted = False
    if numerics:
        from mpvit.attention_numerics import implied_maps, rounding_errors

        document = numerics_document(rounding_errors(chosen, sizes, at[::2]), implied_maps(sizes))
    elif measure:
        from mpvit.attention_growth import crossings, growths
        from mpvit.measure_attention import measure as measured
        from mpvit.measure_attention import parse_setting

        setting = parse_setting(budget_s=budget, device=device, dtype=dtype, backward=backward)
        answers = measured(chosen, sizes, at, setting)
        interrupted = terminal.collect(answers, "Measuring", len(chosen) * len(at), into=points)
        document = measured_document(points, growths(points), crossings(points))
    else:
        met = met_tokens(network) if dim is None else []
        swept_kinds = sweep(chosen if kind else CROSSING, sizes, at)
        document = attention_document(attention_costs(chosen, sizes), swept_kinds, met, variant)
    terminal.show(document, form, output)
    if plot:
        from mpvit.plots import save_figure
        from mpvit.plots.attention import attention_figure

        save_figure(attention_figure(sweep(chosen, sizes, at), points), plot)
        terminal.note(f"wrote {plot}")
    if interrupted:
        raise typer.Exit(130)
