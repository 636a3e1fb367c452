"""Runs the tools that images are made with, and says in one message what is missing or went wrong."""

import logging
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from radiffuse.errors import RadiffuseError
from radiffuse.local_files import cache_dir

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parent.parent
"""The repository: what images are built from."""
PACKAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
"""What building takes of this machine, and the Debian package that has it."""
BUILD_SECONDS = 3600.0
"""One command at most; gigabytes of packages over a slow line, unpacked on two busy cores."""
STEP = re.compile(r"(?:\[\d+\/\d+\] )?STEP |I: ")
LAST_LINES = 12


class ImageError(RadiffuseError):
    """An image cannot be built or is not as it should be; the message has the tool's last words."""


def image_cache() -> Path:
    """Where images and what they are built of are kept; deleting it costs some minutes and a download."""
    return cache_dir() / "images"


def missing_requirements() -> str:
    """What has to be installed or changed before images can be built here; empty when nothing has."""
    packages = [package for tool, package in PACKAGES.items() if shutil.which(tool) is None]
    if packages:
        return (
            f"images are built by Debian's {' and '.join(PACKAGES)}; install what is missing: "
            f"apt-get install --no-install-recommends {' '.join(packages)}"
        )
    if os.geteuid() != 0:
        return (
            "building without a container engine takes root: run `make images` as root, or give images/NAME/Dockerfile"
            " to the engine you have, as docs/images.md says"
        )
    return ""


def run(command: list[str], environment: Mapping[str, str] | None = None, seconds: float = BUILD_SECONDS) -> str:
    """Standard output of a command; what it says of its steps is logged. Raises ImageError with its last words."""
    process = subprocess.Popen(
        command,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line.rstrip())
            if STEP.match(line):
                logger.info("%s", said[-1][:160])
    finally:
        timer.cancel()
    if process.wait() != 0:
        words = "\n  ".join(deque((line for line in said if line), LAST_LINES))
        raise ImageError(f"`{' '.join(command[:8])} ...` ended with {process.returncode}:\n  {words}")
    return "\n".join(said)
