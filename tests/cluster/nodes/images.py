"""The images of the node tests, built without a daemon by buildah; an OCI folder of its own keeps each.

An image is named by a digest of what it is made from; one that is there costs neither time nor network.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from radiffuse.local_files import sha256_of_file
from tests.cluster.build import executable
from tests.cluster.toolchain import cluster_cache

ROOT = Path(__file__).parents[3]
SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
LEFT_OUT = ("./dev/*", "./usr/share/doc/*", "./usr/share/man/*", "./var/cache/apt/*", "./var/lib/apt/lists/*")
BASE_DOCKERFILE = """FROM scratch
ADD rootfs.tar /
CMD ["sleep", "infinity"]
"""
PAUSE_DOCKERFILE = """FROM scratch
COPY pause /
ENTRYPOINT ["/pause"]
"""
TRAIN_REPOSITORY = "radiffuse.test/train"
TRAIN_DOCKERFILE = "images/train/Dockerfile"
TRAIN_SOURCES = (TRAIN_DOCKERFILE, "pyproject.toml", "requirements.lock", "README.md", "LICENSE", "src")
LENT = ("/etc/ssl/certs", "/etc/pip.conf")
"""What a build borrows of this machine, so that it reaches the package index the way the machine does."""
BUILD_SECONDS = 1800.0


TRAIN_TAG = "RADIFFUSE_NODES_IMAGE"
"""Tells the tests which training image was built for them: they have no network, and the code may change meanwhile."""


class ImageError(Exception):
    """An image cannot be built; the message has the builder's last words."""


@dataclass(frozen=True)
class Image:
    """One image: how pods ask for it, and the OCI folder that holds it."""

    repository: str
    tag: str

    @property
    def name(self) -> str:
        """What a pod's `image` says."""
        return f"{self.repository}:{self.tag}"

    @property
    def layout(self) -> Path:
        """An OCI folder of all tags of the repository; layers that they share lie in it once."""
        return image_cache() / self.repository.rpartition("/")[2]

    @property
    def is_built(self) -> bool:
        """Whether its folder holds it whole."""
        return self._mark.exists()

    @property
    def _mark(self) -> Path:
        return self.layout / f"{self.tag}.built"

    def keep(self) -> None:
        """Copy it from buildah's storage to its folder, compressed as fast as can be; layers that are there stay."""
        self.layout.mkdir(parents=True, exist_ok=True)
        speed = ("--compression-format=zstd", "--compression-level=1")
        _buildah("push", "--quiet", *speed, self.name, f"oci:{self.layout}:{self.tag}")
        self._forget_others()
        self._mark.touch()

    def write_archive(self, file: IO[bytes], known: Collection[str]) -> None:
        """Write an OCI archive, without the blobs (SHA-256, hexadecimal) that its reader knows."""
        index = self._index()
        with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=file, mode="w|") as archive:
            chosen = Path(folder) / "index.json"
            chosen.write_text(json.dumps(index), encoding="utf-8")
            archive.add(self.layout / "oci-layout", "oci-layout")
            archive.add(chosen, "index.json")
            for digest in self._blobs(index["manifests"][0]["digest"]):
                if digest not in known:
                    archive.add(self.layout / "blobs/sha256" / digest, f"blobs/sha256/{digest}")

    def share_blobs(self, folder: Path) -> None:
        """Replace each blob by a hard link to the same one in another folder, so that the disk holds it once."""
        for blob in (self.layout / "blobs/sha256").iterdir():
            other = folder / blob.name
            if other.exists() and not blob.samefile(other):
                link = blob.with_suffix(".link")
                link.hardlink_to(other)
                link.replace(blob)

    def _forget_others(self) -> None:
        """Leave only this tag in the folder: each is as large as the last."""
        for mark in self.layout.glob("*.built"):
            mark.unlink()
        index = self._index()
        (self.layout / "index.json").write_text(json.dumps(index), encoding="utf-8")
        needed = set(self._blobs(index["manifests"][0]["digest"]))
        for blob in (self.layout / "blobs/sha256").iterdir():
            if blob.name not in needed:
                blob.unlink()

    def _index(self) -> dict[str, Any]:
        """The folder's index, with nothing but this tag in it."""
        index: dict[str, Any] = json.loads((self.layout / "index.json").read_bytes())
        name = "org.opencontainers.image.ref.name"
        index["manifests"] = [each for each in index["manifests"] if each["annotations"][name] == self.tag]
        return index

    def _blobs(self, manifest_digest: str) -> list[str]:
        manifest = json.loads((self.layout / "blobs/sha256" / _hexadecimal(manifest_digest)).read_bytes())
        described = [manifest["config"], *manifest["layers"]]
        return [_hexadecimal(manifest_digest), *(_hexadecimal(each["digest"]) for each in described)]


def image_cache() -> Path:
    """Where images are kept from one run to the next; deleting it costs some minutes and a download."""
    return cluster_cache() / "images"


def base_image() -> Image:
    """A small Debian with Python: what the training image is built on, and the image of init containers."""
    image = Image("radiffuse.test/base", _digest_of([BASE_DOCKERFILE, SUITE, *PACKAGES, *LEFT_OUT]))
    if not image.is_built:
        with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
            _write_debian(Path(folder) / "context")
            _buildah("build", "--quiet", "--tag", image.name, f"{folder}/context")
        image.keep()
    return image


def built_train_image() -> Image:
    """The training image that this run was started with."""
    return Image(TRAIN_REPOSITORY, os.environ[TRAIN_TAG])


def pause_image() -> Image:
    """What holds a pod's namespaces while its containers come and go."""
    pause = executable("pause")
    image = Image("radiffuse.test/pause", _digest_of([PAUSE_DOCKERFILE, sha256_of_file(pause)]))
    if not image.is_built:
        with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
            shutil.copy2(pause, folder)
            (Path(folder) / "Dockerfile").write_text(PAUSE_DOCKERFILE, encoding="utf-8")
            _buildah("build", "--quiet", "--tag", image.name, folder)
        image.keep()
    return image


def train_image() -> Image:
    """The image that images/train/Dockerfile describes, from this repository and its lock file."""
    base = base_image()
    image = Image(TRAIN_REPOSITORY, _digest_of([base.tag, *_contents(TRAIN_SOURCES)]))
    if not image.is_built:
        packages = Path.home() / ".cache" / "uv"
        packages.mkdir(parents=True, exist_ok=True)
        volumes = [f"--volume={packages}:/root/.cache/uv"]
        volumes += [f"--volume={path}:{path}:ro" for path in LENT if Path(path).exists()]
        command = ["build", "--quiet", "--layers", f"--build-arg=BASE_IMAGE={base.name}", *volumes]
        _buildah(*command, "--file", str(ROOT / TRAIN_DOCKERFILE), "--tag", image.name, str(ROOT))
        image.keep()
    return image


def _write_debian(context: Path) -> None:
    """Leave the base image's Dockerfile and file system in a folder."""
    context.mkdir()
    rootfs = context.with_name("rootfs")
    _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(rootfs)])
    left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    _run(["tar", "--create", f"--file={context}/rootfs.tar", f"--directory={rootfs}", *left_out, "."])
    (context / "Dockerfile").write_text(BASE_DOCKERFILE, encoding="utf-8")


def _buildah(*arguments: str) -> None:
    storage = ["--storage-driver=overlay", f"--root={image_cache()}/buildah", f"--runroot={image_cache()}/run"]
    _run(["buildah", *storage, *arguments])


def _run(command: list[str]) -> None:
    # No container to build in, only a changed root; a daemon's settings on this machine are none of ours.
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "BUILDAH_FORMAT": "oci"}
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, timeout=BUILD_SECONDS
    )
    if done.returncode != 0:
        words = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise ImageError(f"`{' '.join(command[:8])} ...` ended with {done.returncode}:\n  {words}")


def _scratch() -> Path:
    folder = image_cache() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _contents(names: Iterable[str]) -> list[str]:
    """Path and content of each file below the names, in one order."""
    paths = sorted(path for name in names for path in _files(ROOT / name))
    return [f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [found for found in path.rglob("*") if found.is_file() and "__pycache__" not in found.parts]


def _digest_of(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _hexadecimal(digest: str) -> str:
    return digest.removeprefix("sha256:")
