"""The shard writer and the reader that is addressed by index."""

import io
import pickle

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from radiffuse.data.shards import ImageDataset, ShardWriter, open_dataset
from radiffuse.errors import DataError
from radiffuse.manifest import Manifest


def png(value, size_px=8):
    buffer = io.BytesIO()
    Image.fromarray(np.full((size_px, size_px), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def row(number):
    return {
        "image": png(number % 256),
        "prompt": f"prompt {number}",
        "split": ("train", "train", "validation", "test")[number % 4],
        "is_few_shot": number == 0,
        "view_position": "PA",
        "subject": number // 2,
        "pathologies": ["Edema"] if number % 2 else [],
        "no_finding": number % 2 == 0,
    }


def write(directory, count, images_per_shard):
    with ShardWriter(directory, images_per_shard) as writer:
        for number in range(count):
            assert writer.write(row(number)) == number
    return ImageDataset(writer.paths)


@pytest.mark.parametrize(
    ("count", "images_per_shard", "shards"), [(1, 5, 1), (5, 5, 1), (300, 100, 3), (131, 130, 2), (0, 5, 0)]
)
def test_every_row_is_found_by_its_index(tmp_path, count, images_per_shard, shards):
    dataset = write(tmp_path, count, images_per_shard)
    assert len(dataset) == count
    assert len(list(tmp_path.iterdir())) == shards
    assert [(one.sample_id, one.prompt, int(one.image[0, 0])) for one in dataset] == [
        (number, f"prompt {number}", number % 256) for number in range(count)
    ]


def test_an_example_carries_every_field(tmp_path):
    example = write(tmp_path, 4, 3)[-1]
    assert example.image.shape == (8, 8)
    assert example.image.dtype == np.uint8
    assert (example.split, example.subject, example.view_position) == ("test", 1, "PA")
    assert (example.pathologies, example.no_finding, example.is_few_shot) == (("Edema",), False, False)


def test_an_index_beyond_the_end_is_refused(tmp_path):
    dataset = write(tmp_path, 4, 3)
    with pytest.raises(IndexError, match="index 4 of a dataset of 4 images"):
        dataset[4]


def test_indices_are_those_of_one_split_or_of_all(tmp_path):
    dataset = write(tmp_path, 9, 4)
    assert dataset.indices("train").tolist() == [0, 1, 4, 5, 8]
    assert dataset.indices("test").tolist() == [3, 7]
    assert dataset.indices(None).tolist() == list(range(9))
    with pytest.raises(DataError, match="no split 'dev'; choose from train, validation, test"):
        dataset.indices("dev")


def test_columns_are_read_as_a_whole(tmp_path):
    dataset = write(tmp_path, 130, 100)
    assert np.array_equal(dataset.column("sample_id"), np.arange(130))
    assert dataset.column("no_finding").dtype == bool
    assert dataset.column("pathologies")[:2] == [[], ["Edema"]]
    with pytest.raises(DataError, match="no column 'image' to read as a whole; choose from sample_id, prompt"):
        dataset.column("image")


def test_a_pickled_dataset_maps_the_same_files(tmp_path):
    dataset = write(tmp_path, 3, 2)
    payload = pickle.dumps(dataset)
    assert len(payload) < 1000
    assert pickle.loads(payload)[2].prompt == "prompt 2"


def test_a_truncated_shard_is_refused(tmp_path):
    write(tmp_path, 3, 3)
    path = tmp_path / "shard-00000.arrow"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"shard-00000.arrow is not a complete Arrow file; delete it and fetch"):
        ImageDataset([path])


def test_a_missing_shard_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no shard at .*; fetch the dataset again"):
        ImageDataset([tmp_path / "shard-00000.arrow"])


def test_a_file_of_other_columns_is_refused(tmp_path):
    path = tmp_path / "other.arrow"
    table = pa.table({"a": [1]})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"is not an image shard of format 1 \(columns a\); ingest the dataset again"):
        ImageDataset([path])


def test_a_writer_that_failed_leaves_no_complete_rows_behind(tmp_path):
    def fail_midway():
        with writer:
            writer.write(row(0))
            raise KeyError("the second image")

    writer = ShardWriter(tmp_path, 10)
    with pytest.raises(KeyError):
        fail_midway()
    assert writer.paths == []


def test_a_published_dataset_opens_from_its_manifest(store, tmp_path, monkeypatch):
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "shards").mkdir()
    write(tmp_path / "shards", 5, 3)
    manifest = Manifest(kind="dataset", name="shards-test", uri="s3://datasets/shards-test/1", digest="1")
    manifest = store.publish(manifest, tmp_path / "shards")
    assert [one.sample_id for one in open_dataset(store, manifest)] == [0, 1, 2, 3, 4]
