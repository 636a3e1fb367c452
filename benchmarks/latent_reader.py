"""How fast one process reads shuffled latents of Stable Diffusion's size, and how soon after opening at any position.

    python benchmarks/latent_reader.py [--samples 8192] [--batch 32] [--dir FOLDER] [--json FILE]

Mean and standard deviation of 4x64x64 in fp16, 64 KiB a sample, in shards of 4,096, read in the order of training by
`LatentDataset.batch`. The files are in the page cache, as from a run's second epoch on. Bars: >= 20,000 samples
a second; resuming (open the files, find the order, first batch) at any position in <= 50 ms. Seconds of CPU are given
beside wall time, since they do not depend on what else the machine does. It runs in the environment that the launcher
gives to ranks: without its malloc settings half the time goes into page faults of the batches. Exit code 1 when a
median misses its bar.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from radiffuse.data.latents import IMAGES_PER_SHARD, LatentDataset, open_latents, write_shard
from radiffuse.data.order import sample_indices
from radiffuse.processes import rank_environment

SHAPE = (4, 64, 64)
SEED = 0
PASSES = 3
RESUMES = 20
BAR_SAMPLES_PER_SECOND = 20_000
BAR_RESUME_MILLISECONDS = 50


def write_dataset(folder: Path, samples: int) -> None:
    """Random latents; what they hold does not matter, where they lie does."""
    values = np.random.default_rng(SEED).standard_normal((IMAGES_PER_SHARD, *SHAPE), np.float32).astype(np.float16)
    for number, start in enumerate(range(0, samples, IMAGES_PER_SHARD)):
        ids = np.arange(start, min(start + IMAGES_PER_SHARD, samples))
        prompts = [f"a photo of a lung xray {i}" for i in ids]
        write_shard(folder / f"latents-{number:05d}.arrow", ids, values[: len(ids)], values[: len(ids)], prompts)


def read_pass(dataset: LatentDataset, epoch: int, batch: int) -> tuple[float, float]:
    """Samples a second of wall time and of CPU time over one epoch."""
    wall, cpu = time.perf_counter(), time.process_time()
    first = epoch * len(dataset)
    for position in range(first, first + len(dataset), batch):
        indices, _ = sample_indices(SEED, position, min(position + batch, first + len(dataset)), len(dataset))
        dataset.batch(indices)
    return len(dataset) / (time.perf_counter() - wall), len(dataset) / (time.process_time() - cpu)


def resume_milliseconds(folder: Path, position: int, batch: int) -> tuple[float, float]:
    """Wall and CPU from nothing open to a batch that starts at a position of the stream."""
    wall, cpu = time.perf_counter(), time.process_time()
    dataset = open_latents(folder)
    dataset.batch(sample_indices(SEED, position, position + batch, len(dataset))[0])
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)


def measure(folder: Path, samples: int, batch: int) -> dict[str, float]:
    """Medians; the first pass, which maps the pages, is left out. Positions to resume at are up to 10^9."""
    write_dataset(folder, samples)
    dataset = open_latents(folder)
    rates = [read_pass(dataset, epoch, batch) for epoch in range(1 + PASSES)][1:]
    positions = np.random.default_rng(SEED).integers(0, 10**9, RESUMES).tolist()
    resumes = [resume_milliseconds(folder, position, batch) for position in positions]
    return {
        "samples": samples,
        "batch": batch,
        "samples_per_second": round(statistics.median(rate for rate, _ in rates)),
        "samples_per_cpu_second": round(statistics.median(rate for _, rate in rates)),
        "resume_milliseconds": round(statistics.median(wall for wall, _ in resumes), 2),
        "resume_cpu_milliseconds": round(statistics.median(cpu for _, cpu in resumes), 2),
    }


def main() -> int:
    """Exit code 1 when a median misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dir", type=Path, help="Where the shards are written; default: a temporary folder.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    environment = rank_environment(processes=1)
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # malloc reads its settings at the start
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        figures = measure(Path(folder), arguments.samples, arguments.batch)
    print(json.dumps(figures, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    is_fast = figures["samples_per_second"] >= BAR_SAMPLES_PER_SECOND
    return 0 if is_fast and figures["resume_milliseconds"] <= BAR_RESUME_MILLISECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
