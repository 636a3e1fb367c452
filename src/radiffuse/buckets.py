"""The buckets of a store that may not have started yet."""

import logging
import time

from radiffuse.errors import StorageError
from radiffuse.storage import Store

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Between two attempts, each of which tries for some seconds by itself."""


def create_buckets(store: Store, wait_seconds: float = 0) -> list[str]:
    """Create the missing ones and return their names; a store that is silent is asked again for that long.

    Raises StorageError with the last thing that the store said; a refusal is not worth waiting for.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return store.create_buckets()
        except StorageError as error:
            # Its subclasses are answers: wrong keys, or something that is not there.
            if type(error) is not StorageError or time.monotonic() + PAUSE_SECONDS > deadline:
                raise
            logger.info("store waits_seconds=%.0f %s", deadline - time.monotonic(), error)
            time.sleep(PAUSE_SECONDS)
