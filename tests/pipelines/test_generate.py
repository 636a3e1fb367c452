import json
import re
from pathlib import Path

import pytest
import yaml

from components.encode_part.component import encode_part
from components.evaluate_external.component import evaluate_external
from pipelines import generate
from pipelines.licences import licence_of, licences_page


def test_every_generated_file_is_current() -> None:
    assert generate.check(generate.generated_files()) == ""


def test_a_file_that_is_not_current_is_shown_as_a_diff() -> None:
    diff = generate.check(iter([(Path("pipelines/finetune.yaml"), "other: 1\n")]))
    assert "-  name: finetune\n" in diff
    assert "+other: 1\n" in diff


def test_a_file_that_is_missing_is_not_current() -> None:
    assert "+a: 1\n" in generate.check(iter([(Path("pipelines/new.yaml"), "a: 1\n")]))


def test_the_sdk_version_does_not_count() -> None:
    current = (generate.ROOT / "pipelines/finetune.yaml").read_text()
    other = generate.SDK_VERSION.sub("sdkVersion: kfp-9.9.9\n", current)
    assert other != current
    assert generate.check(iter([(Path("pipelines/finetune.yaml"), other)])) == ""


def test_a_component_page_shows_the_command() -> None:
    page = generate.component_page(evaluate_external)
    assert "radiffuse evaluate --dataset DATASET --before BEFORE --after AFTER --external EXTERNAL" in page


def test_a_component_without_outputs_says_where_its_work_goes() -> None:
    assert "It has no outputs: what it makes lies in the store" in generate.component_page(encode_part)


@pytest.mark.parametrize("pipeline", generate.PIPELINES)
def test_what_a_step_or_its_pod_takes_from_outside_a_graph_is_passed_into_it(pipeline: str) -> None:
    """The compiler of kfp forgets some parameters of pods; a real backend then fails the step."""
    spec, platform = yaml.safe_load_all((generate.ROOT / f"pipelines/{pipeline}.yaml").read_text())
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    graphs = [spec["root"], *(component for component in spec["components"].values() if "dag" in component)]
    for graph in graphs:
        given = set(graph["inputDefinitions"]["parameters"])
        for task in graph["dag"]["tasks"].values():
            component = spec["components"][task["componentRef"]["name"]]
            used = json.dumps([task["inputs"], pods.get(component.get("executorLabel"), {})])
            assert set(re.findall(r'"componentInputParameter": "([^"]+)"', used)) <= given


@pytest.mark.parametrize("pipeline", generate.PIPELINES)
def test_every_step_is_placed_and_none_is_cached_or_retried(pipeline: str) -> None:
    spec, platform = yaml.safe_load_all((generate.ROOT / f"pipelines/{pipeline}.yaml").read_text())
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(pods) == set(spec["deploymentSpec"]["executors"])
    for pod in pods.values():
        assert pod["securityContext"] == {"runAsGroup": "20002", "runAsNonRoot": True, "runAsUser": "20002"}
        assert [mount["mountPath"] for mount in pod["emptyDirMounts"]] == ["/tmp"]
    for graph in (spec["root"], *spec["components"].values()):
        for task in graph.get("dag", {}).get("tasks", {}).values():
            assert not task.get("cachingOptions")
            assert "retryPolicy" not in task


@pytest.mark.parametrize("pipeline", generate.PIPELINES)
def test_the_last_step_is_told_the_names_of_all_others(pipeline: str) -> None:
    spec = next(yaml.safe_load_all((generate.ROOT / f"pipelines/{pipeline}.yaml").read_text()))
    told = spec["root"]["dag"]["tasks"]["finish"]["inputs"]["parameters"]["steps"]["runtimeValue"]["constant"]
    graphs = [component["dag"] for component in spec["components"].values() if "dag" in component]
    named = {task["taskInfo"]["name"] for graph in graphs for task in graph["tasks"].values()}
    assert {name for name in named if not name.endswith(" parts")} == set(told)


def test_a_package_without_a_licence_expression_has_one_from_its_older_fields() -> None:
    assert licence_of("pytest") == "MIT"
    assert "Apache" in licence_of("kfp")


def test_a_package_that_two_extras_need_is_listed_once(tmp_path: Path) -> None:
    project = '[project]\ndependencies = ["numpy>=2"]\n[project.optional-dependencies]\ndev = ["numpy"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    assert licences_page(tmp_path / "pyproject.toml").count("| numpy | core, dev |") == 1
