"""Asks a server whether it is there."""

import urllib.error
import urllib.request


def answers(url: str) -> bool:
    """Whether a GET succeeds; a server that is starting refuses or resets the connection."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
