"""Write what is generated, or with --check fail with a diff where a committed file is not current.

Generated are each component's component.yaml and README.md, each pipeline's YAML, docs/doctor.md, docs/jobs.md,
docs/licences.md, docs/permissions.md, docs/report.md and its JSON schema, and of the chart all but its templates.
"""

import argparse
import difflib
import importlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kfp import compiler

from charts import generate as chart
from pipelines.doctor_page import doctor_page
from pipelines.job_page import job_page
from pipelines.licences import licences_page
from pipelines.report_page import report_page, schema_file
from radiffuse.cluster.permissions import permissions_page

ROOT = Path(__file__).resolve().parent.parent
COMPONENTS = (
    "ingest",
    "ingest_part",
    "stage",
    "find_dataset",
    "encode",
    "encode_part",
    "train",
    "sample",
    "sample_part",
    "evaluate",
    "evaluate_external",
    "finish",
)
PIPELINES = {
    "finetune": "finetune",
    "finetune_external": "finetune",
    "finetune_parts": "finetune",
    "evaluate": "evaluate",
}
"""Function, which names the YAML -> the module it is in."""
SDK_VERSION = re.compile(r"^sdkVersion: .*\n", re.MULTILINE)
PLACEHOLDER = re.compile(r"\{\{\$\.(?:inputs|outputs)\.\w+\['(\w+)'\](?:\.path)?\}\}")
HOLDS = {
    "Dataset": "manifest (JSON, a few kB)",
    "Model": "manifest (JSON, a few kB)",
    "Artifact": "manifest (JSON, a few kB)",
    "HTML": "page for the dashboard",
    "Markdown": "text for the dashboard",
    "Metrics": "figures for the dashboard",
}


def generated_files() -> Iterator[tuple[Path, str]]:
    """Path below the repository's root, and text, of each generated file."""
    for name in COMPONENTS:
        component = getattr(importlib.import_module(f"components.{name}.component"), name)
        folder = Path("components") / name
        yield folder / "component.yaml", _compile(component)
        yield folder / "README.md", component_page(component)
    for function, module in PIPELINES.items():
        pipeline = getattr(importlib.import_module(f"pipelines.{module}"), function)
        yield Path("pipelines") / f"{function}.yaml", _compile(pipeline)
    yield Path("docs") / "jobs.md", job_page(ROOT / "manifests" / "training-operator" / "init-container.yaml")
    yield Path("docs") / "permissions.md", permissions_page()
    yield Path("docs") / "doctor.md", doctor_page()
    yield Path("docs") / "licences.md", licences_page(ROOT / "pyproject.toml")
    yield Path("docs") / "report.md", report_page()
    yield Path("docs") / "report.schema.json", schema_file()
    yield from chart.generated_files()


def component_page(component: Any) -> str:
    """The component's page: what it does, what goes in and out, and the command that it runs."""
    spec = component.component_spec
    (executor,) = component.pipeline_spec.deployment_spec["executors"].values()
    arguments = [_as_text(argument) for argument in executor["container"]["args"]]
    lines = [
        f"# {spec.name}",
        "",
        spec.description,
        "",
        "| input | type | meaning |",
        "|---|---|---|",
        *(f"| `{name}` | {_type(value)} | {value.description} |" for name, value in spec.inputs.items()),
        "",
        *_outputs(spec),
        "",
        "It runs",
        "",
        "```",
        f"radiffuse {' '.join(arguments)}",
        "```",
        "",
        "Written by `make generate` from `component.py`.",
    ]
    return "\n".join(lines) + "\n"


def _outputs(spec: Any) -> list[str]:
    if spec.outputs is None:
        return ["It has no outputs: what it makes lies in the store, where the step of the whole finds it."]
    rows = [f"| `{name}` | {_type(value)} | {HOLDS[_type(value)]} |" for name, value in spec.outputs.items()]
    return ["| output | type | holds |", "|---|---|---|", *rows]


def _compile(component: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "compiled.yaml"
        compiler.Compiler().compile(component, str(path))
        return path.read_text(encoding="utf-8")


def _type(spec: Any) -> str:
    name = str(spec.type).removeprefix("system.").partition("@")[0]
    return f"{name}, optional" if getattr(spec, "optional", False) else name


def _as_text(argument: str) -> str:
    if argument == "{{$}}":
        return "EXECUTOR_INPUT"
    return PLACEHOLDER.sub(lambda match: match[1].upper(), argument)


def check(files: Iterator[tuple[Path, str]]) -> str:
    """Unified diff from the committed files to current ones, SDK versions aside; empty when all are current."""
    diff: list[str] = []
    for path, text in files:
        committed = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).exists() else ""
        before, after = SDK_VERSION.sub("", committed), SDK_VERSION.sub("", text)
        diff += difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"committed {path}", f"current {path}"
        )
    return "".join(diff)


def main() -> int:
    """Exit code 0 when all is written or current, 1 when a file is not current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail with a diff")
    if parser.parse_args().check:
        diff = check(generated_files())
        if diff:
            print(f'{diff}\nerror: generated files are not current; run "make generate"', file=sys.stderr)
        return 1 if diff else 0
    for path, text in generated_files():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
