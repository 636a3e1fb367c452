"""manifests/ is what the chart makes: each overlay is the chart with the CI values of the same name."""

import json
import re
from pathlib import Path

import pytest
import yaml

from charts import manifests
from pipelines.generate import ROOT, check
from radiffuse.doctor.surroundings import examined_job
from tests.charts.rendering import Object, of_kind, yaml_documents
from tests.cluster.build import executable
from tests.cluster.processes import run

pytestmark = pytest.mark.charts

FOLDERS = {"base": "default", **{f"overlays/{name}": name for name in manifests.OVERLAYS}}


def by_identity(documents: list[Object]) -> dict[str, Object]:
    return {manifests.identity(each): each for each in documents}


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_makes_of_it_what_helm_makes_of_the_chart(folder: str) -> None:
    made = run([str(executable("kubectl")), "kustomize", str(ROOT / manifests.FOLDER / folder)])
    assert by_identity(yaml_documents(made)) == by_identity(manifests.rendering(FOLDERS[folder]))


def test_the_committed_files_are_current() -> None:
    assert check(manifests.generated_files()) == ""
    assert manifests.leftovers() == []


def test_nothing_of_helms_is_in_them() -> None:
    for path in (ROOT / manifests.FOLDER).rglob("*.yaml"):
        assert "helm" not in path.read_text(encoding="utf-8").lower().replace("helm.md", ""), path


def test_the_overlay_that_the_page_shows_gives_the_job_document_and_moves_everything(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "manifests.md").read_text(encoding="utf-8")
    for name, content in re.findall(r"```yaml\n# (\S+\.yaml)\n(.+?)```", page, re.DOTALL):
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "radiffuse").symlink_to(ROOT)
    made = yaml_documents(run([str(executable("kubectl")), "kustomize", str(tmp_path)]))
    (job,) = of_kind(made, "ConfigMap")
    document = examined_job(json.dumps(yaml.safe_load(job["data"]["job.yaml"])))
    assert (document.nodes, document.store.ca_secret) == (4, "minio-ca")
    assert {each["metadata"]["namespace"] for each in made} == {"research"}
    subjects = [subject for each in of_kind(made, "RoleBinding") for subject in each["subjects"]]
    assert {subject["namespace"] for subject in subjects} == {"research"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": 1, "b": {"c/d": [1], "e": 2}}, {"a": 1, "b": {"c/d": [1, 2]}, "f": {}}),
        ({"a~b": None}, {}),
        ({"a": {"b": 1}}, {"a": [1]}),
    ],
)
def test_changes_are_a_patch_that_kustomize_applies(before: Object, after: Object, tmp_path: Path) -> None:
    top = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "x"}}
    kustomization = {"resources": ["thing.yaml"], "patches": [{"path": "patch.yaml", "target": {"kind": "Thing"}}]}
    patch = list(manifests.changes({**top, "spec": before}, {**top, "spec": after}))
    for name, content in {"kustomization": kustomization, "thing": {**top, "spec": before}, "patch": patch}.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")
    made = yaml_documents(run([str(executable("kubectl")), "kustomize", str(tmp_path)]))
    assert made == [{**top, "spec": after}]
