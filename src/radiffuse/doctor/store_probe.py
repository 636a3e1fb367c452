"""A store as a check looks at it: reached briefly, its clock noted, an object written to it and taken away again."""

import secrets
import time
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from radiffuse.errors import AccessDeniedError, IntegrityError, ObjectNotFoundError, StorageError
from radiffuse.storage import BUCKETS, Store
from radiffuse.store_errors import unreachable
from radiffuse.store_settings import StoreSettings

TIMEOUT = urllib3.Timeout(connect=3.0, read=10.0)
RETRIES = urllib3.Retry(total=1, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), allowed_methods=None)
PREFIX = "radiffuse-doctor"
PROBE = b"radiffuse doctor was here"


class _Pool(urllib3.PoolManager):
    """Asks less patiently than a run does, and notes the server's clock."""

    skew_seconds: float | None = None

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"timeout": TIMEOUT, "retries": RETRIES})

    def urlopen(self, method: str, url: str, redirect: bool = True, **request: Any) -> Any:  # type: ignore[override]
        before = time.time()
        response = super().urlopen(method, url, redirect, **request)
        after = time.time()
        if (date := response.headers.get("date")) is not None:
            # The header has whole seconds, cut off.
            self.skew_seconds = _seconds(date, url) + 0.5 - (before + after) / 2
        return response


def _seconds(date: str, url: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError) as error:
        raise StorageError(
            f"{urllib3.util.parse_url(url).netloc} answers with the date {date[:40]!r}, which is none; "
            "make MINIO_ENDPOINT the address of a store's S3 API"
        ) from error


class StoreProbe:
    """One store with one account. Methods raise the errors of `Store`."""

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self._pool: _Pool | None = None
        self._store = Store(settings, self._make_pool)

    @property
    def skew_seconds(self) -> float | None:
        """By how much the server's clock is ahead of ours, to the second; None before an answer that told its date."""
        return None if self._pool is None else self._pool.skew_seconds

    def greet(self) -> None:
        """Get any answer at all, without an account."""
        assert self._pool is not None
        scheme = "https" if self.settings.secure else "http"
        try:
            self._pool.request("GET", f"{scheme}://{self.settings.endpoint}/", redirect=False)
        except HTTPError as error:
            raise unreachable(error, self.settings.endpoint) from error

    def missing_buckets(self) -> list[str]:
        """Those of BUCKETS that do not exist."""
        return self._store.missing_buckets()

    def require_store(self) -> None:
        """Raise StorageError for a server that has everything that it is asked for, as no store has."""
        uri = f"s3://{BUCKETS[0]}/{PREFIX}/{secrets.token_hex(8)}"
        try:
            self._store.get_bytes(uri)
        except (ObjectNotFoundError, AccessDeniedError):
            return
        raise StorageError(
            f"{self.settings.endpoint} has {uri}, which nobody wrote, so it is no store; "
            "make MINIO_ENDPOINT the address of a store's S3 API"
        )

    def create_buckets(self) -> list[str]:
        """Create those of BUCKETS that are missing; returns their names."""
        return self._store.create_buckets()

    def write_and_delete(self) -> None:
        """Put, read back and delete a small object in each bucket."""
        for bucket in BUCKETS:
            uri = f"s3://{bucket}/{PREFIX}/{secrets.token_hex(8)}"
            self._store.put_bytes(uri, PROBE)
            try:
                if self._store.get_bytes(uri) != PROBE:
                    raise IntegrityError(f"{uri} does not hold what was just written to it; see the store's own log")
            finally:
                self._delete(uri)

    def _delete(self, uri: str) -> None:
        try:
            self._store.delete([uri])
        except StorageError as error:
            raise type(error)(f"{uri} was written and cannot be deleted: {error}") from error

    def _make_pool(self, **settings: Any) -> urllib3.PoolManager:
        self._pool = _Pool(**settings)
        return self._pool
