"""`make cluster-test-node`: build what is missing, then run pytest where two nodes can live. Needs root.

Network, mounts and processes are namespaces of their own: whatever the nodes start ends with the last of them. What
outlives a namespace, control groups and kernel settings, is put back here. The logs of a failed run are kept.
"""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from images.commands import PACKAGES as IMAGE_PACKAGES
from radiffuse.errors import RadiffuseError
from tests.cluster.build import MANIFESTS, NODES, build, manifests
from tests.cluster.isolation import ROOT, IsolationError, isolated
from tests.cluster.nodes.cgroups import VARIABLE, remove_cgroup
from tests.cluster.nodes.images import build_images
from tests.cluster.nodes.package_index import fetch_packages
from tests.cluster.run import LOGS
from tests.cluster.toolchain import ToolchainError

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    **IMAGE_PACKAGES,
    "iptables": "iptables",
    "conntrack": "conntrack",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""What the nodes need of this machine, and the Debian package that has it."""
FIXED_PLACES = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))
"""Compiled into the container daemon and the kubelet; hidden behind empty file systems while the nodes run."""
KUBELET_SETTINGS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""A kubelet sets these for the whole machine."""


def main() -> int:
    """Exit code of pytest; 1 with one message when something is missing that the nodes need."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    start = time.monotonic()
    if missing := missing_requirements():
        print(missing, file=sys.stderr)
        return 1
    try:
        build(NODES)
        for product in MANIFESTS:
            manifests(product)
        fetch_packages()
        given = build_images()
        built = time.monotonic()
        code = _run_tests(given, sys.argv[1:])
    except (ToolchainError, IsolationError, RadiffuseError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"node tests: images and binaries {built - start:.0f} s, tests {time.monotonic() - built:.0f} s")
    return code


def missing_requirements() -> str:
    """What has to be installed or changed before nodes can run here; empty when nothing has."""
    if os.geteuid() != 0:
        return "the node tests start kubelets and containers, which takes root; run `make cluster-test-node` as root"
    packages = [package for path, package in PACKAGES.items() if shutil.which(path) is None]
    if packages:
        return f"the node tests need Debian packages: apt-get install --no-install-recommends {' '.join(packages)}"
    return ""


def _run_tests(given: dict[str, str], arguments: list[str]) -> int:
    cgroup = f"/radiffuse-{os.getpid()}"
    logs = ROOT / "out" / "cluster-logs" / f"nodes-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    logs.mkdir(parents=True)
    paths = [] if any(Path(each.partition("::")[0]).exists() for each in arguments) else ["tests/cluster/nodes"]
    inside = [sys.executable, "-m", "tests.cluster.nodes.inside"]
    tests = [sys.executable, "-m", "pytest", "-m", "nodes", *paths, *arguments]
    with _kept_settings(), _mount_points(), tempfile.TemporaryDirectory(prefix="radiffuse-nodes-") as scratch:
        # As many threads as a rank has in a pod: sums over more of them differ in their last digits.
        environment = given | {"OMP_NUM_THREADS": "1", "TMPDIR": scratch, LOGS: str(logs), VARIABLE: cgroup}
        code = isolated([*inside, *tests], environment, own_user=False)
        left = remove_cgroup(cgroup)
    if left:
        print(f"control groups that could not be removed: {', '.join(map(str, left))}", file=sys.stderr)
    if code == 0:
        shutil.rmtree(logs)
    else:
        print(f"the cluster's logs are kept in {logs}")
    return code


@contextlib.contextmanager
def _kept_settings() -> Iterator[None]:
    """Put back what a kubelet changes of the machine's kernel."""
    paths = [Path("/proc/sys") / name for name in KUBELET_SETTINGS]
    before = {path: path.read_text(encoding="utf-8") for path in paths}
    try:
        yield
    finally:
        for path, text in before.items():
            if path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _mount_points() -> Iterator[None]:
    made = [place for place in FIXED_PLACES if not place.exists()]
    for place in made:
        place.mkdir(parents=True)
    try:
        yield
    finally:
        for place in made:
            place.rmdir()


if __name__ == "__main__":
    sys.exit(main())
