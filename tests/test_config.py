import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from radiffuse import config
from radiffuse.config import RunConfig, load_config, preset_names
from radiffuse.errors import ConfigError

SOURCE = Path(config.__file__).parent


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_is_named_as_its_file(name: str) -> None:
    assert load_config(name).name == name


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_how_to_run_it_and_what_to_expect(name: str) -> None:
    header = (config.PRESETS / f"{name}.yaml").read_text().split("\nname:")[0]
    assert all(word in header for word in ("# Command:", "# Time:", "# Expected:", "# Source:"))


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_has_a_batch_that_its_processes_share_evenly(name: str) -> None:
    train = load_config(name).train
    assert train.total_batch_size % (train.train_batch_size * train.nproc_per_node) == 0


def test_an_unknown_setting_is_named_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"^train\.learn_rate: unknown setting; did you mean learning_rate\?$"):
        load_config("demo", ("train.learn_rate=1",))


def test_a_setting_like_no_other_is_named_with_all_that_stand_beside_it() -> None:
    with pytest.raises(ConfigError, match=r"^quality: unknown setting; there are .*name, .*train"):
        load_config("demo", ("quality=1",))


def test_an_unknown_section_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^training: unknown setting; did you mean train\?$"):
        load_config("demo", ("training.learning_rate=1",))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate=2", r"train\.learning_rate: Input should be less than or equal to 1 \(found 2\)"),
        ("train.max_train_steps=0", r"train\.max_train_steps: Input should be greater than or equal to 1 \(found 0\)"),
        ("ingest.image_size_px=100", r"ingest\.image_size_px: Input should be a multiple of 8 \(found 100\)"),
        ("train.method=lora", r"train\.method: Input should be 'unet', 'unet_text_encoder' or 'vae' \(found 'lora'\)"),
        ("sample.guidance_scale=0.5", r"sample\.guidance_scale: Input should be greater than or equal to 1"),
        ("name=Demo_1", r"name: String should match pattern"),
        ("train.adam_epsilon=.inf", r"train\.adam_epsilon: Input should be a finite number \(found inf\)"),
        ("train.learning_rate=nan", r"train\.learning_rate: Input should be a finite number \(found nan\)"),
        ("train.seed=1e26", r"train\.seed: "),
        (f"sample.seed={10**26}", r"sample\.seed: Input should be less than or equal to 9223372036854775807"),
        ("train.max_train_steps=true", r"train\.max_train_steps: Input should be no boolean \(found True\)"),
        ("train.ema_decay=on", r"train\.ema_decay: Input should be no boolean"),
        ("evaluate.pathology=Effusion", r"evaluate\.pathology: Input should be one of Enlarged .*, Pleural Effusion, "),
        (
            "sample.prompts=[{prompt: a, pathologies: [edema]}]",
            r"sample\.prompts\.0\.pathologies\.0: .*one of .* \(found 'edema'\)",
        ),
        ("ingest.splits.train=0.9", r"train, validation and test must add up to 1, not 1\.3"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_what_was_found(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("demo", (override,))


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"train\.seed: .*; sample\.seed: "):
        load_config("demo", ("train.seed=-1", "sample.seed=-1"))


def test_an_override_wins_over_the_preset() -> None:
    assert load_config("demo", ("train.max_train_steps=7",)).train.max_train_steps == 7


def test_an_override_may_be_in_scientific_notation() -> None:
    assert load_config("demo", ("train.learning_rate=1e-5",)).train.learning_rate == 1e-5


def test_an_override_may_switch_an_option_off() -> None:
    assert load_config("demo", ("train.ema_decay=null",)).train.ema_decay is None


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set takes section\.field=value, not 'train\.seed'"):
        load_config("demo", ("train.seed",))


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set name\.first: name is a value, not a section"):
        load_config("demo", ("name.first=x",))


def test_a_run_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: mine\ntrain: {max_train_steps: 3}\n")
    assert load_config(str(tmp_path / "run.yaml")).train.max_train_steps == 3


def test_a_resolved_run_reads_back_as_it_was() -> None:
    run = load_config("demo")
    assert load_config(run.model_dump_json()) == run


def test_a_run_that_is_neither_preset_nor_file_lists_the_presets() -> None:
    with pytest.raises(ConfigError, match=r"no configuration 'dmeo': No such file or directory; presets are .*demo"):
        load_config("dmeo")


def test_numbers_may_be_written_as_people_and_machines_do() -> None:
    run = load_config("demo", ("train.max_train_steps=1e3", "train.weight_decay=0", "train.gradient_checkpointing=yes"))
    assert (run.train.max_train_steps, run.train.weight_decay, run.train.gradient_checkpointing) == (1000, 0.0, True)


def test_a_key_that_is_given_twice_is_named() -> None:
    with pytest.raises(ConfigError, match=r"given is not valid YAML: 'seed' is given twice .*line 1, column 36"):
        load_config('{"name": "a", "train": {"seed": 1, "seed": 2}}')


def test_an_override_that_is_broken_yaml_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--set train\.max_train_steps is not valid YAML: .*line 1"):
        load_config("demo", ("train.max_train_steps=[1",))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match=r"run\.yaml is no UTF-8 text at byte 6; a configuration is a YAML file"):
        load_config(str(tmp_path / "run.yaml"))


def test_broken_yaml_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"the document given is not valid YAML: .*line 1"):
        load_config("{name: [")


def test_a_document_of_several_lines_may_be_given_as_it_stands() -> None:
    assert load_config("name: mine\ntrain:\n  max_train_steps: 7\n").train.max_train_steps == 7
    with pytest.raises(ConfigError, match=r"^train\.max_step: unknown setting; did you mean max_train_steps\?$"):
        load_config("# of mine\nname: mine\ntrain: {max_step: 7}")


def test_a_document_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("- demo\n")
    with pytest.raises(ConfigError, match=r"run\.yaml must hold settings by section, not list"):
        load_config(str(tmp_path / "run.yaml"))


def test_settings_cannot_be_changed_after_they_were_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config("demo").train.seed = 1  # type: ignore[misc]


def test_every_setting_is_read_somewhere() -> None:
    """By name: a setting that no module but config.py mentions as an attribute changes nothing."""
    read = {name for path in SOURCE.rglob("*.py") if path.name != "config.py" for name in attributes(path)}
    assert set(fields(RunConfig)) <= read


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, is_described in fields_described(RunConfig) if not is_described] == []


def attributes(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    return (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def fields(model: type[BaseModel]) -> Iterator[str]:
    return (name for name, _ in fields_described(model))


def fields_described(model: type[BaseModel]) -> Iterator[tuple[str, bool]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields_described(field.annotation)
        else:
            yield name, field.description is not None


def test_the_document_of_a_run_is_json() -> None:
    assert json.loads(load_config("demo").model_dump_json())["train"]["ema_decay"] == 0.99
