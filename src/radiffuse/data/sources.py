"""The published layouts by name."""

from collections.abc import Callable
from pathlib import Path

from radiffuse.data.candidates import Candidates
from radiffuse.data.chexpert import read_chexpert
from radiffuse.data.mimic import read_mimic
from radiffuse.errors import ConfigError, DataError

_READERS: dict[str, Callable[[Path], Candidates]] = {"chexpert": read_chexpert, "mimic": read_mimic}


def read_candidates(layout: str, source: Path) -> Candidates:
    """Read a source in that layout. Raises ConfigError on another layout, DataError on a source that is not in it."""
    if layout not in _READERS:
        raise ConfigError(f"no layout {layout!r}; choose from {', '.join(_READERS)}")
    try:
        return _READERS[layout](source)
    except OSError as error:  # of this path or of what lies in it, such as a folder that this user may not enter
        raise DataError(f"cannot read {source}: {error.strerror}; see that this user may open it") from error
