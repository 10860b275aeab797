"""The options of every command and study that measures time."""

from dataclasses import dataclass
from math import isfinite

from mpvit.devices import parse_device
from mpvit.errors import UsageError, unknown_name
from mpvit.measurement import Measurement
from mpvit.units import ITEM_BYTES

DTYPES = tuple(ITEM_BYTES)
"""Data types of weights and inputs."""

TF32 = "tf32"
"""float32 with matrix products and convolutions that CUDA's tensor cores compute in TF32. In float32 itself they do not."""

MAX_THREADS = 1024
"""Maximum number of CPU threads; a larger number is a typing error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingOptions:
    """What is timed, where, and for how long. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        device: cpu, cuda, cuda:INDEX or mps.
        dtype: data type of weights and inputs, one of ``DTYPES``; or ``TF32``, on CUDA only.
        threads: CPU threads of one operation; None for torch's own choice. One is steadier if other programs run.
        backward: whether the forward and backward pass is timed, instead of the forward pass only.
        min_time_s: minimum total time of the samples of each case, in seconds.
        budget_s: maximum time of the whole run, in seconds; None for no limit.
    """

    device: str = "cpu"
    dtype: str = "float32"
    threads: int | None = None
    backward: bool = False
    min_time_s: float = 2.0
    budget_s: float | None = None

    def __post_init__(self) -> None:
        """Check every field once."""
        if self.dtype not in (*DTYPES, TF32):
            raise unknown_name("dtype", self.dtype, (*DTYPES, TF32))
        require_seconds("min_time_s", self.min_time_s)
        if self.budget_s is not None:
            require_seconds("budget_s", self.budget_s)
        if self.threads is not None and not 1 <= self.threads <= MAX_THREADS:
            raise UsageError(f"threads = {self.threads}: must be from 1 to {MAX_THREADS}")
        device = parse_device(self.device)
        if self.dtype == TF32 and device.type != "cuda":
            raise UsageError(f"dtype {TF32!r} on {self.device}: must be on CUDA", hint="choose float32 or bfloat16")

    @property
    def element_dtype(self) -> str:
        """Data type of the elements of weights and inputs, one of ``DTYPES``."""
        return "float32" if self.dtype == TF32 else self.dtype

    def unmeasured(self, name: str, *, error: str = "", stopped: str = "") -> Measurement:
        """Return a measurement without samples that gives the reason."""
        import torch

        threads = torch.get_num_threads()
        return Measurement(name=name, device=self.device, dtype=self.dtype, threads=threads, error=error, stopped=stopped)


def require_seconds(field: str, seconds: float) -> None:
    """Raise ``UsageError`` unless the argument called ``field`` is a finite number of seconds above 0."""
    if not (seconds > 0 and isfinite(seconds)):
        raise UsageError(f"{field} = {seconds}: must be a number of seconds above 0")
