from pathlib import Path

from components.evaluate.component import evaluate
from pipelines import generate
from pipelines.licences import licence_of, licences_page


def test_every_generated_file_is_current() -> None:
    assert generate.check(generate.generated_files()) == ""


def test_a_file_that_is_not_current_is_shown_as_a_diff() -> None:
    diff = generate.check(iter([(Path("pipelines/finetune.yaml"), "other: 1\n")]))
    assert "-  name: finetune\n" in diff
    assert "+other: 1\n" in diff


def test_a_file_that_is_missing_is_not_current() -> None:
    assert "+a: 1\n" in generate.check(iter([(Path("pipelines/new.yaml"), "a: 1\n")]))


def test_the_sdk_version_does_not_count() -> None:
    current = (generate.ROOT / "pipelines/finetune.yaml").read_text()
    other = generate.SDK_VERSION.sub("sdkVersion: kfp-9.9.9\n", current)
    assert other != current
    assert generate.check(iter([(Path("pipelines/finetune.yaml"), other)])) == ""


def test_a_component_page_shows_the_command_with_its_optional_part() -> None:
    page = generate.component_page(evaluate)
    assert "radiffuse evaluate --dataset DATASET" in page
    assert "[--external EXTERNAL]" in page


def test_a_package_without_a_licence_expression_has_one_from_its_older_fields() -> None:
    assert licence_of("pytest") == "MIT"
    assert "Apache" in licence_of("kfp")


def test_a_package_that_two_extras_need_is_listed_once(tmp_path: Path) -> None:
    project = '[project]\ndependencies = ["numpy>=2"]\n[project.optional-dependencies]\ndev = ["numpy"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    assert licences_page(tmp_path / "pyproject.toml").count("| numpy | core, dev |") == 1
