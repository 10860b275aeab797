"""Whether torch records the operations that run into a graph."""


def in_torch_graph() -> bool:
    """Return whether torch compiles, exports or traces what runs: the graph must then serve every batch and image size."""
    import torch

    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]
