"""docs/report.md and docs/report.schema.json: what report.json holds, from the model that writes it."""

import json
from typing import Any

from radiffuse.evaluate.report import Report, report_schema

INTRODUCTION = """# report.json

`radiffuse evaluate` writes two files: `report.html`, a page for people that needs no other file, and `report.json`, the
same figures for machines. `report.schema.json` beside this page is the JSON schema; `schema_version` is raised when a
field changes its meaning or goes. Every number is finite; a value that cannot be had is null, and its line says when.

    radiffuse evaluate --dataset d.json --before b.json --after a.json --config demo --out report-manifest.json \\
        --html out/report.html --metrics out/report.json
    jq '.effusion_accuracy.after, .frechet_distance.after' out/report.json

How the figures are taken:

- The classifier learns from real images of the `validation` split, half of each batch blurred, and is checked on the
  `test` split; the model was adapted to `train`. A patient is in one split only. It never sees a generated image
  while it learns.
- An accuracy counts how often its answer (probability of at least one half) is what the prompt asks for. Before
  adaptation expect no better than chance, which need not be one half of the images: a classifier that has only seen
  radiographs gives most other pictures one and the same answer.
- The Fréchet distance compares features of the samples with those of real test images in which the pathology has the
  same share as among the samples. The features are the base model's VAE posterior means, averaged over a coarse grid:
  they do not depend on the classifier, whose own features can place noise nearer to radiographs than a good sample.
  It rises when there are fewer images, so it compares only where their numbers are the same.
- MS-SSIM is `pytorch-msssim`'s, with the largest window that fits five scales (11 px from 161 px on); SSIM is
  scikit-image's with a Gaussian window.
"""


def report_page() -> str:
    """The page, with a table for each record."""
    schema = report_schema()
    parts = [INTRODUCTION, _table("The report", schema)]
    parts += [_table(name, record) for name, record in schema["$defs"].items()]
    parts.append(f"Written by `make generate` from `{Report.__module__.replace('.', '/')}.py`.\n")
    return "\n".join(parts)


def schema_file() -> str:
    """The JSON schema as a file."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"


def _table(title: str, record: dict[str, Any]) -> str:
    lines = [
        f"## {title}",
        "",
        record["description"].replace("None:", "null:"),
        "",
        "| key | holds | meaning |",
        "|---|---|---|",
    ]
    for key, field in record["properties"].items():
        lines.append(f"| `{key}` | {_type(field)} | {field.get('description', '').replace('None:', 'null:')} |")
    return "\n".join(lines) + "\n"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "prefixItems" in field:
        return "list of " + ", ".join(_type(item) for item in field["prefixItems"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    return str(field["type"])
