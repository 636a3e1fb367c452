"""In which order samples are met: an endless stream of epochs, each a permutation, any part of it without the rest."""

import numpy as np

ROUNDS = 12  # 4 are a pseudo-random permutation (Luby and Rackoff 1988), but of 5 elements only 12 look uniform


def sample_indices(seed: int, start: int, stop: int, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices in [0, num_samples) and epochs at positions [start, stop) of the stream, both (stop - start,) int64.

    Nothing is stored and nothing before `start` is computed: each epoch is a Feistel network over a x b >= num_samples
    cells, keyed by (seed, epoch), and values outside the range walk on until they fall inside (Black and Rogaway 2002).
    """
    epochs, values = np.divmod(np.arange(start, stop, dtype=np.int64), num_samples)
    rows = int(np.ceil(np.sqrt(num_samples)))
    columns = -(-num_samples // rows)
    values = _encipher(values, epochs, seed, rows, columns)
    outside = np.flatnonzero(values >= num_samples)
    while len(outside):
        values[outside] = _encipher(values[outside], epochs[outside], seed, rows, columns)
        outside = outside[values[outside] >= num_samples]
    return values, epochs


def _encipher(values: np.ndarray, epochs: np.ndarray, seed: int, rows: int, columns: int) -> np.ndarray:
    """A bijection of [0, rows * columns) for each (seed, epoch)."""
    left, right = np.divmod(values, columns)
    keys = _mix(epochs.astype(np.uint64) ^ _mix(np.array([seed], np.uint64)))
    for number in range(ROUNDS):
        with np.errstate(over="ignore"):
            hashed = _mix(keys + right.astype(np.uint64) * np.uint64(ROUNDS) + np.uint64(number))
        size = rows if number % 2 == 0 else columns
        left, right = right, (left + (hashed % np.uint64(size)).astype(np.int64)) % size
    return np.asarray(left * columns + right)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit of the input touches every bit of the output."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
