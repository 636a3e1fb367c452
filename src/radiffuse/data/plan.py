"""Which images an ingest reads, in which order, and how patients are split: decided from the tables and file sizes."""

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from radiffuse.config import IngestSettings
from radiffuse.data.candidates import Candidates
from radiffuse.data.draw import PatientSplits, draw_order
from radiffuse.data.label_masks import is_alone
from radiffuse.data.labels import NO_FINDING, PLEURAL_EFFUSION
from radiffuse.errors import ConfigError, DataError
from radiffuse.local_files import is_missing, is_of_one_path

FEW_SHOT_LABELS = (NO_FINDING, PLEURAL_EFFUSION)

_STATS_AT_ONCE = 16
_STAT_CHUNK = 512


@dataclass(frozen=True)
class Plan:
    """An ingest before any image is opened.

    Attributes:
        candidates: What the source lists.
        rows: The eligible images in the order of the draw, with the columns of the candidates' schema and `split`
            (null where the split must come from a table that does not list the image).
        looked_for: How many of the rows, from the first, were looked for on disk: all, or until enough were found.
        fingerprint: (images found, their bytes, SHA-256 of every size with its place in the draw).
        exclusions: Reason -> count over the tables.
    """

    candidates: Candidates
    rows: pa.Table
    looked_for: int
    fingerprint: tuple[int, int, str]
    exclusions: dict[str, int]

    def slice(self, start: int, count: int) -> "Plan":
        """The same ingest of `count` rows from `start` on."""
        return replace(self, rows=self.rows.slice(start, count))


def plan_ingest(candidates: Candidates, settings: IngestSettings) -> Plan:
    """Draw and split. Raises ConfigError or DataError when the source cannot give what the settings ask for."""
    _check_layout(candidates, settings)
    eligible = candidates.eligible()
    is_wanted_view = pc.is_in(eligible.column("view_position"), value_set=pa.array(settings.view_positions))
    rows = eligible.filter(is_wanted_view)
    exclusions = candidates.exclusions() | {"excluded_view": eligible.num_rows - rows.num_rows}
    if rows.num_rows == 0:
        views = " or ".join(settings.view_positions)
        raise DataError(f"{candidates.tables[0]} lists no {views} image ({describe(exclusions)})")
    rows = rows.take(pa.array(draw_order(settings.seed, rows.column("path").to_pylist())))
    sizes = find_sizes(candidates.root, rows.column("path").to_pylist(), settings.max_images)
    present = rows.slice(0, len(sizes)).filter(pa.array(sizes >= 0))
    _check_found(candidates, rows, present, settings, exclusions)
    rows = rows.append_column("split", _splits(rows, present, settings))
    plan = Plan(candidates, rows, len(sizes), _fingerprint(candidates, rows, sizes), exclusions)
    _check_few_shot(rows.slice(0, len(sizes)).filter(pa.array(sizes >= 0)), settings)
    return plan


def describe(counts: dict[str, int]) -> str:
    """Exclusions in words: the reasons that met an image, each with its count."""

    def words(prefix: str) -> str:
        names = [name for name, count in counts.items() if count and name.startswith(prefix)]
        return ", ".join(f"{name.removeprefix(prefix)} {counts[name]}" for name in names)

    left_out, kinds = words("excluded_"), words("unreadable_")
    text = f"left out: {left_out}" if left_out else "none left out"
    return f"{text}; unreadable are {kinds}" if kinds else text


def _check_layout(candidates: Candidates, settings: IngestSettings) -> None:
    if settings.prompt_source == "impression" and candidates.layout != "mimic":
        raise ConfigError(
            f"ingest.prompt_source impression needs reports, and the {candidates.layout} layout has none; use labels"
        )
    published = candidates.table.column("published_split")
    if settings.split_source == "published" and published.null_count == len(published):
        raise ConfigError(
            f"ingest.split_source published needs a split table, and there is none beside {candidates.tables[0]}; "
            "set it to fractions"
        )


def find_sizes(root: Path, paths: list[str], wanted: int | None = None) -> npt.NDArray[np.int64]:
    """(n,) bytes of each file below `root`, of the first n, up to where `wanted` were found.

    -1 where it is missing; 0 also for what is there and cannot be read, such as a folder or a link to itself. Raises
    DataError when the disk or the mount fails.
    """
    sizes: list[int] = []
    with ThreadPoolExecutor(_STATS_AT_ONCE) as pool:
        chunks = (paths[start : start + _STAT_CHUNK] for start in range(0, len(paths), _STAT_CHUNK))
        # In steps, because map would look for every image before the first answer is used.
        for batch in _in_steps(chunks, _STATS_AT_ONCE):
            for found in pool.map(lambda chunk: [_size(root, path) for path in chunk], batch):
                sizes.extend(found)
            if wanted is not None and sum(size >= 0 for size in sizes) >= wanted:
                break
    result = np.array(sizes, dtype=np.int64)
    places = np.flatnonzero(result >= 0)
    return result if wanted is None or len(places) < wanted else result[: places[wanted - 1] + 1]


def _in_steps(chunks: Iterator[list[str]], count: int) -> Iterator[list[list[str]]]:
    while batch := [chunk for _, chunk in zip(range(count), chunks, strict=False)]:
        yield batch


def _size(root: Path, path: str) -> int:
    try:
        found = os.stat(f"{root}/{path}")
    except OSError as error:
        if is_missing(error):
            return -1
        if is_of_one_path(error):
            return 0
        # The path holds identifiers, so the root and the cause must do.
        raise DataError(
            f"a file below {root} cannot be looked at: {error.strerror}; check the disk or the mount that holds it"
        ) from None
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _check_found(
    candidates: Candidates, rows: pa.Table, present: pa.Table, settings: IngestSettings, exclusions: dict[str, int]
) -> None:
    if present.num_rows == 0:
        folder = candidates.root / rows.column("path")[0].as_py().split("/")[0]
        raise DataError(
            f"none of the {rows.num_rows} images that {candidates.tables[0].name} lists was found; looked in {folder}. "
            "Give the folder that holds both the table and the images"
        )
    if settings.max_images is not None and present.num_rows < settings.max_images:
        patients = pc.count_distinct(present.column("subject")).as_py()
        missing = {"excluded_missing": rows.num_rows - present.num_rows}
        raise DataError(
            f"asked for {settings.max_images} images (ingest.max_images); {candidates.root} holds "
            f"{present.num_rows} of {patients} patients ({describe(exclusions | missing)})"
        )


def _splits(rows: pa.Table, present: pa.Table, settings: IngestSettings) -> Any:
    if settings.split_source == "published":
        _check_disjoint(rows)
        return rows.column("published_split")
    cuts = PatientSplits.cut(settings.seed, present.column("subject").to_pylist(), settings.splits)
    subjects = rows.column("subject").combine_chunks().dictionary_encode()
    split_of = pa.array([cuts.split(subject) for subject in subjects.dictionary.to_pylist()])
    return split_of.take(subjects.indices)


def _check_disjoint(rows: pa.Table) -> None:
    known = rows.filter(pc.is_valid(rows.column("published_split")))
    pairs = known.group_by("subject").aggregate([("published_split", "count_distinct")])
    mixed = pc.sum(pc.greater(pairs.column("published_split_count_distinct"), 1)).as_py()
    if mixed:
        raise DataError(f"the split table puts {mixed} patients into more than one split; fetch it again")


def _check_few_shot(present: pa.Table, settings: IngestSettings) -> None:
    train = present.filter(pc.equal(present.column("split"), "train"))
    found = {label: pc.sum(is_alone(train, label)).as_py() for label in FEW_SHOT_LABELS}
    require_few_shot({label: 0 if count is None else count for label, count in found.items()}, settings)


def require_few_shot(found: dict[str, int], settings: IngestSettings) -> None:
    """Raise DataError when the train split has too few images with no finding, or with only an effusion."""
    if min(found.values()) < settings.few_shot_per_class:
        raise DataError(
            f"the few-shot set needs {settings.few_shot_per_class} images of each kind in the train split; found "
            f"{found[NO_FINDING]} with no finding and {found[PLEURAL_EFFUSION]} with only a pleural effusion. "
            "Take more images (ingest.max_images) or lower ingest.few_shot_per_class"
        )


def _fingerprint(candidates: Candidates, rows: pa.Table, sizes: npt.NDArray[np.int64]) -> tuple[int, int, str]:
    """Of the images found, and of their reports where the layout has any."""
    found = sizes[sizes >= 0]
    digest = hashlib.sha256(sizes.astype("<i8").tobytes())
    reports = pc.drop_null(rows.slice(0, len(sizes)).column("report")).to_pylist()
    if reports:
        digest.update(find_sizes(candidates.root, reports).astype("<i8").tobytes())
    return len(found), int(found.sum()), digest.hexdigest()
