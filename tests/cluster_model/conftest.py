"""What the launcher's tests share: a small API server that knows the store's secret."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from radiffuse.cluster import watch
from tests.cluster_model.launches import ENTRIES, SECRET
from tests.cluster_model.small_api import SmallApi


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallApi]:
    monkeypatch.setattr(watch, "HEARTBEAT_POLL_SECONDS", 0.2)
    with SmallApi(tmp_path) as server:
        server.put("secrets", {"metadata": {"name": SECRET}, "data": dict.fromkeys(ENTRIES, "eA==")})
        yield server
