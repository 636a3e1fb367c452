"""Which code made an output: the version, and in a checkout its commit. Light: every manifest asks."""

import functools
import subprocess
from pathlib import Path

from radiffuse import __version__

_ROOT = Path(__file__).parents[2]
_GIT_SECONDS = 10


@functools.cache
def code_version() -> str:
    """Such as 0.1.0+g0123456789ab, with .dirty where files differ from that commit; an installed copy has no commit."""
    if not (_ROOT / ".git").exists():
        return __version__
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.dirty"]
    try:
        commit = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git here, or a checkout of another user's
        return __version__
    return f"{__version__}+g{commit}"
