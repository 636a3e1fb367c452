"""Which checkpoints a run has in the store, by the optimizer steps done. Light: it imports no torch."""

import re
from typing import TYPE_CHECKING

from radiffuse.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from radiffuse.storage import Store

STEP_FOLDER = re.compile(r"/step-(\d{8})/")


def step_uri(uri: str, step: int) -> str:
    """Folder of the checkpoint after that step, below the run's checkpoints."""
    return f"{uri}/step-{step:08d}"


def complete_steps(store: "Store", uri: str) -> list[int]:
    """Ascending steps whose checkpoint has its manifest."""
    return _steps(store, uri, MANIFEST_NAME)


def begun_steps(store: "Store", uri: str) -> list[int]:
    """Ascending steps that have a folder: complete, or left by an interrupted upload."""
    return _steps(store, uri, "")


def _steps(store: "Store", uri: str, suffix: str) -> list[int]:
    matches = (STEP_FOLDER.search(found) for found in store.list(f"{uri}/") if found.endswith(suffix))
    return sorted({int(match[1]) for match in matches if match is not None})
