"""Which kubeconfigs there are, and what a message may show of what is in them."""

import os
import re
from pathlib import Path

from radiffuse.errors import ClusterError


def kubeconfig_files(kubeconfig: Path | None) -> list[Path]:
    """Those that exist of the ones asked for; raises ClusterError when there are none."""
    named = str(kubeconfig) if kubeconfig is not None else os.environ.get("KUBECONFIG", "")
    try:
        candidates = [Path(part).expanduser() for part in (named or "~/.kube/config").split(os.pathsep) if part]
        files = [path for path in candidates if path.is_file()]
    except (OSError, RuntimeError) as error:  # a folder that this user may not enter, or a home that nobody has
        raise ClusterError(
            f"cannot look for a kubeconfig at {named or '~/.kube/config'} ({error}); name one that this user may read "
            "with --kubeconfig or KUBECONFIG"
        ) from error
    if not files:
        looked = ", ".join(map(str, candidates)) or repr(named)
        raise ClusterError(
            f"no kubeconfig at {looked}, and this is not a pod with an account of its own; name one with --kubeconfig "
            "or KUBECONFIG"
        )
    return files


def without_entries(words: str) -> str:
    """The library shows a whole entry where it lacks a key in it, a token at the wrong place included."""
    return re.sub(r"\{.*\}", "{...}", words)
