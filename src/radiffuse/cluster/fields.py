"""Reading objects whose fields may be absent or of another type: whatever a server sends, nothing here raises."""

from datetime import datetime
from typing import Any

from radiffuse.cluster.kinds import Object


def field(document: Any, *path: str) -> Any:
    """The value at a path of keys, or None."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def mapping(document: Any, *path: str) -> Object:
    """The object at a path, or an empty one."""
    value = field(document, *path)
    return value if isinstance(value, dict) else {}


def objects(document: Any, *path: str) -> list[Object]:
    """The objects of the list at a path; empty when there is no list."""
    value = field(document, *path)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(document: Any, *path: str) -> str:
    """The text at a path, in one line; empty when there is none."""
    value = field(document, *path)
    return " ".join(value.split()) if isinstance(value, str) else ""


def number(document: Any, *path: str) -> int | None:
    """The integer at a path, or None."""
    value = field(document, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def unix_seconds(document: Any, *path: str) -> float | None:
    """The time at a path, written as RFC 3339, in seconds since 1970; None when there is none."""
    try:
        return datetime.fromisoformat(text(document, *path)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def true_conditions(document: Any) -> dict[str, Object]:
    """By type those conditions that hold. Their order says nothing: controllers append, and leave old ones behind."""
    listed = objects(document, "status", "conditions")
    return {text(item, "type"): item for item in listed if field(item, "status") == "True"}
