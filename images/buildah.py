"""Builds a Dockerfile with buildah: no daemon, and no container to build in but a changed root."""

import contextlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from images.commands import ROOT, ImageError, image_cache, run
from images.layout import Layout

logger = logging.getLogger(__name__)

SECRETS = {"pip.conf": Path("/etc/pip.conf"), "uv.toml": Path("/etc/uv/uv.toml")}
"""Lent to a build, so that it reaches the package index the way this machine does; no layer has them."""
CACHE_MOUNTS = "buildah-cache"
"""Buildah keeps them in the temporary folder: what was downloaded for one image serves the next."""
CERTIFICATES = Path("/etc/ssl/certs")
"""Lent too, but mounted by us: where buildah mounts a secret, it removes the file that the base has there."""


def build_image(
    name: str, dockerfile: Path, context: Path = ROOT, arguments: Mapping[str, str] | None = None, first: str = ""
) -> None:
    """Build an image into buildah's storage under that name, with layers kept for the next time; raises ImageError.

    first: a stage that is built before the others and kept, so that a failure in a later one does not cost it.
    """
    lent = [f"--secret=id={key},src={path}" for key, path in SECRETS.items() if path.exists()]
    lent += [f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.exists() else []
    given = [f"--build-arg={key}={value}" for key, value in (arguments or {}).items()]
    command = ["build", "--layers", "--force-rm", *given, *lent, "--file", str(dockerfile)]
    if first:
        # buildah 1.28 mounts another stage only if it has just built it: none may be left of an earlier attempt.
        _prune()
        _buildah(*command, "--target", first, "--tag", f"{name.rpartition(':')[0]}-{first}", str(context))
    _buildah(*command, "--tag", name, str(context))


def write_layout(name: str, layout: Layout) -> None:
    """Copy an image from buildah's storage to an OCI folder, compressed as fast as can be; raises ImageError."""
    layout.folder.mkdir(parents=True, exist_ok=True)
    speed = ("--compression-format=zstd", "--compression-level=1")
    _buildah("push", "--quiet", *speed, name, f"oci:{layout.folder}:{layout.tag}")
    layout.forget_others()


def remove_others(name: str) -> None:
    """Remove the other tags of an image from buildah's storage, with layers that nothing needs any more."""
    repository = name.rpartition(":")[0]
    with _never_failing():
        found = _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
        if others := [each for each in found if each.rpartition(":")[0] == repository and each != name]:
            _buildah("rmi", *others)
    _prune()


def forget_attempts() -> None:
    """Remove what a build that was killed has left in the temporary folder: gigabytes. One process at a time builds."""
    for path in scratch().iterdir():
        if path.name != CACHE_MOUNTS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def scratch() -> Path:
    """The temporary folder of builds, on the disk that has room for them."""
    folder = image_cache() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _prune() -> None:
    with _never_failing():
        _buildah("rmi", "--prune")


@contextlib.contextmanager
def _never_failing() -> Iterator[None]:
    """For what only saves space: an image that somebody uses stays until the next time."""
    try:
        yield
    except ImageError as error:
        logger.warning("superseded images stay: %s", str(error).splitlines()[-1].strip())


def _buildah(*arguments: str) -> str:
    cache = image_cache()
    storage = ["--storage-driver=overlay", f"--root={cache}/buildah", f"--runroot={cache}/run"]
    settings = {"BUILDAH_ISOLATION": "chroot", "BUILDAH_FORMAT": "oci", "TMPDIR": str(scratch())}
    return run(["buildah", *storage, *arguments], settings)
