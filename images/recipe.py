"""The images, and building one from the repository as it stands: what has not changed is not built again."""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from images.buildah import build_image, forget_attempts, remove_others, write_layout
from images.commands import ROOT, ImageError, image_cache
from images.debian import RECIPE, build_debian
from images.layout import Layout
from radiffuse import __version__
from radiffuse.local_files import folder_lock

NAMES = ("pipeline", "train")
SOURCES = ("pyproject.toml", "requirements.lock", "README.md", "LICENSE", "src")
BUILT_HERE = "debian"
"""As a base: Debian's packages, put together on this machine."""
PINNED = re.compile(r"[\w.:/-]+@sha256:[0-9a-f]{64}")
REGISTRY = "radiffuse.test"
"""Of names in buildah's storage and on the nodes of tests; nothing is ever fetched from there."""


@dataclass(frozen=True)
class Origin:
    """Where an image comes from, for its labels and for what it makes; empty where nobody said."""

    revision: str = ""
    source: str = ""


@dataclass(frozen=True)
class Image:
    """An image, named by what it is made from; one that is there costs neither time nor network."""

    repository: str
    tag: str

    @property
    def name(self) -> str:
        """In buildah's storage, and what a pod's `image` says on the nodes of tests."""
        return f"{self.repository}:{self.tag}"

    @property
    def layout(self) -> Layout:
        """Its place in the cache."""
        return Layout(image_cache() / self.repository.rpartition("/")[2], self.tag)

    @property
    def is_built(self) -> bool:
        """Whether its folder holds it whole."""
        return self._mark.exists()

    def keep(self) -> None:
        """Copy it from buildah's storage to its folder, in place of what was there before."""
        for mark in self.layout.folder.glob("*.built"):
            mark.unlink()
        write_layout(self.name, self.layout)
        self._mark.touch()
        remove_others(self.name)

    @property
    def _mark(self) -> Path:
        return self.layout.folder / f"{self.tag}.built"


def debian_image() -> Image:
    """A small Debian with Python: the base where no other is named, and the image of init containers in tests."""
    image = Image(f"{REGISTRY}/base", digest_of(RECIPE))
    return made(image, lambda: build_debian(image.name))


def built_image(name: str, base: str = BUILT_HERE, origin: Origin | None = None) -> Image:
    """The image that images/NAME/Dockerfile describes, built if need be; base: BUILT_HERE or a name with its digest.

    Raises ImageError, also for a base without a digest: the same name would be another base tomorrow.
    """
    origin = origin if origin is not None else Origin()
    dockerfile = ROOT / "images" / name / "Dockerfile"
    base_name = debian_image().name if base == BUILT_HERE else pinned(base)
    sources = contents([dockerfile, *(ROOT / source for source in SOURCES)])
    image = Image(f"{REGISTRY}/radiffuse-{name}", digest_of([base_name, origin.revision, origin.source, *sources]))
    labels = {"VERSION": __version__, "REVISION": origin.revision, "SOURCE": origin.source}
    arguments = {"BASE_IMAGE": base_name, **labels}
    return made(image, lambda: build_image(image.name, dockerfile, arguments=arguments, first="dependencies"))


def pinned(base: str) -> str:
    """The base's name, if it has a digest; raises ImageError."""
    if PINNED.fullmatch(base) is None:
        raise ImageError(
            f"--base {base!r} is neither {BUILT_HERE!r} nor an image with its digest, NAME@sha256:...; "
            f"`skopeo inspect --format '{{{{.Digest}}}}' docker://NAME:TAG` or your registry's page says it"
        )
    return base


def made(image: Image, build: Callable[[], None]) -> Image:
    """The image, built and kept unless it is there; one process at a time builds, the others wait for it."""
    if not image.is_built:
        with folder_lock(image_cache()):
            if not image.is_built:
                forget_attempts()
                build()
                image.keep()
    return image


def contents(paths: Iterable[Path]) -> list[str]:
    """Path and content of each file at or below the paths, in one order."""
    files = sorted(file for path in paths for file in ([path] if path.is_file() else _files(path)))
    return [f"{file.relative_to(ROOT)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]


def digest_of(parts: Iterable[str]) -> str:
    """Twelve digits that stand for all of the parts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
