import pytest
import torch

from radiffuse.config import InferencePrecision
from radiffuse.precision import autocast, precision_on


@pytest.mark.parametrize(
    ("chosen", "has_units", "on_gpu", "on_cpu"),
    [
        (None, False, "bf16", "fp32"),
        (None, True, "bf16", "fp32"),
        ("fp32", True, "fp32", "fp32"),
        ("bf16", False, "bf16", "bf16"),
        ("fastest", False, "fp32", "fp32"),
        ("fastest", True, "bf16", "bf16"),
    ],
)
def test_what_a_precision_means_on_devices_with_and_without_units_for_bf16(
    monkeypatch: pytest.MonkeyPatch, chosen: InferencePrecision | None, has_units: bool, on_gpu: str, on_cpu: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_units})
    # Older GPUs compute bf16 all the same, by other means and slowly.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_units or including_emulation
    )
    assert (precision_on("cuda", chosen), precision_on("cpu", chosen)) == (on_gpu, on_cpu)


def test_a_processor_that_says_nothing_of_amx_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert precision_on("cpu", "fastest") == "fp32"


@pytest.mark.parametrize(("chosen", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_products_are_taken_in_the_precision_chosen(chosen: InferencePrecision, dtype: torch.dtype) -> None:
    matrix = torch.ones(2, 2)
    with autocast("cpu", chosen):
        assert (matrix @ matrix).dtype == dtype
