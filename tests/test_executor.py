import json
import math
from pathlib import Path
from typing import Any

import pytest

from radiffuse.errors import ConfigError
from radiffuse.executor import read_executor_input, write_executor_output
from radiffuse.manifest import Manifest

MANIFEST = Manifest(
    kind="report",
    name="demo",
    uri="s3://reports/demo/0123456789abcdef",
    digest="0123456789abcdef",
    counts={"num_samples": 200, "accuracy": 0.98, "undefined": math.inf},
)


def written(tmp_path: Path, artifacts: dict[str, Any]) -> dict[str, Any]:
    output = tmp_path / "new" / "executor_output.json"
    write_executor_output(json.dumps({"outputs": {"artifacts": artifacts, "outputFile": str(output)}}), MANIFEST)
    document: dict[str, Any] = json.loads(output.read_text())
    return document


def artifact(schema: str, uri: str = "s3://kfp/run/report") -> dict[str, Any]:
    return {"artifacts": [{"name": "report", "type": {"schemaTitle": schema}, "uri": uri, "metadata": {}}]}


def metadata(tmp_path: Path, schema: str) -> dict[str, Any]:
    return written(tmp_path, {"report": artifact(schema)})["artifacts"]["report"]["artifacts"][0]["metadata"]


def test_a_manifest_artifact_carries_the_store_uri_the_digest_and_the_counts(tmp_path: Path) -> None:
    found = metadata(tmp_path, "system.Artifact")
    assert found["store_uri"] == MANIFEST.uri
    assert found["digest"] == MANIFEST.digest
    assert found["num_samples"] == 200


def test_metadata_are_strings_and_finite_numbers_only(tmp_path: Path) -> None:
    found = metadata(tmp_path, "system.Dataset")
    assert "undefined" not in found
    assert all(isinstance(value, (str, int, float)) for value in found.values())


def test_a_metrics_artifact_carries_figures_only(tmp_path: Path) -> None:
    assert metadata(tmp_path, "system.Metrics") == {"num_samples": 200, "accuracy": 0.98}


def test_a_page_for_the_dashboard_carries_no_metadata(tmp_path: Path) -> None:
    assert metadata(tmp_path, "system.HTML") == {}


def test_the_uri_that_kfp_chose_is_kept(tmp_path: Path) -> None:
    document = written(tmp_path, {"report": artifact("system.Artifact", uri="s3://kfp/run/report")})
    assert document["artifacts"]["report"]["artifacts"][0]["uri"] == "s3://kfp/run/report"


def test_an_artifact_without_type_or_name_is_described_all_the_same(tmp_path: Path) -> None:
    document = written(tmp_path, {"report": {"artifacts": [{"uri": "s3://kfp/run/report"}]}})
    (described,) = document["artifacts"]["report"]["artifacts"]
    assert set(described) == {"uri", "metadata"}


def test_a_step_without_output_artifacts_writes_an_empty_output(tmp_path: Path) -> None:
    output = tmp_path / "output.json"
    write_executor_output(json.dumps({"outputs": {"outputFile": str(output)}}), MANIFEST)
    assert json.loads(output.read_text()) == {"artifacts": {}}


@pytest.mark.parametrize("text", ["{{$}}", "", "{"])
def test_an_executor_input_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"executor input must be JSON, not '.*'; pass KFP's placeholder"):
        read_executor_input(text)


@pytest.mark.parametrize("document", [[], {}, {"outputs": {}}, {"outputs": None}])
def test_an_executor_input_that_names_no_output_file_is_refused(document: object) -> None:
    with pytest.raises(ConfigError, match=r"has no outputs\.outputFile"):
        read_executor_input(json.dumps(document))
