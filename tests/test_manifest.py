import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from radiffuse import __version__
from radiffuse import code_version as code_version_module
from radiffuse.code_version import code_version
from radiffuse.errors import DataError, StorageError
from radiffuse.manifest import Manifest, StoredObject, digest_of, load_manifest

MANIFEST = Manifest(
    kind="dataset",
    name="chexpert",
    uri="s3://datasets/chexpert/0123456789abcdef",
    digest="0123456789abcdef",
    settings={"image_size_px": 96},
    counts={"images": 12},
    objects=(StoredObject(name="shard-00000.arrow", size_bytes=5, sha256="0" * 64),),
)


def test_a_saved_manifest_loads_as_it_was(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path / "new" / "dataset.json")
    assert load_manifest(tmp_path / "new" / "dataset.json", "dataset") == MANIFEST


def test_a_manifest_of_another_kind_is_refused(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path / "dataset.json")
    with pytest.raises(DataError, match=r"dataset\.json is the manifest of a dataset; this step needs a model"):
        load_manifest(tmp_path / "dataset.json", "model")


def test_kinds_that_are_many_have_no_article(tmp_path: Path) -> None:
    MANIFEST.model_copy(update={"kind": "latents"}).save(tmp_path / "latents.json")
    with pytest.raises(DataError, match=r"latents\.json is the manifest of latents; this step needs samples$"):
        load_manifest(tmp_path / "latents.json", "samples")


def test_a_manifest_that_cannot_be_saved_leaves_the_one_before(tmp_path: Path, small_disk: Path) -> None:
    MANIFEST.save(small_disk / "dataset.json")
    (small_disk / "ballast").write_bytes(b"x" * (2**20 - 12288))
    large = MANIFEST.model_copy(update={"settings": {"text": "x" * 2**15}})
    with pytest.raises(StorageError, match=r"no space left in .* while writing dataset.json"):
        large.save(small_disk / "dataset.json")
    assert load_manifest(small_disk / "dataset.json") == MANIFEST


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest at .*gone\.json: No such file or directory"):
        load_manifest(tmp_path / "gone.json")


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"kind": "dataset"}')
    with pytest.raises(DataError, match=r"other\.json is not a manifest: name: Field required"):
        load_manifest(tmp_path / "other.json")


def test_a_checkout_tells_its_commit_and_whether_files_differ() -> None:
    assert re.fullmatch(re.escape(__version__) + r"\+g[0-9a-f]{12}(\.dirty)?", code_version())


@pytest.mark.parametrize(
    ("revision", "suffix"),
    [("0123456789abcdef" + 24 * "0", "+g0123456789ab"), ("0123456789ab-dirty", "+g0123456789ab.dirty"), ("", "")],
)
def test_an_image_tells_the_commit_that_it_was_built_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str, suffix: str
) -> None:
    monkeypatch.setattr(code_version_module, "_ROOT", tmp_path)
    monkeypatch.setenv(code_version_module.REVISION_VARIABLE, revision)
    assert code_version.__wrapped__() == __version__ + suffix


def test_an_object_is_found_by_name() -> None:
    assert MANIFEST.find("shard-00000.arrow").size_bytes == 5


def test_an_object_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"no object 'shard-00001\.arrow' in the dataset at s3://datasets/chexpert/"):
        MANIFEST.find("shard-00001.arrow")


def test_a_digest_that_is_not_sha256_is_refused() -> None:
    with pytest.raises(ValidationError, match="sha256"):
        StoredObject(name="a", size_bytes=0, sha256="abc")


def test_the_address_does_not_depend_on_the_order_of_settings() -> None:
    assert digest_of(settings={"a": 1, "b": 2}) == digest_of(settings={"b": 2, "a": 1})


def test_the_address_changes_with_any_setting() -> None:
    assert digest_of(settings={"a": 1}) != digest_of(settings={"a": 2})


def test_an_address_has_16_hexadecimal_digits() -> None:
    assert len(digest_of(a=1)) == 16
    assert int(digest_of(a=1), 16) >= 0


def test_a_setting_that_is_not_a_number_has_no_address() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        digest_of(learning_rate=float("nan"))
