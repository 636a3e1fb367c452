"""Images per second of `radiffuse simulate`, by size and number of processes, JPEG files and start-up included.

    python benchmarks/simulate.py [--sizes 64 96 512] [--processes 1 2] [--seconds 15]

The figures are those of the whole call but for fetching the CT and building its stacks, which happens once per size
and machine. `cpu_ms_per_image` counts all processes and depends less on other work. The bars are for two processes on
a machine that does nothing else.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

BARS = {64: 200.0, 96: 60.0, 512: 1.0}  # images per second of two processes
_EXPECTED = {64: 400.0, 96: 150.0, 512: 4.0}  # decides how many patients fill the time asked for


def measure(size_px: int, processes: int, seconds: float) -> dict[str, float | int]:
    """One cohort in CheXpert's layout, written to a temporary folder and thrown away."""
    from radiffuse.data.simulate import simulate_cohort

    patients = max(4, round(_EXPECTED.get(size_px, 4.0) * processes / 2 * seconds / 1.3))
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), os.times()
        summary = simulate_cohort(Path(folder) / "cohort", "chexpert", patients, size_px, seed=0, processes=processes)
        wall, after = time.perf_counter() - start, os.times()
    images, cpu = int(summary["images"]), sum(after[:4]) - sum(before[:4])
    return {
        "size_px": size_px,
        "processes": processes,
        "images": images,
        "wall_seconds": round(wall, 2),
        "images_per_second": round(images / wall, 2),
        "cpu_ms_per_image": round(1000 * cpu / images, 2),
    }


def main() -> int:
    """Exit code 1 when two processes miss a bar."""
    from radiffuse.data.anatomy import ensure_stacks

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 512])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=15.0, help="About how long each one runs.")
    arguments = parser.parse_args()
    missed = False
    for size_px in arguments.sizes:
        ensure_stacks(size_px)
        for processes in arguments.processes:
            result = measure(size_px, processes, arguments.seconds)
            print(json.dumps(result), flush=True)
            missed |= processes == 2 and result["images_per_second"] < BARS.get(size_px, 0.0)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
