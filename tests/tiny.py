"""The smallest real things: a Stable-Diffusion-shaped pipeline of a few thousand weights, and data to train it on."""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from radiffuse.data.latents import write_shard
from radiffuse.data.shards import ShardWriter
from radiffuse.manifest import Manifest, digest_of
from radiffuse.storage import Store

SIZE_PX = 32
TOKENS = 16
TEXT_WIDTH = 16
PROMPTS = ("a photo of a lung xray", "a photo of a lung xray with a visible pleural effusion")
SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def tiny_pipeline(path: Path, prediction_type: str = "epsilon") -> Path:
    """Write a diffusers folder with random weights, the same ones each time: KL-f8, 32 px, 16 tokens of width 16."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    path.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(text_config)
        vae = AutoencoderKL(
            block_out_channels=(4, 4, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=2,
            layers_per_block=1,
            sample_size=SIZE_PX,
        )
        unet = UNet2DConditionModel(
            sample_size=SIZE_PX // 8,
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=2,
            norm_num_groups=4,
        )
    noise_scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type=prediction_type,
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    )
    parts = {"tokenizer": tokenizer, "text_encoder": text_encoder, "vae": vae, "unet": unet}
    for name, part in parts.items():
        part.save_pretrained(path / name)
    noise_scheduler.save_pretrained(path / "scheduler")
    (path / "model_index.json").write_text(json.dumps(MODEL_INDEX), encoding="utf-8")
    return path


def tiny_tokenizer():
    """A CLIPTokenizer whose vocabulary is single letters, inside a word and at its end, without merges."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *SPECIAL_TOKENS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def tiny_model(store: Store, path: Path, name: str = "tiny-test") -> Manifest:
    """Write the pipeline below `path` and publish it."""
    digest = digest_of(pipeline=name)
    manifest = Manifest(kind="model", name=name, uri=f"s3://models/{name}/{digest}", digest=digest)
    return store.publish(manifest, tiny_pipeline(path))


def tiny_latents(store: Store, path: Path, count: int = 12, name: str = "tiny-latents") -> Manifest:
    """Random latents of 4x4 under two prompts, in two shards, published."""
    path.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for shard, ids in enumerate(np.array_split(np.arange(count), 2)):
        mean, std = generator.normal(size=(2, len(ids), 4, SIZE_PX // 8, SIZE_PX // 8))
        prompts = [PROMPTS[i % 2] for i in ids]
        write_shard(path / f"latents-{shard:05d}.arrow", ids, mean, 0.1 * np.abs(std), prompts)
    digest = digest_of(latents=count)
    uri = f"s3://datasets/{name}/{digest}"
    manifest = Manifest(kind="latents", name=name, uri=uri, digest=digest, counts={"images": count})
    return store.publish(manifest, path)


def tiny_images(store: Store, path: Path, count: int = 12, name: str = "tiny-images") -> Manifest:
    """Grey gradients of 32 px, two thirds of them in the train split, published."""
    path.mkdir(parents=True, exist_ok=True)
    with ShardWriter(path, images_per_shard=8) as writer:
        for number in range(count):
            writer.write(image_row(number))
    digest = digest_of(images=count)
    uri = f"s3://datasets/{name}/{digest}"
    manifest = Manifest(kind="dataset", name=name, uri=uri, digest=digest, counts={"images": count})
    return store.publish(manifest, path)


def image_row(number: int) -> dict[str, object]:
    """One row of a dataset, its sample_id left out."""
    ramp = np.linspace(0, 255, SIZE_PX * SIZE_PX).reshape(SIZE_PX, SIZE_PX)
    encoded = io.BytesIO()
    Image.fromarray(np.roll(ramp, 3 * number).astype(np.uint8)).save(encoded, format="PNG")
    has_effusion = number % 2 == 1
    return {
        "image": encoded.getvalue(),
        "prompt": PROMPTS[number % 2],
        "split": ("train", "train", "test")[number % 3],
        "is_few_shot": False,
        "view_position": "PA",
        "subject": number,
        "pathologies": ["Pleural Effusion"] if has_effusion else [],
        "no_finding": not has_effusion,
    }
