"""Simulated cohorts: patients drawn from (seed, number), rendered in parallel, written in a published layout."""

import contextlib
import fcntl
import io
import json
import logging
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radiffuse.data import cohort_layout
from radiffuse.data.anatomy import Stack, ensure_stacks, load_stack
from radiffuse.data.cohort_layout import PlacedImage, Row
from radiffuse.data.patient import DEFECTS, KINDS, Patient, draw_patient
from radiffuse.data.radiograph import render
from radiffuse.errors import ConfigError, DataError, RadiffuseError, StorageError
from radiffuse.progress import Progress

logger = logging.getLogger(__name__)

FORMAT = 1  # of the pictures: raise it when the same arguments give other images
JPEG_QUALITY = 95
# One thread per process: the matrix products are small, and several processes share the cores.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_TINTS = ((1.0, 0.82, 0.55), (0.55, 0.8, 1.0), (0.6, 1.0, 0.65))


@dataclass(frozen=True)
class CohortArguments:
    """What decides every byte of a cohort."""

    layout: str
    patients: int
    size_px: int
    seed: int
    format: int = FORMAT


@dataclass(frozen=True)
class WrittenPatient:
    """What a worker hands back: table rows by table, and the truth."""

    rows: dict[str, list[Row]]
    truth: dict[str, Any]


def simulate_cohort(
    out: Path, layout: str, patients: int, size_px: int, seed: int, processes: int
) -> dict[str, int | float | str]:
    """Write a cohort to `out` and its truth to `<out>-truth.json`; returns the counts. processes: 0 is one per core.

    With both there already and made with the same arguments, nothing is done. Raises DataError where something else
    lies in the way, StorageError when the disk does not take it.
    """
    out = Path(os.path.abspath(out))
    arguments = CohortArguments(layout, patients, size_px, seed)
    _refuse_impossible(arguments)
    workers = min(processes if processes > 0 else len(os.sched_getaffinity(0)), patients)
    try:
        if (done := find_cohort(out, arguments)) is not None:
            return done
        with _partial_folder(out) as folder:
            ensure_stacks(size_px)
            written = _render_all(folder, arguments, workers)
            return _finish(folder, out, arguments, written)
    except OSError as error:
        raise StorageError(f"could not write {out}: {error}; nothing was left there") from error


def _refuse_impossible(arguments: CohortArguments) -> None:
    if arguments.layout not in cohort_layout.TABLES:
        raise ConfigError(f"no layout {arguments.layout!r}; there are {', '.join(cohort_layout.TABLES)}")
    if arguments.patients < 1 or arguments.size_px < 32 or arguments.seed < 0:
        raise ConfigError(
            "a cohort needs at least 1 patient, images of at least 32 pixels and a seed of at least 0, not "
            + _describe(asdict(arguments))
        )


def truth_path(out: Path) -> Path:
    """Where the truth about a cohort lies: beside its folder, where ingest never looks."""
    return out.parent / f"{out.name}-truth.json"


def find_cohort(out: Path, arguments: CohortArguments) -> dict[str, int | float | str] | None:
    """The counts of the complete cohort at `out`, None where there is nothing; raises DataError for anything else."""
    truth = truth_path(out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; it must name a folder")
    if not truth.exists():
        if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
            raise DataError(f"{out} exists, but no {truth.name} beside it calls it a cohort; choose another --out")
        return None
    try:
        known = json.loads(truth.read_bytes())
        found, summary = known["arguments"], known["summary"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{truth} is not a cohort's truth; choose another --out") from error
    wanted = asdict(arguments)
    if found != wanted:
        raise DataError(f"{out} was simulated with {_describe(found)}, not {_describe(wanted)}; choose another --out")
    if not out.is_dir():
        return None
    missing = [table for table in cohort_layout.TABLES[arguments.layout] if not (out / table).is_file()]
    if missing:
        raise DataError(f"{out} has lost {', '.join(missing)}; delete it and {truth.name}, and run again")
    return {**summary, "folder": str(out), "truth": str(truth)}


def _describe(arguments: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in arguments.items())


@contextlib.contextmanager
def _partial_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out`, held by this process alone; what an earlier run left in it is removed, and so is ours."""
    folder = out.parent / f".{out.name}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another process is simulating {out}; wait for it, or choose another --out") from error
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _render_all(folder: Path, arguments: CohortArguments, workers: int) -> list[WrittenPatient]:
    size = max(1, min(16, arguments.patients // (4 * workers)))
    starts = range(1, arguments.patients + 1, size)
    chunks = (range(start, min(start + size, arguments.patients + 1)) for start in starts)
    written: dict[int, list[WrittenPatient]] = {}
    with _environment(_ONE_THREAD), _open_pool(workers) as pool:
        try:
            with Progress(arguments.patients, "simulate", "patients") as progress:
                for chunk, part in _map_bounded(pool, partial(render_patients, folder, arguments), chunks, 2 * workers):
                    written[chunk.start] = part
                    progress.update(len(part))
        except BrokenProcessPool as error:
            reason = "was killed or could not start (out of memory?); try fewer --processes"
            raise RadiffuseError(f"a process that rendered images {reason}") from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [patient for start in sorted(written) for patient in written[start]]


def _map_bounded(
    pool: ProcessPoolExecutor,
    render_chunk: Callable[[range], list[WrittenPatient]],
    chunks: Iterator[range],
    in_flight: int,
) -> Iterator[tuple[range, list[WrittenPatient]]]:
    """Each chunk with its result, as they come.

    Executor.map would cancel what is left when a worker dies, and Python 3.11 then never ends (InvalidStateError in
    the executor's own thread); it would also queue a million patients at once.
    """
    pending = {pool.submit(render_chunk, chunk): chunk for chunk in islice(chunks, in_flight)}
    while pending:
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            yield pending.pop(future), future.result()
            pending.update({pool.submit(render_chunk, chunk): chunk for chunk in islice(chunks, 1)})


def _open_pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    """Ctrl-C is the parent's to handle, and no worker outlives a parent that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Processes started meanwhile see these variables; libraries read them once, when they are loaded."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def render_patients(folder: Path, arguments: CohortArguments, numbers: range) -> list[WrittenPatient]:
    """Write the images and reports of these patients below folder; what runs in each process."""
    return [_write_patient(folder, arguments, draw_patient(arguments.seed, number)) for number in numbers]


def _write_patient(folder: Path, arguments: CohortArguments, patient: Patient) -> WrittenPatient:
    images = cohort_layout.place_images(arguments.layout, arguments.seed, patient)
    shapes = []
    for image in images:
        data, shape = draw_jpeg(patient, image, arguments.size_px)
        shapes.append(shape)
        path = folder / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name, text in cohort_layout.reports(arguments.layout, patient).items():
        (folder / name).write_text(text, encoding="utf-8")
    rows = cohort_layout.table_rows(arguments.layout, patient, images, shapes)
    return WrittenPatient(rows, _truth(patient, images))


@lru_cache(maxsize=2)
def _stack(size_px: int, direction: str) -> Stack:
    return load_stack(size_px, direction)


def draw_jpeg(patient: Patient, image: PlacedImage, size_px: int) -> tuple[bytes, tuple[int, int]]:
    """The image's file and its (rows, columns), with the defect that was planned for it."""
    plan = image.plan
    stack = _stack(size_px, "lateral" if plan.view == "LATERAL" else "frontal")
    grey = render(
        stack,
        plan.view,
        size_px,
        image.study.condition,
        patient.habitus,
        plan.pose,
        plan.exposure,
        () if plan.view == "LATERAL" else image.study.devices,
        plan.marker,
    )
    match plan.defect:
        case "cropped":
            grey = _crop(grey, plan.defect_place)
        case "coloured":
            tint = _TINTS[int(plan.defect_place * len(_TINTS))]
            return _encode((grey[..., None] * np.asarray(tint)).astype(np.uint8)), (size_px, size_px)
        case "truncated":
            data = _encode(grey)
            return data[: int(len(data) * (0.2 + 0.4 * plan.defect_place))], (size_px, size_px)
    return _encode(grey), (grey.shape[0], grey.shape[1])


def _crop(grey: NDArray[np.uint8], place: float) -> NDArray[np.uint8]:
    """What is left after somebody cut too much off: a narrow strip, upright or lying, or a window in a black frame."""
    size = grey.shape[0]
    kind, place = int(place * 3), place * 3 % 1
    keep = round(size * (0.26 + 0.1 * place if kind < 2 else 0.4 + 0.15 * place))
    start = round((size - keep) * place)
    part = slice(start, start + keep)
    if kind == 2:
        framed = np.zeros_like(grey)
        framed[part, part] = grey[part, part]
        return framed
    return grey[part] if kind else grey[:, part]


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _truth(patient: Patient, images: list[PlacedImage]) -> dict[str, Any]:
    """What was drawn, as plain values."""
    paths = iter(image.path for image in images)
    plain = asdict(patient)
    for study in plain["studies"]:
        for image in study["images"]:
            image["path"] = next(paths)
    return plain


def _finish(
    folder: Path, out: Path, arguments: CohortArguments, written: list[WrittenPatient]
) -> dict[str, int | float | str]:
    """Tables, truth, then the folder's last rename: it alone makes the cohort complete."""
    rows: dict[str, list[Row]] = {}
    for patient in written:
        for name, part in patient.rows.items():
            rows.setdefault(name, []).extend(part)
    cohort_layout.write_tables(folder, arguments.layout, rows)
    summary = _count(written)
    document = {"arguments": asdict(arguments), "summary": summary, "patients": [patient.truth for patient in written]}
    # The truth waits inside the partial folder, so that a crash before the renames leaves nothing behind.
    ready = folder / ".truth.json"
    ready.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    ready.replace(truth_path(out))
    folder.rename(out)
    return {**summary, "folder": str(out), "truth": str(truth_path(out))}


def _count(written: list[WrittenPatient]) -> dict[str, int | float | str]:
    studies = [study for patient in written for study in patient.truth["studies"]]
    images = [(study["kind"], image) for study in studies for image in study["images"]]
    frontal = Counter(f"frontal_{kind}" for kind, image in images if image["view"] != "LATERAL")
    defects = Counter(image["defect"] for _, image in images)
    return {
        "patients": len(written),
        "studies": len(studies),
        "images": len(images),
        "frontal": frontal.total(),
        "lateral": len(images) - frontal.total(),
        **{f"frontal_{kind}": frontal[f"frontal_{kind}"] for kind in KINDS},
        **{name: defects[name] for name in DEFECTS},
    }
