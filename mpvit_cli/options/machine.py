"""Options of a measurement: device, dtype, threads and time."""

from typing import Annotated

from mpvit.measurement.options import DTYPES, TimingOptions
from mpvit_cli.options import Options, option
from mpvit_cli.options.values import number, whole

DeviceOption = Annotated[str, option("Device.", metavar="cpu|cuda|cuda:N|mps", env="MPVIT_DEVICE")]
ThreadsOption = Annotated[int | None, option("CPU threads.", parser=whole, metavar="N", default="torch's choice")]
BackwardOption = Annotated[bool, option("Time the forward and backward pass together.", "--backward")]


class MachineOptions(Options):
    """Device, dtype and threads."""

    device: DeviceOption = "cpu"
    dtype: Annotated[str, option("Dtype of weights and inputs.", choices=DTYPES)] = "float32"
    threads: ThreadsOption = None


class Timing(MachineOptions):
    """A machine, and how long each network is timed on it."""

    min_time: Annotated[
        float, option("Minimum total time of the samples of a network, in seconds.", parser=number, metavar="SECONDS")
    ] = 1.0

    def options(self) -> TimingOptions:
        """Return them as the library takes them."""
        return TimingOptions(device=self.device, dtype=self.dtype, threads=self.threads, min_time_s=self.min_time)
