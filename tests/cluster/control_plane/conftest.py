"""What only the tests of the control plane share."""

import pytest

from tests.cluster.plane import ControlPlane
from tests.cluster_model.launches import make_secret
from tests.conftest import StoreServer


@pytest.fixture
def job_namespace(control_plane: ControlPlane, namespace: str) -> str:
    """A namespace with the store's secret, which every job asks for."""
    make_secret(control_plane, namespace)
    return namespace


@pytest.fixture
def store_access(store_server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's settings in the environment, and nothing else: below the cache are the cluster's executables."""
    for name, value in store_server.environment.items():
        monkeypatch.setenv(name, value)
