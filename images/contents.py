"""What an image holds, as its layers say: packages with their licences, and files that no package answers for."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from functools import cached_property
from pathlib import PurePosixPath

from images.layout import Layout
from pipelines.licences import licence_in

OURS = "radiffuse"
KEPT = re.compile(
    r".*\.dist-info/(METADATA|RECORD)|var/lib/dpkg/(status|info/.*\.list)|usr/share/doc/[^/]+/copyright|usr/lib/os-release"
)
DOCUMENTS = "usr/share/doc"
DPKG_LISTS = "var/lib/dpkg/info"
LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)
MACHINE_READABLE = "copyright-format/1.0"
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True, order=True)
class Package:
    """One installed package; kind: `pypi` or `deb`, licence: as the package itself states it."""

    kind: str
    name: str
    version: str
    licence: str
    architecture: str = ""


@dataclass
class Contents:
    """The files of an image that describe the others, and the sizes of all."""

    unpacked_bytes: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """Of folders of documents: some packages share one."""

    def packages(self) -> list[Package]:
        """All of both package managers, in one order."""
        return sorted([*self._python_packages(), *self._debian_packages()])

    @cached_property
    def distribution(self) -> str:
        """Such as `debian-12`; empty where the image does not say."""
        text = self.files.get("usr/lib/os-release", b"").decode()
        values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return "-".join(values[key].strip('"') for key in ("ID", "VERSION_ID") if key in values)

    def answered_for(self) -> set[str]:
        """Paths that packages say are theirs. Ours is left out: nobody but this build has seen its files."""
        paths: set[str] = set()
        for path, data in self.files.items():
            if path.endswith("/RECORD") and not PurePosixPath(path).parent.name.startswith(f"{OURS}-"):
                folder = PurePosixPath(path).parent.parent
                paths |= {_joined(folder, row[0]) for row in csv.reader(data.decode().splitlines()) if row}
            elif path.startswith(DPKG_LISTS):
                paths |= {line.lstrip("/") for line in data.decode().splitlines()}
        return paths

    def _python_packages(self) -> Iterator[Package]:
        for path, data in self.files.items():
            if path.endswith("/METADATA"):
                metadata = BytesParser().parsebytes(data)
                yield Package("pypi", metadata["Name"], metadata["Version"], licence_in(metadata))

    def _debian_packages(self) -> Iterator[Package]:
        for paragraph in self.files.get("var/lib/dpkg/status", b"").split(b"\n\n"):
            fields: Message = BytesParser().parsebytes(paragraph)
            if fields["Status"] is not None and fields["Status"].endswith(" installed"):
                name = fields["Package"]
                yield Package("deb", name, fields["Version"], self._debian_licence(name), fields["Architecture"])

    def _debian_licence(self, package: str) -> str:
        """Short names out of a machine-readable copyright file; others are for people to read."""
        folder = self.links.get(package, package)
        text = self.files.get(f"{DOCUMENTS}/{folder}/copyright", b"").decode(errors="replace")
        if not text:
            return "not stated"
        names = sorted(set(LICENCE.findall(text))) if MACHINE_READABLE in text[:300] else []
        return ", ".join(names) if names else f"see /{DOCUMENTS}/{folder}/copyright"


def read_contents(layout: Layout) -> Contents:
    """Read every layer once, lowest first, as a node unpacks them; raises ImageError."""
    contents = Contents()
    for _, entry, file in layout.entries():
        name = entry.name.removeprefix("./")
        path = PurePosixPath(name)
        contents.unpacked_bytes += entry.size
        if path.name.startswith(WHITEOUT):
            _remove(contents.files, path)
        elif file is not None and KEPT.fullmatch(name) is not None:
            contents.files[name] = file.read()
        elif entry.issym() and str(path.parent) == DOCUMENTS:
            contents.links[path.name] = entry.linkname
    return contents


def _remove(files: dict[str, bytes], mark: PurePosixPath) -> None:
    removed = mark.parent if mark.name == OPAQUE else mark.with_name(mark.name.removeprefix(WHITEOUT))
    for path in [path for path in files if PurePosixPath(path).is_relative_to(removed)]:
        del files[path]


def _joined(folder: PurePosixPath, relative: str) -> str:
    """A path of a RECORD, which may lead out of the folder by `..`."""
    parts: list[str] = []
    for part in (folder / relative).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)
