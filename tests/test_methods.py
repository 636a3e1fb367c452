"""What each method trains, and that frozen text features are right and kept within bounds."""

from pathlib import Path

import pytest
import torch

from radiffuse.methods.unet import FrozenFeatures
from radiffuse.models import Models, encode_prompts, load_models
from radiffuse.storage import Store
from tests.tiny import PROMPTS, tiny_pipeline
from tests.training import Inputs, inputs, plan_run, train_here

__all__ = ["inputs"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tiny_pipeline(tmp_path_factory.mktemp("pipeline"))
    return load_models(folder, ("tokenizer", "text_encoder"))


@pytest.mark.parametrize(
    ("method", "changed"),
    [("unet", {"unet"}), ("unet_text_encoder", {"unet", "text_encoder"}), ("vae", {"vae"})],
)
@pytest.mark.usefixtures("store_environment")
def test_a_method_changes_what_it_trains_and_nothing_else(
    method: str, changed: set[str], store: Store, inputs: Inputs
) -> None:
    plan = plan_run(inputs, method=method, max_train_steps=2)
    train_here(store, plan)
    before = {stored.name: stored.sha256 for stored in inputs.model.objects}
    after = {stored.name: stored.sha256 for stored in store.find(plan.uri).objects}
    weights = [name for name in before if name.endswith(".safetensors")]
    assert {Path(name).parts[0] for name in weights if before[name] != after[name]} == changed
    assert {before[name] for name in before if "tokenizer" in name} <= set(after.values())


def test_frozen_features_are_the_encoders_whatever_was_asked_before(models: Models) -> None:
    features = FrozenFeatures(models, kept=2)
    for prompts in (PROMPTS, ("", *PROMPTS), ("x", "y", "z", "x"), PROMPTS):
        torch.testing.assert_close(features.of(prompts), encode_prompts(models, prompts), rtol=1e-5, atol=1e-6)
        assert not features.of(prompts).requires_grad


def test_prompts_seen_before_are_not_encoded_again(models: Models) -> None:
    features, calls = FrozenFeatures(models), []
    handle = models.text_encoder.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].shape))
    features.of(["a", "b", "a"])
    features.of(["b", "a"])
    handle.remove()
    assert [shape[0] for shape in calls] == [2]
