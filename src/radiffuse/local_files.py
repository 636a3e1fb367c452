"""Local files that are either whole or absent, and a record of which of them were checked."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from radiffuse.errors import ConfigError, DataError, StorageError

logger = logging.getLogger(__name__)

# What is wrong with one path of a tree, where any other error means that the disk or the mount fails.
_ERRORS_OF_ONE_PATH = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

RECORD_NAME = ".verified.json"
LOCK_NAME = ".lock"


def cache_dir() -> Path:
    """Where data fetched for reading goes: RADIFFUSE_CACHE, or ~/.cache/radiffuse."""
    configured = os.environ.get("RADIFFUSE_CACHE", "")
    return Path(configured) if configured else Path.home() / ".cache" / "radiffuse"


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class UnchangedFile:
    """A file on its way out, whose last bytes are handed over only if all of them are those that were hashed before.

    So nothing arrives whole under a digest that is not its own, even if this process ends at any moment.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, sha256: str) -> None:
        self._file, self._missing_bytes, self._sha256 = file, size_bytes, sha256
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes; raises DataError at the last when the file has changed."""
        data = self._file.read(size)
        self._digest.update(data)
        self._missing_bytes -= len(data)
        is_at_end = self._missing_bytes <= 0 or not data
        if is_at_end and (self._missing_bytes != 0 or self._digest.hexdigest() != self._sha256):
            raise DataError(f"{self._file.name} changed while it was uploaded; run again once nobody writes to it")
        return data


class NotAFileError(OSError):
    """A folder, pipe, socket or device where a file belongs."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; raises OSError, at once also for a pipe, which would wait for somebody to write."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise NotAFileError(errno.EINVAL, "not a regular file", str(path))


def is_missing(error: OSError) -> bool:
    """Whether nothing is there."""
    return isinstance(error, FileNotFoundError | NotADirectoryError)


def is_of_one_path(error: OSError) -> bool:
    """Whether the error concerns this path alone, so that the others of its tree can still be read."""
    return isinstance(error, NotAFileError) or error.errno in _ERRORS_OF_ONE_PATH


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place on success and is removed on any failure.

    Raises StorageError that names the folder when the disk is full or the folder cannot be written. What the caller
    does meanwhile must raise no OSError of its own; urllib3's errors are none.
    """
    temporary = path.parent / f".{uuid.uuid4().hex[:12]}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
            # No fsync: a store has the data, and a size that a power cut made wrong is seen by the next fetch.
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A folder below TMPDIR while the context lasts; raises StorageError that names TMPDIR's when the disk is full."""
    where = tempfile.gettempdir()
    try:
        with tempfile.TemporaryDirectory(prefix=f"radiffuse-{purpose}-", dir=where) as folder:
            yield Path(folder)
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise StorageError(f"no space left in {where}; free some, or set TMPDIR to a larger disk") from error


def is_disk_full(error: Exception) -> bool:
    """Whether there is no space left, or none within this user's quota."""
    if isinstance(error, OSError):
        return error.errno in _DISK_FULL
    # safetensors writes in Rust, and tells the number in words alone.
    return any(f"(os error {number})" in str(error) for number in _DISK_FULL)


def write_text(path: Path, text: str) -> None:
    """Write a small text, whole or not at all, where a link leads too; raises StorageError as `atomic_file` does."""
    with atomic_file(path.resolve()) as file:
        file.write(text.encode())


def require_writable(path: Path, option: str) -> None:
    """Raise ConfigError that names the option when no file can be written at this path; leaves nothing there."""
    try:
        _require_writable(path, option)
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise ConfigError(f"{option} {path} cannot be written: {error.strerror}; choose another place") from error


def _require_writable(path: Path, option: str) -> None:
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise ConfigError(f"{option} {path} is {kind}; it must name a file")
    folder = next(parent for parent in path.absolute().parents if parent.exists() or parent.is_symlink())
    if not folder.is_dir():
        raise ConfigError(f"{option} {path} cannot be written: {folder} is not a folder")
    blocked = path if path.exists() and not os.access(path, os.W_OK) else folder
    if not os.access(blocked, os.W_OK):
        raise ConfigError(
            f"{option} {path} cannot be written: {blocked} is read-only for this user; choose another place"
        )
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:  # such as /proc, which root may write to as far as its rights say
        raise ConfigError(
            f"{option} {path} cannot be written: {folder} takes no new file ({error.strerror}); choose another place"
        ) from error


def require_free_space(directory: Path, size_bytes: int) -> None:
    """Raise StorageError when the file system of an existing `directory` has less than `size_bytes` free."""
    free = shutil.disk_usage(directory).free
    if size_bytes > free:
        raise StorageError(
            f"no space in {directory}: {size_bytes / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB are free;"
            " free some, or set RADIFFUSE_CACHE to a folder on a larger disk"
        )


def _cannot_write(path: Path, error: OSError) -> StorageError:
    if is_disk_full(error):
        return StorageError(
            f"no space left in {path.parent} while writing {path.name};"
            " free some, or choose a folder on a larger disk (RADIFFUSE_CACHE says where fetched data goes)"
        )
    return StorageError(f"cannot write {path}: {error.strerror}; choose a folder that this user may write to")


class VerifiedFiles:
    """Which files of a folder had the right digest, so that a large data set is not hashed at every start.

    A file that was touched since (its size or time of change differs) counts as unverified.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            self._entries: dict[str, list[int | str]] = json.loads((directory / RECORD_NAME).read_bytes())
        except (OSError, ValueError):  # a record that cannot be read says nothing; who needs the folder meets the cause
            self._entries = {}

    def holds(self, name: str, sha256: str) -> bool:
        """Whether the file of that name below the folder is as it was when it was found to have this digest."""
        try:
            return name in self._entries and self._entries[name] == self._fingerprint(name, sha256)
        except FileNotFoundError:
            return False

    def add(self, name: str, sha256: str) -> None:
        """Remember that the file has this digest now."""
        self._entries[name] = self._fingerprint(name, sha256)

    def save(self) -> None:
        """Write the record; raises StorageError when the disk is full."""
        with atomic_file(self._directory / RECORD_NAME) as file:
            file.write(json.dumps(self._entries).encode())

    def _fingerprint(self, name: str, sha256: str) -> list[int | str]:
        status = (self._directory / name).stat()
        return [status.st_size, status.st_mtime_ns, sha256]


@contextlib.contextmanager
def folder_lock(directory: Path) -> Iterator[None]:
    """Hold a folder's lock; other processes of this machine wait. It has no deadline: a holder that dies lets go."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        opened = (directory / LOCK_NAME).open("wb")
    except OSError as error:
        raise StorageError(
            f"cannot use {directory}: {error.strerror}; RADIFFUSE_CACHE must name a folder that this user may write to"
        ) from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting_for_lock folder=%s", directory)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
