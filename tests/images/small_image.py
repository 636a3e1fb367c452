"""A small OCI folder, written as a builder writes a large one: layers compressed by zstd, a configuration, an index."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow

from images.layout import BLOBS, NAME, Layout

LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"

METADATA = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: {licence}\n"
STATUS = "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"


def python_package(name: str, version: str, licence: str, files: Mapping[str, str], site: str) -> dict[str, str]:
    """Files of an installed Python package, by path in the image."""
    folder = f"{name}-{version}.dist-info"
    metadata = {
        f"{folder}/METADATA": METADATA.format(name=name, version=version, licence=licence),
        f"{folder}/RECORD": "".join(f"{path},,\n" for path in [*files, f"{folder}/METADATA", f"{folder}/RECORD"]),
    }
    return {f"{site}/{path}": text for path, text in {**files, **metadata}.items()}


def debian_base(**licences: str) -> dict[str, str]:
    """A Debian with packages of those names, and their copyright files."""
    return {
        "./var/lib/dpkg/status": "\n".join(STATUS.format(name=name, version="1.0-1") for name in licences),
        "./usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\n',
        **{f"./usr/share/doc/{name}/copyright": text for name, text in licences.items()},
        **{f"./var/lib/dpkg/info/{name}.list": f"/.\n/usr/bin/{name}\n" for name in licences},
    }


def write_image(folder: Path, layers: Sequence[Mapping[str, str]], config: Mapping[str, Any] | None = None) -> Layout:
    """An image of these layers, each given as the texts of its files by path; tagged `small`."""
    (folder / BLOBS).mkdir(parents=True)
    described = [_blob(folder, _packed(layer), LAYER) for layer in layers]
    settings = _blob(folder, json.dumps({"config": config or {}}).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "config": settings, "layers": described}
    top = _blob(folder, json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [top | {"annotations": {NAME: "small"}}]}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
    return Layout(folder, "small")


def _packed(files: Mapping[str, str]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    packed = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(raw.getvalue())
    return bytes(packed.getvalue())


def _blob(folder: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (folder / BLOBS / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
