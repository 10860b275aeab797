"""On which machine, in which numbers and for how long a network runs."""

from typing import Annotated

import typer

from mpvit.measurement.options import DTYPES
from mpvit_cli.options.reading import complete, number, whole

Device = Annotated[str, typer.Option(metavar="cpu|cuda|cuda:N|mps", help="Where it runs.", envvar="MPVIT_DEVICE")]
Dtype = Annotated[str, typer.Option(metavar="|".join(DTYPES), help="Numbers it runs in.", autocompletion=complete(DTYPES))]
Threads = Annotated[
    int | None, typer.Option(parser=whole, metavar="N", help="CPU threads. (default: torch's choice)", show_default=False)
]
MinTime = Annotated[float, typer.Option(parser=number, metavar="SECONDS", help="Samples of each network that is timed.")]
Backward = Annotated[bool, typer.Option("--backward", help="Time forward and backward together.")]
