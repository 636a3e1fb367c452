"""What a container step tells Kubeflow Pipelines about its outputs, without kfp.

KFP's launcher, in the cluster as in `kfp.local`, reads the executor output from the path that its executor input names
as `outputs.outputFile`; the placeholder for that path itself is never substituted in a container component.
"""

import json
import math
from pathlib import Path
from typing import Any

from radiffuse.errors import ConfigError
from radiffuse.manifest import Manifest

# Figures only: the dashboard lists every metadatum of these artifacts as a metric.
METRICS = "system.Metrics"
# Files that the dashboard shows as they are.
SHOWN = ("system.HTML", "system.Markdown")


def read_executor_input(text: str) -> dict[str, Any]:
    """KFP's executor input: the step's inputs, and the outputs that it asks for.

    Raises ConfigError when it is not JSON or does not say where the executor output belongs.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"the executor input must be JSON, not {text[:40]!r}; pass KFP's placeholder for it"
        ) from error
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, dict) or "outputFile" not in outputs:
        raise ConfigError("the executor input has no outputs.outputFile; pass KFP's placeholder for it unchanged")
    return dict(document)


def write_executor_output(executor_input: str, manifest: Manifest | None) -> None:
    """Give every output artifact of the step its metadata: strings and finite numbers, as a null would fail the step.

    An artifact's own `uri` stays what KFP chose, since a URI outside the run's root fails the step on a real backend.
    Without a manifest there is nothing to say of the artifacts, but that they are.
    """
    outputs = read_executor_input(executor_input)["outputs"]
    artifacts = {
        name: {"artifacts": [_describe(artifact, manifest) for artifact in listed.get("artifacts", [])]}
        for name, listed in outputs.get("artifacts", {}).items()
    }
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"artifacts": artifacts}, allow_nan=False), encoding="utf-8")


def _describe(artifact: dict[str, Any], manifest: Manifest | None) -> dict[str, Any]:
    described: dict[str, Any] = {key: artifact[key] for key in ("name", "uri") if key in artifact}
    schema = artifact.get("type", {}).get("schemaTitle", "")
    described["metadata"] = {} if manifest is None else _metadata(schema, manifest)
    return described


def _metadata(schema: str, manifest: Manifest) -> dict[str, str | int | float]:
    if schema in SHOWN:
        return {}
    figures = {name: value for name, value in manifest.counts.items() if math.isfinite(value)}
    if schema == METRICS:
        return dict(figures)
    return figures | {
        "kind": manifest.kind,
        "name": manifest.name,
        "store_uri": manifest.uri,
        "digest": manifest.digest,
        "code_version": manifest.code_version,
    }
