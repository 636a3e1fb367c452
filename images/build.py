"""`make images`: builds our images without a container engine, and writes beside each what is in it.

Needs root, and Debian's buildah and mmdebstrap; docs/images.md says how to build with an engine instead.
"""

import argparse
import dataclasses
import json
import logging
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from images.commands import ROOT, ImageError, missing_requirements
from images.recipe import BUILT_HERE, NAMES, Image, Origin, built_image, pinned
from radiffuse import __version__
from radiffuse.errors import RadiffuseError

logger = logging.getLogger(__name__)

FORMATS = ("oci", "oci-archive")
EXAMPLE = """examples:
  make images
  make images OPTIONS="pipeline --output oci-archive:dist --tag 0.1.0-rc1 --json"
  make images OPTIONS="--base docker.io/library/python@sha256:... --source https://git.example.org/radiffuse"
"""


@dataclass(frozen=True)
class Built:
    """One image as it was written."""

    image: str
    tag: str
    digest: str
    path: str
    compressed_bytes: int
    unpacked_bytes: int
    packages: int
    bill_of_materials: str
    licences: str
    seconds: float


def main() -> int:
    """0: all images are written; 1: something is missing or went wrong, said in one message; 2: misused."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if missing := missing_requirements():
        print(missing, file=sys.stderr)
        return 1
    try:
        if arguments.base != BUILT_HERE:
            pinned(arguments.base)  # before the first image has taken its minutes
        origin = Origin(arguments.revision, arguments.source)
        names = dict.fromkeys(arguments.names or NAMES)
        written = [_write(name, arguments.base, origin, arguments.tag, arguments.output) for name in names]
    except RadiffuseError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([dataclasses.asdict(each) for each in written], indent=2))
    else:
        print("\n".join(_described(each) for each in written))
    return 0


def _write(name: str, base: str, origin: Origin, tag: str, output: tuple[str, Path]) -> Built:
    """Build one image, look into it, and write it with what was found; raises ImageError."""
    from images.bill import bill_of_materials, licence_list  # takes longer than all that is said before a build
    from images.contents import read_contents
    from images.scan import find_secrets

    start = time.monotonic()
    logger.info("image=%s base=%s", name, base)
    image = built_image(name, base, origin)
    logger.info("image=%s digest=%s reading its layers", name, image.layout.digest)
    contents = read_contents(image.layout)
    if found := find_secrets(image.layout, contents):
        places = "\n  ".join(found)
        raise ImageError(f"{image.name} holds what looks like credentials; nothing was written:\n  {places}")
    title = image.repository.rpartition("/")[2]
    form, folder = output
    folder.mkdir(parents=True, exist_ok=True)
    path = _write_image(image, form, folder / title, tag)
    bill, licences = folder / f"{title}.cdx.json", folder / f"{title}.licences.md"
    bill.write_text(bill_of_materials(title, __version__, image.layout.digest, contents), encoding="utf-8")
    licences.write_text(licence_list(title, __version__, contents), encoding="utf-8")
    return Built(
        image=title,
        tag=tag,
        digest=image.layout.digest,
        path=f"{form}:{path}",
        compressed_bytes=image.layout.compressed_bytes,
        unpacked_bytes=contents.unpacked_bytes,
        packages=len(contents.packages()),
        bill_of_materials=str(bill),
        licences=str(licences),
        seconds=round(time.monotonic() - start, 1),
    )


def _write_image(image: Image, form: str, path: Path, tag: str) -> Path:
    if form == "oci":
        image.layout.copy_to(path, tag)
        return path
    archive = path.with_suffix(".tar")
    with archive.open("wb") as file:
        image.layout.write_archive(file, tag=tag)
    return archive


def _described(built: Built) -> str:
    sizes = f"{built.compressed_bytes / 1e6:.0f} MB compressed, {built.unpacked_bytes / 1e6:.0f} MB unpacked"
    return (
        f"{built.image}:{built.tag} {built.digest}\n  {built.path}\n  {sizes}, {built.packages} packages, "
        f"{built.seconds:.0f} s\n  {built.bill_of_materials}\n  {built.licences}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m images.build",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", type=_name, metavar="IMAGE", help=f"of {', '.join(NAMES)}; else all")
    parser.add_argument(
        "--base",
        default=BUILT_HERE,
        help=f"{BUILT_HERE}: made here of Debian's packages (default); or NAME@sha256:DIGEST",
    )
    parser.add_argument("--tag", default=__version__, help="default: the version, %(default)s")
    parser.add_argument(
        "--output",
        type=_output,
        default=("oci", ROOT / "out" / "images"),
        metavar="FORMAT:FOLDER",
        help="oci: a folder per image (default, in out/images); oci-archive: a file per image",
    )
    parser.add_argument(
        "--revision",
        default=_revision(),
        help="the commit, for the label and for what the image makes; default: of this checkout",
    )
    parser.add_argument("--source", default="", help="for the label: where the code is published")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _output(text: str) -> tuple[str, Path]:
    form, _, folder = text.partition(":")
    if form not in FORMATS or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not FORMAT:FOLDER with a format of {', '.join(FORMATS)}")
    return form, Path(folder)


def _name(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"no image {text!r}; choose from {', '.join(NAMES)}")
    return text


def _revision() -> str:
    """The commit of this checkout, with a mark where files were changed; empty outside of one."""
    if shutil.which("git") is None:
        return ""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main())
