"""What a store's refusals and silences mean to a person: what was asked, where, and what to do next."""

import re

from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from radiffuse.errors import AccessDeniedError, IntegrityError, ObjectNotFoundError, StorageError
from radiffuse.store_connections import UploadStalledError

# An output's address within that of one of its objects, which may lie in a folder below it.
_OUTPUT = re.compile(r"s3://.*?/[0-9a-f]{16}(?=/)")


def refusal(status: int, code: str | None, uri: str, endpoint: str) -> StorageError:
    """The error for an HTTP status and S3 error code, 403 apart from 404 apart from the rest."""
    if code == "RequestTimeTooSkewed":
        return AccessDeniedError(
            f"{endpoint} refused access to {uri} because its clock and this machine's differ too much; set the clock"
        )
    if status in (401, 403):
        return AccessDeniedError(
            f"{endpoint} refused access to {uri} ({code}); check MINIO_ACCESS_KEY and MINIO_SECRET_KEY,"
            " and what the store allows them"
        )
    if code == "NoSuchBucket":
        bucket = uri.removeprefix("s3://").partition("/")[0]
        return ObjectNotFoundError(
            f'no bucket {bucket!r} at {endpoint}; create the buckets with "radiffuse store init"'
        )
    if status == 404:
        return ObjectNotFoundError(f"no object at {uri} in {endpoint}; run the step that writes it")
    return StorageError(f"{endpoint} answered {status} {code} for {uri}; its own log says more, then try again")


def unreachable(error: HTTPError, endpoint: str) -> StorageError:
    """The error for a connection that cannot be made, is not trusted, or broke too often."""
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    if isinstance(reason, SSLError):
        return StorageError(
            f"no trusted TLS connection to {endpoint} ({reason}); point MINIO_CA_CERT at the authority's certificate,"
            " or set MINIO_SECURE=false for a store without TLS"
        )
    if isinstance(reason, UploadStalledError):
        return StorageError(
            f"an upload to {endpoint} stalled ({reason}, five times); check the link to the store and the space it has,"
            " then run again: what arrived is kept"
        )
    # urllib3 puts its own objects before the words, as "<connection>: words" or as an argument of their own.
    words = str(reason.args[-1] if reason.args else reason).rpartition(": ")[2]
    return StorageError(
        f"cannot reach the store at {endpoint} ({words}); check MINIO_ENDPOINT, and that"
        ' the store runs: "radiffuse store serve --dir store" starts one here'
    )


def check_arrival(uri: str, found: tuple[int, str], sha256: str | None, size_bytes: int | None) -> None:
    """Raise IntegrityError unless the size and digest found are those recorded, where they are given."""
    output = _OUTPUT.match(uri)
    remake = (
        f'the object is damaged: "radiffuse store delete {uri.rpartition("/")[0] if output is None else output[0]}"'
        " and run the step that made it again"
    )
    if size_bytes is not None and found[0] != size_bytes:
        raise IntegrityError(f"{uri} has {found[0]} bytes where its manifest recorded {size_bytes}; {remake}")
    if sha256 is not None and found[1] != sha256:
        raise IntegrityError(f"{uri} has SHA-256 {found[1]} where its manifest recorded {sha256}; {remake}")
