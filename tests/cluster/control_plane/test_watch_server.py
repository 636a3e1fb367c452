"""The API server goes away, forgets, and comes back; whoever watches notices nothing but a pause."""

import threading
import time

import pytest

from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import PODS, Resource
from radiffuse.cluster.mirror import Mirror
from radiffuse.cluster.state import Phase
from radiffuse.storage import Store
from tests.cluster.fake_nodes import GpuNodes
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until
from tests.cluster_model.launches import document, launched, make_secret

pytestmark = pytest.mark.cluster

CONFIG_MAPS = Resource("", "v1", "configmaps")


def config_map(namespace: str, name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}


def names(mirror: Mirror) -> set[str]:
    return {item["metadata"]["name"] for item in mirror.items()} - {"kube-root-ca.crt"}


def test_a_job_is_watched_across_a_restart_of_the_api_server(
    control_plane: ControlPlane, gpu_nodes: GpuNodes, store: Store, namespace: str
) -> None:
    make_secret(control_plane, namespace)
    with launched(control_plane, store, namespace, document("run")) as launch:
        wait_until(lambda: "starting" in launch.phases(), 60, "containers run")
        control_plane.restart_api_server(down_seconds=2.0)
        gpu_nodes.succeed(namespace)
        state = launch.wait(120)
    assert (state.phase, state.exit_code) == (Phase.succeeded, 0)


def test_a_mirror_shows_what_is_made_changed_and_deleted(control_plane: ControlPlane, namespace: str) -> None:
    changed = threading.Event()
    with (
        ClusterClient(control_plane.kubeconfig) as client,
        Mirror(client, CONFIG_MAPS, namespace, changed.set) as mirror,
    ):
        wait_until(lambda: mirror.is_synced, 60, "a list has arrived")
        control_plane.apply(config_map(namespace, "a"))
        wait_until(lambda: names(mirror) == {"a"}, 60, "it was made")
        changed.clear()
        control_plane.apply({**config_map(namespace, "a"), "data": {"x": "1"}})
        wait_until(lambda: [item for item in mirror.items() if item.get("data") == {"x": "1"}], 60, "it was changed")
        assert changed.is_set()
        control_plane.kubectl("delete", "configmap", "a", "--namespace", namespace)
        wait_until(lambda: names(mirror) == set(), 60, "it was deleted")
        assert mirror.lists == 1


def test_a_watch_that_has_expired_begins_anew_with_a_list(control_plane: ControlPlane, namespace: str) -> None:
    with ClusterClient(control_plane.kubeconfig) as client:
        mirror = Mirror(client, CONFIG_MAPS, namespace, lambda: None)
        mirror._version = "1"  # as if this were what an old list said
        control_plane.apply(config_map(namespace, "a"))
        with mirror:
            wait_until(lambda: names(mirror) == {"a"}, 60, "the list shows what the watch could not")
            assert mirror.lists == 1 and mirror.error is None


def test_a_restarted_server_forgets_and_the_mirror_misses_nothing(control_plane: ControlPlane, namespace: str) -> None:
    with (
        ClusterClient(control_plane.kubeconfig) as client,
        Mirror(client, CONFIG_MAPS, namespace, lambda: None) as mirror,
    ):
        wait_until(lambda: mirror.is_synced, 60, "a list has arrived")
        control_plane.restart_api_server(down_seconds=1.0)
        control_plane.apply(config_map(namespace, "a"))
        wait_until(lambda: names(mirror) == {"a"}, 60, "the mirror is current again")
        assert mirror.error is None and mirror.silent_since is None


def test_ending_a_watch_takes_no_time(control_plane: ControlPlane, namespace: str) -> None:
    with ClusterClient(control_plane.kubeconfig) as client:
        with Mirror(client, PODS, namespace, lambda: None) as mirror:
            wait_until(lambda: mirror.is_synced, 60, "a list has arrived")
            start = time.monotonic()
        assert time.monotonic() - start < 0.5
        assert not mirror._thread.is_alive()
