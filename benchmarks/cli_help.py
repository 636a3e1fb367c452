"""How long `radiffuse --help` takes, from starting the process to its end.

    python benchmarks/cli_help.py [--runs 20]

The bar is 0.3 s of wall time, median. Measured with byte code written, as after any first run; CPU seconds (user and
system) are given too, since they do not depend on what else the machine does.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

BAR_SECONDS = 0.3


def measure() -> tuple[float, float]:
    """Wall and CPU seconds of one run."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    program = Path(sys.executable).with_name("radiffuse")
    subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Exit code 1 when the median misses the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    measure()
    runs = [measure() for _ in range(parser.parse_args().runs)]
    wall, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
    fastest = min(seconds for seconds, _ in runs)
    result = {"wall_seconds": wall, "fastest_seconds": fastest, "cpu_seconds": cpu, "bar_seconds": BAR_SECONDS}
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))
    return 0 if wall <= BAR_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
