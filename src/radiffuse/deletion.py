"""Deleting an output, so that the step that made it makes it anew."""

import re
from typing import TYPE_CHECKING

from radiffuse.errors import DataError
from radiffuse.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from radiffuse.storage import Store

# An output's address, or a run's with all its checkpoints; a folder of outputs is never deleted whole.
_OUTPUT = re.compile(r"/[0-9a-f]{16}$|^s3://checkpoints/[^/]+-[0-9a-f]{16}$")


def find_objects(store: "Store", uri: str) -> list[str]:
    """Addresses of all that lies below an output, or a run's checkpoints, complete or not, manifests first.

    Raises DataError when the address is no output's, or nothing is there.
    """
    manifest = f"{uri}/{MANIFEST_NAME}"
    found = list(store.list(uri))
    if not found:
        raise DataError(f"nothing to delete at {uri}; give the address that a step printed, without {MANIFEST_NAME}")
    if manifest not in found and _OUTPUT.search(uri) is None:
        raise DataError(f"{uri} is no output, but a folder with {len(found)} objects; give the address of one output")
    return sorted(found, key=lambda name: (not name.endswith(f"/{MANIFEST_NAME}"), name))
