"""Models on the Hugging Face hub, or on what HF_ENDPOINT names instead: fetched by commit, given up within seconds."""

import logging
import os
from pathlib import Path
from urllib.parse import urlsplit

from radiffuse.errors import ConfigError, DataError, StorageError
from radiffuse.local_files import is_disk_full
from radiffuse.progress import shows_bars

logger = logging.getLogger(__name__)

FIRST_ANSWER_SECONDS = 10.0
"""The hub's own client tries for half a minute, warns of each attempt twice, and ends without the reason."""


def download_model(source: str, revision: str, folder: Path, patterns: list[str]) -> None:
    """Fetch the files of a model that match; HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE and proxies are the client's.

    Raises DataError for what the hub does not have, StorageError with the reason when it cannot be asked.
    """
    _check_endpoint()
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: httpx's or httpx2's, by version
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    _quieten()
    try:
        HfApi().model_info(source, revision=revision, timeout=FIRST_ANSWER_SECONDS)
        logger.info("downloading model=%s revision=%s from=%s", source, revision, constants.ENDPOINT)
        snapshot_download(
            source, revision=revision, local_dir=folder, allow_patterns=patterns, ignore_patterns=["*.bin", "*.ckpt"]
        )
    except RepositoryNotFoundError as error:
        raise DataError(f"the hub has no {source}, or it is gated; set HF_TOKEN once you have accepted it") from error
    except RevisionNotFoundError as error:
        raise DataError(f"the hub has no revision {revision} of {source}; name a commit that it lists") from error
    except (HTTPError, OSError, ValueError) as error:
        if is_disk_full(error):
            raise
        raise StorageError(
            f"{source} cannot be downloaded from {constants.ENDPOINT} ({_reason(error)}); check the network and "
            "HF_ENDPOINT, or stage a local folder instead"
        ) from error


def _check_endpoint() -> None:
    """Raise ConfigError where HF_ENDPOINT is no address: the client could not even be imported."""
    if not (endpoint := os.environ.get("HF_ENDPOINT", "").strip()):
        return
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        is_url = False
    if not is_url:
        raise ConfigError(f"HF_ENDPOINT must be http(s)://host:port, not {endpoint!r}")


def _quieten() -> None:
    """Leave out what says nothing new: a line for each request, each warning a second time, bars in a pipe."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # as its documentation has it

    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub").handlers.clear()
    if not shows_bars():
        disable_progress_bars()


def _reason(error: Exception) -> str:
    """What went wrong, in at most a line."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        return f"it answers {error.response.status_code} {error.response.reason_phrase}"
    if isinstance(error, ValueError):
        return "what answers there is no hub"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
