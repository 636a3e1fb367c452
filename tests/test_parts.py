"""Work in parts: whoever does which part, how often and in which order, the result is the same to the byte."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.config import EncodeSettings, IngestSettings, SplitFractions
from radiffuse.data import ingest as ingest_module
from radiffuse.data import latents as latents_module
from radiffuse.data.ingest import ingest_dataset, ingest_part
from radiffuse.data.latents import encode_dataset, encode_part
from radiffuse.data.prepared import PreparedChunks
from radiffuse.data.quality import PreparedImage
from radiffuse.errors import ConfigError, DataError, StorageError
from radiffuse.launch_part import launch_sample_part
from radiffuse.manifest import Manifest
from radiffuse.parts import Part
from radiffuse.sample import run_plan
from radiffuse.sample_plan import plan_samples
from radiffuse.storage import Store
from tests.data.layouts import cohort, write_chexpert
from tests.test_sample import settings as sample_settings
from tests.tiny import tiny_model
from tests.training import Inputs, inputs

__all__ = ["inputs"]

pytestmark = pytest.mark.usefixtures("store_environment")
INGEST = IngestSettings(
    image_size_px=32, splits=SplitFractions(train=0.6, validation=0.2, test=0.2), images_per_shard=8
)


class StoppingStore(Store):
    """Fails after so many objects, as a process that is killed between two of them stops."""

    def __init__(self, store: Store, objects: int) -> None:
        super().__init__(store.settings)
        self._left = objects

    def put_bytes(self, uri: str, data: bytes) -> Any:
        self._left -= 1
        if self._left < 0:
            raise StorageError("killed")
        return super().put_bytes(uri, data)


def remove(store: Store, manifest: Manifest) -> None:
    """Forget an output as if it had never been."""
    store.delete(list(store.list(manifest.uri)))


@given(st.integers(0, 50), st.integers(1, 9))
def test_parts_together_have_each_item_once(count: int, of: int) -> None:
    shares = [Part(number, of).share(range(count)) for number in range(1, of + 1)]
    assert sorted(itertools.chain.from_iterable(shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1 / 2"])
def test_a_part_that_is_not_k_of_n_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"a part must be K/N with 1 <= K <= N, such as 1/4"):
        Part.parse(text)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "IMAGES_PER_CHUNK", 4)


@pytest.mark.usefixtures("small_chunks")
def test_ingest_in_parts_is_ingest(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_chexpert(tmp_path, cohort(14, 14, 2))
    given: tuple[Any, ...] = ("chexpert", source, INGEST, "parts-ingest")
    expected = ingest_dataset(store, *given, processes=1)
    remove(store, expected)
    with pytest.raises(StorageError, match="killed"):
        ingest_part(StoppingStore(store, 1), *given, Part(2, 3), processes=1)
    assert [ingest_part(store, *given, Part(number, 3), processes=1) for number in (3, 1, 2, 1)] == [8, 12, 6, 0]
    assert store.find(expected.uri) is None

    def nothing_left(items: Iterator[Any], *_: Any) -> Iterator[Any]:
        for item, path in items:
            assert path is None, "an image is prepared again"
            yield item, None

    monkeypatch.setattr(ingest_module, "prepare_images", lambda *given: (pair for pair in nothing_left(*given)))
    assert ingest_dataset(store, *given, processes=1) == expected
    assert not list(store.list(f"{expected.uri}/prepared"))
    assert ingest_part(store, *given, Part(1, 3)) == 0, "nothing is prepared for what is complete"


@pytest.mark.usefixtures("small_chunks")
def test_ingest_prepares_the_parts_that_nobody_did(store: Store, tmp_path: Path) -> None:
    given: tuple[Any, ...] = ("chexpert", write_chexpert(tmp_path, cohort(14, 14, 2)), INGEST, "parts-missing")
    expected = ingest_dataset(store, *given, processes=1)
    remove(store, expected)
    ingest_part(store, *given, Part(1, 2), processes=1)
    assert ingest_dataset(store, *given, processes=1) == expected


def test_prepared_images_come_back_as_they_were(store: Store) -> None:
    chunks = PreparedChunks(store, "s3://datasets/parts-chunks/0")
    images = [PreparedImage(None, b"png"), None, PreparedImage("cropped")]
    chunks.put(256, images)
    again = PreparedChunks(store, "s3://datasets/parts-chunks/0")
    assert again.get(256) == images
    assert again.get(0) is None
    assert again.missing([0, 256]) == [0]
    store.put_bytes("s3://datasets/parts-chunks/0/prepared/00000256.arrow", b"broken")
    with pytest.raises(DataError, match=r"is not a chunk of prepared images; .radiffuse store delete s3.* and run"):
        again.get(256)


def test_encode_in_parts_is_encode(store: Store, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents_module, "IMAGES_PER_SHARD", 2)
    given = (inputs.images, inputs.model, EncodeSettings())
    remove(store, encode_dataset(store, *given))  # another test's, in one shard
    expected = encode_dataset(store, *given)
    assert len(expected.objects) > 2
    remove(store, expected)
    with pytest.raises(StorageError, match="killed"):
        encode_part(StoppingStore(store, 0), *given, Part(1, 2))
    vae = latents_module._load_vae(store, inputs.model)
    monkeypatch.setattr(latents_module, "_load_vae", lambda *_: vae)  # transformers cannot load in two threads at once
    parts = [Part(1, 2), Part(2, 2), Part(1, 2)]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda part: encode_part(store, *given, part), parts))
    assert done[0] + done[1] == len(expected.objects)
    assert store.find(expected.uri) is None
    monkeypatch.setattr(latents_module, "_load_vae", None)  # nothing is left to encode
    assert encode_dataset(store, *given) == expected
    assert encode_part(store, *given, Part(1, 2)) == 0
    remove(store, expected)


def test_samples_in_parts_are_samples(store: Store, tmp_path: Path) -> None:
    model = tiny_model(store, tmp_path / "model", name="tiny-parts")
    settings = sample_settings(batch_size=2)
    plan = plan_samples("parts", model, settings, baseline=False)
    assert len(plan.chunks()) == 4
    run_plan(store, plan, rank=0, world_size=1)
    expected = store.find(plan.uri)
    assert expected is not None
    remove(store, expected)
    for part in ("2/3", "2/3", "1/3"):
        run_plan(store, plan.model_copy(update={"part": part}), rank=0, world_size=1)
        assert store.find(plan.uri) is None
    assert launch_sample_part(store, "parts", model, settings, False, Part(3, 3)) == 1
    assert store.find(plan.uri) == expected, "whoever draws the last chunk completes the set"
    assert launch_sample_part(store, "parts", model, settings, False, Part(3, 3)) == 1
