"""What must stay true of the repository as a whole."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST_FILE_LINES = 400
# The brackets keep these patterns from finding themselves.
MACHINE = re.compile(r"/(?:h[o]me|r[o]ot|U[s]ers|w[o]rk)/\w+/|C:\\\\U[s]ers")
REGISTRY = re.compile(r"py[p]i\.(?:org|io)|python[h]osted|npm[j]s\.org|(?:-i|--index-url|--find-links)[ =](?:http|/)")
GATEWAYS = {
    "minio": {"src/radiffuse/storage.py"},
    "kubernetes": {"src/radiffuse/cluster/client.py"},
    "kfp": {"pipelines/", "components/"},
    "huggingface_hub": {"src/radiffuse/hub.py"},
}


def tracked(pattern: str = "*") -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z", "--", pattern], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> Iterator[tuple[str, str]]:
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            yield path.relative_to(ROOT).as_posix(), data.decode()


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module.partition(".")[0]


def test_no_file_names_a_folder_of_one_machine() -> None:
    assert [(name, found[0]) for name, text in texts() if (found := MACHINE.search(text)) is not None] == []


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert [(name, found[0]) for name, text in texts() if (found := REGISTRY.search(text)) is not None] == []


def test_the_lock_holds_names_versions_and_hashes_and_no_address() -> None:
    line = re.compile(r"[a-z0-9][a-z0-9.-]*==\S+(?: ; .*)? \\|    --hash=sha256:[0-9a-f]{64}(?: \\)?")
    odd = [text for text in (ROOT / "requirements.lock").read_text().splitlines() if line.fullmatch(text) is None]
    assert odd == []


def test_every_declared_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[^A-Za-z0-9_-]", requirement)[0] for requirement in declared}
    assert names <= set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))


@pytest.mark.parametrize(("package", "places"), GATEWAYS.items())
def test_each_outside_system_has_one_gateway(package: str, places: set[str]) -> None:
    sources = [path for folder in ("src", "components", "pipelines") for path in tracked(f"{folder}/*.py")]
    users = {path.relative_to(ROOT).as_posix() for path in sources if package in imported(path)}
    assert {user for user in users if not user.startswith(tuple(places))} == set()


def test_only_one_module_declares_metrics() -> None:
    declared = re.compile(r"\b(?:Counter|Gauge|Histogram|Info|Summary)\(\s*[\"']radiffuse_")
    places = {path.relative_to(ROOT).as_posix() for path in tracked("src/*.py") if declared.search(path.read_text())}
    assert places <= {"src/radiffuse/metrics.py"}


def test_no_python_file_is_longer_than_a_reader_likes() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in tracked("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE_LINES} == {}


def test_the_library_never_prints() -> None:
    printing = {
        path.relative_to(ROOT).as_posix()
        for path in tracked("src/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= {"src/radiffuse/progress.py"}
