"""Load a diffusers pipeline's parts, and turn prompts into what the U-Net attends to."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from radiffuse.errors import DataError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

PARTS = ("tokenizer", "text_encoder", "vae", "unet", "noise_scheduler")


@dataclass
class Models:
    """The parts of one pipeline; those that were not asked for are None. Modules are fp32 and in eval mode."""

    tokenizer: "CLIPTokenizer | None" = None
    text_encoder: "CLIPTextModel | None" = None
    vae: "AutoencoderKL | None" = None
    unet: "UNet2DConditionModel | None" = None
    noise_scheduler: "DDPMScheduler | None" = None

    def modules(self) -> Iterable[torch.nn.Module]:
        """The parts that have weights."""
        for field in fields(self):
            part = getattr(self, field.name)
            if isinstance(part, torch.nn.Module):
                yield part


def load_models(path: Path, parts: Sequence[str] = PARTS) -> Models:
    """Load parts of the diffusers pipeline in folder `path`, safetensors only, fp32, frozen until a method thaws them.

    The noise scheduler is DDPM with the schedule that the pipeline's own scheduler declares. Raises DataError when
    a part is missing or its weights do not load.
    """
    models = Models()
    for part in parts:
        try:
            setattr(models, part, _load_part(path, part))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise DataError(f"{part} of the model at {path} does not load: {error}") from error
    for module in models.modules():
        module.eval().requires_grad_(False)
    return models


def _load_part(path: Path, part: str) -> Any:
    # Imported one by one because each costs a second or more, and no step needs them all.
    if part == "tokenizer":
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    if part == "text_encoder":
        from transformers import CLIPTextModel
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # a bar per file of weights, among our own progress
        return CLIPTextModel.from_pretrained(
            path / "text_encoder", use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    if part == "noise_scheduler":
        from diffusers import DDPMScheduler

        return DDPMScheduler.from_pretrained(path, subfolder="scheduler", local_files_only=True)
    if part == "vae":
        from diffusers import AutoencoderKL as model_class
    else:
        from diffusers import UNet2DConditionModel as model_class
    return model_class.from_pretrained(
        path, subfolder=part, use_safetensors=True, local_files_only=True, torch_dtype=torch.float32
    )


def read_part_config(path: Path, part: str) -> dict[str, Any]:
    """The configuration of one part of the pipeline in folder `path`, without its weights; DataError when missing."""
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    try:
        config: dict[str, Any] = json.loads((path / part / name).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{part} of the model at {path} has no readable {name}: {error}") from error
    return config


def tokenize(tokenizer: "CLIPTokenizer", prompts: Sequence[str]) -> torch.Tensor:
    """input_ids, (B, T) int64, padded and cut to the tokenizer's length as Stable Diffusion does."""
    encoded = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return torch.as_tensor(encoded["input_ids"])


def encode_prompts(models: Models, prompts: Sequence[str]) -> torch.Tensor:
    """encoder_hidden_states, (B, T, D): the text encoder's last hidden state; each distinct prompt is encoded once.

    Gradients flow when the text encoder is being trained.
    """
    assert models.tokenizer is not None and models.text_encoder is not None
    distinct = list(dict.fromkeys(prompts))
    place = {prompt: index for index, prompt in enumerate(distinct)}
    input_ids = tokenize(models.tokenizer, distinct).to(models.text_encoder.device)
    hidden: torch.Tensor = models.text_encoder(input_ids)[0]
    return hidden[torch.tensor([place[prompt] for prompt in prompts], device=hidden.device)]
