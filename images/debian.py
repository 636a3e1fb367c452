"""The base that is made here, from Debian's packages with their security updates, where no registry can be reached."""

import tempfile
from pathlib import Path

from images.buildah import build_image, scratch
from images.commands import run

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "ibverbs-providers", "libstdc++6", "python3", "python3-venv")
"""NCCL looks for InfiniBand's library when it starts, and without it talks over plain sockets."""
# Licences stay; a package manager, manuals and translations are of no use in a pod.
VARIANT = "essential"
LEFT_OUT = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)
DOCKERFILE = """FROM scratch
ADD rootfs.tar /
CMD ["sleep", "infinity"]
"""
RECIPE = (DOCKERFILE, SUITE, VARIANT, *PACKAGES, *LEFT_OUT)
"""All that decides what the base is, but the day on which Debian's packages are fetched."""


def build_debian(name: str) -> None:
    """Build the base under that name; raises ImageError."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        options = [f"--variant={VARIANT}", f"--include={','.join(PACKAGES)}", "--skip=output/dev"]
        options += [f"--dpkgopt={option}" for option in LEFT_OUT]
        run(["mmdebstrap", *options, SUITE, f"{folder}/rootfs.tar"])
        dockerfile = Path(folder) / "Dockerfile"
        dockerfile.write_text(DOCKERFILE, encoding="utf-8")
        build_image(name, dockerfile, Path(folder))
