"""Runs `go` with caches of its own, which may be deleted at any time, and says in one line what it lacks."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from radiffuse.local_files import cache_dir
from tests.cluster.versions import GO_MINIMUM

BUILD_SECONDS = 3600.0
"""One product on two slow cores; Kubernetes takes eight minutes on two fast ones."""
TIED = ("setpriv", "--pdeathsig", "KILL", "--")
"""A builder that is killed takes its compiler along."""
UNREACHABLE = re.compile(
    r"dial tcp|no such host|i/o timeout|connection (?:refused|reset)|module lookup disabled|TLS handshake"
    r"|\b(?:403|404|410|5\d\d) \w+|unknown revision|checksum mismatch|SECURITY ERROR"
)


class ToolchainError(Exception):
    """The cluster's binaries cannot be built here; the message says what is missing and what to do."""


def cluster_cache() -> Path:
    """Where binaries and manifests are kept, by product and version."""
    return cache_dir() / "cluster"


def go_caches() -> Path:
    """Go's own caches, several GB after a build; deleting the folder costs only time."""
    return cluster_cache() / "go"


def toolchain() -> str:
    """Version and target such as `1.26.8 linux/amd64`; raises ToolchainError when there is no Go or it is too old."""
    if shutil.which("go") is None:
        raise ToolchainError(
            f"the cluster tests build Kubernetes from its Go modules and found no `go` on PATH; install Go {GO_MINIMUM}"
            " or newer, or put a filled cache at " + str(cluster_cache())
        )
    if shutil.which(TIED[0]) is None:
        raise ToolchainError(f"the cluster tests need `{TIED[0]}`; install util-linux")
    version, system, machine = run_go(["env", "GOVERSION", "GOOS", "GOARCH"], Path("/"), seconds=60).split()
    version = version.removeprefix("go")
    if _numbers(version) < _numbers(GO_MINIMUM):
        raise ToolchainError(f"Go {version} is too old for the cluster tests; install Go {GO_MINIMUM} or newer")
    return f"{version} {system}/{machine}"


def run_go(arguments: list[str], folder: Path, seconds: float = BUILD_SECONDS) -> str:
    """Standard output of a go command run in `folder`; raises ToolchainError with the last lines of what it said."""
    try:
        done = subprocess.run(
            [*TIED, "go", *arguments], cwd=folder, env=_environment(), capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(f"`go {' '.join(arguments)}` took over {seconds:.0f} s in {folder}") from error
    if done.returncode != 0:
        raise ToolchainError(_reason(arguments, folder, done.stderr))
    return done.stdout


def _environment() -> dict[str, str]:
    caches = {"GOMODCACHE": str(go_caches() / "mod"), "GOCACHE": str(go_caches() / "build")}
    # -modcacherw: a module cache that its owner can delete; GOTOOLCHAIN=local: nothing but modules is downloaded.
    pinned = {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false -modcacherw", "GOWORK": "off"}
    target = {"CGO_ENABLED": "0", "GOAMD64": "v1"}
    return os.environ | caches | pinned | target


def _reason(arguments: list[str], folder: Path, stderr: str) -> str:
    lines = [line for line in stderr.strip().splitlines() if not line.startswith("go: downloading")]
    said = "\n  ".join(lines[-5:]) or "it said nothing"
    unreachable = next((line for line in lines if UNREACHABLE.search(line)), None)
    if unreachable is not None:
        return (
            f"the Go modules of {folder.name} cannot be had: {unreachable.strip()[:400]}; check the network and GOPROXY"
            f" (`go env GOPROXY`), or put a filled cache at {cluster_cache()}"
        )
    return f"`go {' '.join(arguments[:2])}` failed for {folder.name}:\n  {said}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
