"""Local files are whole or absent; what was verified once is remembered until it changes."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radiffuse.errors import ConfigError, StorageError
from radiffuse.local_files import (
    VerifiedFiles,
    atomic_file,
    cache_dir,
    folder_lock,
    require_free_space,
    require_writable,
    sha256_of_file,
    write_text,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with atomic_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(bytes([1 // 0]))
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_one_error_that_names_the_folder(small_disk: Path) -> None:
    with (
        pytest.raises(StorageError, match=f"no space left in {small_disk} while writing file; free some, or choose"),
        atomic_file(small_disk / "file") as file,
    ):
        file.write(bytes(2 * 2**20))
    assert os.listdir(small_disk) == []


def test_space_that_a_fetch_needs_is_known_beforehand(small_disk: Path) -> None:
    with pytest.raises(StorageError, match=rf"no space in {small_disk}: 3.0 MB are needed and 1.0 MB are free"):
        require_free_space(small_disk, 3_000_000)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write .*/file/inside: .*; choose a folder"):
        atomic_file(tmp_path / "file" / "inside").__enter__()


def test_a_verified_file_is_remembered_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"good")
    record = VerifiedFiles(tmp_path)
    record.add("file", sha256_of_file(path))
    record.save()
    digest = sha256_of_file(path)
    assert VerifiedFiles(tmp_path).holds("file", digest)
    assert not VerifiedFiles(tmp_path).holds("file", "0" * 64)
    path.write_bytes(b"gone bad")
    assert not VerifiedFiles(tmp_path).holds("file", digest)
    path.unlink()
    assert not VerifiedFiles(tmp_path).holds("file", digest)


def test_a_record_that_was_cut_short_verifies_nothing(tmp_path: Path) -> None:
    (tmp_path / ".verified.json").write_text('{"file": [1,')
    assert not VerifiedFiles(tmp_path).holds("file", "0" * 64)


def test_a_locked_folder_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    take = (
        "import fcntl, sys; file = open(sys.argv[1], 'wb'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    holding = [sys.executable, "-c", take, str(tmp_path / ".lock")]
    with (
        subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder,
        ThreadPoolExecutor() as pool,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        entered = pool.submit(folder_lock(tmp_path).__enter__)
        while f"waiting_for_lock folder={tmp_path}" not in caplog.text:
            assert not entered.done()
        assert holder.stdin is not None
        holder.stdin.close()
        entered.result(timeout=10)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("RADIFFUSE_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "radiffuse"


def test_a_place_where_nobody_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(ConfigError, match=rf"--out .* cannot be written: {folder} is read-only for this user"):
        require_writable(folder / "new" / "out.json", "--out")


def test_a_place_that_cannot_even_be_looked_at_is_refused(closed_folder: Path) -> None:
    for place in (closed_folder / "inside" / "out.json", closed_folder / ("x" * 300)):
        with pytest.raises(ConfigError, match=r"--out .* cannot be written: .*; choose another place"):
            require_writable(place, "--out")


def test_a_cache_that_cannot_be_used_is_named(closed_folder: Path) -> None:
    folder = closed_folder / "inside" / "models"
    assert not VerifiedFiles(folder).holds("weights", "0" * 64)
    with (
        pytest.raises(StorageError, match=f"cannot use {folder}: Permission denied; RADIFFUSE_CACHE must name"),
        folder_lock(folder),
    ):
        pass


def test_nothing_is_made_where_one_may_write(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "out.json", "--out")
    assert list(tmp_path.iterdir()) == []


def test_a_text_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write_text(tmp_path / "link", "é")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "é"
