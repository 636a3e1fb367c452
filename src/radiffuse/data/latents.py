"""Latents: a VAE's posterior mean and standard deviation of every training image, encoded once, read memory-mapped.

Arrow IPC files, one row per image of the train split: sample_id, mean and std (fp16, C x h x w), prompt. They are not
yet times `vae.config.scaling_factor`, and the mean alone would not do: each visit draws its own latent from the two.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from radiffuse.config import EncodeSettings, InferencePrecision
from radiffuse.data.prefetch import prefetch
from radiffuse.errors import DataError, ObjectNotFoundError
from radiffuse.local_files import scratch_folder
from radiffuse.manifest import Manifest, StoredObject, digest_of
from radiffuse.parts import WHOLE, Part
from radiffuse.progress import Progress

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from radiffuse.data.shards import Example, ImageDataset
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

FORMAT = 1
SHAPE_KEY = b"latent_shape"
SHARD_PATTERN = "latents-*.arrow"
IMAGES_PER_SHARD = 4096  # 256 MiB at SD's latent size; an interrupted encoding loses at most one shard


@dataclass(frozen=True)
class LatentBatch:
    """mean, std: (B, C, h, w) float16, unscaled. sample_ids: (B,) int64."""

    sample_ids: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    prompts: list[str]


class LatentDataset:
    """Random access to latent shards; opening maps the files and reads nothing.

    Raises DataError when there is no shard, or one is not an Arrow file of latents.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        if not paths:
            raise DataError("no latent shards were given; encode a dataset with `radiffuse encode`")
        shards = [_Shard(path) for path in paths]
        shapes = {shard.shape for shard in shards}
        if len(shapes) != 1:
            raise DataError(f"latent shards of one dataset have shapes {sorted(shapes)}; encode the dataset again")
        self.shape: tuple[int, int, int] = shapes.pop()
        self._shards = shards
        self._starts = np.cumsum([0, *(len(shard.sample_ids) for shard in shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def batch(self, indices: np.ndarray) -> LatentBatch:
        """The samples at `indices`, (B,) int64 in [0, len), in that order."""
        sample_ids = np.empty(len(indices), np.int64)
        mean = np.empty((len(indices), *self.shape), np.float16)
        std = np.empty_like(mean)
        prompts = []
        shard_numbers = np.searchsorted(self._starts, indices, side="right") - 1
        rows = indices - self._starts[shard_numbers]
        # One by one: fancy indexing would copy every latent twice, once into a temporary array.
        for place, (number, row) in enumerate(zip(shard_numbers.tolist(), rows.tolist(), strict=True)):
            shard = self._shards[number]
            sample_ids[place] = shard.sample_ids[row]
            mean[place] = shard.mean[row]
            std[place] = shard.std[row]
            prompts.append(shard.prompts[row].as_py())
        return LatentBatch(sample_ids, mean, std, prompts)


class _Shard:
    """One file's columns as views of its mapped pages."""

    def __init__(self, path: Path) -> None:
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            shape = tuple(int(size) for size in reader.schema.metadata[SHAPE_KEY].split(b","))
            (batch,) = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            self.sample_ids = batch.column("sample_id").to_numpy()
            self.prompts = batch.column("prompt")
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path.name} is not a file of latents: {error}; encode the dataset again") from error
        channels, height, width = shape
        self.shape = (channels, height, width)
        self.mean = self._view(batch.column("mean"))
        self.std = self._view(batch.column("std"))

    def _view(self, column: pa.Array) -> np.ndarray:
        return np.frombuffer(column.buffers()[1], np.float16).reshape(len(column), *self.shape)


def write_shard(path: Path, sample_ids: np.ndarray, mean: np.ndarray, std: np.ndarray, prompts: Sequence[str]) -> None:
    """Write one shard; mean and std: (N, C, h, w), stored as float16."""
    size_bytes = int(np.prod(mean.shape[1:])) * 2
    columns = {
        "sample_id": pa.array(sample_ids, pa.int64()),
        "mean": _as_column(mean, size_bytes),
        "std": _as_column(std, size_bytes),
        "prompt": pa.array(prompts, pa.string()),
    }
    batch = pa.record_batch(columns)
    batch = batch.replace_schema_metadata({SHAPE_KEY: ",".join(str(size) for size in mean.shape[1:]).encode()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _as_column(values: np.ndarray, size_bytes: int) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(values, np.float16))
    return pa.Array.from_buffers(pa.binary(size_bytes), len(values), [None, buffer])


def open_latents(folder: Path) -> LatentDataset:
    """The latents whose shards lie in a local folder."""
    return LatentDataset(sorted(folder.glob(SHARD_PATTERN)))


def latents_digest(dataset: Manifest, model: Manifest, settings: EncodeSettings) -> str:
    """Address of a dataset's latents: they depend on the images, the VAE's files and the precision asked for.

    With "fastest" rounding depends on the processor too, and the first one to encode decides.
    """
    vae = {stored.name: stored.sha256 for stored in model.objects if stored.name.startswith("vae/")}
    return digest_of(dataset=dataset.digest, vae=vae, precision=settings.precision, format=FORMAT)


def encode_dataset(store: "Store", dataset: Manifest, model: Manifest, settings: EncodeSettings) -> Manifest:
    """Encode the train split of a dataset into `<dataset uri>/latents/<digest>`; shards already there are kept."""
    digest = latents_digest(dataset, model, settings)
    uri = f"{dataset.uri}/latents/{digest}"
    if (finished := store.find(uri)) is not None:
        return finished
    num_images, objects = _encode_shards(store, uri, dataset, model, settings, WHOLE)
    manifest = Manifest(
        kind="latents",
        name=dataset.name,
        uri=uri,
        digest=digest,
        inputs={"dataset": dataset.uri, "model": model.uri, "vae": model.fingerprint("vae/")},
        settings=settings.model_dump(mode="json"),
        counts={"images": num_images, "size_bytes": sum(stored.size_bytes for stored in objects)},
        objects=objects,
    )
    store.commit(manifest)
    return manifest


def encode_part(store: "Store", dataset: Manifest, model: Manifest, settings: EncodeSettings, part: Part) -> int:
    """Encode a part of the shards, for `encode_dataset` to find; returns how many the part has."""
    uri = f"{dataset.uri}/latents/{latents_digest(dataset, model, settings)}"
    if store.find(uri) is not None:
        return 0
    return len(_encode_shards(store, uri, dataset, model, settings, part)[1])


def _encode_shards(
    store: "Store", uri: str, dataset: Manifest, model: Manifest, settings: EncodeSettings, part: Part
) -> tuple[int, tuple[StoredObject, ...]]:
    """Images of the whole train split, and the shards of the part, each encoded unless it is there."""
    from radiffuse.data.shards import open_dataset

    images = open_dataset(store, dataset)
    rows = images.indices("train")
    if len(rows) == 0:
        raise DataError(f"the dataset at {dataset.uri} has no image in its train split; ingest more images")
    shards = part.share(_cut(rows))
    found = {name: _find_shard(store, uri, name) for name, _ in shards}
    missing = [(name, shard) for name, shard in shards if found[name] is None]
    if missing:
        vae = _load_vae(store, model)
        with (
            Progress(sum(len(shard) for _, shard in missing), "encode", "images") as progress,
            scratch_folder("encode") as folder,
        ):
            encoder = _Encoder(store, uri, images, vae, settings, progress)
            found |= {name: encoder.encode(shard, folder / name) for name, shard in missing}
    return len(rows), tuple(stored for stored in found.values() if stored is not None)


def _cut(rows: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and rows of each shard; the same whoever encodes it."""
    starts = range(0, len(rows), IMAGES_PER_SHARD)
    return [
        (f"latents-{number:05d}.arrow", rows[start : start + IMAGES_PER_SHARD]) for number, start in enumerate(starts)
    ]


def _find_shard(store: "Store", uri: str, name: str) -> StoredObject | None:
    try:
        return StoredObject.model_validate_json(store.get_bytes(f"{uri}/{name}.json"))
    except ObjectNotFoundError:
        return None


def _load_vae(store: "Store", model: Manifest) -> "AutoencoderKL":
    # Heavy, and not needed when the work is done.
    import torch

    from radiffuse.models import load_models

    vae = load_models(store.fetch_cached(model), parts=("vae",)).vae
    assert vae is not None
    return vae.to("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class _Encoder:
    """Makes shards and stores each with a record of it, written after it, by which a second run knows it as whole."""

    store: "Store"
    uri: str
    images: "ImageDataset"
    vae: "AutoencoderKL"
    settings: EncodeSettings
    progress: Progress

    def encode(self, rows: np.ndarray, path: Path) -> StoredObject:
        """One shard, made at `path` and stored under that name."""

        def load(start: int) -> list["Example"]:
            return [self.images[int(row)] for row in rows[start : start + self.settings.batch_size]]

        means, stds, sample_ids, prompts = [], [], [], []
        # One thread decodes the next images while this one encodes.
        for examples in prefetch(load, range(0, len(rows), self.settings.batch_size), workers=1):
            images = np.stack([example.image for example in examples])
            mean, std = encode_images(self.vae, images, self.settings.precision)
            means.append(mean)
            stds.append(std)
            sample_ids += [example.sample_id for example in examples]
            prompts += [example.prompt for example in examples]
            self.progress.update(len(examples))
        write_shard(path, np.array(sample_ids), np.concatenate(means), np.concatenate(stds), prompts)
        stored = self.store.put_file(f"{self.uri}/{path.name}", path)
        self.store.put_bytes(f"{self.uri}/{path.name}.json", stored.model_dump_json().encode())
        path.unlink()
        return stored


def encode_images(
    vae: "AutoencoderKL", images: np.ndarray, precision: InferencePrecision
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and std, (B, C, h, w) float16, of grey images (B, H, W) uint8.

    Raises DataError when one is not finite or overflows float16.
    """
    import torch

    from radiffuse.precision import autocast

    with torch.inference_mode(), autocast(vae.device.type, precision):
        posterior = vae.encode(torch.from_numpy(to_pixel_values(images)).to(vae.device)).latent_dist
    mean, std = (moment.float().cpu().numpy().astype(np.float16) for moment in (posterior.mean, posterior.std))
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise DataError("the VAE gave latents that are not finite in float16; encode with precision fp32")
    return mean, std


def to_pixel_values(images: np.ndarray) -> np.ndarray:
    """pixel_values, (B, 3, H, W) float32 in [-1, 1], of grey images (B, H, W) uint8."""
    grey = images.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.repeat(grey[:, None], 3, axis=1)
