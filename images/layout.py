"""An OCI folder that holds one image, and what can be done with it without a container engine."""

import gzip
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow

from images.commands import ImageError

NAME = "org.opencontainers.image.ref.name"
BLOBS = "blobs/sha256"


@dataclass(frozen=True)
class Layout:
    """One tag of an OCI folder."""

    folder: Path
    tag: str

    @property
    def index(self) -> dict[str, Any]:
        """The folder's index, with nothing but this tag in it; raises ImageError when it is not there."""
        path = self.folder / "index.json"
        try:
            index: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ImageError(f"no OCI image in {self.folder}: {error}; run `make images`") from error
        chosen = [each for each in index["manifests"] if each.get("annotations", {}).get(NAME) == self.tag]
        if not chosen:
            raise ImageError(f"no image {self.tag} in {self.folder}; run `make images`")
        return index | {"manifests": chosen}

    @property
    def digest(self) -> str:
        """Of the manifest, `sha256:...`: what a registry that is given these bytes will call the image."""
        return str(self.index["manifests"][0]["digest"])

    @property
    def manifest(self) -> dict[str, Any]:
        """The OCI manifest."""
        return dict(json.loads(self._blob(self.digest).read_bytes()))

    @property
    def config(self) -> dict[str, Any]:
        """The OCI configuration: user, entry point, labels, environment, history."""
        return dict(json.loads(self._blob(self.manifest["config"]["digest"]).read_bytes()))

    @property
    def compressed_bytes(self) -> int:
        """Of all layers, as a registry holds them and a node fetches them."""
        return sum(layer["size"] for layer in self.manifest["layers"])

    def blobs(self) -> list[str]:
        """Hexadecimal SHA-256 of all that the image is made of."""
        described = [self.manifest["config"], *self.manifest["layers"]]
        return [_hexadecimal(self.digest), *(_hexadecimal(each["digest"]) for each in described)]

    def entries(self) -> Iterator[tuple[int, tarfile.TarInfo, IO[bytes] | None]]:
        """Every entry of every layer, lowest first: the layer's number, the entry, and its bytes where it is a file."""
        for number, layer in enumerate(self.manifest["layers"]):
            with _opened(self._blob(layer["digest"]), layer["mediaType"]) as archive:
                for entry in archive:
                    yield number, entry, archive.extractfile(entry) if entry.isfile() else None

    def forget_others(self) -> None:
        """Leave only this tag in the folder: each is as large as the last."""
        (self.folder / "index.json").write_text(json.dumps(self.index), encoding="utf-8")
        needed = set(self.blobs())
        for blob in (self.folder / BLOBS).iterdir():
            if blob.name not in needed:
                blob.unlink()

    def write_archive(self, file: IO[bytes], known: Collection[str] = (), tag: str | None = None) -> None:
        """Write an OCI archive under this or another tag, without the blobs that its reader knows by SHA-256."""
        with tempfile.TemporaryDirectory() as scratch, tarfile.open(fileobj=file, mode="w|") as archive:
            index = Path(scratch) / "index.json"
            index.write_text(json.dumps(self._named(tag)), encoding="utf-8")
            archive.add(self.folder / "oci-layout", "oci-layout")
            archive.add(index, "index.json")
            for digest in self.blobs():
                if digest not in known:
                    archive.add(self.folder / BLOBS / digest, f"{BLOBS}/{digest}")

    def copy_to(self, folder: Path, tag: str) -> None:
        """Make an OCI folder of this image alone under another tag, by hard links where the disk is the same."""
        shutil.rmtree(folder, ignore_errors=True)
        (folder / BLOBS).mkdir(parents=True)
        for digest in self.blobs():
            _link_or_copy(self.folder / BLOBS / digest, folder / BLOBS / digest)
        _link_or_copy(self.folder / "oci-layout", folder / "oci-layout")
        (folder / "index.json").write_text(json.dumps(self._named(tag)), encoding="utf-8")

    def _named(self, tag: str | None) -> dict[str, Any]:
        index = self.index
        if tag is not None:
            index["manifests"][0]["annotations"][NAME] = tag
        return index

    def _blob(self, digest: str) -> Path:
        return self.folder / BLOBS / _hexadecimal(digest)


def _opened(path: Path, media_type: str) -> tarfile.TarFile:
    """A layer's archive, to be read once from start to end; raises ImageError for a compression not known here."""
    if media_type.endswith("+zstd"):
        # Python learns zstd in 3.14; Arrow has it already.
        return tarfile.open(fileobj=pyarrow.input_stream(str(path), compression="zstd"), mode="r|")
    if media_type.endswith("+gzip"):
        return tarfile.open(fileobj=gzip.open(path), mode="r|")
    if media_type.endswith(".tar"):
        return tarfile.open(path, mode="r|")
    raise ImageError(f"a layer is {media_type}, and only zstd, gzip and no compression are read here")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _hexadecimal(digest: str) -> str:
    return digest.removeprefix("sha256:")
