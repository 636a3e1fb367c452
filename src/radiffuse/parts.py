"""Work that several processes share without speaking to each other: each takes a part, named K/N."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from radiffuse.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """Part `number` of `of`, from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read K/N; raises ConfigError unless 1 <= K <= N."""
        match = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", text)
        if match is None or int(match[1]) > int(match[2]):
            raise ConfigError(f"a part must be K/N with 1 <= K <= N, such as 1/4, not {text!r}")
        return cls(int(match[1]), int(match[2]))

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This part's items: every N-th, so that parts are alike in size and together have each item once."""
        return list(items[self.number - 1 :: self.of])

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Part(1, 1)
