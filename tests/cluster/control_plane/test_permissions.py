"""The rights that the documentation lists are what a launcher needs, and all that it has."""

import pytest

from radiffuse.cluster.api_errors import ForbiddenError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import EVENTS, PODS, PYTORCHJOB, SECRETS, Resource
from radiffuse.cluster.permissions import Right, rights
from radiffuse.cluster.state import Phase
from radiffuse.storage import Store
from tests.cluster.accounts import account
from tests.cluster.plane import ControlPlane
from tests.cluster_model.launches import SECRET, document, launched, make_secret

pytestmark = pytest.mark.cluster

NEVER = (
    (SECRETS, "list", ""),
    (SECRETS, "create", ""),
    (PODS, "create", ""),
    (PODS, "delete", ""),
    (PODS, "create", "exec"),
    (PODS, "update", "ephemeralcontainers"),
    (PYTORCHJOB.resource, "update", ""),
    (PYTORCHJOB.resource, "deletecollection", ""),
    (PYTORCHJOB.resource, "patch", "status"),
    (EVENTS, "create", ""),
    (Resource("", "v1", "configmaps"), "get", ""),
    (Resource("", "v1", "serviceaccounts"), "impersonate", ""),
    (Resource("rbac.authorization.k8s.io", "v1", "roles"), "create", ""),
)


def may(client: ClusterClient, right: Right, verb: str, namespace: str) -> bool:
    return client.may(verb, right.resource, namespace, right.subresource, right.names[0] if right.names else "")


def test_no_right_is_a_wildcard() -> None:
    for right in rights():
        rule = right.rule()
        assert "*" not in "".join((*rule["apiGroups"], *rule["resources"], *rule["verbs"]))


def test_each_right_is_there_with_the_role_and_not_without_it(control_plane: ControlPlane, namespace: str) -> None:
    with (
        ClusterClient(account(control_plane, namespace, "launcher", rights())) as launcher,
        ClusterClient(control_plane.kubeconfig_for(namespace, "default")) as nobody,
    ):
        listed = [(right, verb) for right in rights() for verb in right.verbs]
        assert [item for item in listed if not may(launcher, *item, namespace)] == []
        assert [item for item in listed if may(nobody, *item, namespace)] == []
        assert [item for item in listed if may(launcher, *item, "default")] == []
        assert [item for item in NEVER if launcher.may(item[1], item[0], namespace, item[2])] == []


def test_secrets_can_be_narrowed_to_those_that_a_job_names(control_plane: ControlPlane, namespace: str) -> None:
    secrets = Right(SECRETS, ("get",), "", names=(SECRET,))
    with ClusterClient(account(control_plane, namespace, "narrow", (secrets,))) as client:
        assert client.may("get", SECRETS, namespace, name=SECRET)
        assert not client.may("get", SECRETS, namespace, name="another")


@pytest.mark.usefixtures("gpu_nodes")
def test_with_these_rights_a_job_is_launched_and_watched_to_its_end(
    control_plane: ControlPlane, store: Store, namespace: str
) -> None:
    make_secret(control_plane, namespace)
    kubeconfig = account(control_plane, namespace, "launcher", rights())
    shown = document("exit-2", message="wrong")
    with launched(control_plane, store, namespace, shown, kubeconfig=kubeconfig) as launch:
        assert launch.wait().phase is Phase.failed
    assert launch.timeline.notes == []
    assert launch.timeline.events


@pytest.mark.usefixtures("gpu_nodes")
def test_without_the_optional_rights_it_says_so_and_goes_on(
    control_plane: ControlPlane, store: Store, namespace: str
) -> None:
    make_secret(control_plane, namespace)
    needed = tuple(right for right in rights() if right.without is None)
    assert len(needed) == len(rights()) - 4
    kubeconfig = account(control_plane, namespace, "modest", needed)
    with launched(control_plane, store, namespace, document("succeed"), kubeconfig=kubeconfig) as launch:
        assert launch.wait().phase is Phase.succeeded
    assert [note for note in launch.timeline.notes if note.startswith("events may not be read")]
    assert launch.timeline.events == []


@pytest.mark.parametrize("missing", [PYTORCHJOB.resource, PODS], ids=str)
def test_without_a_needed_right_the_servers_words_name_it(
    control_plane: ControlPlane, store: Store, namespace: str, missing: Resource
) -> None:
    make_secret(control_plane, namespace)
    granted = tuple(right for right in rights() if right.resource != missing)
    kubeconfig = account(control_plane, namespace, "lacking", granted)
    with (
        launched(control_plane, store, namespace, document(), kubeconfig=kubeconfig) as launch,
        pytest.raises(ForbiddenError, match=f'cannot (get|list) resource "{missing.plural}"'),
    ):
        launch.wait(30)
