"""Checkpoints: complete or not there, checked when read, pruned, and never silently replaced by another."""

import dataclasses
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from radiffuse.checkpoint import OPTIMIZER, WEIGHTS, Checkpoints, Trained, discard, read_state
from radiffuse.cli import app
from radiffuse.config import TrainSettings
from radiffuse.errors import AccessDeniedError, IntegrityError, ObjectNotFoundError, StorageError
from radiffuse.manifest import MANIFEST_NAME
from radiffuse.metrics import RunMetrics
from radiffuse.optimization import Ema, make_optimizer
from radiffuse.storage import Store
from tests.training import Inputs, inputs, losses, plan_run, train_here
from tests.workers import wait_until

__all__ = ["inputs"]

pytestmark = pytest.mark.usefixtures("store_environment")

FILES = {WEIGHTS: {"w": torch.arange(4.0)}}


def checkpoints_of(store: Store, name: str, kept: int = 2) -> Checkpoints:
    return Checkpoints(store, f"s3://checkpoints/{name}", name, "0123456789abcdef", kept)


def steps_in(store: Store, name: str) -> set[str]:
    return {uri.split("/")[-2] for uri in store.list(f"s3://checkpoints/{name}")}


def small_training(seed: int) -> Trained:
    torch.manual_seed(seed)
    parameters = {"w": torch.nn.Parameter(torch.randn(3, 2)), "b": torch.nn.Parameter(torch.randn(2))}
    optimizer = make_optimizer(list(parameters.values()), TrainSettings())
    trained = Trained(parameters, optimizer, Ema(list(parameters.values()), 0.9))
    for parameter in parameters.values():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return trained


def test_what_is_restored_is_what_was_saved(store: Store) -> None:
    saved, restored = small_training(seed=1), small_training(seed=2)
    with checkpoints_of(store, "roundtrip") as checkpoints:
        checkpoints.save(1, saved.snapshot(), {"global_step": 1, "losses": [0.1]})
        checkpoints.wait()
        folder = checkpoints.fetch(checkpoints.latest_step())
        assert read_state(folder) == {"global_step": 1, "losses": [0.1]}
        restored.restore(folder, 1)
        discard(folder)
        assert not folder.exists()
    for name, tensors in saved.snapshot().items():
        for key, tensor in tensors.items():
            assert torch.equal(restored.snapshot()[name][key], tensor), key
    for parameter in restored.parameters.values():
        assert restored.optimizer.state[parameter]["step"].item() == 1


def test_training_on_does_not_change_a_snapshot() -> None:
    trained = small_training(seed=1)
    snapshot = trained.snapshot()
    before = {key: tensor.clone() for tensors in snapshot.values() for key, tensor in tensors.items()}
    trained.optimizer.step()
    trained.ema.update(0)
    after = {key: tensor for tensors in snapshot.values() for key, tensor in tensors.items()}
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert set(snapshot[OPTIMIZER]) == {"exp_avg.w", "exp_avg_sq.w", "exp_avg.b", "exp_avg_sq.b"}


def test_without_a_checkpoint_no_step_is_done(store: Store) -> None:
    assert checkpoints_of(store, "none").latest_step() == 0


def test_a_failed_upload_is_counted_when_it_fails_and_raised_when_it_is_waited_for(store: Store) -> None:
    registry = CollectorRegistry()
    refused = Store(dataclasses.replace(store.settings, secret_key="wrong"))
    checkpoints = Checkpoints(refused, "s3://checkpoints/refused", "refused", "0", 2, RunMetrics(registry))
    checkpoints.save(1, FILES, {})
    wait_until(lambda: registry.get_sample_value("radiffuse_checkpoint_failures_total") == 1, lambda: "none failed", 60)
    with pytest.raises(AccessDeniedError):
        checkpoints.wait()


def test_an_interrupted_upload_is_never_seen_as_complete_and_is_cleared_away_later(store: Store) -> None:
    class StoppingStore(Store):
        def put_bytes(self, uri: str, data: bytes) -> object:
            if uri.endswith(f"step-00000002/{MANIFEST_NAME}"):
                raise StorageError("stopped midway")
            return super().put_bytes(uri, data)

    with checkpoints_of(StoppingStore(store.settings), "stopped") as checkpoints:
        checkpoints.save(1, FILES, {})
        checkpoints.save(2, FILES, {})
        with pytest.raises(StorageError, match="stopped midway"):
            checkpoints.wait()
        assert steps_in(store, "stopped") == {"step-00000001", "step-00000002"}
        assert checkpoints.latest_step() == 1
    with checkpoints_of(store, "stopped") as checkpoints:
        checkpoints.save(3, FILES, {})
    assert steps_in(store, "stopped") == {"step-00000001", "step-00000003"}


def test_only_the_newest_complete_ones_are_kept(store: Store) -> None:
    with checkpoints_of(store, "pruned", kept=2) as checkpoints:
        for step in (5, 10, 15, 20):
            checkpoints.save(step, FILES, {})
    assert steps_in(store, "pruned") == {"step-00000015", "step-00000020"}


def test_a_flipped_byte_stops_the_run_and_following_the_advice_resumes_it(store: Store, inputs: Inputs) -> None:
    plan, whole = plan_run(inputs), plan_run(inputs)
    train_here(store, plan)
    store.delete([f"{plan.uri}/{MANIFEST_NAME}"])
    damaged = f"{plan.checkpoints_uri}/step-00000006"
    original = store.get_bytes(f"{damaged}/{WEIGHTS}")
    data = bytearray(original)
    data[len(data) // 2] ^= 1
    store.put_bytes(f"{damaged}/{WEIGHTS}", bytes(data))
    advice = (
        f'recorded {sha256(bytes(original)).hexdigest()}. No other was used in its place; "radiffuse store delete '
        f'{damaged}" to go on from step 4, or "radiffuse store delete {plan.checkpoints_uri}" to start afresh'
    )
    with pytest.raises(IntegrityError, match="the newest checkpoint is damaged") as caught:
        train_here(store, plan)
    assert str(caught.value).endswith(advice)
    assert store.find(plan.uri) is None
    assert CliRunner().invoke(app, ["store", "delete", damaged, "--yes"]).exit_code == 0
    assert losses(train_here(store, plan)) == losses(train_here(store, whole))


@pytest.mark.parametrize("damage", ["another place", "no such object"])
def test_a_damaged_manifest_of_a_checkpoint_is_met_likewise_and_the_run_may_start_afresh(
    damage: str, store: Store, inputs: Inputs
) -> None:
    plan, whole = plan_run(inputs, max_train_steps=2), plan_run(inputs, max_train_steps=2)
    train_here(store, plan)
    store.delete([f"{plan.uri}/{MANIFEST_NAME}"])
    manifest = f"{plan.checkpoints_uri}/step-00000002/{MANIFEST_NAME}"
    found, meant = ("step-00000002", "step-00000003") if damage == "another place" else (WEIGHTS, "weighty")
    store.put_bytes(manifest, store.get_bytes(manifest).replace(found.encode(), meant.encode()))
    advice = f'No other was used in its place; "radiffuse store delete {plan.checkpoints_uri}" to start afresh'
    with pytest.raises(IntegrityError, match=f"the newest checkpoint is damaged: .*{advice}"):
        train_here(store, plan)
    assert CliRunner().invoke(app, ["store", "delete", plan.checkpoints_uri, "--yes"]).exit_code == 0
    assert list(store.list(plan.checkpoints_uri)) == []
    assert losses(train_here(store, plan)) == losses(train_here(store, whole))


def test_a_full_disk_stops_a_run_with_one_error_that_names_it(store: Store, inputs: Inputs, full_tmpdir: Path) -> None:
    plan = plan_run(inputs)
    with pytest.raises(StorageError, match=f"no space left in {full_tmpdir}; free some, or set TMPDIR to a larger"):
        train_here(store, plan)
    assert store.find(plan.uri) is None
    assert list(store.list(plan.checkpoints_uri)) == []


def test_a_checkpoint_that_vanishes_before_it_is_read_is_named(store: Store) -> None:
    with pytest.raises(ObjectNotFoundError, match="step-00000003 was deleted while the run started; run again"):
        checkpoints_of(store, "vanished").fetch(3)


def test_no_checkpoint_is_a_pickle(store: Store, inputs: Inputs) -> None:
    plan = plan_run(inputs, ema_decay=0.9)
    train_here(store, plan)
    names = {Path(uri).name for uri in store.list(plan.checkpoints_uri)}
    assert names == {"weights.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json", MANIFEST_NAME}
