"""How long `radiffuse inspect chexpert` takes on CheXpert's true table, and how much memory.

    python benchmarks/inspect_chexpert.py [--runs 5] [--table PATH]

Each run is a process of its own. The bars: 3 s of wall time after imports (median), 500 MB of resident memory at the
peak (largest), imports included. Prints the counts too. The table comes from a package index the first time.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

BAR_SECONDS = 3.0
BAR_MB = 500.0


def inspect_once(table: Path) -> None:
    """In the child: print seconds after imports, peak memory in MB and the counts, as JSON."""
    from radiffuse.data.inspect import inspect_source

    start = time.perf_counter()
    counts = inspect_source("chexpert", table)
    seconds = time.perf_counter() - start
    # Linux counts in kB.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb, "counts": counts}))


def main() -> int:
    """Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        inspect_once(arguments.table)
        return 0
    table = arguments.table
    if table is None:
        from _chexpert_table import fetch_chexpert_table

        table = fetch_chexpert_table()
    command = [sys.executable, __file__, "--child", "--table", str(table)]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(arguments.runs)]
    seconds = statistics.median(run["seconds"] for run in runs)
    peak_mb = max(run["peak_mb"] for run in runs)
    figures = {"seconds": round(seconds, 3), "bar_seconds": BAR_SECONDS, "peak_mb": round(peak_mb), "bar_mb": BAR_MB}
    print(json.dumps(figures | {"counts": runs[0]["counts"]}, indent=2))
    return 0 if seconds <= BAR_SECONDS and peak_mb <= BAR_MB else 1


if __name__ == "__main__":
    sys.exit(main())
