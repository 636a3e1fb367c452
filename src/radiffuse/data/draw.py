"""Random draws and patient-wise splits as pure functions of (seed, key): they do not depend on the order of a table."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from radiffuse.config import SplitFractions
from radiffuse.data.shards import SPLITS
from radiffuse.errors import DataError


def hash_keys(seed: int, purpose: str, keys: Iterable[str]) -> npt.NDArray[np.uint64]:
    """(n,) one number per key, uniform over uint64 and independent between seeds and purposes."""
    base = hashlib.blake2b(f"{seed}/{purpose}/".encode(), digest_size=8)

    def digest(key: str) -> bytes:
        state = base.copy()
        state.update(key.encode())
        return state.digest()

    return np.frombuffer(b"".join(map(digest, keys)), dtype=">u8").astype(np.uint64)


def draw_order(seed: int, paths: list[str]) -> npt.NDArray[np.int64]:
    """(n,) a random order of the rows: the first N of it are N images drawn without replacement.

    Each image's place depends on (seed, path) and on the other images alone, not on where the table lists it.
    """
    return np.lexsort((np.array(paths), hash_keys(seed, "draw", paths))).astype(np.int64)


@dataclass(frozen=True)
class PatientSplits:
    """Cuts the patients, ordered by the hash of (seed, subject), into train, validation and test.

    A patient outside the list that placed the cuts gets a split too, and it never depends on what else was drawn.

    Attributes:
        seed: Orders the patients.
        validation_from: Hash of the first patient after train.
        test_from: Hash of the first patient after validation.
    """

    seed: int
    validation_from: int
    test_from: int

    @classmethod
    def cut(cls, seed: int, subjects: Iterable[str], fractions: SplitFractions) -> Self:
        """Place the cuts so that these patients are shared out as exactly as whole patients can be.

        Raises DataError when there are fewer patients than splits that want some.
        """
        hashes = np.sort(hash_keys(seed, "split", sorted(set(subjects))))
        train, validation, _ = apportion(len(hashes), (fractions.train, fractions.validation, fractions.test))
        beyond = [*hashes.tolist(), 2**64]
        return cls(seed, beyond[train], beyond[train + validation])

    def split(self, subject: str) -> str:
        """The split of a patient, whatever the source calls them."""
        value = int(hash_keys(self.seed, "split", (subject,))[0])
        return SPLITS[(value >= self.validation_from) + (value >= self.test_from)]


def apportion(total: int, fractions: tuple[float, ...]) -> tuple[int, ...]:
    """Share out `total` whole things by largest remainder; a fraction above 0 gets at least one of them.

    Raises DataError when there are fewer things than fractions above 0.
    """
    wanted = sum(fraction > 0 for fraction in fractions)
    if total < wanted:
        raise DataError(
            f"{total} patients cannot be shared out over {wanted} splits; "
            "take more images (ingest.max_images) or set a fraction of ingest.splits to 0"
        )
    quotas = [total * fraction for fraction in fractions]
    # 1e-9: 0.1 * 30 is a hair above or below 3, and must count as 3.
    shares = [int(quota + 1e-9) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda place: shares[place] - quotas[place])
    for place in by_remainder[: total - sum(shares)]:
        shares[place] += 1
    for place, fraction in enumerate(fractions):
        if fraction > 0 and shares[place] == 0:
            shares[shares.index(max(shares))] -= 1
            shares[place] = 1
    return tuple(shares)
