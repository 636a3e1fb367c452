"""manifests/: what the chart makes, as plain YAML for kustomize; `python -m charts.manifests` writes it.

base/ is the chart with its defaults, but for the compiled pipelines: whoever has this folder has pipelines/ too. Each
overlay turns that into what the chart makes of its CI values of the same name. Helm is fetched when it is missing;
with --check a missing one is only reported, since `make chart-test` checks.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipelines.generate import ROOT, check
from tests.cluster.build import executable, is_built

Object = dict[str, Any]

CHART = ROOT / "charts" / "radiffuse"
FOLDER = Path("manifests")
BASE = "default"
OVERLAYS = ("standalone", "multi-user", "external-minio", "trainjob")
RELEASE = "radiffuse"
"""Name and namespace; `namespace:` in a kustomization of one's own changes the latter."""
HEAD = "# Written by `make generate` from charts/radiffuse; change it by an overlay of your own.\n"


def generated_files() -> Iterator[tuple[Path, str]]:
    """Path below the repository's root, and text, of each file; raises CommandError where Helm refuses the chart."""
    base = {identity(each): each for each in rendering(BASE)}
    yield from _folder(FOLDER / "base", {"resources": [f"{name}.yaml" for name in base]}, base)
    for overlay in OVERLAYS:
        yield from _overlay(FOLDER / "overlays" / overlay, base, {identity(each): each for each in rendering(overlay)})


def rendering(mode: str) -> list[Object]:
    """What the chart makes of a mode's CI values: without hooks, and without the labels that only a release has."""
    command = [str(executable("helm")), "template", RELEASE, str(CHART), "--namespace", RELEASE, "--no-hooks"]
    values = ["--values", str(CHART / "ci" / f"{mode}-values.yaml"), "--set", "pipelines.configMaps=false"]
    done = subprocess.run([*command, *values], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"Helm cannot render the chart with its CI values {mode}: {done.stderr.strip()}")
    return [without_helm(each) for each in yaml.safe_load_all(done.stdout) if each is not None]


def without_helm(node: Any) -> Any:
    """An object without the labels that say which release of which chart made it."""
    if isinstance(node, list):
        return [without_helm(each) for each in node]
    if not isinstance(node, dict):
        return node
    helms = {"helm.sh/chart": node.get("helm.sh/chart"), "app.kubernetes.io/managed-by": "Helm"}
    return {name: without_helm(each) for name, each in node.items() if each is None or helms.get(name) != each}


def identity(document: Object) -> str:
    """A name for the object's file, of its own among all that a rendering has."""
    metadata = document["metadata"]
    elsewhere = metadata.get("namespace", RELEASE)
    parts = [document["kind"].lower(), metadata["name"], *([elsewhere] if elsewhere != RELEASE else [])]
    return "-".join(parts)


def _overlay(folder: Path, base: dict[str, Object], wanted: dict[str, Object]) -> Iterator[tuple[Path, str]]:
    files: dict[str, Any] = {name: each for name, each in wanted.items() if name not in base}
    kustomization: Object = {"resources": ["../../base", *(f"{name}.yaml" for name in files)]}
    for name, before in base.items():
        if name not in wanted:
            files[f"without-{name}"] = {"$patch": "delete", **_reference(before)}
        elif wanted[name] != before:
            files[f"change-{name}"] = list(changes(before, wanted[name]))
        else:
            continue
        path = f"{next(reversed(files))}.yaml"
        kustomization.setdefault("patches", []).append({"path": path, "target": _target(before)})
    yield from _folder(folder, kustomization, files)


def changes(before: Any, after: Any, path: str = "") -> Iterator[Object]:
    """Operations of a JSON patch; a list is replaced as a whole."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after:
            yield {"op": "replace", "path": path, "value": after}
        return
    for name in [*before, *(name for name in after if name not in before)]:
        place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in after:
            yield {"op": "remove", "path": place}
        elif name not in before:
            yield {"op": "add", "path": place, "value": after[name]}
        else:
            yield from changes(before[name], after[name], place)


def _reference(document: Object) -> Object:
    metadata = {name: document["metadata"][name] for name in ("name", "namespace") if name in document["metadata"]}
    return {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": metadata}


def _target(document: Object) -> Object:
    group, _, version = document["apiVersion"].rpartition("/")
    names = _reference(document)["metadata"]
    return {**({"group": group} if group else {}), "version": version, "kind": document["kind"], **names}


def _folder(folder: Path, kustomization: Object, files: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    header = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    yield folder / "kustomization.yaml", as_yaml(header | kustomization)
    for name, content in files.items():
        yield folder / f"{name}.yaml", as_yaml(content)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are read."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def as_yaml(content: Any) -> str:
    """A file's text."""
    plain = json.loads(json.dumps(content))  # without YAML's anchors for what is there twice
    return HEAD + yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=10_000)


def leftovers() -> list[Path]:
    """Files that no rendering has any more."""
    current = {path for path, _ in generated_files()}
    folders = (ROOT / FOLDER / "base", ROOT / FOLDER / "overlays")
    found = (path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.yaml"))
    return sorted(path for path in found if path not in current)


def main() -> int:
    """Exit code 0 when all is written or current, 1 when a file is not current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail with a diff")
    if not parser.parse_args().check:
        for path, text in generated_files():
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text, encoding="utf-8")
        for path in leftovers():
            (ROOT / path).unlink()
        return 0
    if not is_built("helm"):
        print("manifests/ was not compared with the chart: no Helm is here; `make chart-test` fetches one and compares")
        return 0
    problems = check(generated_files()) + "".join(f"no longer made: {path}\n" for path in leftovers())
    if problems:
        print(f'{problems}\nerror: manifests/ is not what the chart makes; run "make generate"', file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
