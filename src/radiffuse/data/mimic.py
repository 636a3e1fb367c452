"""MIMIC-CXR-JPG's published layout: tables beside `files/p10/p10000032/s50414267/<dicom_id>.jpg`, reports as `s*.txt`.

Johnson et al. 2019, arXiv:1901.07042. The reports come from MIMIC-CXR and go into the same tree. Labels are per study.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from radiffuse.data.candidates import FRONTAL_VIEWS, SCHEMA, Candidates
from radiffuse.data.labels import LABELS
from radiffuse.data.table import find_duplicates, read_labels, read_table, refuse_rows
from radiffuse.errors import DataError

_METADATA = {"dicom_id": pa.string(), "subject_id": pa.string(), "study_id": pa.string(), "ViewPosition": pa.string()}
_STUDY = {"subject_id": pa.string(), "study_id": pa.string()}
_SPLIT = {"dicom_id": pa.string(), "split": pa.string()}
_SPLIT_NAMES = {"train": "train", "validate": "validation", "test": "test"}
_LATERAL_VIEWS = ("LATERAL", "LL", "RL", "XTABLE LATERAL")


def read_mimic(source: Path) -> Candidates:
    """Read `source`: the folder of the tables, or the metadata table itself.

    Labels come from `*-chexpert.csv.gz`, or from `*-negbio.csv.gz` where that one is missing; the split table is
    optional. Tables may be gunzipped. Raises DataError that names the table and the line when one is not as published.
    """
    path = _find_metadata(source)
    table = read_table(path, _METADATA)
    _refuse_bad_identifiers(path, table)
    is_duplicate = find_duplicates(path, table, "dicom_id")
    label_path = _find_beside(path, "chexpert", "negbio")
    if label_path is None:
        raise DataError(f"no labels beside {path}: expected mimic-cxr-*-chexpert.csv.gz or mimic-cxr-*-negbio.csv.gz")
    labels = _labels_of(label_path, table)
    split_path = _find_beside(path, "split")
    study = _join(
        "files/p", pc.utf8_slice_codeunits(table.column("subject_id"), 0, 2), "/p", table.column("subject_id")
    )
    study = _join(study, "/s", table.column("study_id"))
    columns = {
        "path": _join(study, "/", table.column("dicom_id"), ".jpg"),
        "subject": table.column("subject_id"),
        "study": study,
        "view_position": table.column("ViewPosition"),
        "report": _join(study, ".txt"),
        "published_split": pa.nulls(table.num_rows, pa.string()) if split_path is None else _splits(split_path, table),
        "excluded": _exclusions(table, is_duplicate, labels.column("is_missing")),
        **{label: labels.column(label) for label in LABELS},
    }
    tables = tuple(found for found in (path, label_path, split_path) if found is not None)
    return Candidates("mimic", path.parent, tables, pa.table(columns, schema=SCHEMA))


def _find_metadata(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"no such folder: {source}; give the one that holds mimic-cxr-2.0.0-metadata.csv.gz")
    found = _tables(source, "metadata")
    if not found:
        raise DataError(f"no mimic-cxr-*-metadata.csv.gz in {source}; is this MIMIC-CXR-JPG's layout?")
    return found[0]


def _find_beside(path: Path, *kinds: str) -> Path | None:
    """The first table of the kinds in the folder, in the order of the kinds."""
    found = [table for kind in kinds for table in _tables(path.parent, kind)]
    return found[0] if found else None


def _tables(folder: Path, kind: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"mimic-cxr-*-{kind}.csv*") if path.suffix in (".csv", ".gz"))


def _refuse_bad_identifiers(path: Path, table: pa.Table) -> None:
    """Identifiers become folder names, so they may hold nothing else than published ones do."""
    for name, pattern, rule in (
        ("subject_id", r"^[0-9]{8}$", "subject_id must have 8 digits"),
        ("study_id", r"^[0-9]{8}$", "study_id must have 8 digits"),
        ("dicom_id", r"^[0-9a-f]+(-[0-9a-f]+)*$", "dicom_id must be hexadecimal groups; it names a file in the folder"),
    ):
        refuse_rows(path, pc.invert(pc.match_substring_regex(table.column(name), pattern)), rule)


def _labels_of(path: Path, images: pa.Table) -> pa.Table:
    """The labels of each image's study, and `is_missing` where the study has none."""
    labels = read_labels(path, _STUDY, LABELS)
    keep = np.flatnonzero(~find_duplicates(path, labels, "study_id"))
    labels = labels.take(pa.array(keep))
    rows = pc.index_in(images.column("study_id"), value_set=labels.column("study_id").combine_chunks())
    matched = labels.take(rows)
    contradicts = pc.not_equal(matched.column("subject_id"), images.column("subject_id"))
    if pc.any(contradicts).as_py():
        raise DataError(f"{path} gives a study to another patient than the metadata table; fetch both again")
    return matched.append_column("is_missing", pc.is_null(rows))


def _splits(path: Path, images: pa.Table) -> Any:
    """train, validation or test of each image; null where the table does not list it."""
    table = read_table(path, _SPLIT)
    known = pc.is_in(table.column("split"), value_set=pa.array(list(_SPLIT_NAMES)))
    refuse_rows(path, pc.invert(known), f"split must be one of {', '.join(_SPLIT_NAMES)}")
    rows = pc.index_in(images.column("dicom_id"), value_set=table.column("dicom_id").combine_chunks())
    published = pc.index_in(table.column("split").take(rows), value_set=pa.array(list(_SPLIT_NAMES)))
    return pa.chunked_array([pa.array(list(_SPLIT_NAMES.values())).take(published.combine_chunks())])


def _exclusions(table: pa.Table, is_duplicate: Any, is_unlabelled: Any) -> Any:
    view = table.column("ViewPosition")
    is_lateral = pc.is_in(view, value_set=pa.array(_LATERAL_VIEWS))
    is_other = pc.invert(pc.is_in(view, value_set=pa.array(FRONTAL_VIEWS)))
    reasons = pc.make_struct(pa.array(is_duplicate), is_lateral, is_other, is_unlabelled)
    return pc.case_when(reasons, "duplicate", "lateral", "projection", "no_label", pa.scalar(None, pa.string()))


def _join(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")
