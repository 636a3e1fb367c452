"""CheXpert's and MIMIC-CXR-JPG's layouts as their publishers write them: paths, tables and columns.

CheXpert: Irvin et al. 2019. MIMIC-CXR-JPG 2.0.0: Johnson et al. 2019, with the reports of MIMIC-CXR in the same tree.
"""

import csv
import gzip
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from radiffuse.data.labels import LABELS
from radiffuse.data.patient import ImagePlan, Patient, Study
from radiffuse.data.report_text import compose_report, name_examination

Row = tuple[str, ...]

_CHEXPERT_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)
_METADATA_COLUMNS = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)
TABLES: dict[str, dict[str, Row]] = {
    "chexpert": {"train.csv": _CHEXPERT_COLUMNS, "valid.csv": _CHEXPERT_COLUMNS},
    "mimic": {
        "mimic-cxr-2.0.0-metadata.csv.gz": _METADATA_COLUMNS,
        "mimic-cxr-2.0.0-chexpert.csv.gz": ("subject_id", "study_id", *sorted(LABELS)),
        "mimic-cxr-2.0.0-split.csv.gz": ("dicom_id", "study_id", "subject_id", "split"),
    },
}
_EDITION = "CheXpert-v1.0-small"
_VIEW_NAMES = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral"}


@dataclass(frozen=True)
class PlacedImage:
    """Where an image goes, relative to the dataset's folder, and what it shows."""

    path: str
    plan: ImagePlan
    study: Study
    visit: int
    dicom_id: str = ""


def place_images(layout: str, seed: int, patient: Patient) -> list[PlacedImage]:
    """Every image of a patient with its path in that layout."""
    placed = []
    for visit, study in enumerate(patient.studies, start=1):
        for view, plan in enumerate(study.images, start=1):
            if layout == "chexpert":
                kind = "lateral" if plan.view == "LATERAL" else "frontal"
                name = f"{chexpert_split(patient)}/patient{patient.number:05d}/study{visit}/view{view}_{kind}.jpg"
                placed.append(PlacedImage(name, plan, study, visit))
            else:
                dicom_id = _dicom_id(seed, patient.number, visit, view)
                name = f"{_study_folder(patient, visit)}/{dicom_id}.jpg"
                placed.append(PlacedImage(name, plan, study, visit, dicom_id))
    return placed


def table_rows(
    layout: str, patient: Patient, images: list[PlacedImage], shapes: list[tuple[int, int]]
) -> dict[str, list[Row]]:
    """A patient's rows by table; shapes: (rows, columns) of each image."""
    if layout == "chexpert":
        return {f"{chexpert_split(patient)}.csv": [_chexpert_row(patient, image) for image in images]}
    labels = [_mimic_labels(patient, study, visit) for visit, study in enumerate(patient.studies, start=1)]
    return {
        "mimic-cxr-2.0.0-metadata.csv.gz": [
            _metadata_row(patient, image, shape) for image, shape in zip(images, shapes, strict=True)
        ],
        "mimic-cxr-2.0.0-chexpert.csv.gz": labels,
        "mimic-cxr-2.0.0-split.csv.gz": [
            (image.dicom_id, _study_id(patient, image.visit), _subject_id(patient), _mimic_split(patient))
            for image in images
        ],
    }


def reports(layout: str, patient: Patient) -> dict[str, str]:
    """Relative path -> text of a patient's reports; CheXpert has none."""
    if layout == "chexpert":
        return {}
    visits = enumerate(patient.studies, start=1)
    return {f"{_study_folder(patient, visit)}.txt": compose_report(study) for visit, study in visits}


def write_tables(folder: Path, layout: str, rows: dict[str, list[Row]]) -> None:
    """Write every table of the layout, also those without rows; equal rows give equal bytes."""
    for name, columns in TABLES[layout].items():
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([columns, *rows.get(name, [])])
        data = text.getvalue().encode()
        (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)


def chexpert_split(patient: Patient) -> str:
    """The folder and the table a patient is in: valid for every fiftieth, else train."""
    return "valid" if patient.number % 50 == 0 else "train"


def _mimic_split(patient: Patient) -> str:
    return {0: "test", 25: "validate"}.get(patient.number % 50, "train")


def _chexpert_row(patient: Patient, image: PlacedImage) -> Row:
    is_lateral = image.plan.view == "LATERAL"
    values = [_label_text(image.study, label) for label in LABELS]
    if chexpert_split(patient) == "valid":  # radiologists read these: every label is 1.0 or 0.0
        values = ["1.0" if value in ("1.0", "-1.0") else "0.0" for value in values]
    views = ("Lateral", "") if is_lateral else ("Frontal", image.plan.view)
    return (f"{_EDITION}/{image.path}", patient.sex, str(patient.age), *views, *values)


def _label_text(study: Study, label: str) -> str:
    value = study.labels.get(label)
    return "" if value is None else f"{value:.1f}"


def _mimic_labels(patient: Patient, study: Study, visit: int) -> Row:
    values = (_label_text(study, label) for label in sorted(LABELS))
    return (_subject_id(patient), _study_id(patient, visit), *values)


def _metadata_row(patient: Patient, image: PlacedImage, shape: tuple[int, int]) -> Row:
    rng = np.random.default_rng([image.study.wording_seed, 2])
    date = f"21{rng.integers(10, 99)}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
    time = f"{rng.integers(24):02d}{rng.integers(60):02d}{rng.integers(60):02d}.{rng.integers(1000):03d}"
    procedure = name_examination(image.study)
    ids = (image.dicom_id, _subject_id(patient), _study_id(patient, image.visit))
    size = (str(shape[0]), str(shape[1]))
    return (*ids, procedure, image.plan.view, *size, date, time, procedure, _VIEW_NAMES[image.plan.view], "Erect")


def _subject_id(patient: Patient) -> str:
    """Spread over p10 to p19, as published; the factor has no divisor in common with 10^7, so ids never repeat."""
    return str(10_000_000 + patient.number * 7_368_787 % 10_000_000)


def _study_id(patient: Patient, visit: int) -> str:
    return str(50_000_000 + (2 * patient.number + visit) * 3_141_593 % 10_000_000)


def _study_folder(patient: Patient, visit: int) -> str:
    subject = _subject_id(patient)
    return f"files/p{subject[:2]}/p{subject}/s{_study_id(patient, visit)}"


def _dicom_id(*parts: int) -> str:
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))
