"""A container as a step of Kubeflow Pipelines gets it, made of Linux namespaces: no image, no daemon.

Its root is read-only and holds this machine's /usr and /etc, the interpreter and the package. Only what KFP makes
writable is, and what the pipeline mounts. The process is not root, has no capabilities, and can get none. On SIGTERM
it has half a second, whatever the grace period says.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
KFP_FOLDERS = ("/kfp-launcher", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config")
"""What KFP 2.17 makes writable in every step's pod."""
KILLED_AFTER_SECONDS = 0.5
NEEDED = ("/usr", "/etc", "/sys", sys.base_prefix, sys.prefix, str(ROOT / "src"))
LINKS = ("bin", "sbin", "lib", "lib64")
UNLIMITED_SECONDS = 1800
"""Long past what a step of the tests takes on a machine that does nothing else."""


@dataclass(frozen=True)
class Pod:
    """What the container finds: `writable` and `readable` map a path in it to a folder of this machine."""

    folder: Path
    writable: Mapping[str, Path]
    readable: Mapping[str, Path] = field(default_factory=dict)
    user: int = 20002

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], terminate_after: float | None = None
    ) -> tuple[int, str]:
        """Exit code and log, stdout and stderr in one; killed half a second after a SIGTERM at `terminate_after`."""
        with (self.folder / "log").open("w+b") as log:
            process = subprocess.Popen(
                self._wrapped(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(UNLIMITED_SECONDS if terminate_after is None else terminate_after)
            except subprocess.TimeoutExpired:
                code = _kill(process)
            log.seek(0)
            return code, log.read().decode(errors="replace")

    def _wrapped(self, command: Sequence[str]) -> list[str]:
        new_root = self.folder / "root"
        new_root.mkdir(exist_ok=True)
        inside = [*self._become(), *command]
        # The shell stays: as process 1 of its namespace it takes the rest along when it is killed.
        script = "\n".join(["set -e", *self._mounts(new_root), f"chroot {new_root} {shlex.join(inside)}"])
        flags = ["--mount", "--pid", "--fork", "--kill-child"]
        if os.geteuid() != 0:
            flags += ["--user", "--map-root-user"]
        return ["unshare", *flags, "sh", "-c", script]

    def _become(self) -> list[str]:
        drop = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        if os.geteuid() == 0:
            return [*drop, f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        return ["unshare", "--user", f"--map-user={self.user}", f"--map-group={self.user}", "setpriv", "--no-new-privs"]

    def _mounts(self, new_root: Path) -> list[str]:
        steps = [f"mount -t tmpfs -o mode=755 tmpfs {new_root}"]
        sources = {**{path: Path(path) for path in NEEDED}, **self.readable, **self.writable}
        # A folder before what lies in it: this repository may be below a /tmp that is a mount of its own there.
        for target in sorted(sources):
            steps += _bound(sources[target], new_root, target)
            if target not in self.writable:
                steps.append(f"mount -o remount,bind,ro {new_root}{target} || true")
        for name in LINKS:
            if Path("/", name).is_symlink():
                steps.append(f"ln -s {os.readlink(f'/{name}')} {new_root}/{name}")
        steps += [f"mkdir {new_root}/dev {new_root}/proc", f"mount --rbind /dev {new_root}/dev"]
        return [*steps, f"mount -t proc proc {new_root}/proc", f"mount -o remount,ro,mode=755 {new_root}"]


def make_writable(folder: Path, user: int) -> Path:
    """A folder that the container's user may write to."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, user, user)
    return folder


def why_no_sandbox() -> str | None:
    """Why no container can be made here; None where it can."""
    with tempfile.TemporaryDirectory() as name:
        code, log = Pod(Path(name), {}).run(["/usr/bin/id", "-u"], {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
    return None if code == 0 and log.strip() == "20002" else f"no namespaces for a container here: {log.strip()}"


def _bound(source: Path, new_root: Path, target: str) -> list[str]:
    return [f"mkdir -p {new_root}{target}", f"mount --bind {source} {new_root}{target}"]


def _kill(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM to the container's processes, as Argo's executor passes it on, and an end half a second later."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILLED_AFTER_SECONDS)
    # Also when the container ended by itself meanwhile: a real pod's exit code says no more than that it failed.
    for child in (
        Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split() if _lives(process) else []
    ):
        os.kill(int(child), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _lives(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    return -signal.SIGTERM


def _lives(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None
