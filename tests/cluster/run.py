"""`make cluster-test`: build what is missing, then run pytest inside a namespace with the arguments given.

Without arguments, the tests of control_plane/ are shared out to two clusters, each in its own namespace. The logs of a
failed run are kept.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from radiffuse.errors import RadiffuseError
from tests.cluster.build import CONTROL_PLANE, MANIFESTS, build, cpu_seconds, manifests
from tests.cluster.isolation import ROOT, IsolationError, start_isolated, wait_for
from tests.cluster.toolchain import ToolchainError

LOGS = "RADIFFUSE_CLUSTER_LOGS"
SHARD = "RADIFFUSE_CLUSTER_SHARD"
PREFIX = "radiffuse-cluster-"
LOCK = ".lock"


def main() -> int:
    """Exit code of pytest; 1 with one message when the binaries or the namespace cannot be had."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    start = time.monotonic()
    try:
        build(CONTROL_PLANE)
        for product in MANIFESTS:
            manifests(product)
        built, cpu = time.monotonic(), cpu_seconds()
        code = _run_tests(sys.argv[1:])
    except (ToolchainError, IsolationError, RadiffuseError) as error:
        print(error, file=sys.stderr)
        return 1
    tests = f"tests {time.monotonic() - built:.0f} s ({cpu_seconds() - cpu:.0f} s of processor time)"
    print(f"cluster tests: binaries {built - start:.0f} s, {tests}")
    return code


def _run_tests(arguments: list[str]) -> int:
    logs = ROOT / "out" / "cluster-logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    logs.mkdir(parents=True)
    # Tests mostly wait for each other's pods; two clusters wait at once. Chosen tests are run by one.
    shards = 1 if arguments else 2
    _remove_what_a_killed_run_left()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as scratch, Path(scratch, LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code = _run_shards(arguments, shards, Path(scratch), logs)
    if code == 0 or not any(path.is_file() for path in logs.rglob("*")):
        shutil.rmtree(logs)
    else:
        print(f"the cluster's logs are kept in {logs}")
    return code


def _run_shards(arguments: list[str], count: int, scratch: Path, logs: Path) -> int:
    """The first exit code that is not 0; what the first shard prints is seen at once, the others' afterwards."""
    paths = [] if any(Path(each.partition("::")[0]).exists() for each in arguments) else ["tests/cluster/control_plane"]
    command = [sys.executable, "-m", "pytest", "-m", "cluster", *paths, *arguments]
    with contextlib.ExitStack() as stack:
        outputs = [None, *(stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(count - 1))]
        started = []
        for number, output in enumerate(outputs):
            folders = {"TMPDIR": scratch / str(number), LOGS: logs / str(number)}
            for folder in folders.values():
                folder.mkdir()
            environment = {name: str(folder) for name, folder in folders.items()} | {SHARD: f"{number}/{count}"}
            started.append(start_isolated(command, environment, output=output))
        codes = wait_for(started)
        for output in outputs[1:]:
            assert output is not None
            output.seek(0)
            shutil.copyfileobj(output, sys.stdout)
    return next((code for code in codes if code != 0), 0)


def _remove_what_a_killed_run_left() -> None:
    """Its servers died with it; its folder of their data did not. A run that lives holds its folder's lock."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError), path.open("w") as lock:  # another user's, locked, or just removed
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent)


if __name__ == "__main__":
    sys.exit(main())
