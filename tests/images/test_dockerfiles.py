"""What the Dockerfiles promise to whoever runs the images."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.image import PIPELINE_IMAGE, TRAIN_IMAGE
from images.recipe import NAMES, SOURCES
from pipelines.placement import USER
from radiffuse.code_version import REVISION_VARIABLE
from tests.images.dockerfiles import PATHS, ROOT, extras, instructions, last_stage

both = pytest.mark.parametrize("name", NAMES)


@both
def test_hadolint_has_nothing_to_say(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", PATHS[name]], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@both
def test_the_user_is_the_number_that_pods_ask_for(name: str) -> None:
    assert last_stage(name)["USER"] == f"{USER}:{USER}"


@both
def test_the_first_process_obeys_signals_from_its_first_moment(name: str) -> None:
    assert json.loads(last_stage(name)["ENTRYPOINT"]) == ["dumb-init", "--single-child", "--", "radiffuse"]
    assert "image" in extras(name)  # the extra that has dumb-init


@both
def test_nothing_but_tmp_is_asked_to_be_writable(name: str) -> None:
    environment = dict(re.findall(r"(\w+)=(\S+)", last_stage(name)["ENV"]))
    assert last_stage(name)["WORKDIR"] == environment["HOME"] == "/tmp"
    assert environment["RADIFFUSE_CACHE"].startswith("/tmp/")


@both
def test_labels_say_what_it_is_and_where_it_comes_from(name: str) -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\S+)="([^"]*)"', last_stage(name)["LABEL"]))
    given = ["base.name", "description", "licenses", "revision", "source", "title", "version"]
    assert sorted(labels) == given
    assert labels["title"] == f"radiffuse-{name}"
    assert labels["licenses"] == "Apache-2.0"


@both
def test_the_commit_of_the_label_is_also_what_the_code_says_it_is(name: str) -> None:
    environment = dict(re.findall(r"(\w+)=(\S+)", last_stage(name)["ENV"]))
    assert environment[REVISION_VARIABLE] == "${REVISION}"
    words = [(word, arguments) if word == "ARG" else word for word, arguments in instructions(name)]
    last_from = len(words) - words[::-1].index("FROM")
    assert ("ARG", 'REVISION=""') in words[last_from : words.index("ENV", last_from)], "it would be empty"


def test_components_name_the_images_by_their_titles() -> None:
    assert PIPELINE_IMAGE.partition(":")[0] == "radiffuse-pipeline"
    assert TRAIN_IMAGE.partition(":")[0] == "radiffuse-train"


@both
def test_every_stage_starts_from_the_base_that_is_an_argument_or_from_another_stage(name: str) -> None:
    found = instructions(name)
    assert [word for word, _ in found[:2]] == ["ARG", "FROM"]
    origins = [arguments.split()[0] for word, arguments in found if word == "FROM"]
    assert set(origins) == {"${BASE_IMAGE}", "dependencies"}


@both
def test_whatever_is_installed_is_checked_against_the_lock(name: str) -> None:
    runs = " ".join(arguments for word, arguments in instructions(name) if word == "RUN")
    installs = [each for each in re.split(r"&&|RUN", runs) if re.search(r"pip (install|sync)", each)]
    checked = [each for each in installs if re.search(r"--require-hashes|--constraints requirements\.lock", each)]
    own = [each for each in installs if "--no-deps" in each and "dist/*.whl" in each]
    assert len(installs) == len(checked) + len(own) == 4


@both
def test_no_instruction_carries_a_credential(name: str) -> None:
    declared = " ".join(arguments for word, arguments in instructions(name) if word in ("ARG", "ENV", "LABEL"))
    assert re.search(r"(?i)password|passwd|secret|token|credential|_key", declared) is None


def test_the_two_differ_in_what_they_hold_and_are_called_and_in_nothing_else() -> None:
    def without_differences(name: str) -> list[str]:
        text = re.sub(rf"\b{name}\b", "NAME", PATHS[name].read_text(encoding="utf-8").partition("\n")[2])
        text = re.sub(r"(?: --extra \S+)+", " EXTRAS", text)
        return re.sub(r'(description)="[^"]*"', r"\1", text).splitlines()

    assert without_differences("train") == without_differences("pipeline")


def test_a_build_sees_what_it_is_made_from_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    admitted = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert admitted == set(SOURCES)
