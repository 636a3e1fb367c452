"""Manifests, which pass between steps: a few kB of JSON that name where data lies, its digests, counts, settings."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from radiffuse.code_version import code_version
from radiffuse.errors import DataError
from radiffuse.local_files import write_text

MANIFEST_NAME = "manifest.json"

Kind = Literal["dataset", "latents", "model", "checkpoint", "samples", "report"]


class StoredObject(BaseModel):
    """One object below a manifest's URI."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Key below the manifest's URI, such as 'shard-00000.arrow'.")
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """Describes one complete output; its presence at `<uri>/manifest.json` is what makes the output complete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    name: str = Field(description="What a person calls it, such as 'chexpert' or 'tiny'.")
    uri: str = Field(description="s3://bucket/name/digest, without a trailing slash.")
    digest: str = Field(description="Of inputs and settings: the output's address.")
    code_version: str = Field(default_factory=code_version)
    inputs: dict[str, str] = Field(default_factory=dict, description="Role of each input -> its URI or fingerprint.")
    settings: dict[str, Any] = Field(default_factory=dict, description="The resolved settings that made it.")
    counts: dict[str, int | float] = Field(default_factory=dict, description="Finite figures worth showing.")
    objects: tuple[StoredObject, ...] = ()

    def find(self, name: str) -> StoredObject:
        """The object of that name; raises DataError when the manifest has none."""
        for stored in self.objects:
            if stored.name == name:
                return stored
        raise DataError(f"no object {name!r} in the {self.kind} at {self.uri}; it has {len(self.objects)} others")

    def fingerprint(self, folder: str) -> str:
        """Digest of the objects in one folder of the output: equal where their names and bytes are."""
        return digest_of(
            objects={stored.name: stored.sha256 for stored in self.objects if stored.name.startswith(folder)}
        )

    def save(self, path: Path) -> None:
        """Write it as JSON where the next step will read it, whole or not at all; raises StorageError."""
        write_text(path, self.model_dump_json(indent=2) + "\n")


def load_manifest(path: Path, kind: Kind | None = None) -> Manifest:
    """Read a manifest from a local file; raises DataError when it is missing, malformed or of another kind."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"no manifest at {path}: {error.strerror}") from error
    except ValidationError as error:
        raise DataError(f"{path} is not a manifest: {describe_first(error)}") from error
    if kind is not None and manifest.kind != kind:
        raise DataError(
            f"{path} is the manifest of {with_article(manifest.kind)}; this step needs {with_article(kind)}"
        )
    return manifest


def describe_first(error: ValidationError) -> str:
    """What is wrong with a document, and at which field."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def with_article(kind: str) -> str:
    """A kind of output as one says it: "a dataset", but "latents" and "samples"."""
    return kind if kind.endswith("s") else f"a {kind}"


def digest_of(**parts: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the parts as canonical JSON: an output's address."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
