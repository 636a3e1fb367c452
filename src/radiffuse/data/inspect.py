"""What a source holds, before anything is copied: from its tables, and from file names where the images are there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from radiffuse.data.candidates import Candidates
from radiffuse.data.label_masks import is_alone, is_positive, is_uncertain
from radiffuse.data.labels import NO_FINDING, PLEURAL_EFFUSION
from radiffuse.data.plan import find_sizes
from radiffuse.data.sources import read_candidates


def inspect_source(layout: str, source: Path) -> dict[str, int | float | str]:
    """Counts of a source, in the order of a reader's questions; opens no image.

    Rows, patients and studies are those of the table; what follows the exclusions is about the frontal rows that are
    left. `no_finding` and `only_effusion` are the rows whose label is alone, as the few-shot set wants them;
    `no_finding_label` and `effusion_positive` are the plain labels. Images and reports are looked for by name when
    their folder exists.

    Raises:
        ConfigError: There is no such layout.
        DataError: The source is not in it.
    """
    candidates = read_candidates(layout, source)
    table, frontal = candidates.table, candidates.eligible()
    views = frontal.column("view_position")
    return {
        "layout": layout,
        "table": str(candidates.tables[0]),
        "rows": table.num_rows,
        "patients": _distinct(table, "subject"),
        "studies": _distinct(table, "study"),
        **candidates.exclusions(),
        "frontal": frontal.num_rows,
        "frontal_ap": _count(pc.equal(views, "AP")),
        "frontal_pa": _count(pc.equal(views, "PA")),
        "frontal_patients": _distinct(frontal, "subject"),
        "no_finding": _count(is_alone(frontal, NO_FINDING)),
        "no_finding_label": _count(is_positive(frontal, NO_FINDING)),
        "only_effusion": _count(is_alone(frontal, PLEURAL_EFFUSION)),
        "effusion_positive": _count(is_positive(frontal, PLEURAL_EFFUSION)),
        "effusion_uncertain": _count(is_uncertain(frontal, PLEURAL_EFFUSION)),
        **_files(candidates, frontal),
    }


def _files(candidates: Candidates, frontal: pa.Table) -> dict[str, int | float | str]:
    """How many of the frontal images and of their reports are there, and how large the images are.

    Of the images found those that have no bytes, or are no files, are unreadable; a report is then missing.
    """
    paths = frontal.column("path").to_pylist()
    if not any((candidates.root / path.split("/")[0]).is_dir() for path in paths[:1]):
        return {"images_found": 0, "no_images_below": str(candidates.root)}
    sizes = find_sizes(candidates.root, paths)
    found = sizes[sizes >= 0]
    counts: dict[str, int | float | str] = {
        "images_found": len(found),
        "excluded_missing": len(sizes) - len(found),
        "images_gb": round(float(found.sum()) / 1e9, 3),
    }
    if unreadable := int((sizes == 0).sum()):
        counts["images_unreadable"] = unreadable
    reports = pc.unique(pc.drop_null(frontal.column("report"))).to_pylist()
    if reports:
        counts["reports"] = int((find_sizes(candidates.root, reports) > 0).sum())
        counts["reports_missing"] = len(reports) - int(counts["reports"])
    return counts


def _count(mask: object) -> int:
    total = pc.sum(mask).as_py()
    return 0 if total is None else int(total)


def _distinct(table: pa.Table, column: str) -> int:
    return int(pc.count_distinct(table.column(column)).as_py())
