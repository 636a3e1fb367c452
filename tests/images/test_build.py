"""What `make images` says before it builds anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from images.buildah import forget_attempts, scratch
from images.commands import ImageError, run
from images.recipe import pinned
from tests.images.dockerfiles import ROOT

DIGEST = "sha256:" + "0123456789abcdef" * 4


def make_images(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "images.build", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment)


def test_missing_tools_are_named_with_the_packages_that_have_them(tmp_path: Path) -> None:
    done = make_images(PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip().endswith("apt-get install --no-install-recommends buildah mmdebstrap")


def test_help_has_examples() -> None:
    done = make_images("--help")
    assert (done.returncode, "make images OPTIONS=" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "no image 'trian'; choose from pipeline, train"),
        (["--output", "tar:out"], "'tar:out' is not FORMAT:FOLDER with a format of oci, oci-archive"),
        (["--output", "oci:"], "is not FORMAT:FOLDER"),
    ],
)
def test_what_cannot_be_meant_is_misuse(arguments: list[str], said: str) -> None:
    done = make_images(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("base", ["python:3.13", "docker.io/library/python:latest", f"python@{DIGEST[:-1]}", ""])
def test_a_base_without_its_digest_is_refused(base: str) -> None:
    with pytest.raises(ImageError, match="neither 'debian' nor an image with its digest"):
        pinned(base)


@pytest.mark.parametrize("base", [f"python@{DIGEST}", f"registry.example.org:5000/python:3.13-slim@{DIGEST}"])
def test_a_base_with_its_digest_is_taken(base: str) -> None:
    assert pinned(base) == base


def test_what_a_killed_build_has_left_is_removed_but_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path))
    for name in ("buildah-cache/uv", "buildah1179942732"):
        (scratch() / name).mkdir(parents=True)
        (scratch() / name / "file").write_text("bytes")
    (scratch() / "3017639019").write_text("a layer")
    forget_attempts()
    assert [path.name for path in scratch().iterdir()] == ["buildah-cache"]
    assert (scratch() / "buildah-cache/uv/file").exists()


def test_a_tool_that_fails_is_quoted() -> None:
    with pytest.raises(ImageError, match=r"`sh -c .*` ended with 3:\n  no space left"):
        run(["sh", "-c", "echo no space left >&2; exit 3"])
