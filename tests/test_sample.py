"""Drawing samples: the picture for a seed, the plan, chunks, and what happens when work is shared or cut short."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from radiffuse.config import SamplePrompt, SampleSettings
from radiffuse.data.sample_shards import Sample, read_samples, write_samples
from radiffuse.errors import ConfigError, DataError, StorageError
from radiffuse.manifest import Manifest
from radiffuse.sample import denoise, draw_chunk, load_sampler, run_plan
from radiffuse.sample_plan import (
    SamplePlan,
    commit_when_complete,
    even_parts,
    image_seed,
    missing_chunks,
    plan_samples,
    prompt_of,
    record_chunk,
    shard_name,
)
from radiffuse.staging import stage_model
from radiffuse.storage import Store
from tests.tiny import PROMPTS, SIZE_PX, tiny_model, tiny_pipeline

STEPS_AND_GUIDANCE = ((75, 4.0), (5, 1.0))

# What somebody without radiffuse would write. Arguments: folder, output; on standard input: steps, guidance, prompt and
# seed of each image.
PLAIN_DIFFUSERS = """
import json, sys
import numpy as np, torch
from diffusers import StableDiffusionPipeline
folder, output = sys.argv[1:]
pipeline = StableDiffusionPipeline.from_pretrained(folder)
images = []
for steps, guidance, prompt, seed in json.load(sys.stdin):
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn = pipeline(prompt, num_inference_steps=steps, guidance_scale=guidance, generator=generator)
    images.append(np.asarray(drawn.images[0]))
assert not any(name.startswith("radiffuse") for name in sys.modules)
np.save(output, np.stack(images))
"""


def settings(**changes: object) -> SampleSettings:
    prompts = (
        SamplePrompt(prompt=PROMPTS[0]),
        SamplePrompt(prompt=PROMPTS[1], pathologies=("Pleural Effusion",)),
    )
    defaults = {
        "prompts": prompts,
        "samples_per_prompt": 4,
        "baseline_samples_per_prompt": 1,
        "image_size_px": SIZE_PX,
        "num_inference_steps": 3,
        "batch_size": 2,
        "precision": "fp32",
    }
    return SampleSettings.model_validate(defaults | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("sample") / "pipeline")


@pytest.fixture(scope="module")
def model(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_model(store, tmp_path_factory.mktemp("sample-model"), name="tiny-sample")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path / "cache"))


def draw(folder: Path, sample_ids: range, **changes: object) -> list[Sample]:
    return draw_chunk(load_sampler(folder, settings(**changes)), sample_ids)


def difference(first: list[Sample], second: list[Sample]) -> int:
    """Largest difference of any pixel."""
    pairs = zip(first, second, strict=True)
    return max(int(np.abs(one.image.astype(int) - other.image).max()) for one, other in pairs)


def test_diffusers_alone_draws_the_same_picture_from_the_recorded_seed(folder: Path, tmp_path: Path) -> None:
    samples, orders = [], []
    for steps, guidance in STEPS_AND_GUIDANCE:
        path = tmp_path / f"{steps}.arrow"
        chosen = {"num_inference_steps": steps, "guidance_scale": guidance, "seed": 7, "batch_size": 1}
        write_samples(path, draw(folder, range(2), **chosen))
        drawn = list(read_samples([path]))
        orders += [(steps, guidance, sample.prompt, sample.image_seed) for sample in drawn]
        samples += drawn
    command = [sys.executable, "-c", PLAIN_DIFFUSERS, str(folder), str(tmp_path / "images.npy")]
    subprocess.run(command, input=json.dumps(orders), text=True, check=True, timeout=120)
    for sample, image in zip(samples, np.load(tmp_path / "images.npy"), strict=True):
        assert sample.image.std() > 1, "a flat picture would prove nothing"
        np.testing.assert_array_equal(sample.image, image)


def test_a_picture_does_not_depend_on_its_batch(folder: Path) -> None:
    """But for the last bit, which depends on the order in which a batched product is summed."""
    assert difference(draw(folder, range(4), batch_size=1), draw(folder, range(4), batch_size=4)) <= 1


def test_bf16_draws_nearly_the_picture_of_fp32(folder: Path) -> None:
    assert 0 < difference(draw(folder, range(2)), draw(folder, range(2), precision="bf16")) < 48


def test_a_cpu_draws_in_fp32_where_no_precision_was_chosen(folder: Path) -> None:
    assert difference(draw(folder, range(2)), draw(folder, range(2), precision=None)) == 0


def test_another_seed_draws_another_picture(folder: Path) -> None:
    assert difference(draw(folder, range(1)), draw(folder, range(1), seed=1)) > 8


def test_every_unet_call_is_reported(folder: Path) -> None:
    calls: list[int] = []
    sampler = load_sampler(folder, settings(num_inference_steps=75))
    denoise(sampler, range(1), lambda: calls.append(1))
    assert len(calls) == sampler.num_unet_calls == 76, "PNDM visits one of 75 timesteps twice"


def test_a_sampler_starts_every_batch_afresh(folder: Path) -> None:
    sampler = load_sampler(folder, settings())
    assert torch.equal(denoise(sampler, range(1)), denoise(sampler, range(1)))


def test_long_prompts_are_counted_in_the_log_but_not_quoted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_sampler(folder, settings(prompts=[SamplePrompt(prompt="lung " * 50), SamplePrompt(prompt="lung")]))
    assert "prompts truncated=1 of=2" in caplog.text
    assert "lung lung" not in caplog.text


def test_more_steps_than_the_schedule_has_are_refused(folder: Path, tmp_path: Path) -> None:
    short = tiny_pipeline(tmp_path / "short")
    config = short / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"num_train_timesteps": 1000', '"num_train_timesteps": 50'))
    with pytest.raises(ConfigError, match=r"num_inference_steps=75, but the model's schedule has 50 steps"):
        load_sampler(short, settings(num_inference_steps=75))


def test_a_model_without_noise_scheduler_is_named(folder: Path, tmp_path: Path) -> None:
    broken = tiny_pipeline(tmp_path / "broken")
    (broken / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(DataError, match=r"noise scheduler of the model at .* does not load"):
        load_sampler(broken, settings())


@given(st.integers(0, 1000), st.integers(0, 10**6), st.integers(0, 10**6))
def test_images_of_one_seed_never_share_their_noise(seed: int, first: int, second: int) -> None:
    assert (image_seed(seed, first) == image_seed(seed, second)) == (first == second)
    assert 0 <= image_seed(seed, first) < 2**32


def test_torch_tells_seeds_below_two_to_the_32_apart_and_no_others() -> None:
    def noise(seed: int) -> torch.Tensor:
        return torch.randn(4, generator=torch.Generator("cpu").manual_seed(seed))

    assert torch.equal(noise(5), noise(5 + 2**32)), "then image_seed may use more bits"
    assert not torch.equal(noise(0), noise(2**32 - 1))


@given(st.integers(0, 300), st.integers(1, 40))
def test_even_parts_cover_everything_in_order_and_differ_by_one_at_most(count: int, limit: int) -> None:
    parts = even_parts(range(count), limit)
    assert [place for part in parts for place in part] == list(range(count))
    assert len(parts) == -(-count // limit)
    sizes = {len(part) for part in parts}
    assert not sizes or (max(sizes) <= limit and max(sizes) - min(sizes) <= 1)


def test_samples_take_the_prompts_in_turn() -> None:
    chosen = settings()
    assert [prompt_of(chosen, sample_id)[0] for sample_id in range(4)] == [0, 1, 0, 1]


def test_the_address_does_not_depend_on_the_number_of_processes(model: Manifest) -> None:
    plans = [plan_samples("run", model, settings(nproc_per_node=count), baseline=False) for count in (1, 8)]
    assert plans[0].uri == plans[1].uri
    assert plans[0].chunks() == plans[1].chunks()


def test_the_address_depends_on_what_is_drawn(model: Manifest) -> None:
    changes = [{}, {"seed": 1}, {"guidance_scale": 3.0}, {"samples_per_prompt": 5}, {"precision": "bf16"}]
    uris = {plan_samples("run", model, settings(**change), baseline=False).uri for change in changes}
    assert len(uris) == len(changes)


def test_a_baseline_has_its_own_number_and_place(model: Manifest) -> None:
    plan = plan_samples("run", model, settings(), baseline=True)
    assert plan.num_samples == 2
    assert plan.uri.startswith("s3://samples/run-baseline/")


def read_back(store: Store, manifest: Manifest, folder: Path) -> list[Sample]:
    store.fetch(manifest, folder)
    return list(read_samples([folder / stored.name for stored in manifest.objects]))


def test_two_ranks_draw_what_one_draws_and_the_last_commits(store: Store, model: Manifest, tmp_path: Path) -> None:
    plans = [plan_samples(name, model, settings(), baseline=False) for name in ("shared", "alone")]
    run_plan(store, plans[0], rank=0, world_size=2)
    assert store.find(plans[0].uri) is None, "half of the samples are missing"
    run_plan(store, plans[0], rank=1, world_size=2)
    run_plan(store, plans[1], rank=0, world_size=1)
    shared, alone = (store.find(plan.uri) for plan in plans)
    assert shared is not None
    assert alone is not None
    assert shared.counts == {"images": 8, "prompts": 2}
    assert difference(read_back(store, shared, tmp_path / "a"), read_back(store, alone, tmp_path / "b")) == 0


def fake_chunk(store: Store, plan: SamplePlan, chunk: range, path: Path) -> None:
    """Store a chunk of black images, as a run before would have stored its own."""
    black = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    write_samples(path, [Sample(sample_id, black, "", (), 0, 0) for sample_id in chunk])
    record_chunk(store, plan, chunk, store.put_file(f"{plan.uri}/{shard_name(chunk)}", path))


def test_chunks_in_the_store_are_not_drawn_again(store: Store, model: Manifest, tmp_path: Path) -> None:
    plan = plan_samples("resumed", model, settings(), baseline=False)
    fake_chunk(store, plan, plan.chunks()[0], tmp_path / "fake.arrow")
    run_plan(store, plan, rank=0, world_size=1)
    manifest = store.find(plan.uri)
    assert manifest is not None
    is_black = [sample.image.max() == 0 for sample in read_back(store, manifest, tmp_path / "back")]
    assert is_black == [True] * 2 + [False] * 6


def test_a_shard_without_its_record_does_not_count(store: Store, model: Manifest, tmp_path: Path) -> None:
    plan = plan_samples("unrecorded", model, settings(), baseline=False)
    for chunk in plan.chunks():
        fake_chunk(store, plan, chunk, tmp_path / "fake.arrow")
    store.delete([f"{plan.uri}/chunks/{plan.chunks()[1].start:08d}.json"])
    assert missing_chunks(store, plan) == [plan.chunks()[1]]
    assert commit_when_complete(store, plan) is None


def test_a_run_with_nothing_left_to_draw_only_commits(store: Store, model: Manifest, tmp_path: Path) -> None:
    absent = model.model_copy(update={"uri": "s3://models/absent/0"})
    plan = plan_samples("finished", absent, settings(), baseline=False)
    for chunk in plan.chunks():
        fake_chunk(store, plan, chunk, tmp_path / "fake.arrow")
    run_plan(store, plan, rank=0, world_size=1)
    assert store.find(plan.uri) is not None


def test_sigterm_ends_a_rank_with_143_and_keeps_its_finished_chunks(
    store: Store, store_environment: dict[str, str], model: Manifest, tmp_path: Path
) -> None:
    endless = settings(samples_per_prompt=10_000, num_inference_steps=20)
    plan = plan_samples("stopped", model, endless, baseline=False)
    job = tmp_path / "job.json"
    job.write_text(plan.model_dump_json())
    process = subprocess.Popen([sys.executable, "-m", "radiffuse.sample", str(job)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(store.list(f"{plan.uri}/chunks/")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    process.terminate()
    _, log = process.communicate(timeout=60)
    assert process.returncode == 143, log
    assert "finished chunks are in the store" in log
    assert 1 <= len(plan.chunks()) - len(missing_chunks(store, plan)) < len(plan.chunks())
    assert store.find(plan.uri) is None


def test_a_model_that_draws_no_numbers_publishes_nothing(store: Store, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "diverged"
    shutil.copytree(folder, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_in.bias"][0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    plan = plan_samples("diverged", stage_model(store, str(copy)), settings(), baseline=False)
    with pytest.raises(DataError, match=r"values that are not finite; draw with sample\.precision=fp32"):
        run_plan(store, plan, rank=0, world_size=1)
    assert list(store.list(plan.uri)) == []


def test_a_full_disk_stops_a_rank_with_one_error_that_names_it(
    store: Store, model: Manifest, full_tmpdir: Path
) -> None:
    plan = plan_samples("full-disk", model, settings(), baseline=False)
    with pytest.raises(StorageError, match=f"no space left in {full_tmpdir}; free some, or set TMPDIR to a larger"):
        run_plan(store, plan, rank=0, world_size=1)
    assert store.find(plan.uri) is None


def test_a_file_that_is_no_shard_of_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.arrow"
    path.write_bytes(b"not arrow at all")
    with pytest.raises(DataError, match="is not an Arrow file of samples"):
        list(read_samples([path]))
