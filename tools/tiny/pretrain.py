"""Pretrain the laptop base model on captioned pictures that are not radiographs, with the product's own verbs.

    python tools/tiny/pretrain.py --work pretraining --out src/radiffuse/base_models/tiny

Everything goes through an embedded store under --work, so stopping and starting again resumes. The VAE learns from
crops, which cost less than half, and last from whole pictures, since its attention has to meet their size; then the
U-Net learns with its text encoder.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from base_model import save_base_model
from pictures import Sources, draw_picture, load_sources
from safetensors.torch import load_file, save_file

from radiffuse.config import EncodeSettings, TrainSettings
from radiffuse.data.latents import encode_dataset
from radiffuse.data.shards import ImageDataset, ShardWriter, open_dataset
from radiffuse.embedded_store import EmbeddedStore
from radiffuse.launch import launch_training
from radiffuse.manifest import Manifest, digest_of
from radiffuse.models import load_models
from radiffuse.progress import track
from radiffuse.staging import stage_model
from radiffuse.storage import Store

EMOJI_PACKAGE = "emoji-datasource-google@16.0.0"
SIZE_PX = 96
CROP_PX = 64
PICTURES = 24_000
VAE_TRAINING = TrainSettings(
    method="vae",
    max_train_steps=4500,
    total_batch_size=16,
    train_batch_size=8,
    learning_rate=2e-3,
    lr_schedule="cosine",
    lr_warmup_steps=100,
    adam_beta2=0.99,
    weight_decay=1e-4,
    ema_decay=0.999,
    kl_weight=3e-4,
    precision="bf16",
    nproc_per_node=2,
    checkpoint_every_steps=500,
    log_every_steps=50,
)
VAE_FINISH = VAE_TRAINING.model_copy(
    update={"max_train_steps": 400, "learning_rate": 5e-4, "lr_warmup_steps": 20, "ema_decay": 0.99}
)
UNET_TRAINING = TrainSettings(
    method="unet_text_encoder",
    max_train_steps=5000,
    total_batch_size=32,
    train_batch_size=16,
    learning_rate=1e-3,
    lr_schedule="cosine",
    lr_warmup_steps=200,
    ema_decay=0.999,
    prompt_dropout_prob=0.1,
    precision="fp32",
    nproc_per_node=2,
    checkpoint_every_steps=500,
    log_every_steps=50,
)


def pretrain(work: Path, out: Path) -> None:
    """Pictures, untrained model, VAE, its scale, U-Net with text encoder; then half precision."""
    with EmbeddedStore(work / "store") as server:
        os.environ.update(server.environment)
        store = Store(server.settings)
        store.create_buckets()
        sources = load_sources(fetch_emoji(work), photograph_folder())
        dataset = store_pictures(store, work, sources, SIZE_PX)
        crops = store_pictures(store, work, sources, CROP_PX)
        captions = list(open_dataset(store, dataset).column("prompt"))
        untrained = work / "untrained"
        if not untrained.exists():
            save_base_model(untrained, captions)
        model = stage_model(store, str(untrained))
        model = launch_training(store, "tiny-vae", crops, model, VAE_TRAINING)
        model = launch_training(store, "tiny-vae", dataset, model, VAE_FINISH)
        model = set_scaling_factor(store, model, dataset, work / "scaled")
        latents = encode_dataset(store, dataset, model, EncodeSettings(batch_size=64, precision="bf16"))
        model = launch_training(store, "tiny-base", latents, model, UNET_TRAINING)
        export_half(store.fetch_cached(model), out)


def store_pictures(store: Store, work: Path, sources: Sources, size_px: int) -> Manifest:
    """Draw the pictures, grey as radiographs are stored, into image-prompt shards: whole, or a square of each."""
    settings = {"pictures": PICTURES, "drawn_px": SIZE_PX, "size_px": size_px, "emoji": EMOJI_PACKAGE}
    digest = digest_of(settings=settings)
    uri = f"s3://datasets/pictures/{digest}"
    found = store.find(uri)
    if found is not None:
        return found
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        with ShardWriter(Path(scratch), images_per_shard=4096) as writer:
            for number in track(range(PICTURES), label="pictures", unit="pictures"):
                writer.write(picture_row(sources, number, size_px))
        manifest = Manifest(
            kind="dataset", name="pictures", uri=uri, digest=digest, settings=settings, counts={"images": PICTURES}
        )
        return store.publish(manifest, Path(scratch))


def picture_row(sources: Sources, number: int, size_px: int) -> dict[str, object]:
    """One row of the shards' schema; the radiographs' own columns are left empty."""
    rng = np.random.default_rng((0, number))
    image, caption = draw_picture(sources, SIZE_PX, rng)
    x, y = rng.integers(0, SIZE_PX - size_px + 1, 2).tolist()
    encoded = io.BytesIO()
    image.crop((x, y, x + size_px, y + size_px)).convert("L").save(encoded, format="PNG")
    labels = {"is_few_shot": False, "view_position": "", "subject": number, "pathologies": [], "no_finding": False}
    return {"image": encoded.getvalue(), "prompt": caption, "split": "train", **labels}


def fetch_emoji(work: Path) -> Path:
    """The emoji package's archive, fetched with npm once."""
    archives = sorted(work.glob("emoji-datasource-google-*.tgz"))
    if not archives:
        subprocess.run(["npm", "pack", EMOJI_PACKAGE], cwd=work, check=True, stdout=subprocess.DEVNULL)
        archives = sorted(work.glob("emoji-datasource-google-*.tgz"))
    return archives[0]


def photograph_folder() -> Path:
    """scikit-image's photographs."""
    import skimage

    return Path(skimage.__file__).parent / "data"


def set_scaling_factor(store: Store, model: Manifest, dataset: Manifest, folder: Path) -> Manifest:
    """Stage a copy whose scaling factor brings latents of 1,024 pictures to unit deviation (Rombach 2022, G)."""
    shutil.copytree(store.fetch_cached(model), folder, dirs_exist_ok=True)
    vae = load_models(folder, ("vae",)).vae
    images = open_dataset(store, dataset)
    with torch.no_grad():
        latents = torch.cat([vae.encode(pixels).latent_dist.sample() for pixels in picture_batches(images, 1024)])
    config = json.loads((folder / "vae" / "config.json").read_text())
    config["scaling_factor"] = round(1 / latents.std().item(), 5)
    (folder / "vae" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"vae scaling_factor={config['scaling_factor']}", file=sys.stderr)
    return stage_model(store, str(folder))


def picture_batches(images: ImageDataset, count: int) -> list[torch.Tensor]:
    """pixel_values of the first `count` pictures, in batches of 64."""
    grey = np.stack([images[index].image for index in range(count)])
    pixels = torch.from_numpy(grey).float()[:, None].expand(-1, 3, -1, -1) / 127.5 - 1
    return list(pixels.split(64))


def export_half(trained: Path, out: Path) -> None:
    """The pipeline in fp16 safetensors: it is loaded as fp32 anyway, and half the bytes travel with the package."""
    for source in sorted(trained.rglob("*")):
        target = out / source.relative_to(trained)
        if source.suffix == ".safetensors":
            target.parent.mkdir(parents=True, exist_ok=True)
            half = {name: tensor.half() for name, tensor in load_file(source).items()}
            save_file(half, target, metadata={"format": "pt"})
        elif (source.suffix in (".json", ".txt") and source.parent != trained) or source.name == "model_index.json":
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="store, caches and intermediate models")
    parser.add_argument("--out", type=Path, required=True, help="where the fp16 pipeline goes")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    pretrain(arguments.work, arguments.out)
