"""What only the tests of the control plane share."""

import pytest

from tests.conftest import StoreServer


@pytest.fixture
def store_access(store_server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's settings in the environment, and nothing else: below the cache are the cluster's executables."""
    for name, value in store_server.environment.items():
        monkeypatch.setenv(name, value)
