"""What each method trains, and that frozen text features are right and kept within bounds."""

from pathlib import Path

import pytest
import torch

from radiffuse.config import TrainSettings
from radiffuse.data.batches import ImagesBatch, LatentsBatch
from radiffuse.diffusion import min_snr_weight
from radiffuse.methods import unet, vae
from radiffuse.methods.unet import FrozenFeatures
from radiffuse.models import Models, encode_prompts, load_models
from radiffuse.storage import Store
from tests.tiny import PROMPTS, SIZE_PX, tiny_pipeline
from tests.training import Inputs, inputs, plan_run, train_here

__all__ = ["inputs"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tiny_pipeline(tmp_path_factory.mktemp("pipeline"))
    return load_models(folder)


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


def test_snr_gamma_weighs_the_loss_of_each_image(models: Models) -> None:
    batch = LatentsBatch(*torch.randn(2, 3, 4, 4, 4), torch.tensor([1, 500, 999]), [*PROMPTS, ""])
    losses = [unet.loss_function(models, TrainSettings(snr_gamma=gamma))(batch) for gamma in (None, 0.5)]
    weights = min_snr_weight("epsilon", batch.timesteps, models.noise_scheduler.alphas_cumprod, 0.5)
    torch.testing.assert_close(losses[1], losses[0] * weights)
    assert weights.min() < 0.01


def test_kl_weight_weighs_the_divergence_of_the_posterior(models: Models) -> None:
    batch = ImagesBatch(torch.rand(2, 3, SIZE_PX, SIZE_PX), torch.randn(2, 4, SIZE_PX // 8, SIZE_PX // 8))
    at = {weight: vae.loss_function(models, TrainSettings(kl_weight=weight))(batch) for weight in (0.0, 1.0, 2.0)}
    torch.testing.assert_close(at[2.0] - at[0.0], 2 * (at[1.0] - at[0.0]))
    assert (at[1.0] > at[0.0]).all()


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
