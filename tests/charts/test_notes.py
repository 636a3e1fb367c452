"""What the user is told once a release is installed: commands that leave nothing out."""

import json
import re
import shlex

import pytest
import yaml

from tests.charts.rendering import CHART, HELMS, MODES, Object, helm, merged, of_kind, template

pytestmark = pytest.mark.charts

OWN_NAMES: Object = {"store": {"accessKeyEntry": "accesskey", "secretKeyEntry": "secretkey", "endpointEntry": "host"}}
PRIVATE: Object = {"store": {"endpoint": "minio.example:9000", "secure": True, "caSecret": "ca", "caEntry": "tls.crt"}}
TOGETHER: Object = {"store": {"caSecret": "radiffuse-store"}}
PIPELINES: Object = {"kfp": {"mode": "standalone"}}
PROFILES: Object = {"kfp": {"mode": "multiUser", "profiles": ["radiology", "cardiology"]}}
DEVELOPMENT: Object = {"devStore": {"enabled": True}}
STORES: tuple[Object, ...] = ({}, OWN_NAMES, PRIVATE, TOGETHER, DEVELOPMENT)
USES: tuple[Object, ...] = ({}, PIPELINES, PROFILES)
Entries = dict[tuple[str, str], set[str]]
"""Namespace and name of a secret -> its entries."""


def notes(values: Object, version: str = "helm") -> str:
    """What `helm install` prints below its own lines."""
    command = ("install", "radiffuse", str(CHART), "--namespace", "radiffuse", "--dry-run=client", "--values", "-")
    return helm(*command, stdin=json.dumps(values), version=version).partition("\nNOTES:\n")[2]


def created(text: str) -> Entries:
    """The secrets that the commands make."""
    made = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if " create secret generic " in line:
            _, _, namespace, *_, name = (words := shlex.split(line))[:7]
            made[namespace, name] = {word.split("=")[1] for word in words[7:]}
    return made


def needed(values: Object) -> Entries:
    """What training pods and steps of pipelines read, in each namespace where jobs are launched."""
    objects = template(values)
    documents = {each["metadata"]["name"]: each.get("data", {}) for each in of_kind(objects, "ConfigMap")}
    store = yaml.safe_load(documents["radiffuse-job"]["job.yaml"])["store"]
    entries = {store["access_key_entry"], store["secret_key_entry"]}
    entries |= set() if "endpoint" in store else {store["endpoint_entry"]}
    if "kfp" in values:
        steps = documents["radiffuse-pipeline-finetune"]["finetune.yaml"]
        required = re.findall(r"secretKey: (\w+)\n", steps)
        entries |= {"MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"} & set(required)
    launchers = [each["metadata"]["namespace"] for each in of_kind(objects, "Role") if "launcher" in str(each)]
    found: Entries = {(namespace, store["secret"]): entries for namespace in launchers}
    for namespace in launchers if "ca_secret" in store else ():
        at = (namespace, store["ca_secret"])
        found[at] = found.get(at, set()) | {store["ca_entry"]}
    return found


@pytest.mark.parametrize("use", USES, ids=str)
@pytest.mark.parametrize("store", STORES, ids=str)
def test_the_commands_make_every_secret_and_entry_that_pods_read(store: Object, use: Object) -> None:
    values = merged(store, use)
    made, read = created(notes(values)), needed(values)
    assert made.keys() == read.keys()
    assert [at for at, entries in read.items() if not entries <= made[at]] == []


@pytest.mark.parametrize("use", [PIPELINES, PROFILES], ids=str)
def test_steps_of_pipelines_are_told_of_a_certificate_and_of_a_store_without_tls(use: Object) -> None:
    private, plain = (notes(merged(store, use)) for store in (PRIVATE, DEVELOPMENT))
    assert "--from-literal=MINIO_CA_CERT=/var/run/secrets/radiffuse/tls.crt \\\n" in private
    assert "--from-literal=MINIO_SECURE=false" in plain and "MINIO_SECURE" not in private


@pytest.mark.parametrize("version", HELMS)
def test_each_line_of_commands_continues_or_ends(version: str) -> None:
    values = merged(yaml.safe_load(MODES["external-minio"].read_text(encoding="utf-8")), PIPELINES)
    for line in notes(values, version).splitlines():
        assert line == line.rstrip() and len(line) <= 140
