"""The Dockerfiles as their instructions, and the packages that they install."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.recipe import NAMES

ROOT = Path(__file__).parents[2]
PATHS = {name: ROOT / "images" / name / "Dockerfile" for name in NAMES}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions(name: str) -> list[tuple[str, str]]:
    """Instruction and its arguments, in order; continued lines are joined, comments left out."""
    lines = [line for line in PATHS[name].read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last_stage(name: str) -> dict[str, str]:
    """Arguments of each instruction of the stage that becomes the image."""
    found = instructions(name)
    start = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    return dict(found[start:])


def extras(name: str) -> list[str]:
    """The extras of our package that an image installs."""
    return re.findall(r"--extra (\S+)", " ".join(arguments for _, arguments in instructions(name)))


def packages(name: str) -> set[str]:
    """Names of all packages that an image installs, as the metadata of those installed here has it."""
    wanted = [*PROJECT["dependencies"]]
    for extra in extras(name):
        wanted += PROJECT["optional-dependencies"][extra]
    found: set[str] = set()
    queue = [(Requirement(each), "") for each in wanted]
    seen: set[tuple[str, str]] = set()
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        package = canonicalize_name(requirement.name)
        for asked in ("", *requirement.extras):
            if (package, asked) not in seen:
                seen.add((package, asked))
                found.add(package)
                queue += [(Requirement(each), asked) for each in _requires(package)]
    return found


def _requires(package: str) -> list[str]:
    try:
        return distribution(package).requires or []
    except PackageNotFoundError as error:
        raise AssertionError(f"{package} is not installed here; run `make setup`") from error
