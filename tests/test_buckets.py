"""Buckets are made as soon as a store answers, and a refusal is not mistaken for silence."""

import dataclasses
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radiffuse.buckets import create_buckets
from radiffuse.embedded_store import EmbeddedStore
from radiffuse.errors import AccessDeniedError, StorageError
from radiffuse.storage import Store


class _Heard(logging.Handler):
    """Remembers that something was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.event.set()


def test_a_store_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as former:
        store = Store(former.settings)
    heard, logger = _Heard(), logging.getLogger("radiffuse.buckets")
    logger.addHandler(heard)
    logger.setLevel(logging.INFO)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(create_buckets, store, 120)
        assert heard.event.wait(60), "it did not say that it waits"
        with EmbeddedStore(tmp_path):
            assert made.result(60) == []
    logger.removeHandler(heard)


def test_a_store_that_never_starts_is_named_at_the_deadline(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as former:
        settings = former.settings
    with pytest.raises(StorageError, match=f"cannot reach the store at {settings.endpoint}"):
        create_buckets(Store(settings), wait_seconds=1)


def test_wrong_keys_are_not_waited_for(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as server:
        stranger = Store(dataclasses.replace(server.settings, secret_key="wrong"))
        start = time.monotonic()
        with pytest.raises(AccessDeniedError):
            create_buckets(stranger, wait_seconds=120)
        assert time.monotonic() - start < 60
