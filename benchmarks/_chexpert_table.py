"""CheXpert's true table of training images (223,414 rows), from the wheel of torchxrayvision.

Cohen et al., torchxrayvision, Apache-2.0; the table is Irvin et al. 2019 (Stanford), redistributed without images.
"""

import os
import tempfile
from pathlib import Path

from radiffuse.errors import IntegrityError
from radiffuse.local_files import cache_dir, sha256_of_file
from radiffuse.wheels import Wheel, unpack_wheel

WHEEL = Wheel(
    "torchxrayvision==1.5.7",
    "95f6c3475661f3515d4258deb0855bd5d1b1a56e0b65384251d3dd3fa61fac41",
    holds="CheXpert's table",
)
TABLE = "torchxrayvision/data/chexpert_train.csv.gz"
TABLE_SHA256 = "cdd70817ac2f13e464d2e35de78cd6831b10382c869c3824c35b44f55928becb"


def fetch_chexpert_table() -> Path:
    """The table in the cache, fetched with the user's own package client the first time (29 MB).

    Raises DataError when the wheel cannot be had, IntegrityError when the table is another one.
    """
    path = cached_chexpert_table()
    if path.is_file() and sha256_of_file(path) == TABLE_SHA256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        unpack_wheel(WHEEL, Path(scratch) / "target")
        found = Path(scratch) / "target" / TABLE
        if sha256_of_file(found) != TABLE_SHA256:
            raise IntegrityError(f"{TABLE} of {WHEEL.requirement} is not the table that was pinned; refusing to use it")
        os.replace(found, path)
    return path


def cached_chexpert_table() -> Path:
    """Where the table lies once it has been fetched."""
    return cache_dir() / "chexpert-table" / "chexpert_train.csv.gz"
