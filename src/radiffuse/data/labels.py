"""The labels that CheXpert and MIMIC-CXR-JPG share: 1 positive, 0 negative, -1 uncertain, blank not mentioned."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

NO_FINDING = "No Finding"
PLEURAL_EFFUSION = "Pleural Effusion"
# In the order of CheXpert's train.csv.
LABELS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    PLEURAL_EFFUSION,
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
PATHOLOGIES = LABELS[1:]


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
