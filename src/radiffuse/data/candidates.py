"""What both published layouts become: one typed table of images, each with its labels and, if left out, the reason."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from radiffuse.data.labels import LABELS

FRONTAL_VIEWS = ("AP", "PA")

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string()),  # POSIX, relative to Candidates.root
        pa.field("subject", pa.string()),  # the source's patient: decides the split, and is stored nowhere
        pa.field("study", pa.string()),  # unique over patients
        pa.field("view_position", pa.string()),
        pa.field("report", pa.string()),  # POSIX, relative to the root; null where the layout has none
        pa.field("published_split", pa.string()),  # train, validation or test; null where none is published
        pa.field("excluded", pa.string()),  # null: a candidate
        *(pa.field(label, pa.int8()) for label in LABELS),
    ]
)


@dataclass(frozen=True)
class Candidates:
    """The images that a source lists.

    Attributes:
        layout: chexpert or mimic.
        root: Folder that the paths in the table are relative to.
        tables: The files it was read from.
        table: Rows of SCHEMA, in the order of the published table.
    """

    layout: str
    root: Path
    tables: tuple[Path, ...]
    table: pa.Table

    def eligible(self) -> pa.Table:
        """The rows that nothing excludes."""
        return self.table.filter(pc.is_null(self.table.column("excluded")))

    def exclusions(self) -> dict[str, int]:
        """Reason -> number of rows left out for it, under `excluded_<reason>`, in the order of the alphabet."""
        reasons = pc.value_counts(pc.drop_null(self.table.column("excluded"))).to_pylist()
        counts = {f"excluded_{entry['values']}": int(entry["counts"]) for entry in reasons}
        return dict(sorted(counts.items()))
