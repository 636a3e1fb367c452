import pytest
import torch

from radiffuse.config import InferencePrecision
from radiffuse.precision import autocast, precision_on


@pytest.mark.parametrize(
    ("chosen", "on_gpu", "on_cpu", "on_cpu_with_amx"),
    [
        (None, "bf16", "fp32", "fp32"),
        ("fp32", "fp32", "fp32", "fp32"),
        ("bf16", "bf16", "bf16", "bf16"),
        ("fastest", "bf16", "fp32", "bf16"),
    ],
)
def test_what_a_precision_means_on_each_device(
    monkeypatch: pytest.MonkeyPatch,
    chosen: InferencePrecision | None,
    on_gpu: str,
    on_cpu: str,
    on_cpu_with_amx: str,
) -> None:
    for has_amx, expected in ((False, on_cpu), (True, on_cpu_with_amx)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has_amx=has_amx: {"amx_bf16": has_amx})
        assert precision_on("cpu", chosen) == expected
        assert precision_on("cuda", chosen) == on_gpu


def test_a_processor_that_says_nothing_of_amx_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert precision_on("cpu", "fastest") == "fp32"


@pytest.mark.parametrize(("chosen", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_products_are_taken_in_the_precision_chosen(chosen: InferencePrecision, dtype: torch.dtype) -> None:
    matrix = torch.ones(2, 2)
    with autocast("cpu", chosen):
        assert (matrix @ matrix).dtype == dtype
