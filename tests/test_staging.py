"""Staging: a diffusers folder becomes a digest-addressed model, safetensors only."""

import json
import shutil
from pathlib import Path

import pytest

from radiffuse.errors import ConfigError, DataError
from radiffuse.staging import stage_model
from radiffuse.storage import Store
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / "tiny-test"
    tiny_pipeline(folder)
    return folder


@pytest.mark.usefixtures("store_environment")
def test_a_staged_folder_comes_back_as_a_pipeline_with_the_same_files(store: Store, pipeline_folder: Path) -> None:
    manifest = stage_model(store, str(pipeline_folder))
    copy = store.fetch_cached(manifest)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (copy / weights).read_bytes() == (pipeline_folder / weights).read_bytes()
    assert manifest.name == "tiny-test"


def test_staging_the_same_weights_twice_gives_the_same_address(store: Store, pipeline_folder: Path) -> None:
    assert stage_model(store, str(pipeline_folder)) == stage_model(store, str(pipeline_folder))


def test_a_safety_checker_is_left_out_of_the_index(store: Store, pipeline_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "with-checker"
    folder.mkdir()
    for entry in pipeline_folder.iterdir():
        (folder / entry.name).symlink_to(entry)
    index = json.loads((pipeline_folder / "model_index.json").read_text())
    (folder / "model_index.json").unlink()
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    manifest = stage_model(store, str(folder))
    staged = json.loads(store.get_bytes(f"{manifest.uri}/model_index.json"))
    assert staged["safety_checker"] == [None, None]


def test_pickled_weights_are_refused_by_name(store: Store, pipeline_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for entry in pipeline_folder.iterdir():
        if entry.name != "unet":
            (folder / entry.name).symlink_to(entry)
    (folder / "unet").mkdir()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(DataError, match=r"no full-precision safetensors, only diffusion_pytorch_model\.bin"):
        stage_model(store, str(folder))


def test_a_folder_without_an_index_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model_index\.json"):
        stage_model(store, str(tmp_path))


def test_a_folder_without_a_vae_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    for component in ("scheduler", "text_encoder", "tokenizer", "unet"):
        (tmp_path / component).mkdir()
    with pytest.raises(DataError, match="has no vae/"):
        stage_model(store, str(tmp_path))


def test_an_unknown_name_lists_what_is_accepted(store: Store) -> None:
    with pytest.raises(ConfigError, match="nor a base model \\(tiny\\)"):
        stage_model(store, "huge")


def test_a_hub_id_needs_a_revision(store: Store) -> None:
    with pytest.raises(ConfigError, match="name the commit with --revision"):
        stage_model(store, "CompVis/stable-diffusion-v1-4")


def test_a_folder_that_cannot_be_looked_at_is_named(store: Store, closed_folder: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the model at .*inside: Permission denied"):
        stage_model(store, str(closed_folder / "inside"))


def copy_with(pipeline_folder: Path, folder: Path, changes: dict[str, bytes | None]) -> str:
    """A copy with some files replaced, or removed where there is None."""
    shutil.copytree(pipeline_folder, folder)
    for name, data in changes.items():
        (folder / name).unlink() if data is None else (folder / name).write_bytes(data)
    return str(folder)


UNET = "unet/diffusion_pytorch_model.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3438167540\n"
EXTRA = b'{"_class_name": "StableDiffusionPipeline", "text_encoder_2": ["transformers", "CLIPTextModel"]}'


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({UNET: POINTER}, r"is only a pointer to the weights; run `git lfs pull`"),
        ({UNET: b""}, r"is not a whole safetensors file \(0 bytes\); fetch it again"),
        ({UNET: bytes(range(200))}, r"is not a whole safetensors file \(200 bytes\)"),
        ({"tokenizer/tokenizer.json": None}, r"tokenizer has no tokenizer\.json or vocab\.json"),
        ({"scheduler/scheduler_config.json": None}, r"scheduler has no scheduler_config\.json"),
        ({"vae/config.json": None}, r"vae has no config\.json"),
        ({"model_index.json": b"[1]"}, r"describes None; only a StableDiffusionPipeline can be adapted"),
        ({"model_index.json": b'{"_class_name": "StableDiffusionXLPipeline"}'}, "describes StableDiffusionXLPipeline"),
        ({"model_index.json": EXTRA}, "has a part 'text_encoder_2', which Stable Diffusion"),
    ],
)
def test_what_no_later_step_could_use_is_refused(
    store: Store, pipeline_folder: Path, tmp_path: Path, changes: dict[str, bytes | None], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        stage_model(store, copy_with(pipeline_folder, tmp_path / "copy", changes))


def test_weights_that_were_cut_off_are_refused(store: Store, pipeline_folder: Path, tmp_path: Path) -> None:
    whole = (pipeline_folder / UNET).read_bytes()
    with pytest.raises(DataError, match="is not a whole safetensors file"):
        stage_model(store, copy_with(pipeline_folder, tmp_path / "copy", {UNET: whole[:-1]}))


def test_a_model_that_is_here_has_no_revision(store: Store, pipeline_folder: Path) -> None:
    for source in ("tiny", str(pipeline_folder)):
        with pytest.raises(ConfigError, match="is here and has no revisions; leave --revision abc out"):
            stage_model(store, source, "abc")


def test_a_folder_whose_name_has_no_latin_letter_still_has_an_address(
    store: Store, pipeline_folder: Path, tmp_path: Path
) -> None:
    assert stage_model(store, copy_with(pipeline_folder, tmp_path / "___", {})).name == "model"
