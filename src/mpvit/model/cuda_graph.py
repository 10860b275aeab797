"""A module's forward as CUDA graphs: recorded once for each shape of its input, then replayed in one launch.

At small batches a GPU waits for the host, which launches hundreds of kernels a pass; a graph launches them all at once.
"""

import threading
from collections.abc import Callable
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from mpvit.errors import UsageError

Value = TypeVar("Value")

GRAPHS = 4
"""So many graphs a module keeps, each with the memory of its activations; the least recently used goes first."""

WARM_UPS = 3
"""Passes before a recording, in which libraries choose their kernels and take memory: as many as torch's own."""

_LOCK = threading.Lock()  # torch records one graph at a time; and no thread is to write an input that another one replays


class GraphedModule(nn.Module):
    """A module for inference that maps one tensor to one by ``compute``, which never waits for its device.

    On CUDA ``forward`` replays a graph of ``compute``. A graph holds torch's settings (such as TF32) of its recording; hooks
    of submodules and counters of operations see a recording, no replay: they watch ``compute``.
    """

    def __init__(self) -> None:
        """Start without a graph."""
        super().__init__()
        self._graphs: dict[object, _Graph] = {}

    def compute(self, x: Tensor) -> Tensor:
        """Return what ``forward`` does, launched operation by operation."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return ``compute(x)``, a tensor of its own; a new shape, dtype or stream is recorded first."""
        refuse_gradients(x)
        if not x.is_cuda or torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing():
            return self.compute(x)
        with _LOCK, torch.cuda.device(x.device):
            key = (x.shape, x.dtype, torch.cuda.current_stream())
            return recall(self._graphs, key, lambda: _Graph(self, x), GRAPHS).replay(x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        self._graphs.clear()  # they read the tensors that a move or a cast replaces
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def load_state_dict(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - torch's own
        """Load as any module does; the graphs, which would not see tensors that are assigned, are recorded anew."""
        self._graphs.clear()
        return super().load_state_dict(*args, **options)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the graphs out of copies and pickles."""
        return self.__dict__ | {"_graphs": {}}


class _Graph:
    """One recorded pass, and the tensors that it reads and writes."""

    def __init__(self, module: GraphedModule, x: Tensor) -> None:
        self.weights = (*module.parameters(), *module.buffers())  # a graph knows addresses alone and keeps nothing alive
        self.graph = torch.cuda.CUDAGraph()
        # Outside inference mode, whatever the caller's: a tensor of inference mode could be written in it alone, by calls like
        # this one; and so would be those that torch keeps for all recordings (pytorch issue 166792).
        with torch.inference_mode(mode=False), torch.no_grad():
            self.input = x.clone()
            self.output = self._record(module)

    def _record(self, module: GraphedModule) -> Tensor:
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                module.compute(self.input)
        current.wait_stream(stream)
        # thread_local: a data loader's thread, say, may go on pinning memory.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            return module.compute(self.input)

    def replay(self, x: Tensor) -> Tensor:
        """Return a copy of the output, which the next replay overwrites."""
        self.input.copy_(x)
        self.graph.replay()
        return self.output.clone()


def refuse_gradients(x: Tensor) -> None:
    """Raise ``UsageError`` where ``x`` is to get a gradient: tensors are overwritten, and no weight is a parameter."""
    if x.requires_grad and torch.is_grad_enabled():
        raise UsageError(
            "an input that requires a gradient: the fused network is for inference alone and has none",
            hint="call it under torch.no_grad() or with x.detach(); for gradients take the plain network",
        )


def recall(kept: dict[object, Value], key: object, make: Callable[[], Value], limit: int) -> Value:
    """Return ``kept[key]``, made where it is missing; first, of ``limit`` values the least recently recalled is let go."""
    if key not in kept and len(kept) == limit:
        del kept[next(iter(kept))]
    kept[key] = value = kept.pop(key) if key in kept else make()
    return value
