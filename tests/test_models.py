"""Loading a pipeline's parts and encoding prompts."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from radiffuse.errors import DataError
from radiffuse.models import encode_prompts, load_models
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline(path)
    return path


def test_only_the_parts_asked_for_are_loaded_and_they_are_frozen(folder: Path) -> None:
    models = load_models(folder, ("unet", "noise_scheduler"))
    assert models.vae is None and models.text_encoder is None and models.unet is not None
    assert not any(parameter.requires_grad for parameter in models.unet.parameters())


def test_equal_prompts_get_equal_rows_in_the_order_asked(folder: Path) -> None:
    models = load_models(folder, ("tokenizer", "text_encoder"))
    hidden = encode_prompts(models, ["lung", "", "lung"])
    assert hidden.shape[:2] == (3, models.tokenizer.model_max_length)
    assert torch.equal(hidden[0], hidden[2]) and not torch.equal(hidden[0], hidden[1])


def test_a_long_prompt_is_cut_to_the_tokenizers_length(folder: Path) -> None:
    models = load_models(folder, ("tokenizer", "text_encoder"))
    assert encode_prompts(models, ["lung " * 500]).shape[1] == models.tokenizer.model_max_length


def test_a_missing_part_is_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "unet")
    with pytest.raises(DataError, match=r"unet of the model at .* does not load"):
        load_models(copy, ("unet",))


@pytest.mark.parametrize("damage", ["cut off", "another width"])
def test_a_damaged_text_encoder_is_named(damage: str, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    if damage == "cut off":
        os.truncate(copy / "text_encoder" / "model.safetensors", 1000)
    else:
        config = copy / "text_encoder" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 32}))
    with pytest.raises(DataError, match=r"text_encoder of the model at .* does not load"):
        load_models(copy, ("text_encoder",))
