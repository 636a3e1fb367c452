"""The compiled pipeline, whole: every step a process of its own, against a real store."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.components import load_component_from_file

from pipelines.local import StepClock, run_pipeline
from radiffuse.manifest import load_manifest
from radiffuse.storage import Store
from tests.data import layouts
from tests.tiny import tiny_pipeline

ROOT = Path(__file__).parents[2]
STEPS = ("ingest", "ingest external", "stage", "encode", "sample before", "train", "sample after", "evaluate", "finish")
CONFIG: dict[str, Any] = {
    "name": "tiny-run",
    "ingest": {
        "image_size_px": 64,
        "splits": {"train": 0.4, "validation": 0.4, "test": 0.2},
        "few_shot_per_class": 1,
    },
    "train": {
        "method": "unet_text_encoder",
        "max_train_steps": 2,
        "total_batch_size": 4,
        "train_batch_size": 2,
        "lr_warmup_steps": 0,
        "precision": "fp32",
    },
    "sample": {
        "image_size_px": 64,
        "samples_per_prompt": 4,
        "baseline_samples_per_prompt": 4,
        "num_inference_steps": 3,
        "precision": "fp32",
    },
    "evaluate": {"classifier_epochs": 1, "vae_images": 4, "samples_per_prompt_shown": 2},
}


def mimic_studies(count: int) -> list[dict[str, object]]:
    findings = [layouts.HEALTHY, layouts.EFFUSION]
    return [layouts.mimic_study(number, labels=findings[number % 2]) for number in range(count)]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sources")
    return {
        "source": str(layouts.write_chexpert(folder, layouts.cohort(healthy=32, effusion=32))),
        "layout": "chexpert",
        "external_source": str(layouts.write_mimic(folder / "mimic", mimic_studies(24))),
        "external_layout": "mimic",
        "config": json.dumps(CONFIG),
        "base_model": str(tiny_pipeline(folder / "base")),
    }


def run(arguments: dict[str, str], root: Path, environment: dict[str, str]) -> dict[str, Path]:
    compiled = load_component_from_file(str(ROOT / "pipelines/finetune_external.yaml"))
    clock = StepClock(dict.fromkeys(STEPS, 1.0))
    return run_pipeline(compiled, arguments, root=root, environment=environment, clock=clock)


def test_the_pipeline_runs_whole_and_a_second_time_computes_nothing(
    arguments: dict[str, str], tmp_path: Path, store: Store, store_environment: dict[str, str], capfd: Any
) -> None:
    first = run(arguments, tmp_path / "root", store_environment)
    assert tuple(first) == STEPS
    report = load_manifest(first["evaluate"] / "report", "report")
    figures = json.loads(store.get_bytes(f"{report.uri}/report.json"))
    assert figures["num_samples"] == 8
    assert (first["evaluate"] / "html").read_bytes().startswith(b"<!doctype html>")
    output = json.loads((first["evaluate"] / "executor_output.json").read_text())
    assert output["artifacts"]["metrics"]["artifacts"][0]["metadata"] == report.counts
    assert (first["sample before"] / "samples").stat().st_size < 20_000, "steps pass manifests, not data"

    capfd.readouterr()
    again = run(arguments, tmp_path / "root", store_environment)
    assert load_manifest(again["evaluate"] / "report") == report
    assert "progress=" not in capfd.readouterr().err, "nothing is computed again"
