"""Images from prompts: PNDM with classifier-free guidance, chunks shared over ranks, one seed per image.

Run under torchrun as `python -m radiffuse.sample JOB`, JOB a `SamplePlan` as JSON. Every rank draws its share of the
chunks that the store lacks and uploads each when it is done; ranks never wait for each other. The image for a seed is
the one that `diffusers.StableDiffusionPipeline` draws with `torch.Generator("cpu").manual_seed(image_seed)`.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from radiffuse.config import SampleSettings
from radiffuse.data.sample_shards import Sample, write_samples
from radiffuse.errors import ConfigError, DataError, Preempted
from radiffuse.local_files import scratch_folder
from radiffuse.models import Models, encode_prompts, load_models
from radiffuse.precision import autocast
from radiffuse.rank import run_rank
from radiffuse.sample_plan import (
    SamplePlan,
    commit_when_complete,
    even_parts,
    image_seed,
    missing_chunks,
    prompt_of,
    record_chunk,
    shard_name,
)

if TYPE_CHECKING:
    from diffusers import PNDMScheduler

    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

# Images per VAE call: at 512 px one image takes about 1 GB while it is decoded in fp32.
DECODE_BATCH_SIZE = 4


@dataclass(frozen=True)
class Sampler:
    """A model ready to draw; `encoder_hidden_states` is (number of prompts + 1, T, D), the last row for no prompt."""

    models: Models
    noise_scheduler: "PNDMScheduler"
    encoder_hidden_states: torch.Tensor
    settings: SampleSettings
    device: torch.device

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Of one image, (1, C, h, w)."""
        assert self.models.vae is not None
        assert self.models.unet is not None
        side = self.settings.image_size_px // 2 ** (len(self.models.vae.config.block_out_channels) - 1)
        return (1, self.models.unet.config.in_channels, side, side)

    @property
    def num_unet_calls(self) -> int:
        """U-Net calls per batch; PNDM visits one timestep twice."""
        return len(self.noise_scheduler.timesteps)


def load_sampler(model_path: Path, settings: SampleSettings) -> Sampler:
    """Load the pipeline in folder `model_path` and encode every distinct prompt once.

    Raises DataError when a part is missing, ConfigError when the schedule is shorter than the steps asked for.
    """
    from diffusers import PNDMScheduler

    device = _device()
    models = load_models(model_path, ("tokenizer", "text_encoder", "vae", "unet"))
    for module in models.modules():
        module.to(device)
    try:
        noise_scheduler = PNDMScheduler.from_pretrained(model_path, subfolder="scheduler", local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"noise scheduler of the model at {model_path} does not load: {error}") from error
    available = noise_scheduler.config.num_train_timesteps
    if settings.num_inference_steps > available:
        raise ConfigError(
            f"sample.num_inference_steps={settings.num_inference_steps}, but the model's schedule has {available} steps"
        )
    noise_scheduler.set_timesteps(settings.num_inference_steps)
    prompts = [item.prompt for item in settings.prompts]
    _warn_of_truncation(models, prompts)
    with torch.no_grad(), autocast(device.type, settings.precision):
        encoder_hidden_states = encode_prompts(models, [*prompts, ""]).float()
    return Sampler(models, noise_scheduler, encoder_hidden_states, settings, device)


def draw_chunk(sampler: Sampler, sample_ids: range, on_step: Callable[[], None] | None = None) -> list[Sample]:
    """Draw samples in batches; `on_step` is called after every U-Net call."""
    settings = sampler.settings
    samples = []
    for batch in even_parts(sample_ids, settings.batch_size):
        latents = denoise(sampler, batch, on_step)
        for sample_id, image in zip(batch, decode_latents(sampler, latents), strict=True):
            index, prompt = prompt_of(settings, sample_id)
            seed = image_seed(settings.seed, sample_id)
            samples.append(Sample(sample_id, image, prompt.prompt, prompt.pathologies, index, seed))
    return samples


def initial_noise(sampler: Sampler, sample_ids: Sequence[int]) -> torch.Tensor:
    """(B, C, h, w) float32, drawn image by image on the CPU as diffusers' `randn_tensor` does."""
    generators = [
        torch.Generator("cpu").manual_seed(image_seed(sampler.settings.seed, sample_id)) for sample_id in sample_ids
    ]
    noise = [torch.randn(sampler.latent_shape, generator=generator) for generator in generators]
    return torch.cat(noise).to(sampler.device)


@torch.no_grad()
def denoise(sampler: Sampler, sample_ids: Sequence[int], on_step: Callable[[], None] | None = None) -> torch.Tensor:
    """Latents (B, C, h, w) float32 of some samples: PNDM (Liu et al. 2022) with classifier-free guidance."""
    settings, noise_scheduler, unet = sampler.settings, sampler.noise_scheduler, sampler.models.unet
    assert unet is not None
    is_guided = settings.guidance_scale > 1
    hidden = sampler.encoder_hidden_states[[prompt_of(settings, sample_id)[0] for sample_id in sample_ids]]
    if is_guided:
        hidden = torch.cat([sampler.encoder_hidden_states[-1:].expand_as(hidden), hidden])
    noise_scheduler.set_timesteps(settings.num_inference_steps)  # also forgets the last batch's history
    latents: torch.Tensor = initial_noise(sampler, sample_ids) * noise_scheduler.init_noise_sigma
    for timestep in noise_scheduler.timesteps:
        doubled = torch.cat([latents, latents]) if is_guided else latents
        with autocast(sampler.device.type, settings.precision):
            model_pred = unet(doubled, timestep, encoder_hidden_states=hidden).sample
        model_pred = model_pred.float()
        if is_guided:
            without_prompt, with_prompt = model_pred.chunk(2)
            model_pred = without_prompt + settings.guidance_scale * (with_prompt - without_prompt)
        latents = noise_scheduler.step(model_pred, timestep, latents).prev_sample
        if on_step is not None:
            on_step()
    return latents


@torch.no_grad()
def decode_latents(sampler: Sampler, latents: torch.Tensor) -> np.ndarray:
    """Images (B, H, W, 3) uint8, decoded in fp32: bf16 has 8 bits of mantissa, too few for smooth greys.

    Raises DataError when the latents or what they decode to are not finite.
    """
    vae = sampler.models.vae
    assert vae is not None
    decoded = [
        vae.decode(batch / vae.config.scaling_factor).sample
        for batch in torch.split(latents.float(), DECODE_BATCH_SIZE)
    ]
    pixel_values = torch.cat(decoded)
    if not torch.isfinite(pixel_values).all():
        raise DataError(
            "the model draws values that are not finite; draw with sample.precision=fp32, and if that changes nothing, "
            "its weights are damaged or its training diverged"
        )
    images = (pixel_values * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return np.round(images * 255).astype(np.uint8)


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _warn_of_truncation(models: Models, prompts: Sequence[str]) -> None:
    assert models.tokenizer is not None
    limit = models.tokenizer.model_max_length
    lengths = [len(ids) for ids in models.tokenizer(list(prompts), verbose=False)["input_ids"]]
    truncated = sum(length > limit for length in lengths)
    if truncated:
        logger.warning("prompts truncated=%d of=%d limit_tokens=%d", truncated, len(prompts), limit)


def run_plan(store: "Store", plan: SamplePlan, rank: int, world_size: int) -> None:
    """Draw this rank's share of the missing chunks, store each when it is done, and commit if all are there."""
    from radiffuse.progress import Progress

    # By place in the plan, not among the missing: ranks list the store at different moments.
    missing = set(missing_chunks(store, plan))
    own = [chunk for chunk in plan.own_chunks(rank, world_size) if chunk in missing]
    if own:
        sampler = load_sampler(store.fetch_cached(plan.model), plan.settings)
        calls = len(own) * sampler.num_unet_calls  # a chunk is a batch
        # Rank 0 alone shows its share, which is as large as the others'.
        with (
            scratch_folder("sample") as folder,
            Progress(calls, "sample", "steps") as bar,
        ):
            for chunk in own:
                path = folder / shard_name(chunk)
                write_samples(path, draw_chunk(sampler, chunk, bar.update))
                record_chunk(store, plan, chunk, store.put_file(f"{plan.uri}/{path.name}", path))
                path.unlink()
    commit_when_complete(store, plan)


def _stop(signum: int, frame: object) -> NoReturn:
    raise Preempted("stopped while sampling; finished chunks are in the store, run the same command to draw the rest")


def main(job: Path) -> int:
    """Entry point of one rank; returns its exit code."""
    from radiffuse.storage import open_store

    signal.signal(signal.SIGTERM, _stop)
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    def work() -> None:
        run_plan(open_store(), SamplePlan.model_validate_json(job.read_bytes()), rank, world_size)

    return run_rank(work)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
