"""CheXpert's published layout: `train.csv` and `CheXpert-v1.0*/train/patientNNNNN/studyN/viewN_frontal.jpg`.

Irvin et al. 2019, arXiv:1901.07031. A row is frontal when its `Frontal/Lateral` says so and its projection is AP or PA.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from radiffuse.data.candidates import FRONTAL_VIEWS, SCHEMA, Candidates
from radiffuse.data.labels import LABELS
from radiffuse.data.table import find_duplicates, read_labels, refuse_paths_outside, refuse_rows
from radiffuse.errors import DataError

_COLUMNS = {"Path": pa.string(), "Frontal/Lateral": pa.string(), "AP/PA": pa.string()}
# The first folder of a path names the edition (CheXpert-v1.0, CheXpert-v1.0-small); the one on disk may be renamed.
_PATH = (
    r"^(?:[^/]+/)*?(?P<path>(?:train|valid)/(?P<subject>patient[0-9]+)/(?P<study>study[0-9]+)/"
    r"view[0-9]+_(?:frontal|lateral)\.(?:jpg|png))$"
)
_EXAMPLE_PATH = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"


def read_chexpert(source: Path) -> Candidates:
    """Read `source`: the folder of the edition, the folder around it, or the table itself where images lie elsewhere.

    Raises DataError that names the table and the line when it is not as published.
    """
    path = find_table(source)
    table = read_labels(path, _COLUMNS, LABELS)
    refuse_paths_outside(path, table.column("Path"))
    parts = pc.extract_regex(table.column("Path"), _PATH)
    refuse_rows(path, pc.is_null(parts), f"Path must look like {_EXAMPLE_PATH}")
    # Editions are the same images under another first folder.
    images = table.set_column(table.column_names.index("Path"), "Path", _field(parts, "path"))
    is_duplicate = find_duplicates(path, images, "Path")
    subject = _field(parts, "subject")
    columns = {
        "path": _field(parts, "path"),
        "subject": subject,
        "study": pc.binary_join_element_wise(subject, _field(parts, "study"), "/"),
        "view_position": table.column("AP/PA"),
        "report": pa.nulls(table.num_rows, pa.string()),
        "published_split": pa.nulls(table.num_rows, pa.string()),
        "excluded": _exclusions(table, is_duplicate),
        **{label: table.column(label) for label in LABELS},
    }
    return Candidates("chexpert", path.parent, (path,), pa.table(columns, schema=SCHEMA))


def find_table(source: Path) -> Path:
    """The table of training images below `source`, or `source` itself when it is a file. Raises DataError."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"no such folder: {source}; give the one that holds CheXpert-v1.0 or its train.csv")
    found = [path for path in (source / "train.csv", source / "train.csv.gz") if path.is_file()]
    if not found:
        found = sorted(path for path in source.glob("CheXpert-v1.0*/train.csv*") if path.suffix in (".csv", ".gz"))
    if not found:
        raise DataError(f"no train.csv in {source} or in a CheXpert-v1.0* folder below it; is this CheXpert's layout?")
    if len({path.parent for path in found}) > 1:
        editions = ", ".join(path.parent.name for path in found)
        raise DataError(f"{source} holds several editions ({editions}); give the folder of one of them")
    return found[0]


def _exclusions(table: pa.Table, is_duplicate: Any) -> Any:
    is_lateral = pc.not_equal(table.column("Frontal/Lateral"), "Frontal")
    is_other = pc.invert(pc.is_in(table.column("AP/PA"), value_set=pa.array(FRONTAL_VIEWS)))
    reasons = pc.make_struct(pa.array(np.asarray(is_duplicate)), is_lateral, is_other)
    return pc.case_when(reasons, "duplicate", "lateral", "projection", pa.scalar(None, pa.string()))


def _field(parts: Any, name: str) -> Any:
    return pc.struct_field(parts, [name])
