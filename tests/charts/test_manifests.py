"""manifests/ is what the chart makes: each overlay is the chart with the CI values of the same name."""

import json
from pathlib import Path

import pytest

from charts import manifests
from pipelines.generate import ROOT, check
from tests.charts.rendering import Object, yaml_documents
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
