"""What docs/first-run.md promises: from an empty namespace to a trained model by its commands alone, on real nodes."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from radiffuse.manifest import Manifest
from tests.cluster.build import executable
from tests.cluster.isolation import ADDRESS, ROOT
from tests.cluster.nodes.cluster import RealNodes
from tests.cluster.nodes.images import image_of_run
from tests.cluster.nodes.minio import Minio
from tests.cluster.nodes.package_index import PackageIndex
from tests.cluster.nodes.record import Record
from tests.cluster.plane import ControlPlane

pytestmark = pytest.mark.nodes

PAGE = ROOT / "docs" / "first-run.md"
COMMANDS = re.compile(r"<!-- the tests run this block as it stands -->\s+```sh\n(.*?)```", re.DOTALL)
NAMESPACE = "radiffuse"
COMMAND_SECONDS = 1800.0


@pytest.fixture(scope="module")
def package_index() -> Iterator[PackageIndex]:
    """The index that pods fetch the CT from; nothing else can be reached from here."""
    with PackageIndex() as index:
        yield index


def test_the_page_leads_from_an_empty_namespace_to_a_trained_model(
    control_plane: ControlPlane,
    nodes: RealNodes,
    minio: Minio,
    package_index: PackageIndex,
    record: Record,
    tmp_path: Path,
) -> None:
    diary = record.diary("the first run, as docs/first-run.md has it")
    environment = _environment(control_plane, minio, tmp_path)
    for command in _commands():
        diary.note(f"$ {command}")
        local = _local_values(package_index) if command.startswith("helm install") else ""
        for line in _run(command + local, environment).splitlines():
            diary.note(line)
    trained = [uri for uri in minio.store.list("s3://models/demo/") if uri.endswith("manifest.json")]
    assert len(trained) == 1
    manifest = Manifest.model_validate_json(minio.store.get_bytes(trained[0]))
    assert manifest.counts["steps"] == 200

    _expect_no_secret(control_plane, minio, "\n".join(diary.lines))
    _run(f"helm uninstall radiffuse --namespace {NAMESPACE} --wait", environment)
    _wait_until_nothing_is_left(control_plane)
    assert minio.store.find(manifest.uri) == manifest, "results outlive the release"


def _commands() -> list[str]:
    """Each command of the page's block on one line."""
    match = COMMANDS.search(PAGE.read_text(encoding="utf-8"))
    assert match is not None
    return match[1].replace("\\\n", "").strip().splitlines()


def _environment(plane: ControlPlane, minio: Minio, home: Path) -> dict[str, str]:
    """What the page asks its reader to set, and a PATH with the two programs."""
    programs = f"{executable('helm').parent}:{executable('kubectl').parent}"
    return minio.environment | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "KUBECONFIG": str(plane.kubeconfig),
        "REGISTRY": image_of_run("train").repository.rpartition("/")[0],
    }


def _local_values(index: PackageIndex) -> str:
    """The tags of images that were built a moment ago, and the only index that can be reached."""
    values = {
        "images.train.tag": image_of_run("train").tag,
        "images.pipeline.tag": image_of_run("pipeline").tag,
        "job.env.PIP_INDEX_URL": index.url,
        "job.env.PIP_TRUSTED_HOST": ADDRESS,
    }
    return "".join(f" --set-string {name}={value}" for name, value in values.items())


def _run(command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _expect_no_secret(plane: ControlPlane, minio: Minio, printed: str) -> None:
    """Neither in what was printed, nor in any object or log of the namespace, but for the secret itself."""
    kinds = "pods,jobs,pytorchjobs,configmaps,events,serviceaccounts,roles"
    everything = [printed, plane.kubectl("get", kinds, "--namespace", NAMESPACE, "--output", "json")]
    for pod in plane.get("pods", "--namespace", NAMESPACE)["items"]:
        name = pod["metadata"]["name"]
        everything.append(plane.kubectl("logs", name, "--all-containers", "--namespace", NAMESPACE))
    for text in everything:
        assert minio.settings.secret_key not in text
        assert minio.settings.access_key not in text


def _wait_until_nothing_is_left(plane: ControlPlane) -> None:
    kinds = "jobs,pytorchjobs,pods,configmaps,roles,rolebindings,serviceaccounts"
    chosen = ("--selector", "app.kubernetes.io/name=radiffuse", "--namespace", NAMESPACE)
    deadline = time.monotonic() + 120
    while left := plane.get(kinds, *chosen)["items"]:
        assert time.monotonic() < deadline, [(each["kind"], each["metadata"]["name"]) for each in left]
        time.sleep(2)
