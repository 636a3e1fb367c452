"""What a setting of precision means on a device, and autocast in it."""

import torch

from radiffuse.config import InferencePrecision, Precision


def precision_on(device: str, chosen: InferencePrecision | None) -> Precision:
    """The precision in which a device of this type, "cuda" or "cpu", computes; None and "fastest" leave it open."""
    if chosen is None:
        return "bf16" if device == "cuda" else "fp32"
    if chosen == "fastest":
        return "bf16" if _multiplies_in_bf16(device) else "fp32"
    return chosen


def autocast(device: str, chosen: InferencePrecision | None) -> torch.autocast:
    """Autocast to bf16 where that is the precision, and none otherwise."""
    return torch.autocast(device, torch.bfloat16, enabled=precision_on(device, chosen) == "bf16")


def _multiplies_in_bf16(device: str) -> bool:
    """Whether the device has units for it: GPUs from Ampere on, CPUs with AMX.

    Without them bf16 is the slower one: `benchmarks/precision.py`, which has the figures.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
