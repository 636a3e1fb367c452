"""Images that other processes prepared, kept beside a dataset until it is complete.

The draw is cut into chunks of consecutive images. A chunk is one object, so it is there whole or not at all, and it
does not matter who prepared it.
"""

import logging
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pyarrow as pa

from radiffuse.data.quality import PreparedImage
from radiffuse.errors import DataError

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

IMAGES_PER_CHUNK = 256
"""At 512 px about 40 MB, which a process holds in memory."""
SCHEMA = pa.schema([("reason", pa.string()), ("png", pa.binary())])


class PreparedChunks:
    """The chunks of the dataset that will be at `uri`; they are listed once, when this is made."""

    def __init__(self, store: "Store", uri: str) -> None:
        self._store = store
        self._uri = f"{uri}/prepared"
        self._present = {PurePosixPath(found).name for found in store.list(self._uri)}

    def missing(self, starts: Sequence[int]) -> list[int]:
        """Those of the chunks, named by their first image's place in the draw, that are not there."""
        return [start for start in starts if _name(start) not in self._present]

    def put(self, start: int, images: Sequence[PreparedImage | None]) -> None:
        """Store a chunk; None is an image that was not looked at, since it has no prompt."""
        rows = {
            "reason": [None if image is None else image.reason for image in images],
            "png": [None if image is None else image.png for image in images],
        }
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_table(pa.table(rows, schema=SCHEMA))
        self._store.put_bytes(f"{self._uri}/{_name(start)}", sink.getvalue().to_pybytes())
        self._present.add(_name(start))

    def get(self, start: int) -> list[PreparedImage | None] | None:
        """A chunk's images in order, or None when it is not there; raises DataError when it is damaged."""
        if _name(start) not in self._present:
            return None
        uri = f"{self._uri}/{_name(start)}"
        try:
            table = pa.ipc.open_file(pa.py_buffer(self._store.get_bytes(uri))).read_all().cast(SCHEMA)
        except (pa.ArrowInvalid, ValueError) as error:
            raise DataError(
                f'{uri} is not a chunk of prepared images; "radiffuse store delete {self._uri}" and run again'
            ) from error
        return [
            None if row["png"] is None else PreparedImage(reason=row["reason"], png=row["png"])
            for row in table.to_pylist()
        ]

    def delete(self) -> None:
        """Remove all of them: the dataset has what they held."""
        if self._present:
            self._store.delete(f"{self._uri}/{name}" for name in sorted(self._present))
            logger.info("prepared_chunks_deleted=%d uri=%s", len(self._present), self._uri)


def _name(start: int) -> str:
    return f"{start:08d}.arrow"
