"""Run every benchmark, each in a process of its own, on its defaults: `make bench`."""

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Exit code 1 when a benchmark failed or missed its bar."""
    scripts = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("_"))
    failed = []
    for script in scripts:
        print(f"== {script.stem}", flush=True)
        if subprocess.run([sys.executable, script]).returncode != 0:
            failed.append(script.stem)
    if failed:
        print(f"error: {', '.join(failed)} failed or missed a bar; see above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
