"""Looks for credentials in every layer of an image, also in files that a later layer removes, and in its settings.

Read are the files that no package of an index or of Debian answers for: what a build has brought in or left behind.
"""

import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector

from images.contents import Contents
from images.layout import Layout

BY_GUESS = {"KeywordDetector", "IPPublicDetector"}
"""They find any variable named `password`, and any address: of code, and not of credentials."""
CREDENTIAL_FILES = re.compile(
    r"\.netrc|\.pypirc|\.npmrc|pip\.conf|uv\.toml|\.git-credentials|\.env|kubeconfig|id_(rsa|dsa|ecdsa|ed25519)"
    r"|credentials(\.json|\.env)?|.*\.(p12|pfx|jks)"
)
LARGEST_BYTES = 4 << 20
"""Of a file that is read: nobody keeps a credential in more."""
CODE = "__pycache__"


def find_secrets(layout: Layout, contents: Contents) -> list[str]:
    """What looks like a credential, and where; the credential itself is not repeated. Raises ImageError."""
    answered = contents.answered_for()
    found = [f"settings: {kind}" for kind in _kinds(json.dumps(layout.config))]
    for number, entry, file in layout.entries():
        name = entry.name.removeprefix("./")
        if file is None or name in answered or _is_compiled(name, answered):
            continue
        place = f"layer {number}, /{name}"
        if CREDENTIAL_FILES.fullmatch(PurePosixPath(name).name) is not None and entry.size > 0:
            found.append(f"{place}: the name of a file with credentials")
        if entry.size <= LARGEST_BYTES:
            found += [f"{place}: {kind}" for kind in _kinds(file.read().decode(errors="replace"))]
    return found


def _is_compiled(name: str, answered: set[str]) -> bool:
    """Whether it is byte code of a file that a package answers for."""
    path = PurePosixPath(name)
    return path.parent.name == CODE and str(path.parent.parent / f"{path.name.partition('.')[0]}.py") in answered


def _kinds(text: str) -> Iterator[str]:
    for detector in _detectors():
        if any(detector.analyze_string(text)):
            yield str(detector.secret_type)


@functools.cache
def _detectors() -> tuple[RegexBasedDetector, ...]:
    known: Iterable[type[Any]] = get_mapping_from_secret_type_to_class().values()
    return tuple(each() for each in known if issubclass(each, RegexBasedDetector) and each.__name__ not in BY_GUESS)
