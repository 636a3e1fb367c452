"""Ways to break a healthy site in one place: each is a context in which it is broken, and whole again afterwards."""

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import yaml
from minio import Minio

from radiffuse.cluster.kinds import EVENTS, PYTORCHJOB
from radiffuse.cluster.permissions import Right, rights
from tests.cluster.accounts import role
from tests.cluster.certificates import authority_bundle
from tests.cluster.doctor_site import NAMESPACE, Object, Site, webhook
from tests.skewed_store import SkewedStore

Breaking = Callable[[Site], AbstractContextManager[None]]


def changing(**settings: object) -> Breaking:
    """The doctor is asked about another job, place or store."""

    @contextlib.contextmanager
    def change(site: Site) -> Iterator[None]:
        for name, value in settings.items():
            setattr(site, name, {**getattr(site, name), **value} if isinstance(value, dict) else value)
        yield

    return change


def with_kubeconfig(change: Callable[[Object], None]) -> Breaking:
    """The kubeconfig is another one."""

    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        document = yaml.safe_load(site.kubeconfig.read_text())
        change(document)
        site.kubeconfig = site.plane.folder / "broken.kubeconfig"
        site.kubeconfig.write_text(yaml.safe_dump(document))
        yield

    return breaking


def expire(document: Object) -> None:
    document["users"][0]["user"] = {"token": "eyJhbGciOiJSUzI1NiJ9.e30.AAAA"}


def lead_nowhere(document: Object) -> None:
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"


@contextlib.contextmanager
def without_kind(site: Site) -> Iterator[None]:
    """As if the CRD were gone; deleting it would take every other test's jobs along."""
    name = str(PYTORCHJOB.resource)
    where = ("patch", f"customresourcedefinition/{name}", "--type=json")

    def serve(is_served: str) -> str:
        return f'--patch=[{{"op": "replace", "path": "/spec/versions/0/served", "value": {is_served}}}]'

    site.plane.kubectl(*where, serve("false"))
    try:
        site.wait_for_kind(name, False)
        yield
    finally:
        site.plane.kubectl(*where, serve("true"))
        site.wait_for_kind(name, True)


@contextlib.contextmanager
def without_endpoints(site: Site) -> Iterator[None]:
    where = "endpointslice/training-operator-process"

    def ready(word: str) -> str:
        return f'{{"endpoints": [{{"addresses": ["10.199.0.1"], "conditions": {{"ready": {word}}}}}]}}'

    with site.patched(where, ready("false"), ready("true"), "--namespace=kubeflow"):
        yield


@contextlib.contextmanager
def without_operator(site: Site) -> Iterator[None]:
    with site.plane.without_training_operator():
        yield


@contextlib.contextmanager
def with_expired_certificate(site: Site) -> Iterator[None]:
    """The operator, which would put it right, does not run meanwhile."""
    right = webhook(site.plane)
    broken = json.loads(json.dumps(right))
    for each in broken["webhooks"]:
        each["clientConfig"]["caBundle"] = authority_bundle(days_left=-1)
    with site.plane.without_training_operator(), site.instead(broken, right):
        yield


@contextlib.contextmanager
def without_webhook(site: Site) -> Iterator[None]:
    with site.without(webhook(site.plane)):
        yield


def lacking(dropped: Right) -> Breaking:
    """The launcher's account has all rights but that one."""

    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        full = site.plane.get("role", "launcher", "--namespace", NAMESPACE)
        rules = [rule for rule in full["rules"] if rule != dropped.rule()]
        assert len(rules) == len(full["rules"]) - 1
        with site.instead(role("launcher", NAMESPACE, ()) | {"rules": rules}, _plain(full)):
            yield

    return breaking


def _plain(found: Object) -> Object:
    wanted = {"name": found["metadata"]["name"], "namespace": found["metadata"]["namespace"]}
    return {**found, "metadata": wanted}


@contextlib.contextmanager
def in_no_namespace(site: Site) -> Iterator[None]:
    """Asked for by somebody who may look everywhere: a launcher's rights end at its own."""
    site.namespace, site.kubeconfig = "nowhere", site.plane.kubeconfig
    yield


@contextlib.contextmanager
def without_label(site: Site) -> Iterator[None]:
    label = "pod-security.kubernetes.io/enforce"
    patches = (f'{{"metadata": {{"labels": {{"{label}": {word}}}}}}}' for word in ("null", '"restricted"'))
    with site.patched(f"namespace/{NAMESPACE}", *patches):
        yield


def with_secret(**changes: str | None) -> Breaking:
    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        patches = ({"data": {**site.secret["data"], **changes}}, {"data": site.secret["data"]})
        with site.patched("secret/radiffuse-store", *map(json.dumps, patches), f"--namespace={NAMESPACE}"):
            yield

    return breaking


def with_nodes(path: str, broken: object, right: object, *names: str) -> Breaking:
    """Another value at that path of these nodes."""

    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name in names:
                section, field = path.split(".", 1)
                option = ("--subresource=status",) if section == "status" else ()
                patches = (json.dumps({section: _nested(field, value)}) for value in (broken, right))
                stack.enter_context(site.patched(f"node/{name}", *patches, *option))
            yield

    return breaking


def _nested(path: str, value: object) -> object:
    for key in reversed(path.split("|")):
        value = {key: value}
    return value


def behind_clock(seconds: float) -> Breaking:
    @contextlib.contextmanager
    def breaking(site: Site) -> Iterator[None]:
        real = site.store.settings.endpoint
        with SkewedStore(real, seconds) as skewed:
            site.environment["MINIO_ENDPOINT"] = skewed.endpoint
            site.job["store"] = {"endpoint": skewed.endpoint}
            yield

    return breaking


@contextlib.contextmanager
def without_bucket(site: Site) -> Iterator[None]:
    given = site.store.settings
    client = Minio(given.endpoint, given.access_key, given.secret_key, secure=False)
    client.remove_bucket("prompts")
    try:
        yield
    finally:
        client.make_bucket("prompts")


@contextlib.contextmanager
def with_older_kfp(site: Site) -> Iterator[None]:
    site.kfp.version = "1.8.5"
    try:
        yield
    finally:
        site.kfp.version = "2.17.0"


@contextlib.contextmanager
def without_rights_of_steps(site: Site) -> Iterator[None]:
    granted = tuple(right for right in rights() if right.resource != EVENTS)
    granted = tuple(right for right in granted if right.resource != PYTORCHJOB.resource)
    with site.instead(role("pipeline-runner", NAMESPACE, granted), role("pipeline-runner", NAMESPACE, rights())):
        yield
