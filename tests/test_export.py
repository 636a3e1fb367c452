"""The export: a plain diffusers pipeline that anybody loads, and the story of how it came about."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from radiffuse.config import SamplePrompt, SampleSettings
from radiffuse.manifest import Manifest
from radiffuse.sample import draw_chunk, load_sampler
from radiffuse.sample_plan import image_seed
from radiffuse.storage import Store
from tests.tiny import PROMPTS, SIZE_PX
from tests.training import Inputs, inputs, plan_run, train_here

__all__ = ["inputs"]

DRAW_WITH_DIFFUSERS = """
import sys
import numpy, torch
from diffusers import StableDiffusionPipeline
folder, prompt, seed, size, out = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
pipeline.set_progress_bar_config(disable=True)
generator = torch.Generator("cpu").manual_seed(int(seed))
images = pipeline(prompt, height=int(size), width=int(size), num_inference_steps=4, guidance_scale=4.0,
                  generator=generator, output_type="np").images
numpy.save(out, images[0])
assert not any(name.startswith("radiffuse") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def exported(store: Store, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    """A model trained with averaged weights, and its files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADIFFUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        plan = plan_run(inputs, name="exported", method="unet_text_encoder", ema_decay=0.5)
        train_here(store, plan)
        manifest = store.find(plan.uri)
        return manifest, store.fetch(manifest, tmp_path_factory.mktemp("exported"))


def test_diffusers_alone_draws_the_image_that_radiffuse_draws(exported: tuple[Manifest, Path], tmp_path: Path) -> None:
    folder, prompt, sample_id = exported[1], PROMPTS[1], 5
    arguments = [str(folder), prompt, str(image_seed(3, sample_id)), str(SIZE_PX), str(tmp_path / "image.npy")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", DRAW_WITH_DIFFUSERS, *arguments], env=environment, check=True, timeout=600)
    settings = SampleSettings(
        prompts=(SamplePrompt(prompt=prompt),),
        image_size_px=SIZE_PX,
        num_inference_steps=4,
        guidance_scale=4,
        precision="fp32",
        seed=3,
    )
    (sample,) = draw_chunk(load_sampler(folder, settings), [sample_id])
    theirs = np.load(tmp_path / "image.npy") * 255
    assert np.abs(sample.image - theirs).max() <= 1


def test_the_averaged_weights_are_exported_in_place_of_the_last(
    exported: tuple[Manifest, Path], store: Store, tmp_path: Path
) -> None:
    manifest, folder = exported
    checkpoint = store.find(f"s3://checkpoints/exported-{manifest.digest}/step-00000006")
    state = store.fetch(checkpoint, tmp_path)
    averages, weights = (load_file(state / name) for name in ("ema.safetensors", "weights.safetensors"))
    for part in ("unet", "text_encoder"):
        (path,) = (folder / part).glob("*.safetensors")
        of_part = {name: tensor for name, tensor in load_file(path).items() if f"{part}.{name}" in averages}
        assert of_part
        assert all(torch.equal(tensor, averages[f"{part}.{name}"]) for name, tensor in of_part.items())
        assert not all(torch.equal(tensor, weights[f"{part}.{name}"]) for name, tensor in of_part.items())


def test_the_folder_is_a_pipeline_without_pickles_and_says_where_it_comes_from(
    exported: tuple[Manifest, Path], inputs: Inputs
) -> None:
    manifest, folder = exported
    names = {stored.name for stored in manifest.objects}
    assert {"model_index.json", "README.md", "radiffuse.json", "metrics.jsonl"} <= names
    assert not any(name.endswith((".bin", ".pt", ".ckpt", ".pkl")) or Path(name).name.startswith(".") for name in names)
    assert not any("_name_or_path" in path.read_text() for path in folder.glob("*/config.json"))
    told = json.loads((folder / "radiffuse.json").read_text())
    assert told["inputs"] == manifest.inputs == {"model": inputs.model.uri, "data": inputs.latents.uri}
    assert told["train"] == manifest.settings
    assert told["train"]["ema_decay"] == 0.5


def test_the_model_card_names_base_data_method_and_limits(exported: tuple[Manifest, Path], inputs: Inputs) -> None:
    card = (exported[1] / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: diffusers\n")
    for part in (
        inputs.model.uri,
        inputs.latents.uri,
        "`unet_text_encoder`: unet and text_encoder trained",
        "decay 0.5",
    ):
        assert part in card
    assert "Not a medical device" in card


def test_the_loss_curve_has_one_record_per_logged_step_with_its_figures(exported: tuple[Manifest, Path]) -> None:
    manifest, folder = exported
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert set(records[0]) == {
        "step", "loss", "images_per_second", "data_wait_seconds", "learning_rate", "grad_norm",
    }  # fmt: skip
    assert manifest.counts["loss"] == records[-1]["loss"]
