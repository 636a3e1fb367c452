"""Put and get of one large object: radiffuse's Store against the bare minio client, in turns, on one embedded server.

    python benchmarks/storage.py --size-mb 128 --rounds 5

Ours also hashes the file before it goes, and checks its digest when it arrives; the bare client does neither.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from minio import Minio

from radiffuse.embedded_store import EmbeddedStore
from radiffuse.storage import Store


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(folder: Path, size_mb: int, rounds: int) -> dict[str, list[float]]:
    """MB/s of each round: bare and ours, put and get. The two take turns, so that what else runs disturbs both."""
    source, copy = folder / "source", folder / "copy"
    source.write_bytes(os.urandom(size_mb * 1_000_000))
    with EmbeddedStore(folder / "store") as server:
        settings = server.settings
        store = Store(settings)
        bare = Minio(
            settings.endpoint, access_key=settings.access_key, secret_key=settings.secret_key, secure=settings.secure
        )
        sha256 = store.put_file("s3://models/benchmark/ours", source).sha256
        actions: dict[str, Callable[[], object]] = {
            "put_bare": lambda: bare.fput_object("models", "benchmark/bare", str(source)),
            "put_ours": lambda: store.put_file("s3://models/benchmark/ours", source),
            "get_bare": lambda: bare.fget_object("models", "benchmark/bare", str(copy)),
            "get_ours": lambda: store.get_file("s3://models/benchmark/ours", copy, sha256=sha256),
        }
        rates: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(rounds):
            for name, action in actions.items():
                rates[name].append(size_mb / _seconds(action))
    return rates


def main() -> None:
    """Print the median rates and the median, over rounds, of ours divided by bare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), arguments.size_mb, arguments.rounds)
    for direction in ("put", "get"):
        bare, ours = rates[f"{direction}_bare"], rates[f"{direction}_ours"]
        ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
        print(
            f"{direction} ours_mb_per_second={statistics.median(ours):.0f}"
            f" bare_mb_per_second={statistics.median(bare):.0f} ratio={ratio:.2f}"
        )


if __name__ == "__main__":
    main()
