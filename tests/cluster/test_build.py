"""The builder says in one message what it lacks, and leaves nothing that looks whole and is not."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster import build
from tests.cluster.toolchain import ToolchainError, cluster_cache
from tests.cluster.versions import PRODUCTS, Product

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path / "cache"))


def path_with(folder: Path, *tools: str) -> str:
    """A PATH of one folder that holds these tools alone."""
    folder.mkdir()
    for tool in tools:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return str(folder)


def made() -> list[str]:
    return [path.name for path in cluster_cache().iterdir() if path.name not in (".lock", "go")]


def test_without_go_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin"))

    with pytest.raises(ToolchainError, match=r"found no `go` on PATH; install Go 1\.26\.0 or newer"):
        build.build(["etcd"])

    assert made() == []


def test_an_old_go_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin", "setpriv", "sh"))
    go = tmp_path / "bin" / "go"
    go.write_text("#!/bin/sh\nprintf '%s\\n' go1.22.5 linux amd64\n")
    go.chmod(0o755)

    with pytest.raises(ToolchainError, match=r"Go 1\.22\.5 is too old for the cluster tests; install Go 1\.26\.0"):
        build.build(["etcd"])


@pytest.mark.skipif(shutil.which("go") is None, reason="no Go here")
def test_modules_that_cannot_be_had_give_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")

    with pytest.raises(
        ToolchainError, match=r"(?s)the Go modules of etcd cannot be had: .*check the network and GOPROXY"
    ):
        build.build(["etcd"])

    assert made() == []


@needs_gcc
def test_a_second_build_finds_what_the_first_one_made() -> None:
    assert list(build.build(["pause"])) == ["pause"]
    assert build.build(["pause"]) == {}
    subprocess.run(["timeout", "0.2", build.executable("pause")], check=False)


def test_an_unknown_executable_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ToolchainError, match=r"no executable 'kubelets'; they know kube-apiserver, .*, kubectl"):
        build.executable("kubelets")


@needs_gcc
def test_what_a_killed_build_left_is_removed_by_the_next_one() -> None:
    leftover = cluster_cache() / f"{build.SCRATCH}killed"
    leftover.mkdir(parents=True)
    (leftover / "etcd").write_bytes(b"half")

    with pytest.raises(ToolchainError):
        build.build(["nothing"])
    build.build(["pause"])

    assert not leftover.exists()


def test_bytes_other_than_those_that_are_pinned_are_refused(tmp_path: Path) -> None:
    (tmp_path / "etcd").write_bytes(b"something else")

    with pytest.raises(
        ToolchainError, match=r"etcd was built with SHA-256 [0-9a-f]{64}, and versions\.toml expects 00"
    ):
        build._verify(tmp_path / "etcd", "00")


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_the_committed_modules_require_the_version_that_is_pinned(product: Product) -> None:
    required = (product.wrapper / "go.mod").read_text(encoding="utf-8").replace("require ", "\t").splitlines()

    assert any(line.startswith(f"\t{product.module} {product.version}") for line in required)
