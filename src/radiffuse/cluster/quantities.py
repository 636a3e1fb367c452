"""Kubernetes quantities: what they may look like, and sums of them."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from radiffuse.cluster.names import schema_format

_BINARY = {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)}
_DECIMAL = {prefix: Decimal(1000) ** power for power, prefix in enumerate("kMGTPE", start=1)}
_MOST_MEMORY = 1024 * _BINARY["Ti"]
_FACTORS = {"": Decimal(1), "m": Decimal("0.001")} | _DECIMAL | _BINARY
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)")
_ABOVE_ZERO = re.compile(r"(?:0*[1-9][0-9]*(?:\.[0-9]+)?|0+\.[0-9]*[1-9][0-9]*)(?:[mkMGTPE]|[KMGTPE]i)?")
"""The same as `amount` asks for, in one expression: a schema has nothing else."""


def amount(quantity: str) -> Decimal:
    """What the quantity stands for, in cores or bytes; raises ValueError for a text that is none."""
    match = _QUANTITY.fullmatch(quantity)
    if match is None or match[2] not in _FACTORS:
        raise ValueError("must be a Kubernetes quantity above 0, such as 4, 500m, 1.5, 16Gi or 200M")
    value = Decimal(match[1]) * _FACTORS[match[2]]
    if value <= 0:
        raise ValueError("must be a Kubernetes quantity above 0, such as 4, 500m, 1.5, 16Gi or 200M")
    return value


def cores(number: Decimal) -> str:
    """That many cores as a quantity, to the thousandth: 96, or 500m."""
    return str(int(number)) if number == int(number) else f"{int(number * 1000)}m"


def memory(number_bytes: Decimal) -> str:
    """That many bytes as a quantity, in the largest binary unit that holds them exactly: 512Gi."""
    for suffix, factor in reversed(_BINARY.items()):
        if number_bytes % factor == 0:
            return f"{int(number_bytes / factor)}{suffix}"
    return str(int(number_bytes))


def _as_text(value: Any) -> Any:
    """YAML reads 4 and 1.5 as numbers; people mean the quantity."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check_cores(quantity: str) -> str:
    if (amount(quantity) * 1000) % 1 != 0:
        raise ValueError("must be a whole number of thousandths of a core, such as 2, 1.5 or 500m")
    return quantity


def _check_memory(quantity: str) -> str:
    if amount(quantity) < 1024**2:
        raise ValueError("must be at least 1Mi of memory; a plain number counts bytes, and m thousandths of a byte")
    if amount(quantity) > _MOST_MEMORY:
        raise ValueError("must be at most 1024Ti")
    return quantity


def _check_any(quantity: str) -> str:
    amount(quantity)
    return quantity


Cores = Annotated[
    str, BeforeValidator(_as_text), AfterValidator(_check_cores), schema_format("CPU quantity", _ABOVE_ZERO)
]
Memory = Annotated[
    str, BeforeValidator(_as_text), AfterValidator(_check_memory), schema_format("memory quantity", _ABOVE_ZERO)
]
Quantity = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_any), schema_format("quantity", _ABOVE_ZERO)]
