"""Which rows of a table of candidates carry a label, alone or not."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from radiffuse.data.labels import LABELS


def is_positive(table: pa.Table, label: str) -> Any:
    """Mask of the rows where the label is 1."""
    return pc.fill_null(pc.equal(table.column(label), 1), False)


def is_uncertain(table: pa.Table, label: str) -> Any:
    """Mask of the rows where the label is -1."""
    return pc.fill_null(pc.equal(table.column(label), -1), False)


def is_alone(table: pa.Table, label: str) -> Any:
    """Mask of the rows where the label is 1 and none of the other 13 is positive or uncertain.

    Support Devices counts like every other label. The labeller lets `No Finding` stand beside it, but a picture that is
    meant to show a normal chest, or an effusion and nothing else, should not show a tube.
    """
    mask = is_positive(table, label)
    for other in LABELS:
        if other != label:
            mask = pc.and_(mask, pc.equal(pc.fill_null(table.column(other), 0), 0))
    return mask
