"""From a published layout to a dataset in the store: draw, split, check, resize, shard, publish."""

import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radiffuse.config import IngestSettings
from radiffuse.data.decode import prepare_images
from radiffuse.data.labels import LABELS
from radiffuse.data.plan import FEW_SHOT_LABELS, Plan, describe, plan_ingest, require_few_shot
from radiffuse.data.prepared import IMAGES_PER_CHUNK, PreparedChunks
from radiffuse.data.prompts import Wording, find_prompt, positive_pathologies
from radiffuse.data.quality import UNREADABLE, PreparedImage
from radiffuse.data.shards import SHARD_FORMAT, SPLITS, ShardWriter
from radiffuse.data.sources import read_candidates
from radiffuse.errors import DataError
from radiffuse.local_files import scratch_folder, sha256_of_file
from radiffuse.manifest import Manifest, digest_of
from radiffuse.parts import Part
from radiffuse.progress import Progress

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

# Part of every dataset's address: raise it when the same input would give other rows.
INGEST_FORMAT = 1
# Published sets have well under one unusually cropped image in a hundred.
_SUSPICIOUS_CROPPED_SHARE = 0.05
_ROWS_AT_ONCE = 1024


def ingest_dataset(
    store: "Store", layout: str, source: Path, settings: IngestSettings, name: str, *, processes: int | None = None
) -> Manifest:
    """Write the source's images and prompts as shards into the store, unless that very dataset is there already.

    Args:
        store: Where the dataset goes, below s3://datasets/<name>/<digest>.
        layout: chexpert or mimic.
        source: Folder in that published layout.
        settings: What is drawn, how it is split and stored.
        name: Part of the address.
        processes: Workers that decode; None for one per core. It does not change the result.

    Raises:
        DataError: The source is not in the layout, or holds less than the settings ask for.
        ConfigError: The settings ask for what the layout does not have.
        StorageError: The store failed, or the disk for temporary files is full.
    """
    plan = plan_ingest(read_candidates(layout, source), settings)
    manifest = describe_dataset(plan, settings, name)
    if (done := store.find(manifest.uri)) is not None:
        logger.info("ingest already_complete=%s", done.uri)
        return done
    chunks = PreparedChunks(store, manifest.uri)
    with scratch_folder("ingest") as folder:
        counts = _write_shards(plan, settings, chunks, folder, processes)
        complete = store.publish(manifest.model_copy(update={"counts": counts}), folder)
    chunks.delete()
    return complete


def ingest_part(
    store: "Store",
    layout: str,
    source: Path,
    settings: IngestSettings,
    name: str,
    part: Part,
    *,
    processes: int | None = None,
) -> int:
    """Prepare a part of the images that `ingest_dataset` will write, and return how many there are in the part.

    Chunks that are in the store are left alone. Raises what `ingest_dataset` raises.
    """
    plan = plan_ingest(read_candidates(layout, source), settings)
    uri = describe_dataset(plan, settings, name).uri
    if store.find(uri) is not None:
        logger.info("ingest already_complete=%s", uri)
        return 0
    chunks = PreparedChunks(store, uri)
    starts = chunks.missing(part.share(range(0, plan.looked_for, IMAGES_PER_CHUNK)))
    items = (item for start in starts for item in _items(plan.slice(start, IMAGES_PER_CHUNK), settings))
    prepared = prepare_images(items, settings.image_size_px, processes)
    done = 0
    with Progress(None, "ingest", "images") as progress, contextlib.closing(prepared):
        for start in starts:
            count = min(IMAGES_PER_CHUNK, plan.rows.num_rows - start)
            images = [image for _, image in itertools.islice(prepared, count)]
            chunks.put(start, images)
            progress.update(count)
            done += count
    return done


def describe_dataset(plan: Plan, settings: IngestSettings, name: str) -> Manifest:
    """The manifest without its counts and objects; its address covers tables, images, settings and formats."""
    images, size_bytes, sha256 = plan.fingerprint
    tables = {path.name: sha256_of_file(path) for path in plan.candidates.tables}
    resolved = {"layout": plan.candidates.layout, **settings.model_dump(mode="json")}
    digest = digest_of(
        tables=tables, images=[images, size_bytes, sha256], settings=resolved, format=[INGEST_FORMAT, SHARD_FORMAT]
    )
    return Manifest(
        kind="dataset",
        name=name,
        uri=f"s3://datasets/{name}/{digest}",
        digest=digest,
        inputs={**tables, "images": sha256},
        settings=resolved,
    )


@dataclass
class _Tally:
    """What was accepted and what was not, while it happens."""

    subjects: dict[str, int] = field(default_factory=dict)
    splits: Counter[str] = field(default_factory=Counter)
    few_shot: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0

    def exclusions(self) -> dict[str, int]:
        """Counts by reason; the ways to be unreadable are added up, and told apart without the prefix."""
        always = dict.fromkeys(("missing", "cropped", "coloured"), 0)
        kinds = {reason: self.reasons[reason] for reason in UNREADABLE if self.reasons[reason]}
        others = {reason: count for reason, count in self.reasons.items() if reason not in UNREADABLE}
        totals = {**always, **others, "unreadable": sum(kinds.values())}
        named = {f"excluded_{reason}": count for reason, count in sorted(totals.items())}
        return {**named, **{f"unreadable_{reason}": count for reason, count in kinds.items()}}


def _write_shards(
    plan: Plan, settings: IngestSettings, chunks: PreparedChunks, directory: Path, processes: int | None
) -> dict[str, int]:
    """Prepare images in the order of the draw until there are enough; returns the manifest's counts."""
    tally = _Tally()
    wanted = settings.max_images if settings.max_images is not None else plan.rows.num_rows
    prepared = prepare_images(_items_with(chunks, plan, settings), settings.image_size_px, processes)
    with (
        Progress(wanted, "ingest", "images") as progress,
        ShardWriter(directory, settings.images_per_shard) as writer,
        contextlib.closing(prepared),
    ):
        for ((row, wording), ahead), here in prepared:
            image = here if ahead is None else ahead
            tally.looked_at += 1
            reason = wording.reason if image is None else image.reason
            if reason is not None or image is None:
                tally.reasons[str(reason)] += 1
                continue
            writer.write(_accept(row, wording, image, tally, settings))
            progress.update(1)
            if writer.rows_written == wanted:
                break
    _check_enough(plan, settings, tally, writer.rows_written)
    return _counts(plan, tally, writer.rows_written)


_Row = tuple[dict[str, Any], Wording]


def _items_with(
    chunks: PreparedChunks, plan: Plan, settings: IngestSettings
) -> Iterator[tuple[tuple[_Row, PreparedImage | None], Path | None]]:
    """Every item with the image that was prepared ahead; it then needs no path, so that nobody prepares it again."""
    ahead: list[PreparedImage | None] | None = None
    for place, (row, path) in enumerate(_items(plan, settings)):
        if place % IMAGES_PER_CHUNK == 0:
            ahead = chunks.get(place)
        image = None if ahead is None else ahead[place % IMAGES_PER_CHUNK]
        yield (row, image), path if image is None else None


def _items(plan: Plan, settings: IngestSettings) -> Iterator[tuple[_Row, Path | None]]:
    root = plan.candidates.root
    for batch in plan.rows.to_batches(max_chunksize=_ROWS_AT_ONCE):
        for row in batch.to_pylist():
            wording = Wording(None, reason="no_split") if row["split"] is None else find_prompt(row, root, settings)
            yield (row, wording), None if wording.reason is not None else root / row["path"]


def _accept(
    row: dict[str, Any], wording: Wording, image: PreparedImage, tally: _Tally, settings: IngestSettings
) -> dict[str, Any]:
    """Count an image in, and make the row that is stored."""
    alone = next((label for label in FEW_SHOT_LABELS if _is_alone(row, label)), None)
    is_few_shot = row["split"] == "train" and alone is not None and tally.few_shot[alone] < settings.few_shot_per_class
    if alone is not None:
        tally.alone[alone] += 1
        tally.few_shot[alone] += is_few_shot
    if wording.note is not None:
        tally.notes[wording.note] += 1
    tally.splits[row["split"]] += 1
    return {
        "image": image.png,
        "prompt": wording.prompt,
        "split": row["split"],
        "is_few_shot": is_few_shot,
        "view_position": row["view_position"],
        "subject": tally.subjects.setdefault(row["subject"], len(tally.subjects)),
        "pathologies": positive_pathologies(row),
        "no_finding": alone == FEW_SHOT_LABELS[0],
    }


def _is_alone(row: dict[str, Any], label: str) -> bool:
    return row[label] == 1 and all(row[other] not in (1, -1) for other in LABELS if other != label)


def _check_enough(plan: Plan, settings: IngestSettings, tally: _Tally, accepted: int) -> None:
    exclusions = plan.exclusions | tally.exclusions()
    if accepted == 0:
        raise DataError(f"no image of {plan.candidates.root} can be used ({describe(exclusions)})")
    if settings.max_images is not None and accepted < settings.max_images:
        raise DataError(
            f"asked for {settings.max_images} images (ingest.max_images); {plan.candidates.root} has {accepted} "
            f"usable ones of {len(tally.subjects)} patients ({describe(exclusions)})"
        )
    require_few_shot({label: tally.few_shot[label] for label in FEW_SHOT_LABELS}, settings)
    if tally.reasons["cropped"] > _SUSPICIOUS_CROPPED_SHARE * tally.looked_at:
        logger.warning("ingest many_cropped=%d of=%d", tally.reasons["cropped"], tally.looked_at)


def _counts(plan: Plan, tally: _Tally, accepted: int) -> dict[str, int]:
    return {
        "images": accepted,
        "patients": len(tally.subjects),
        **{split: tally.splits[split] for split in SPLITS},
        "few_shot": tally.few_shot.total(),
        "no_finding": tally.alone[FEW_SHOT_LABELS[0]],
        "only_effusion": tally.alone[FEW_SHOT_LABELS[1]],
        **plan.exclusions,
        **tally.exclusions(),
        **tally.notes,
        "not_drawn": plan.rows.num_rows - tally.looked_at,
    }
