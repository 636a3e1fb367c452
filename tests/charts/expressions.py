"""Reads the names of series out of PromQL."""

import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w|\s*\()")
NO_NAMES = (
    r'"(?:[^"\\]|\\.)*"',  # texts
    r"\{[^}]*\}",  # labels
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)",
    r"\[[^\]]*\]",  # windows
    r"\boffset\s+\w+",
)
WORDS = {"and", "or", "unless", "bool"}


def series_in(expression: str) -> set[str]:
    """Every series that an expression reads."""
    for pattern in NO_NAMES:
        expression = re.sub(pattern, " ", expression)
    expression = re.sub(r"\b\d[\w.]*", " ", expression)
    return set(NAME.findall(expression)) - WORDS
