"""Which code made an output: the version, and its commit where that is known. Light: every manifest asks."""

import functools
import os
import re
import subprocess
from pathlib import Path

from radiffuse import __version__

REVISION_VARIABLE = "RADIFFUSE_REVISION"
"""Set in our images, which hold no checkout: the commit that they were built of, `-dirty` where files differed."""

_ROOT = Path(__file__).parents[2]
_GIT_SECONDS = 10


@functools.cache
def code_version() -> str:
    """Such as 0.1.0+g0123456789ab, with .dirty where files differ from that commit; elsewhere the version alone."""
    revision = _describe_checkout() if (_ROOT / ".git").exists() else os.environ.get(REVISION_VARIABLE, "")
    if (found := re.fullmatch(r"([0-9a-f]{7,12})[0-9a-f]*(-dirty)?", revision)) is None:
        return __version__
    return f"{__version__}+g{found[1]}{'.dirty' if found[2] else ''}"


def _describe_checkout() -> str:
    """Empty where git is not installed or refuses, as it does for a checkout of another user's."""
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
