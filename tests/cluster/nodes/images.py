"""The images of the node tests: ours as `make images` builds them, their base, and what holds a pod's namespaces."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from images.buildah import build_image
from images.recipe import NAMES, REGISTRY, Image, built_image, digest_of, made
from tests.cluster.build import executable

PAUSE_DOCKERFILE = """FROM scratch
COPY pause /
ENTRYPOINT ["/pause"]
"""
TAGS = {name: f"RADIFFUSE_NODES_{name.upper()}_TAG" for name in NAMES}
"""Variables that tell the tests which images were built for them: they have no network, and the code may change."""


def build_images() -> dict[str, str]:
    """Build what is missing of all images; the variables that tell the tests of ours. Raises ImageError."""
    pause_image()
    return {variable: built_image(name).tag for name, variable in TAGS.items()}


def image_of_run(name: str) -> Image:
    """The image that this run was started with, of images/NAME/Dockerfile."""
    return Image(f"{REGISTRY}/radiffuse-{name}", os.environ[TAGS[name]])


def pause_image() -> Image:
    """What holds a pod's namespaces while its containers come and go."""
    program = executable("pause")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    image = Image(f"{REGISTRY}/pause", digest_of([PAUSE_DOCKERFILE, program.name, digest]))

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "Dockerfile").write_text(PAUSE_DOCKERFILE, encoding="utf-8")
            shutil.copy(program, folder)
            build_image(image.name, Path(folder) / "Dockerfile", Path(folder))

    return made(image, build)
