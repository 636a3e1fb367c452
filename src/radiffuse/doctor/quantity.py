"""Kubernetes quantities as servers write them, which may be 0, and as people read them."""

from decimal import Decimal, InvalidOperation
from typing import Any

from radiffuse.cluster.fields import field
from radiffuse.cluster.quantities import amount, cores, memory


def quantity(document: Any, *path: str) -> Decimal | None:
    """The quantity at a path, in cores, bytes or pieces; None when there is none."""
    value = field(document, *path)
    if not isinstance(value, str | int):
        return None
    try:
        return amount(str(value))
    except ValueError:
        pass
    try:
        return Decimal(str(value))  # 0, and numbers with an exponent
    except InvalidOperation:
        return None


def shown(resource: str, value: Decimal) -> str:
    """An amount of that resource, in its usual unit."""
    if resource.endswith(("memory", "storage")) and value > 0:
        return memory(value)
    return cores(value)
