"""Arrow shards of image-prompt pairs: one streaming writer, one memory-mapped reader that is addressed by index."""

import bisect
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from radiffuse.errors import DataError
from radiffuse.manifest import Manifest

if TYPE_CHECKING:
    from radiffuse.storage import Store

# Part of every dataset's address: raise it when a shard's meaning changes.
SHARD_FORMAT = 1
# A record batch is what a reader maps and the writer holds in memory; 64 rows of 512 px PNG are about 10 MB.
ROWS_PER_BATCH = 64
SPLITS = ("train", "validation", "test")

SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("is_few_shot", pa.bool_(), nullable=False),
        pa.field("view_position", pa.string(), nullable=False),
        pa.field("subject", pa.int32(), nullable=False),
        pa.field("pathologies", pa.list_(pa.string()), nullable=False),
        pa.field("no_finding", pa.bool_(), nullable=False),
    ],
    metadata={"rows_per_batch": str(ROWS_PER_BATCH), "format": str(SHARD_FORMAT)},
)


@dataclass(frozen=True)
class Example:
    """One image and all that is known of it.

    Attributes:
        sample_id: Running number over the dataset's shards, from 0.
        image: (H, W) uint8, grey, H = W.
        prompt: What the image is trained to answer to.
        split: train, validation or test; a subject is in one of them only.
        is_few_shot: One of the few images that the few-shot methods train on.
        view_position: AP or PA.
        subject: Running number made at ingest, not the source's identifier.
        pathologies: CheXpert names of the positive labels.
        no_finding: Read as normal, and no label, support devices included, is positive or uncertain.
    """

    sample_id: int
    image: npt.NDArray[np.uint8]
    prompt: str
    split: str
    is_few_shot: bool
    view_position: str
    subject: int
    pathologies: tuple[str, ...]
    no_finding: bool


class ShardWriter:
    """Streams rows into `shard-00000.arrow`, `shard-00001.arrow`, ... and numbers them; holds one record batch."""

    def __init__(self, directory: Path, images_per_shard: int) -> None:
        self.paths: list[Path] = []
        self.rows_written = 0
        self._directory = directory
        self._images_per_shard = images_per_shard
        self._pending: list[dict[str, Any]] = []
        self._file: Any = None

    def write(self, row: dict[str, Any]) -> int:
        """Append a row of SCHEMA without its sample_id; returns the sample_id it got."""
        sample_id = self.rows_written
        self._pending.append({"sample_id": sample_id, **row})
        self.rows_written += 1
        is_shard_full = self.rows_written % self._images_per_shard == 0
        if is_shard_full or len(self._pending) == ROWS_PER_BATCH:
            self._flush()
        if is_shard_full:
            self._close_shard()
        return sample_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
        self._close_shard()

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._file is None:
            path = self._directory / f"shard-{len(self.paths):05d}.arrow"
            self._file = pa.ipc.new_file(str(path), SCHEMA)
            self.paths.append(path)
        self._file.write_batch(pa.RecordBatch.from_pylist(self._pending, schema=SCHEMA))
        self._pending = []

    def _close_shard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class ImageDataset:
    """Rows of several shards, addressed by index. Opening reads footers only; an image is decoded when it is asked for.

    Picklable: a loader process maps the files again, so no image travels between processes.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._readers = [_open_shard(path) for path in self._paths]
        self._ends: list[int] = []
        for reader in self._readers:
            self._ends.append((self._ends[-1] if self._ends else 0) + _num_rows(reader))
        self._splits: npt.NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Example:
        """The example at that index; negative indices count from the end, as in a list."""
        row = self._row(index)
        row["image"] = _decode_png(row["image"])
        row["pathologies"] = tuple(row["pathologies"])
        return Example(**row)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageDataset, (self._paths,)

    def column(self, name: str) -> Any:
        """A whole column but the images: a numpy array of numbers or flags, or a list of strings or lists."""
        if name == "image" or name not in SCHEMA.names:
            allowed = ", ".join(field for field in SCHEMA.names if field != "image")
            raise DataError(f"a dataset has no column {name!r} to read as a whole; choose from {allowed}")
        chunks = [
            reader.get_batch(number).column(name)
            for reader in self._readers
            for number in range(reader.num_record_batches)
        ]
        column = pa.chunked_array(chunks, type=SCHEMA.field(name).type)
        is_number = pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
        return column.to_numpy() if is_number else column.to_pylist()

    def indices(self, split: str | None) -> npt.NDArray[np.int64]:
        """Ascending indices of one split's rows; of all rows when `split` is None. Raises DataError on another name."""
        if split is None:
            return np.arange(len(self), dtype=np.int64)
        if split not in SPLITS:
            raise DataError(f"no split {split!r}; choose from {', '.join(SPLITS)}")
        if self._splits is None:
            self._splits = np.array(self.column("split"), dtype=np.str_)
        return np.flatnonzero(self._splits == split).astype(np.int64)

    def _row(self, index: int) -> dict[str, Any]:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} of a dataset of {len(self)} images")
        shard = bisect.bisect_right(self._ends, position)
        offset = position - (self._ends[shard - 1] if shard else 0)
        batch = self._readers[shard].get_batch(offset // ROWS_PER_BATCH).slice(offset % ROWS_PER_BATCH, 1)
        row: dict[str, Any] = batch.to_pylist()[0]
        return row


def open_dataset(store: "Store", manifest: Manifest) -> ImageDataset:
    """Fetch a dataset's shards, or find them in the local cache, and open them."""
    directory = store.fetch_cached(manifest)
    return ImageDataset([directory / stored.name for stored in manifest.objects if stored.name.endswith(".arrow")])


def _open_shard(path: Path) -> Any:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except FileNotFoundError as error:
        raise DataError(f"no shard at {path}; fetch the dataset again") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a complete Arrow file; delete it and fetch the dataset again") from error
    if not reader.schema.equals(SCHEMA, check_metadata=True):
        raise DataError(
            f"{path} is not an image shard of format {SHARD_FORMAT} (columns {', '.join(reader.schema.names)}); "
            "ingest the dataset again with this version"
        )
    return reader


def _num_rows(reader: Any) -> int:
    if reader.num_record_batches == 0:
        return 0
    last: int = reader.num_record_batches - 1
    rows_in_last: int = reader.get_batch(last).num_rows
    return last * ROWS_PER_BATCH + rows_in_last


def _decode_png(data: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image, dtype=np.uint8)
