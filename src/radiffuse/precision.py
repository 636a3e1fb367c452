"""What a setting of precision means on a device, and autocast in it."""

import torch

from radiffuse.config import InferencePrecision, Precision


def precision_on(device: str, chosen: InferencePrecision | None) -> Precision:
    """The precision in which a device of this type, "cuda" or "cpu", computes; None and "fastest" leave it open."""
    if chosen is None:
        return "bf16" if device == "cuda" else "fp32"
    if chosen == "fastest":
        return "bf16" if device == "cuda" or _cpu_multiplies_in_bf16() else "fp32"
    return chosen


def autocast(device: str, chosen: InferencePrecision | None) -> torch.autocast:
    """Autocast to bf16 where that is the precision, and none otherwise."""
    return torch.autocast(device, torch.bfloat16, enabled=precision_on(device, chosen) == "bf16")


def _cpu_multiplies_in_bf16() -> bool:
    """Whether it has units for it (AMX), which draw in two thirds of the time of fp32.

    With AVX512-BF16 alone it takes longer than fp32, with plain AVX512 three times and without that 19 times as long:
    our own trials with the demo's U-Net, oneDNN held to each of these.
    """
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
