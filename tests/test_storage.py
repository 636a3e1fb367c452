"""What goes into the store comes out of it: whole, checked, and complete only when its manifest is there."""

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radiffuse.errors import ConfigError, DataError, IntegrityError, ObjectNotFoundError, StorageError
from radiffuse.local_files import sha256_of_file
from radiffuse.manifest import Manifest
from radiffuse.storage import BUCKETS, PART_BYTES, Store, open_store, split_uri

LEAST_PART_BYTES = 5 * 2**20
"""S3 takes no smaller ones."""


@pytest.fixture
def manifest() -> Manifest:
    """An output that does not exist yet."""
    digest = uuid.uuid4().hex[:16]
    return Manifest(kind="model", name="tiny", uri=f"s3://models/tiny/{digest}", digest=digest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline-shaped folder."""
    folder = tmp_path / "output"
    (folder / "unet").mkdir(parents=True)
    (folder / "vae").mkdir()
    (folder / "unet" / "weights.bin").write_bytes(bytes(range(256)) * 8192)
    (folder / "vae" / "weights.bin").write_bytes(b"vae")
    (folder / "empty").write_bytes(b"")
    return folder


def test_bytes_come_back_as_they_went(store: Store) -> None:
    stored = store.put_bytes("s3://reports/test/bytes", b"abc")
    assert (stored.name, stored.size_bytes) == ("bytes", 3)
    assert stored.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.get_bytes("s3://reports/test/bytes", sha256=stored.sha256) == b"abc"


def test_a_file_of_several_parts_comes_back_as_it_went(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radiffuse.storage.PART_BYTES", LEAST_PART_BYTES)
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (2 * LEAST_PART_BYTES // 256 + 1))
    stored = store.put_file("s3://models/test/large", large)
    store.get_file("s3://models/test/large", tmp_path / "back", sha256=stored.sha256, size_bytes=stored.size_bytes)
    assert (tmp_path / "back").read_bytes() == large.read_bytes()


def test_wrong_bytes_never_get_their_name(store: Store, tmp_path: Path) -> None:
    store.put_bytes("s3://models/test/damaged", b"abd")
    with pytest.raises(IntegrityError, match=r"s3://models/test/damaged has SHA-256 a52d.* recorded 000.*run the step"):
        store.get_file("s3://models/test/damaged", tmp_path / "file", sha256="0" * 64)
    with pytest.raises(IntegrityError, match=r"s3://models/test/damaged has 3 bytes where its manifest recorded 4"):
        store.get_file("s3://models/test/damaged", tmp_path / "file", size_bytes=4)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_object_names_the_command_that_deletes_its_output(store: Store, tmp_path: Path) -> None:
    output = "s3://models/damaged/0123456789abcdef"
    store.put_bytes(f"{output}/unet/weights.bin", b"abd")
    with pytest.raises(IntegrityError, match=rf'damaged: "radiffuse store delete {output}" and run the step'):
        store.get_file(f"{output}/unet/weights.bin", tmp_path / "file", sha256="0" * 64)


@pytest.mark.parametrize("changed", [b"other", b"rig"])
@pytest.mark.parametrize("size_bytes", [0, PART_BYTES])
def test_what_changed_after_it_was_hashed_is_not_left_to_be_taken_for_the_right_thing(
    size_bytes: int,
    changed: bytes,
    manifest: Manifest,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "changing"
    folder.mkdir()
    file, right, wrong = folder / "file", bytes(size_bytes) + b"right", bytes(size_bytes) + changed
    file.write_bytes(right)

    def hash_then_change(path: Path) -> str:
        digest = sha256_of_file(path)
        path.write_bytes(wrong)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr("radiffuse.storage.sha256_of_file", hash_then_change)
        with pytest.raises(DataError, match="file changed while it was uploaded"):
            store.publish(manifest, folder)
    assert not store.exists(f"{manifest.uri}/file")
    file.write_bytes(right)
    fetched = store.fetch(store.publish(manifest, folder), tmp_path / "fetched")
    assert (fetched / "file").read_bytes() == right


def test_objects_that_are_not_there_are_not_found(store: Store, tmp_path: Path) -> None:
    assert not store.exists("s3://models/test/absent")
    with pytest.raises(ObjectNotFoundError, match=r"no object at s3://models/test/absent in 127.*; run the step that"):
        store.get_file("s3://models/test/absent", tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["/models/tiny", "http://models/tiny", "s3:///tiny", "", "s3://x/tiny", "s3://models/../tiny"]
)
def test_an_address_outside_the_store_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="is not an address in the store; it must look like s3://bucket/key"):
        split_uri(uri)


def test_an_output_is_complete_when_it_is_published(store: Store, manifest: Manifest, folder: Path) -> None:
    assert store.find(manifest.uri) is None
    complete = store.publish(manifest, folder)
    assert [stored.name for stored in complete.objects] == ["empty", "unet/weights.bin", "vae/weights.bin"]
    assert store.find(manifest.uri) == complete


def test_hidden_files_and_a_source_manifest_are_not_published(store: Store, manifest: Manifest, folder: Path) -> None:
    (folder / "manifest.json").write_text("of the source")
    (folder / ".verified.json").write_text("{}")
    complete = store.publish(manifest, folder)
    assert [stored.name for stored in complete.objects] == ["empty", "unet/weights.bin", "vae/weights.bin"]


def test_named_files_alone_can_be_published(store: Store, manifest: Manifest, folder: Path) -> None:
    assert [stored.name for stored in store.publish(manifest, folder, ["vae/weights.bin"]).objects] == [
        "vae/weights.bin"
    ]


def test_objects_uploaded_one_by_one_are_committed_together(store: Store, manifest: Manifest) -> None:
    stored = store.put_bytes(f"{manifest.uri}/part", b"part")
    assert store.find(manifest.uri) is None
    store.commit(manifest.model_copy(update={"objects": (stored,)}))
    found = store.find(manifest.uri)
    assert found is not None
    assert found.find("part") == stored


def test_what_an_interrupted_upload_left_is_not_sent_again(store: Store, manifest: Manifest, folder: Path) -> None:
    store.put_file(f"{manifest.uri}/unet/weights.bin", folder / "unet" / "weights.bin")
    store.put_bytes(f"{manifest.uri}/vae/weights.bin", b"old")
    before = store._client.stat_object(*split_uri(f"{manifest.uri}/unet/weights.bin")).last_modified
    complete = store.publish(manifest, folder)
    assert store._client.stat_object(*split_uri(f"{manifest.uri}/unet/weights.bin")).last_modified == before
    assert store.get_bytes(f"{manifest.uri}/vae/weights.bin", sha256=complete.objects[2].sha256) == b"vae"


def test_a_manifest_that_makes_no_sense_is_refused(store: Store, manifest: Manifest) -> None:
    store.put_bytes(f"{manifest.uri}/manifest.json", b'{"kind": "poem"}')
    with pytest.raises(IntegrityError, match=r"not a manifest of this version: .*radiffuse store delete s3.* and run"):
        store.find(manifest.uri)


def test_outputs_are_fetched_whole_or_in_part_under_other_names(
    store: Store, manifest: Manifest, folder: Path, tmp_path: Path
) -> None:
    complete = store.publish(manifest, folder)
    fetched = store.fetch(complete, tmp_path / "all")
    assert {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()} == {
        stored.name for stored in complete.objects
    }
    store.fetch(complete, tmp_path / "one", {"vae/weights.bin": "renamed.bin"})
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["renamed.bin"]
    with pytest.raises(DataError, match="no object 'nothing' in the model at s3://models/tiny"):
        store.fetch(complete, tmp_path / "none", ["nothing"])


def test_fetching_keeps_good_files_and_replaces_a_damaged_one(
    store: Store, manifest: Manifest, folder: Path, tmp_path: Path
) -> None:
    complete = store.publish(manifest, folder)
    fetched = store.fetch(complete, tmp_path / "fetched")
    good, damaged = fetched / "unet" / "weights.bin", fetched / "vae" / "weights.bin"
    before = good.stat()
    damaged.write_bytes(b"vaf")
    store.fetch(complete, fetched)
    assert good.stat() == before
    assert damaged.read_bytes() == b"vae"


def test_a_flipped_byte_in_the_store_is_noticed(store: Store, manifest: Manifest, folder: Path, tmp_path: Path) -> None:
    complete = store.publish(manifest, folder)
    store.put_bytes(f"{manifest.uri}/vae/weights.bin", b"vaf")
    with pytest.raises(IntegrityError, match=r"/vae/weights.bin has SHA-256 .* where its manifest recorded"):
        store.fetch(complete, tmp_path / "fetched")
    assert not (tmp_path / "fetched" / "vae" / "weights.bin").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", ""])
def test_names_that_lead_out_of_their_folder_are_refused(
    store: Store, manifest: Manifest, tmp_path: Path, name: str
) -> None:
    stored = store.put_bytes("s3://models/test/file", b"x").model_copy(update={"name": name})
    with pytest.raises(DataError, match="leads out of its folder"):
        store.fetch(manifest.model_copy(update={"objects": (stored,)}), tmp_path)
    with pytest.raises(DataError, match="leads out of its folder"):
        store.publish(manifest, tmp_path, [name])


def test_the_cache_is_filled_once_and_mended(
    store: Store, manifest: Manifest, folder: Path, store_environment: dict[str, str]
) -> None:
    complete = store.publish(manifest, folder)
    cached = store.fetch_cached(complete)
    assert cached == Path(store_environment["RADIFFUSE_CACHE"]) / "models" / "tiny" / manifest.digest
    store.delete(store.list(manifest.uri))
    assert store.fetch_cached(complete) == cached
    (cached / "vae" / "weights.bin").unlink()
    with pytest.raises(ObjectNotFoundError, match="no object at"):
        store.fetch_cached(complete)


def test_processes_that_want_the_same_output_fetch_it_once(
    store: Store, manifest: Manifest, folder: Path, store_environment: dict[str, str]
) -> None:
    complete = store.publish(manifest, folder)
    with ThreadPoolExecutor(4) as pool:
        (cached,) = set(pool.map(store.fetch_cached, [complete] * 4))
    assert (cached / "vae" / "weights.bin").read_bytes() == b"vae"
    assert not list(cached.rglob("*.part"))


def test_a_download_that_fills_the_disk_leaves_nothing_behind(
    store: Store,
    manifest: Manifest,
    folder: Path,
    small_disk: Path,
) -> None:
    complete = store.publish(manifest, folder)
    with pytest.raises(StorageError, match=f"no space left in {small_disk} while writing weights.bin; free some"):
        store.get_file(f"{manifest.uri}/unet/weights.bin", small_disk / "weights.bin")
    with pytest.raises(StorageError, match=rf"no space in {small_disk}: 2.1 MB are needed and 1.0 MB are free"):
        store.fetch(complete, small_disk)
    assert list(small_disk.iterdir()) == []


def test_listing_and_deleting_thousands_of_objects_goes_page_by_page(store: Store) -> None:
    uris = [f"s3://prompts/many/{number:04}" for number in range(2500)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda uri: store.put_bytes(uri, b""), uris))
    store.put_bytes("s3://prompts/many-more", b"")
    listing = store.list("s3://prompts/many")
    assert next(listing) == uris[0]
    store.delete([uris[-1]])  # what is gone before its page is asked for is not listed
    assert list(listing) == uris[1:-1]
    store.delete(store.list("s3://prompts/many"))
    assert list(store.list("s3://prompts/many")) == []


def test_deleting_takes_the_manifest_first_and_what_is_gone_counts_as_deleted(
    store: Store, manifest: Manifest, folder: Path
) -> None:
    store.publish(manifest, folder)
    store.delete([f"{manifest.uri}/absent", *store.list(manifest.uri)])
    store.delete([])
    assert list(store.list(manifest.uri)) == []
    assert store.find(manifest.uri) is None


def test_buckets_are_created_where_they_are_missing(store: Store) -> None:
    assert store.create_buckets() == []
    store.delete(store.list("s3://prompts"))  # MinIO removes no bucket that holds anything
    store._client.remove_bucket("prompts")
    assert store.create_buckets() == ["prompts"]
    assert set(BUCKETS) <= {bucket.name for bucket in store._client.list_buckets()}


class OutrunStore(Store):
    """Sees a bucket missing that another process makes before it does."""

    def missing_buckets(self) -> list[str]:
        return ["prompts"]


def test_a_bucket_that_another_process_made_meanwhile_is_as_good(store: Store) -> None:
    assert OutrunStore(store.settings).create_buckets() == ["prompts"]
    assert store.missing_buckets() == []


def test_the_store_that_the_environment_names_opens(store_environment: dict[str, str]) -> None:
    assert not open_store().exists("s3://models/test/absent")


def test_importing_storage_does_not_import_torch() -> None:
    code = "import sys, radiffuse.storage; print(sorted({'torch', 'numpy', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
