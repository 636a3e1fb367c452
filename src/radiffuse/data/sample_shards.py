"""Arrow shards of generated images: each row says what was asked for, and which noise seed drew it."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from radiffuse.errors import DataError

SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("image", pa.binary()),  # PNG, RGB, 8 bits
        ("prompt", pa.string()),
        ("pathologies", pa.list_(pa.string())),
        ("prompt_index", pa.int32()),
        ("image_seed", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Sample:
    """One generated image; `image` is (H, W, 3) uint8."""

    sample_id: int
    image: np.ndarray
    prompt: str
    pathologies: tuple[str, ...]
    prompt_index: int
    image_seed: int


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write one shard, an Arrow IPC file, with the images as PNG."""
    columns = [
        [sample.sample_id for sample in samples],
        [_encode_png(sample.image) for sample in samples],
        [sample.prompt for sample in samples],
        [list(sample.pathologies) for sample in samples],
        [sample.prompt_index for sample in samples],
        [sample.image_seed for sample in samples],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))


def read_samples(paths: Sequence[Path]) -> Iterator[Sample]:
    """Samples of some shards, in the shards' order, one image decoded at a time.

    Raises DataError when a file is not a shard of samples.
    """
    for path in paths:
        with pa.memory_map(str(path)) as source:
            try:
                table = pa.ipc.open_file(source).read_all()
            except pa.ArrowInvalid as error:
                raise DataError(f"{path} is not an Arrow file of samples: {error}") from error
            if not table.schema.equals(SCHEMA):
                raise DataError(f"{path} has columns {table.schema.names}; a shard of samples has {SCHEMA.names}")
            for batch in table.to_batches(max_chunksize=1):
                yield _decode(batch.to_pylist()[0])


def _decode(row: dict[str, object]) -> Sample:
    image = np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))  # type: ignore[arg-type]
    return Sample(**{**row, "image": image, "pathologies": tuple(row["pathologies"])})  # type: ignore[arg-type]


def _encode_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
