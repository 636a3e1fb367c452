"""An answer that arrives line by line and may never end: a watch, or a log that is followed."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from radiffuse.cluster.api_errors import unreachable
from radiffuse.cluster.kinds import Object

Item = TypeVar("Item")


class Change(NamedTuple):
    """What a watch reports; `kind` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    item: Object


class Stream(Generic[Item]):
    """One item per line. Any thread may close it, which ends whoever iterates as if the server had ended it."""

    def __init__(self, response: HTTPResponse, parse: Callable[[str], Item], what: str, server: str) -> None:
        self._response, self._parse, self._what, self._server = response, parse, what, server
        self._is_closed = False

    def __iter__(self) -> Iterator[Item]:
        """Until the server ends the answer, or `close`; raises UnavailableError when the connection breaks."""
        try:
            for line in self._lines():
                yield self._parse(line)
        except (HTTPError, OSError, ValueError) as error:  # ValueError: a line that was cut off is no JSON
            if not self._is_closed:
                raise unreachable(error, self._what, self._server) from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End it, also while another thread waits for the next line."""
        self._is_closed = True
        with contextlib.suppress(OSError, RuntimeError, ValueError, HTTPError):  # it has ended already
            self._response.shutdown()

    def _lines(self) -> Iterator[str]:
        rest = b""
        for chunk in self._response.stream(None, decode_content=True):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines if line)
        if rest and not self._is_closed:
            yield rest.decode(errors="replace")
