"""The laptop base model before training: Stable Diffusion 1.4's shape and schedule with random weights, a few MB."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

VOCABULARY_SIZE = 2000
TEXT_WIDTH = 128
SPECIAL_TOKENS = ("<|startoftext|>", "<|endoftext|>")
# Words, not pictures: so that radiology prompts take few tokens, as they do in CLIP's own large vocabulary.
RADIOLOGY_WORDS = """
a photo of lung xray lungs chest radiograph frontal lateral ap pa view with visible pleural effusion effusions
pneumothorax consolidation cardiomegaly enlarged heart cardiac silhouette mediastinum opacity opacities lesion edema
pneumonia atelectasis fracture support devices no acute cardiopulmonary process finding findings abnormality normal
clear left right bilateral both sides small moderate large mild severe basilar base lower upper lobe apical apex
costophrenic angle blunting layering volume increased unchanged stable new size side and or is are the there in on
without evidence focal process limits within impression
""".split()


def build_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's form, trained on captions and on radiology words."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=SPECIAL_TOKENS[1]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    # CLIP's alphabet holds every byte twice: inside a word and at its end.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(alphabet) - len(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([*captions, *(" ".join(RADIOLOGY_WORDS) for _ in range(200))], trainer)
    merges = [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(byte + "</w>" for byte in alphabet), *("".join(merge) for merge in merges), *SPECIAL_TOKENS]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def build_vae() -> AutoencoderKL:
    """KL-f8 with 4 latent channels, 1.1 M parameters."""
    return AutoencoderKL(
        block_out_channels=(32, 48, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
        layers_per_block=1,
        sample_size=96,
    )


def build_unet() -> UNet2DConditionModel:
    """Three levels, attention to the text on the two coarser ones; 5.6 M parameters. `attention_head_dim` counts heads.

    Attention at 12x12 too would cost half as much again per step, and learn 2 % more from it.
    """
    return UNet2DConditionModel(
        sample_size=12,
        block_out_channels=(64, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=16,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text tower, three layers of width 128; 0.9 M parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def save_base_model(folder: Path, captions: Iterable[str], seed: int = 0) -> None:
    """Write the untrained pipeline to `folder`, in Stable Diffusion 1.4's schedule."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(captions)
    pipeline = StableDiffusionPipeline(
        vae=build_vae(),
        text_encoder=build_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=build_unet(),
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
