"""Writes small folders in the published layouts, with drawn chests in place of radiographs."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from radiffuse.data.labels import LABELS

CHEXPERT_HEADER = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)
MIMIC_LABELS = tuple(sorted(LABELS))
HEALTHY = {"No Finding": "1.0"}
EFFUSION = {"Pleural Effusion": "1.0"}


def chest(width=80, height=96, seed=0):
    """A grey picture with what a frontal radiograph has: dark air, body, two dark lungs, a bright spine."""
    picture = Image.new("L", (200, 200), 5)
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((8, 20, 192, 260), 60, fill=150)
    draw.ellipse((28, 40, 92, 165), fill=60)
    draw.ellipse((108, 40, 172, 165), fill=60)
    draw.rectangle((90, 0, 110, 200), fill=215)
    draw.ellipse((85, 105, 145, 170), fill=185)
    picture = picture.filter(ImageFilter.GaussianBlur(4)).resize((width, height))
    noise = np.random.default_rng(seed).normal(0, 3, (height, width))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def encode(picture, kind="JPEG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chexpert_row(patient, labels=None, study=1, view="view1_frontal", projection="AP", prefix="CheXpert-v1.0-small"):
    labels = {} if labels is None else labels
    path = f"{prefix}/train/patient{patient:05d}/study{study}/{view}.jpg"
    kind = "Lateral" if view.endswith("lateral") else "Frontal"
    return [path, "Female", "50", kind, projection, *(labels.get(label, "") for label in LABELS)]


def table_bytes(header, rows, bom=False, newline="\n"):
    text = io.StringIO()
    csv.writer(text, lineterminator=newline).writerows([header, *rows])
    return (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode()


def write_chexpert(parent, rows, images=True, **table_options):
    """Write rows, and a chest for each, below parent/CheXpert-v1.0-small; returns that folder."""
    root = parent / "CheXpert-v1.0-small"
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.csv").write_bytes(table_bytes(CHEXPERT_HEADER, rows, **table_options))
    for number, row in enumerate(rows if images else []):
        path = root / row[0].partition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(chest(seed=number)))
    return root


def cohort(healthy=12, effusion=12, others=0):
    """Rows of CheXpert patients: healthy ones, ones with nothing but an effusion, ones with more."""
    both = {"Pleural Effusion": "1.0", "Cardiomegaly": "1.0", "Edema": "-1.0"}
    kinds = [HEALTHY] * healthy + [EFFUSION] * effusion + [both] * others
    return [chexpert_row(number + 1, labels) for number, labels in enumerate(kinds)]


def mimic_study(number, labels=None, view="PA", report=None, subject=None, split="train"):
    """One study with one image."""
    return {
        "subject_id": str(10000000 + number if subject is None else subject),
        "study_id": str(50000000 + number),
        "dicom_id": f"{number:08x}-0000aaaa-0000bbbb-0000cccc-0000dddd",
        "view": view,
        "labels": {} if labels is None else labels,
        "report": report,
        "split": split,
    }


def write_mimic(root, studies, images=True, labels_kind="chexpert", splits=True):
    """Write the gzip tables, a chest and a report for each study; returns the folder."""
    root.mkdir(parents=True, exist_ok=True)
    _write_gzip(
        root / "mimic-cxr-2.0.0-metadata.csv.gz",
        ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns"],
        [[s["dicom_id"], s["subject_id"], s["study_id"], "CHEST (PA, LAT)", s["view"], 96, 80] for s in studies],
    )
    _write_gzip(
        root / f"mimic-cxr-2.0.0-{labels_kind}.csv.gz",
        ["subject_id", "study_id", *MIMIC_LABELS],
        [[s["subject_id"], s["study_id"], *(s["labels"].get(label, "") for label in MIMIC_LABELS)] for s in studies],
    )
    if splits:
        _write_gzip(
            root / "mimic-cxr-2.0.0-split.csv.gz",
            ["dicom_id", "study_id", "subject_id", "split"],
            [[s["dicom_id"], s["study_id"], s["subject_id"], s["split"]] for s in studies],
        )
    for number, study in enumerate(studies):
        folder = root / "files" / f"p{study['subject_id'][:2]}" / f"p{study['subject_id']}"
        image = folder / f"s{study['study_id']}" / f"{study['dicom_id']}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        if images:
            image.write_bytes(encode(chest(seed=number)))
        if study["report"] is not None:
            (folder / f"s{study['study_id']}.txt").write_text(study["report"])
    return root


def _write_gzip(path: Path, header, rows):
    path.write_bytes(gzip.compress(table_bytes(header, rows)))
