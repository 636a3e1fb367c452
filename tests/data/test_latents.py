"""Latents: what is encoded, how it is stored, how it is read back."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiffuse.config import EncodeSettings
from radiffuse.data import latents as latents_module
from radiffuse.data.latents import (
    LatentDataset,
    encode_dataset,
    encode_images,
    latents_digest,
    open_latents,
    to_pixel_values,
    write_shard,
)
from radiffuse.data.shards import open_dataset
from radiffuse.errors import DataError, StorageError
from radiffuse.manifest import Manifest
from radiffuse.models import load_models
from radiffuse.storage import Store
from tests.training import Inputs, inputs

__all__ = ["inputs"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Three shards of 10, 1 and 9 latents; mean of sample i is i everywhere, std i / 2."""
    folder = tmp_path_factory.mktemp("latents")
    values = np.arange(20.0).reshape(-1, 1, 1, 1) * np.ones((1, 4, 2, 3))
    for number, (start, stop) in enumerate(((0, 10), (10, 11), (11, 20))):
        ids = np.arange(start, stop)
        write_shard(
            folder / f"latents-{number:05d}.arrow",
            ids + 100,
            values[start:stop],
            values[start:stop] / 2,
            [f"prompt {i}" for i in ids],
        )
    return folder, values


@settings(max_examples=50)
@given(indices=st.lists(st.integers(0, 19), max_size=12))
def test_a_batch_holds_the_samples_asked_for_in_that_order_across_shards(
    shards: tuple[Path, np.ndarray], indices: list[int]
) -> None:
    folder, values = shards
    batch = open_latents(folder).batch(np.array(indices, np.int64))
    assert batch.sample_ids.tolist() == [index + 100 for index in indices]
    assert batch.prompts == [f"prompt {index}" for index in indices]
    np.testing.assert_array_equal(batch.mean, values[indices])
    np.testing.assert_array_equal(batch.std, values[indices] / 2)
    assert batch.mean.dtype == np.float16


def test_the_length_and_shape_are_those_of_all_shards(shards: tuple[Path, np.ndarray]) -> None:
    dataset = open_latents(shards[0])
    assert (len(dataset), dataset.shape) == (20, (4, 2, 3))


def test_no_shards_and_a_broken_shard_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no latent shards were given; encode a dataset with `radiffuse encode`"):
        open_latents(tmp_path)
    broken = tmp_path / "latents-00000.arrow"
    broken.write_bytes(b"not arrow")
    with pytest.raises(DataError, match=r"latents-00000\.arrow is not a file of latents"):
        LatentDataset([broken])


def test_shards_of_different_shapes_are_refused(tmp_path: Path) -> None:
    for number, side in enumerate((2, 3)):
        values = np.ones((1, 4, side, side))
        write_shard(tmp_path / f"latents-{number:05d}.arrow", np.array([number]), values, values, ["a"])
    with pytest.raises(DataError, match="have shapes"):
        open_latents(tmp_path)


def test_pixel_values_run_from_minus_one_to_one_on_three_equal_channels() -> None:
    pixel_values = to_pixel_values(np.array([[[0, 255]]], np.uint8))
    assert pixel_values.shape == (1, 3, 1, 2)
    assert pixel_values.dtype == np.float32
    np.testing.assert_array_equal(pixel_values, np.broadcast_to(np.array([-1.0, 1.0]), (1, 3, 1, 2)))


@pytest.mark.usefixtures("store_environment")
def test_the_train_split_is_encoded_into_the_vaes_moments(store: Store, inputs: Inputs) -> None:
    manifest = encode_dataset(store, inputs.images, inputs.model, EncodeSettings(batch_size=3))
    assert manifest.uri == f"{inputs.images.uri}/latents/{manifest.digest}"
    images = open_dataset(store, inputs.images)
    rows = images.indices("train")
    dataset = open_latents(store.fetch_cached(manifest))
    batch = dataset.batch(np.arange(len(rows)))
    assert batch.sample_ids.tolist() == rows.tolist()
    assert batch.prompts == [images[int(row)].prompt for row in rows]
    vae = load_models(store.fetch_cached(inputs.model), ("vae",)).vae
    mean, std = encode_images(vae, np.stack([images[int(row)].image for row in rows]), "fp32")
    np.testing.assert_allclose(batch.mean, mean, atol=2e-3)
    np.testing.assert_allclose(batch.std, std, atol=2e-3)


@pytest.mark.usefixtures("store_environment")
def test_encoding_again_does_nothing_and_an_interrupted_encoding_keeps_its_shards(
    store: Store, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents_module, "IMAGES_PER_SHARD", 3)
    encoding = EncodeSettings(precision="bf16")
    uri = f"{inputs.images.uri}/latents/{latents_digest(inputs.images, inputs.model, encoding)}"

    class StoppingStore(Store):
        """Fails on the second shard, as a store that is stopped midway does."""

        def put_file(self, target: str, path: Path) -> object:
            if target.endswith("latents-00001.arrow"):
                raise StorageError("stopped midway")
            return super().put_file(target, path)

    with pytest.raises(StorageError, match="stopped midway"):
        encode_dataset(StoppingStore(store.settings), inputs.images, inputs.model, encoding)
    assert store.find(uri) is None
    store.put_bytes(f"{uri}/latents-00000.arrow", kept := b"kept, though not what would be encoded")
    manifest = encode_dataset(store, inputs.images, inputs.model, encoding)
    assert len(manifest.objects) == 3
    assert store.get_bytes(f"{uri}/latents-00000.arrow") == kept
    assert encode_dataset(store, inputs.images, inputs.model, encoding) == manifest


def test_the_address_depends_on_images_vae_and_precision_alone(inputs: Inputs) -> None:
    def digest(model: Manifest = inputs.model, **encoding: object) -> str:
        return latents_digest(inputs.images, model, EncodeSettings(**encoding))

    def with_other(part: str) -> Manifest:
        changed = [
            stored.model_copy(update={"sha256": "0" * 64}) if stored.name.startswith(part) else stored
            for stored in inputs.model.objects
        ]
        return inputs.model.model_copy(update={"objects": tuple(changed)})

    assert digest() == digest(batch_size=1) == digest(with_other("unet/"))
    assert len({digest(), digest(precision="bf16"), digest(with_other("vae/"))}) == 3
