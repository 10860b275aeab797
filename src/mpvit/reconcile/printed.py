"""How each tool prints a number of multiply-adds, so that a reader recognises it."""

from mpvit.units import FLOPS_PER_MAC


def flops(macs: int) -> str:
    """As torch's counter returns it: two FLOPs a multiply-add."""
    return f"{FLOPS_PER_MAC * macs} FLOPs"


def whole(macs: int) -> str:
    """As fvcore returns it."""
    return f"{macs}"


def real(macs: int) -> str:
    """As thop returns it: a float."""
    return f"{float(macs)}"


def torchinfo(macs: int) -> str:
    """As torchinfo's summary has it."""
    for unit, size in (("TERABYTES", 10**12), ("GIGABYTES", 10**9), ("MEGABYTES", 10**6)):
        if macs >= size or size == 10**6:
            return f"Total mult-adds (Units.{unit}): {macs / size:,.2f}"
    raise AssertionError


def ptflops(macs: int) -> str:
    """As ptflops has it."""
    for unit, size in (("GMac", 10**9), ("MMac", 10**6), ("KMac", 10**3)):
        if macs >= size:
            return f"{round(macs / size, 2)} {unit}"
    return f"{macs} Mac"


def profiler(macs: int) -> str:
    """As calflops and DeepSpeed have it."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if macs >= size:
            return f"{round(macs / size, 2):g} {unit}MACs"
    return f"{macs} MACs"
