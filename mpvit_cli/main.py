"""The entry point: the commands, and Ctrl-C as an exit code even during imports."""

COMMANDS = {
    "flops": ("mpvit_cli.commands.flops:flops", "Count"),
    "layers": ("mpvit_cli.commands.layers:layers", "Count"),
    "reconcile": ("mpvit_cli.commands.reconcile:reconcile", "Count"),
    "compare-attn": ("mpvit_cli.commands.compare_attn:compare_attn", "Count"),
    "memory": ("mpvit_cli.commands.memory:memory", "Count"),
    "ablate": ("mpvit_cli.commands.ablate:ablate", "Count"),
    "search": ("mpvit_cli.commands.search:search", "Count"),
    "report": ("mpvit_cli.commands.report:report", "Count"),
    "bench": ("mpvit_cli.commands.bench:bench", "Measure"),
    "paths": ("mpvit_cli.commands.paths:paths", "Use"),
    "train": ("mpvit_cli.commands.train:train", "Use"),
    "eval": ("mpvit_cli.commands.eval:evaluate", "Use"),
    "predict": ("mpvit_cli.commands.predict:predict", "Use"),
    "export": ("mpvit_cli.commands.export:export", "Use"),
    "weights": ("mpvit_cli.commands.weights:COMMANDS", "Use"),
}
"""The function of each command, or the commands of a group, and its panel in the help. Only what is needed is imported."""


def main() -> int:
    """Run the command line on ``sys.argv`` and return its exit code."""
    try:
        from mpvit_cli.application import run

        return run(COMMANDS)
    except KeyboardInterrupt:
        return 130
