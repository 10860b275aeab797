"""A module whose forward pass is replayed as a CUDA graph, recorded once for each shape of its input.

At small batches a GPU waits for the host, which launches hundreds of kernels in a pass; a graph launches them all at once.
"""

import threading
from typing import Any, Self

import torch
from torch import Tensor, nn

from mpvit.errors import UsageError

MAX_GRAPHS = 4
"""Maximum number of graphs that a module keeps, each with the memory of its activations."""

WARM_UPS = 3
"""Number of passes before a recording, in which libraries choose kernels and allocate memory: the same as in torch."""

_LOCK = threading.Lock()  # torch records one graph at a time, and no thread may overwrite the input of another one's replay


class GraphedModule(nn.Module):
    """A module for inference whose ``compute`` maps one tensor to one tensor and never waits for the device.

    On CUDA ``forward`` replays a graph of ``compute``. A graph keeps torch's settings (such as TF32) from its recording; hooks
    of submodules and counters of operators run only in a recording, so they must call ``compute``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._graphs: dict[object, CudaGraph] = {}

    def compute(self, x: Tensor) -> Tensor:
        """Return the output of the pass, launched operation by operation."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return ``compute(x)`` in a new tensor; a new shape, dtype or stream is recorded first."""
        refuse_gradients(x)
        if not _is_replayed(x):
            return self.compute(x)
        with _LOCK, torch.cuda.device(x.device):
            key = (x.shape, x.dtype, torch.cuda.current_stream())
            graph = self._graphs.pop(key, None)
            if graph is None:
                if len(self._graphs) == MAX_GRAPHS:
                    del self._graphs[next(iter(self._graphs))]  # the least recently used, before memory for another is taken
                graph = CudaGraph(self, x)
            self._graphs[key] = graph
            return graph.replay(x)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:  # noqa: ANN401, FBT001, FBT002 - torch's signature
        self._graphs.clear()  # they read the tensors that a move or a cast replaces
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def load_state_dict(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - torch's own
        """Load as any module does, and drop the graphs, which would not read assigned tensors."""
        self._graphs.clear()
        return super().load_state_dict(*args, **options)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the graphs out of copies and pickles."""
        return self.__dict__ | {"_graphs": {}}


class CudaGraph:
    """A recording of ``module.compute`` for inputs like ``x``, with the tensors that it reads and writes."""

    def __init__(self, module: GraphedModule, x: Tensor) -> None:
        self.weights = (*module.parameters(), *module.buffers())  # a graph has only addresses and keeps no tensor alive
        self.graph = torch.cuda.CUDAGraph()
        # Outside inference mode: an inference tensor could only be written in that mode, by calls like this one. The same holds
        # for the tensors that torch keeps for all recordings (pytorch issue 166792).
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
        # thread_local: other threads, such as a data loader's, may pin memory meanwhile.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            return module.compute(self.input)

    def replay(self, x: Tensor) -> Tensor:
        """Return a copy of the output, which the next replay overwrites."""
        self.input.copy_(x)
        self.graph.replay()
        return self.output.clone()


def refuse_gradients(x: Tensor) -> None:
    """Raise ``UsageError`` if ``x`` requires a gradient: tensors are overwritten, and no weight is a parameter."""
    if x.requires_grad and torch.is_grad_enabled():
        raise UsageError(
            "an input that requires a gradient: the fused network is only for inference and has none",
            hint="call it under torch.no_grad() or with x.detach(); for gradients use the plain network",
        )


def _is_replayed(x: Tensor) -> bool:
    return x.is_cuda and not torch.compiler.is_compiling() and not torch.cuda.is_current_stream_capturing()
