import sys
from pathlib import Path

import pytest

from pipelines import demo
from radiffuse.config import load_config

FIGURES = {
    "num_samples": 200,
    "effusion_accuracy": {"before": 0.5, "after": 0.985, "real": 1.0},
    "frechet_distance": {"before": 48.8, "after": 1.4},
}


def test_the_headline_figures_are_shown_side_by_side_with_where_to_look() -> None:
    text = demo.describe(FIGURES, Path("out"))
    assert "50.0%    98.5%   100.0%" in text
    assert "48.80     1.40" in text
    assert text.endswith("200 samples; the pictures and everything else: out/report.html")


def test_a_preset_that_does_not_exist_ends_the_demo_before_a_store_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path / "out"), "--config", "dmeo"])
    assert demo.main() == 2
    assert "error: no configuration 'dmeo'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_demo_draws_as_many_samples_as_it_promises_to_judge() -> None:
    sample = load_config("demo").sample
    assert len(sample.prompts) * sample.samples_per_prompt >= 200
    assert (sample.num_inference_steps, sample.guidance_scale) == (75, 4.0)
