"""The loop: each method fresh, resumed and resumed at its end; what stops it; how many processes there are."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from radiffuse.data.latents import write_shard
from radiffuse.data.order import sample_indices
from radiffuse.errors import Preempted, TrainingError
from radiffuse.manifest import Manifest, digest_of
from radiffuse.models import Models, load_models
from radiffuse.outcome import Outcome
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from tests.tiny import PROMPTS
from tests.training import (
    Inputs,
    fresh_accelerator,
    inputs,
    losses,
    plan_run,
    published_records,
    run_ranks,
    signalling_store,
    train_here,
    wait_for_checkpoint,
)

__all__ = ["fresh_accelerator", "inputs"]  # fixtures

GOLDEN = Path(__file__).parent / "golden" / "train_losses.json"
METHODS = ("unet", "unet_text_encoder", "vae")

pytestmark = pytest.mark.usefixtures("store_environment")


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_curve_is_the_recorded_one(method: str, store: Store, inputs: Inputs) -> None:
    curve = losses(train_here(store, plan_run(inputs, method=method)))
    golden = json.loads(GOLDEN.read_text())
    if "RECORD_GOLDEN" in os.environ:  # how to record it again, when a change of the curve is meant
        GOLDEN.write_text(json.dumps(golden | {method: curve}, indent=2) + "\n")
    np.testing.assert_allclose(curve, golden.get(method), rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_stopped_by_sigterm_and_started_again_ends_like_an_uninterrupted_one(
    method: str, store: Store, inputs: Inputs
) -> None:
    settings = {"method": method, "ema_decay": 0.9, "checkpoint_every_steps": 2}
    stopped, whole = plan_run(inputs, **settings), plan_run(inputs, **settings)
    signalling = signalling_store(store, "step-00000002")
    with pytest.raises(Preempted, match=r"stopped after step [345]"):
        train_here(signalling, stopped)
    assert store.find(stopped.uri) is None
    assert losses(train_here(store, stopped)) == losses(train_here(store, whole))
    assert _weights(store, stopped) == _weights(store, whole)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_resumed_at_its_end_only_exports(method: str, store: Store, inputs: Inputs) -> None:
    plan = plan_run(inputs, method=method, ema_decay=0.9)
    first = train_here(store, plan)
    weights = _weights(store, plan)
    store.delete([f"{plan.uri}/manifest.json", f"{plan.uri}/metrics.jsonl"])
    assert train_here(store, plan) == first  # rates and waits included: no step was taken
    assert _weights(store, plan) == weights


def test_logged_losses_are_means_over_the_steps_between_also_across_an_interruption(
    store: Store, inputs: Inputs
) -> None:
    each = losses(train_here(store, plan_run(inputs)))
    plan = plan_run(inputs, log_every_steps=3)
    signalling = signalling_store(store, "step-00000002")
    with pytest.raises(Preempted):
        train_here(signalling, plan)
    records = train_here(store, plan)
    assert [record["step"] for record in records] == [3, 6]
    assert losses(records) == [sum(each[:3]) / 3, sum(each[3:]) / 3]


def test_accumulating_gradients_changes_no_loss(store: Store, inputs: Inputs) -> None:
    at_once = losses(train_here(store, plan_run(inputs, train_batch_size=4)))
    in_four = losses(train_here(store, plan_run(inputs, train_batch_size=1)))
    np.testing.assert_allclose(in_four, at_once, rtol=1e-5)


def test_loading_ahead_in_threads_changes_no_loss(store: Store, inputs: Inputs) -> None:
    in_line = losses(train_here(store, plan_run(inputs)))
    assert losses(train_here(store, plan_run(inputs, dataloader_workers=2))) == in_line


def test_recomputing_activations_changes_no_loss(store: Store, inputs: Inputs) -> None:
    kept = losses(train_here(store, plan_run(inputs, method="unet_text_encoder")))
    recomputed = train_here(store, plan_run(inputs, method="unet_text_encoder", gradient_checkpointing=True))
    np.testing.assert_allclose(losses(recomputed), kept, rtol=1e-5)


def test_bf16_autocast_keeps_master_weights_in_fp32(store: Store, inputs: Inputs, fresh_accelerator: None) -> None:
    plan = plan_run(inputs, precision="bf16")
    rounded = losses(train_here(store, plan))
    golden = json.loads(GOLDEN.read_text())["unet"]
    assert rounded != golden
    np.testing.assert_allclose(rounded, golden, rtol=0.02)
    assert b'"F32"' in _weights(store, plan)
    assert b'"BF16"' not in _weights(store, plan)


def test_a_run_whose_precision_is_left_open_trains_a_cpu_in_fp32_and_says_so(
    store: Store, inputs: Inputs, fresh_accelerator: None
) -> None:
    chosen, left_open = plan_run(inputs), plan_run(inputs, precision=None)
    assert losses(train_here(store, left_open)) == losses(train_here(store, chosen))
    assert store.find(left_open.uri).settings["precision"] == "fp32"


def test_a_resumed_run_draws_the_dropout_of_an_uninterrupted_one(
    store: Store, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_with_dropout(folder: Path, parts: Sequence[str]) -> Models:
        models = load_models(folder, parts)
        for layer in models.text_encoder.encoder.layers:
            layer.self_attn.dropout = 0.5
        return models

    monkeypatch.setattr("radiffuse.train.load_models", load_with_dropout)
    stopped, whole = (plan_run(inputs, method="unet_text_encoder") for _ in range(2))
    with pytest.raises(Preempted):
        train_here(signalling_store(store, "step-00000002"), stopped)
    assert losses(train_here(store, stopped)) == losses(train_here(store, whole))


def test_one_two_and_four_processes_learn_the_same(
    store: Store, inputs: Inputs, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    settings = {"method": "unet_text_encoder", "train_batch_size": 1, "max_train_steps": 8}
    curves = []
    for world_size in (1, 2, 4):
        plan = plan_run(inputs, **settings)
        assert run_ranks(plan, world_size, tmp_path, store_environment) == [0] * world_size
        curves.append(losses(published_records(store, plan)))
    np.testing.assert_allclose(curves[1:], [curves[0]] * 2, rtol=1e-5)


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_loss_that_is_not_finite_stops_every_rank_before_the_weights_change(
    world_size: int, store: Store, inputs: Inputs, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    plan = plan_run(inputs, data=_latents_that_spoil_step(4, store, tmp_path))
    assert run_ranks(plan, world_size, tmp_path, store_environment) == [Outcome.CRASHED] * world_size
    error = json.loads((tmp_path / "0.json").read_text())
    assert error["kind"] == TrainingError.__name__
    assert "step 4: the loss is nan" in error["message"]
    assert "lower train.learning_rate" in error["message"]
    folders = {uri.split("/")[-2] for uri in store.list(plan.checkpoints_uri)}
    assert folders == {"step-00000002"}


def test_a_sigterm_to_one_rank_stops_all_at_the_same_step_with_a_checkpoint(
    store: Store, inputs: Inputs, tmp_path: Path, store_environment: dict[str, str]
) -> None:
    plan = plan_run(inputs, max_train_steps=200)

    def stop_the_second(pids: list[int]) -> None:
        wait_for_checkpoint(store, plan, 2)
        os.kill(pids[1], signal.SIGTERM)

    assert run_ranks(plan, 2, tmp_path, store_environment, stop_the_second) == [143, 143]
    messages = {json.loads((tmp_path / f"{rank}.json").read_text())["message"] for rank in range(2)}
    assert len(messages) == 1
    step = int(messages.pop().split("after step ")[1].split()[0])
    assert store.find(f"{plan.checkpoints_uri}/step-{step:08d}") is not None


def _weights(store: Store, plan: TrainPlan) -> bytes:
    part = "vae" if plan.settings.method == "vae" else "unet"
    return store.get_bytes(f"{plan.uri}/{part}/diffusion_pytorch_model.safetensors")


def _latents_that_spoil_step(step: int, store: Store, folder: Path, count: int = 40) -> Manifest:
    """Latents one of which is not a number, and that one is met first at this step (from 1) with 4 images a step."""
    indices, _ = sample_indices(0, 0, 4 * step, count)
    mean = np.zeros((count, 4, 4, 4), np.float16)
    mean[indices[-1]] = np.nan
    folder = folder / "spoilt"
    folder.mkdir()
    write_shard(folder / "latents-00000.arrow", np.arange(count), mean, np.ones_like(mean), [PROMPTS[0]] * count)
    digest = digest_of(spoilt=step, count=count)
    manifest = Manifest(kind="latents", name="spoilt", uri=f"s3://datasets/spoilt/{digest}", digest=digest)
    return store.publish(manifest, folder)
