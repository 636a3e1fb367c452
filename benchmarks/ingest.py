"""Images per second of an ingest, beside the rate at which all cores can merely decode the same files.

    python benchmarks/ingest.py [--images 400] [--width 2544] [--height 3056] [--size-px 512] [--rounds 3]

The pictures are grey JPEG of quality 95 with the size of MIMIC-CXR-JPG's commonest shape and about its bytes per
picture: smooth shapes with grain. The ingest is the whole verb, from reading the table to the published manifest in a
real S3 server on this machine. Decoding is `Image.open(...).load()` at full size in as many processes, started the same
way. Both are run in turns, because other work on the machine comes and goes; figures are medians. The bar: 0.8 on a
machine that does nothing else. `cpu_ratio` compares CPU seconds instead, which depend less on other work; the S3
server's are in neither.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

BAR_RATIO = 0.8
DISTINCT_PICTURES = 8
CHUNK = 16
COLUMNS = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
)
COLUMNS += (
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def write_cohort(root: Path, images: int, width: int, height: int) -> list[Path]:
    """CheXpert's layout; the files are hard links to a few distinct pictures."""
    originals = []
    for number in range(DISTINCT_PICTURES):
        rng = np.random.default_rng(number)
        shapes = Image.fromarray(rng.integers(30, 220, (9, 8), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
        grain = np.clip(np.asarray(shapes) + rng.normal(0, 2.2, (height, width)), 0, 255).astype(np.uint8)
        originals.append(root / f"{number}.jpg")
        Image.fromarray(grain).save(originals[-1], quality=95)
    lines, paths = [COLUMNS], []
    for number in range(images):
        path = root / "train" / f"patient{number:05d}" / "study1" / "view1_frontal.jpg"
        path.parent.mkdir(parents=True)
        os.link(originals[number % DISTINCT_PICTURES], path)
        paths.append(path)
        lines.append(f"CheXpert-v1.0/{path.relative_to(root)},Male,50,Frontal,AP,1.0" + "," * 13)
    (root / "train.csv").write_text("\n".join(lines) + "\n")
    return paths


def decode(paths: Sequence[Path]) -> None:
    """Decode at full size and throw away."""
    for path in paths:
        with Image.open(path) as image:
            image.load()


def decode_all(paths: Sequence[Path]) -> None:
    """Decode on all cores, starting the processes included."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        list(pool.map(decode, [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]))


def measure(function: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process and of the processes it started and waited for."""
    start, before = time.perf_counter(), os.times()
    function()
    after = os.times()
    return time.perf_counter() - start, sum(after[:4]) - sum(before[:4])


def main() -> int:
    """Exit code 1 when the bar is missed."""
    from radiffuse.config import IngestSettings
    from radiffuse.data.ingest import ingest_dataset
    from radiffuse.embedded_store import EmbeddedStore
    from radiffuse.storage import Store

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 400), ("width", 2544), ("height", 3056), ("size-px", 512), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    settings = IngestSettings(image_size_px=arguments.size_px, few_shot_per_class=0)
    with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder) / "store") as server:
        root = Path(folder) / "CheXpert-v1.0"
        root.mkdir()
        paths = write_cohort(root, arguments.images, arguments.width, arguments.height)
        decoded, ingested = [], []
        for number in range(arguments.rounds):
            decoded.append(measure(lambda: decode_all(paths)))
            ingest = partial(ingest_dataset, Store(server.settings), "chexpert", root, settings, name=f"round-{number}")
            ingested.append(measure(ingest))
        megabytes = statistics.mean(path.stat().st_size for path in paths) / 1e6
    (decode_wall, decode_cpu), (ingest_wall, ingest_cpu) = (
        [statistics.median(values) for values in zip(*runs, strict=True)] for runs in (decoded, ingested)
    )
    figures = {
        "ingest_per_second": arguments.images / ingest_wall,
        "decode_per_second": arguments.images / decode_wall,
        "ratio": decode_wall / ingest_wall,
        "bar_ratio": BAR_RATIO,
        "cpu_ratio": decode_cpu / ingest_cpu,
        "megabytes_per_image": megabytes,
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    return 0 if figures["ratio"] >= BAR_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
