"""The one gateway to the object store (MinIO, or anything that speaks S3 as MinIO does).

URIs are `s3://bucket/key`. Every file arrives whole and with the digest its manifest recorded, or not at all. An
output is complete when its manifest exists: `publish` uploads that last, and `find` looks for nothing else.
"""

import contextlib
import hashlib
import io
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar, cast
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from minio.helpers import DictType
from pydantic import ValidationError
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from radiffuse.errors import AccessDeniedError, ConfigError, DataError, IntegrityError, StorageError
from radiffuse.local_files import (
    UnchangedFile,
    VerifiedFiles,
    atomic_file,
    cache_dir,
    folder_lock,
    require_free_space,
    sha256_of_file,
)
from radiffuse.manifest import MANIFEST_NAME, Manifest, StoredObject, describe_first
from radiffuse.progress import track
from radiffuse.store_connections import LoggedRetry, send_patiently
from radiffuse.store_errors import check_arrival, refusal, unreachable
from radiffuse.store_settings import StoreSettings

__all__ = ["BUCKETS", "Store", "StoreSettings", "cache_dir", "open_store", "split_uri"]

logger = logging.getLogger(__name__)

BUCKETS = ("datasets", "models", "checkpoints", "samples", "reports", "prompts")

PART_BYTES = 16 * 2**20
"""Of a multipart upload; S3 allows 10,000 parts, so this carries objects of 160 GB."""
CHUNK_BYTES = 2**20
TRANSFERS = 4
"""Files on their way at once. A large upload has up to four parts in memory: 256 MB for all of them together."""
PROGRESS_BYTES = 256 * 2**20
"""A transfer of this size or more shows its progress."""
DELETE_BATCH = 1000
"""S3's limit for one request."""

RETRIES = LoggedRetry(
    total=4,
    backoff_factor=0.25,
    backoff_jitter=0.25,
    status_forcelist=(500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
    respect_retry_after_header=False,
)
"""The one policy: five attempts, waiting 0, 0.5, 1 and 2 s between them and up to 0.25 s more. All our requests may be
sent twice. A server's own wish for when to come back has no bound, so it is not asked."""
TIMEOUT = urllib3.Timeout(connect=2.0, read=60.0)
"""Seconds. Five connects of 2 s and the waits between them: a dead server is reported within 15 s. What a request may
take to go out is `store_connections`' affair."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def open_store(pool: Callable[..., urllib3.PoolManager] = urllib3.PoolManager) -> "Store":
    """The store that the environment names; raises ConfigError when it names none. `pool` as in `Store`."""
    return Store(StoreSettings.from_environment(), pool)


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # S3's rule for names


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key; raises ConfigError for anything else, such as a key that climbs out of it."""
    scheme, _, path = uri.partition("://")
    bucket, _, key = path.partition("/")
    if scheme != "s3" or _BUCKET.fullmatch(bucket) is None or {".", ".."} & set(key.split("/")):
        raise ConfigError(f"{uri!r} is not an address in the store; it must look like s3://bucket/key")
    return bucket, key


class Store:
    """Objects and outputs in one S3 store; threads may share it.

    Raises AccessDeniedError (403), ObjectNotFoundError (404), IntegrityError (wrong bytes) and otherwise StorageError.
    `pool` makes the pool of connections, so that requests can be counted.
    """

    def __init__(self, settings: StoreSettings, pool: Callable[..., urllib3.PoolManager] = urllib3.PoolManager) -> None:
        self.settings = settings
        connections = send_patiently(
            pool(
                timeout=TIMEOUT,
                retries=RETRIES,
                maxsize=4 * TRANSFERS,
                cert_reqs="CERT_REQUIRED",
                ca_certs=None if settings.ca_cert is None else str(settings.ca_cert),
            )
        )
        try:
            self._client = Minio(
                settings.endpoint,
                access_key=settings.access_key,
                secret_key=settings.secret_key,
                secure=settings.secure,
                http_client=connections,
            )
        except ValueError as error:
            raise ConfigError(f"MINIO_ENDPOINT must be host:port, not {settings.endpoint!r}: {error}") from error

    def __repr__(self) -> str:
        return f"Store({self.settings!r})"

    def create_buckets(self) -> list[str]:
        """Create those of BUCKETS that are missing; returns their names."""
        missing = self.missing_buckets()
        for bucket in missing:
            with self._translating(f"s3://{bucket}"):
                self._make_bucket(bucket)
        return missing

    def _make_bucket(self, bucket: str) -> None:
        try:
            self._client.make_bucket(bucket)
        except S3Error as error:
            if error.code != "BucketAlreadyOwnedByYou":  # by another process, since we looked
                raise

    def missing_buckets(self) -> list[str]:
        """Those of BUCKETS that do not exist."""
        missing = []
        for bucket in BUCKETS:
            with self._translating(f"s3://{bucket}"):
                if not self._client.bucket_exists(bucket):
                    missing.append(bucket)
        return missing

    def put_bytes(self, uri: str, data: bytes) -> StoredObject:
        """Write one small object."""
        stored = StoredObject(
            name=PurePosixPath(uri).name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
        )
        self._upload(uri, io.BytesIO(data), stored)
        return stored

    def put_file(self, uri: str, path: Path) -> StoredObject:
        """Upload a file in parts; raises DataError, and leaves no object, when it changes meanwhile."""
        stored = StoredObject(name=PurePosixPath(uri).name, size_bytes=path.stat().st_size, sha256=sha256_of_file(path))
        with path.open("rb") as file:
            self._upload(uri, UnchangedFile(file, stored.size_bytes, stored.sha256), stored)
        return stored

    def get_bytes(self, uri: str, *, sha256: str | None = None) -> bytes:
        """Read one small object, checked against its digest where one is given."""
        buffer = io.BytesIO()
        check_arrival(uri, self._download(uri, buffer), sha256, None)
        return buffer.getvalue()

    def get_file(self, uri: str, path: Path, *, sha256: str | None = None, size_bytes: int | None = None) -> None:
        """Download to a temporary file, check it, and only then give it its name."""
        with atomic_file(path) as file:
            check_arrival(uri, self._download(uri, file), sha256, size_bytes)

    def exists(self, uri: str) -> bool:
        """Whether the object exists; a missing bucket is an error, since nothing could be written there either."""
        return self._stat(uri) is not None

    def list(self, uri: str) -> Iterator[str]:
        """URIs of all objects below a folder or bucket, page by page as they are asked for."""
        bucket, key = split_uri(uri)
        prefix = f"{key.rstrip('/')}/" if key else ""
        with self._translating(uri):
            for found in self._client.list_objects(bucket, prefix=prefix, recursive=True):
                yield f"s3://{bucket}/{found.object_name}"

    def delete(self, uris: Iterable[str]) -> None:
        """Delete objects; those that are gone already count as deleted. Of each thousand, manifests go first."""
        remaining = iter(uris)
        while batch := list(itertools.islice(remaining, DELETE_BATCH)):
            # A deletion that is interrupted must not leave an output that looks complete.
            self._delete_batch([uri for uri in batch if uri.endswith(f"/{MANIFEST_NAME}")])
            self._delete_batch([uri for uri in batch if not uri.endswith(f"/{MANIFEST_NAME}")])

    def find(self, uri: str) -> Manifest | None:
        """The manifest of the complete output at this address; None when there is none, or only a part of one."""
        split_uri(uri)  # so that an error shows the address that was given
        address = f"{uri}/{MANIFEST_NAME}"
        if not self.exists(address):
            return None
        remake = f'"radiffuse store delete {uri}" and run again'
        try:
            manifest = Manifest.model_validate_json(self.get_bytes(address))
        except ValidationError as error:
            raise IntegrityError(
                f"{address} is not a manifest of this version: {describe_first(error)}; {remake}"
            ) from error
        if manifest.uri != uri.rstrip("/"):
            raise IntegrityError(f"{address} is the manifest of another place, {manifest.uri}; {remake}")
        return manifest

    def publish(self, manifest: Manifest, directory: Path, names: Iterable[str] | None = None) -> Manifest:
        """Upload files, by default all but hidden ones below `directory`, then the manifest that lists them.

        Returns that manifest. What an interrupted upload left in the store is kept where its digest is right.
        """
        chosen = _names_below(directory) if names is None else [_checked_name(name) for name in names]
        size_bytes = sum((directory / name).stat().st_size for name in chosen)
        objects = _in_parallel(partial(self._put_once, manifest.uri, directory), chosen, "publish", size_bytes)
        complete = manifest.model_copy(update={"objects": tuple(objects)})
        self.commit(complete)
        return complete

    def commit(self, manifest: Manifest) -> None:
        """Make an output complete whose objects are all uploaded."""
        self.put_bytes(f"{manifest.uri}/{MANIFEST_NAME}", manifest.model_dump_json(indent=2).encode())
        size_bytes = sum(stored.size_bytes for stored in manifest.objects)
        logger.info("published uri=%s objects=%d size_bytes=%d", manifest.uri, len(manifest.objects), size_bytes)

    def fetch(
        self, manifest: Manifest, directory: Path, names: Mapping[str, str] | Iterable[str] | None = None
    ) -> Path:
        """Download objects (by default all) below `directory`, which is returned; a mapping gives them other names.

        Files that are there with the right digest stay.
        """
        targets = {
            directory / _checked_name(local): manifest.find(name) for name, local in _local_names(manifest, names)
        }
        intact = _in_parallel(lambda target: _is_intact(*target), list(targets.items()))
        missing = [target for target, is_intact in zip(targets.items(), intact, strict=True) if not is_intact]
        size_bytes = sum(stored.size_bytes for _, stored in missing)
        directory.mkdir(parents=True, exist_ok=True)
        require_free_space(directory, size_bytes)
        _in_parallel(lambda target: self._get_object(manifest.uri, *target), missing, "fetch", size_bytes)
        return directory

    def fetch_cached(self, manifest: Manifest) -> Path:
        """Fetch an output for reading, once for all processes of this machine; returns its folder below the cache."""
        directory = cache_dir().joinpath(*split_uri(manifest.uri))
        if _unverified(directory, manifest):
            with folder_lock(directory):
                missing = _unverified(directory, manifest)
                self.fetch(manifest, directory, missing)
                record = VerifiedFiles(directory)
                for name in missing:
                    record.add(name, manifest.find(name).sha256)
                record.save()
        return directory

    @contextlib.contextmanager
    def _translating(self, uri: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            raise refusal(error.response.status, error.code, uri, self.settings.endpoint) from error
        except HTTPError as error:
            raise unreachable(error, self.settings.endpoint) from error
        except (MinioException, ParseError, UnicodeDecodeError) as error:
            raise StorageError(
                f"{self.settings.endpoint} does not answer as an S3 store does; check MINIO_ENDPOINT and MINIO_SECURE"
            ) from error

    def _stat(self, uri: str) -> tuple[int, str | None] | None:
        """Size in bytes and recorded digest of an object, or None when there is none."""
        bucket, key = split_uri(uri)
        with self._translating(uri):
            try:
                found = self._client.stat_object(bucket, key)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return None
                raise
        return found.size or 0, (found.metadata or {}).get("x-amz-meta-sha256")

    def _upload(self, uri: str, file: BinaryIO | UnchangedFile, stored: StoredObject) -> None:
        bucket, key = split_uri(uri)
        with self._translating(uri):
            try:
                self._client.put_object(
                    bucket,
                    key,
                    cast("BinaryIO", file),
                    stored.size_bytes,
                    metadata={"sha256": stored.sha256},
                    part_size=PART_BYTES,
                )
            except S3Error as error:
                # The answer to the last request was lost, and its repetition finds the upload finished.
                if error.code != "NoSuchUpload" or self._stat(uri) != (stored.size_bytes, stored.sha256):
                    raise

    def _put_once(self, uri: str, directory: Path, name: str) -> StoredObject:
        path = directory / name
        found = self._stat(f"{uri}/{name}")
        if found is not None and found == (path.stat().st_size, sha256_of_file(path)):
            return StoredObject(name=name, size_bytes=found[0], sha256=str(found[1]))
        return self.put_file(f"{uri}/{name}", path).model_copy(update={"name": name})

    def _get_object(self, uri: str, path: Path, stored: StoredObject) -> None:
        self.get_file(f"{uri}/{stored.name}", path, sha256=stored.sha256, size_bytes=stored.size_bytes)

    def _download(self, uri: str, file: BinaryIO) -> tuple[int, str]:
        """Size and digest of what was written to `file`; a broken connection goes on where it broke."""
        bucket, key = split_uri(uri)
        digest, received, etag, retries = hashlib.sha256(), 0, "", RETRIES
        with self._translating(uri):
            while True:
                try:
                    same_object: DictType = {"If-Match": etag} if etag else {}
                    response = self._client.get_object(bucket, key, offset=received, request_headers=same_object)
                    with contextlib.closing(response):
                        etag = response.headers.get("etag", "")
                        for chunk in response.stream(CHUNK_BYTES):
                            file.write(chunk)
                            digest.update(chunk)
                            received += len(chunk)
                    return received, digest.hexdigest()
                except (ProtocolError, ReadTimeoutError) as error:
                    retries = retries.increment("GET", key, error=error)
                    logger.warning("download_interrupted uri=%s received_bytes=%d", uri, received)
                    retries.sleep()

    def _delete_batch(self, uris: Sequence[str]) -> None:
        for bucket, group in itertools.groupby(sorted(map(split_uri, uris)), key=lambda pair: pair[0]):
            with self._translating(f"s3://{bucket}"):
                for error in self._client.remove_objects(bucket, [DeleteObject(key) for _, key in group]):
                    refused = AccessDeniedError if error.code == "AccessDenied" else StorageError
                    raise refused(f"{self.settings.endpoint} did not delete s3://{bucket}/{error.name}: {error.code}")


def _in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], label: str = "", size_bytes: int = 0
) -> list[Result]:
    """Results in the order of the items; the first failure stops what has not begun. Large transfers show progress."""
    with ThreadPoolExecutor(TRANSFERS) as pool:
        try:
            results = pool.map(function, items)
            if size_bytes < PROGRESS_BYTES:
                return list(results)
            return list(track(results, len(items), label, "files"))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_intact(path: Path, stored: StoredObject) -> bool:
    return path.is_file() and path.stat().st_size == stored.size_bytes and sha256_of_file(path) == stored.sha256


def _unverified(directory: Path, manifest: Manifest) -> list[str]:
    record = VerifiedFiles(directory)
    return [stored.name for stored in manifest.objects if not record.holds(stored.name, stored.sha256)]


def _names_below(directory: Path) -> list[str]:
    """All files but hidden ones (ours and the hub's records of what was fetched) and the manifest of their source."""
    paths = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    names = [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]
    return sorted(name for name in names if name != MANIFEST_NAME)


def _local_names(manifest: Manifest, names: Mapping[str, str] | Iterable[str] | None) -> Iterable[tuple[str, str]]:
    if names is None:
        names = [stored.name for stored in manifest.objects]
    return names.items() if isinstance(names, Mapping) else ((name, name) for name in names)


def _checked_name(name: str) -> str:
    """A manifest comes from outside; its names must not lead out of the folder they are written to."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"object name {name!r} leads out of its folder; expected a relative path without '..'")
    return name
