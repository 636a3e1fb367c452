"""The laptop demo: simulate two cohorts, run the fine-tuning pipeline on this machine, show the report.

`python -m pipelines.demo --out out`. Whatever is already in the store below --out is not computed again.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.local import StepClock, as_local, run_pipeline, run_step
from radiffuse.config import load_config
from radiffuse.embedded_store import EmbeddedStore
from radiffuse.errors import ConfigError, RadiffuseError
from radiffuse.manifest import load_manifest
from radiffuse.sigterm import exit_on_sigterm
from radiffuse.storage import Store

EXPECTED_SECONDS = {
    "simulate": 20,
    "simulate external": 3,
    "ingest": 3,
    "ingest external": 2,
    "stage": 2,
    "encode": 35,
    "sample before": 27,
    "train": 270,
    "sample after": 60,
    "evaluate": 30,
    "finish": 1,
}
"""Wall seconds per step, in their order, as measured with the preset `demo` on two cores; the time left follows."""


@dataclass(frozen=True)
class Cohort:
    """A cohort to simulate."""

    step: str
    layout: str
    patients: int
    seed: int


COHORTS = (
    Cohort(step="simulate", layout="chexpert", patients=1500, seed=0),
    Cohort(step="simulate external", layout="mimic", patients=150, seed=1),
)


def run_demo(out: Path, config: str, base_model: str, cohorts: tuple[Cohort, Cohort] = COHORTS) -> dict[str, Any]:
    """Leave report.html and report.json in `out`, and return the latter; raises RadiffuseError at the first failure."""
    run = load_config(config)
    clock = StepClock(EXPECTED_SECONDS)
    with EmbeddedStore(out / "store") as server:
        sources = [_simulate(cohort, out / "cohorts", run.ingest.image_size_px, clock) for cohort in cohorts]
        from pipelines.finetune import finetune_external  # kfp takes a second to import

        folders = run_pipeline(
            finetune_external,
            {
                "source": str(sources[0]),
                "layout": cohorts[0].layout,
                "external_source": str(sources[1]),
                "external_layout": cohorts[1].layout,
                "config": run.model_dump_json(),
                "base_model": base_model,
            },
            root=out / "pipeline-root",
            environment={**server.environment, "RADIFFUSE_CACHE": str(out / "cache")},
            clock=clock,
        )
        report = load_manifest(folders["evaluate"] / "report", "report")
        Store(server.settings).fetch(report, out, ["report.html", "report.json"])
    figures: dict[str, Any] = json.loads((out / "report.json").read_bytes())
    return figures


def _simulate(cohort: Cohort, folder: Path, size_px: int, clock: StepClock) -> Path:
    """The cohort's folder; one that is there already is left as it is."""
    out = folder / f"{cohort.layout}-{cohort.patients}-{size_px}px-seed{cohort.seed}"
    options = {
        "--out": out,
        "--layout": cohort.layout,
        "--patients": cohort.patients,
        "--size-px": size_px,
        "--seed": cohort.seed,
    }
    arguments = [str(part) for option in options.items() for part in option]
    run_step(cohort.step, as_local(["radiffuse", "simulate", *arguments]), {}, clock)
    return out


def describe(figures: dict[str, Any], out: Path) -> str:
    """The headline figures of a report, and where the rest is."""
    accuracy, distance = figures["effusion_accuracy"], figures["frechet_distance"]
    return "\n".join(
        (
            f"{'':<34}{'before':>9}{'after':>9}{'real':>9}",
            f"{'effusion drawn as asked, share':<34}"
            f"{accuracy['before']:>9.1%}{accuracy['after']:>9.1%}{accuracy['real']:>9.1%}",
            f"{'Fréchet distance to real images':<34}{distance['before']:>9.2f}{distance['after']:>9.2f}",
            f"{figures['num_samples']} samples; the pictures and everything else: {out / 'report.html'}",
        )
    )


def main() -> int:
    """Exit code 0 done, 1 failed, 2 misused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the store, the cohorts, the report")
    parser.add_argument("--config", default="demo", help="preset name, YAML file or document")
    parser.add_argument("--base-model", default="tiny", help="a diffusers folder in place of the one that ships")
    arguments = parser.parse_args()
    start = time.monotonic()
    # Spinning threads of one process would take the cores from the other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with exit_on_sigterm():
            figures = run_demo(arguments.out.resolve(), arguments.config, arguments.base_model)
    except RadiffuseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    print(describe(figures, arguments.out))
    print(f"{time.monotonic() - start:.0f} s, set-up not included; run it again and nothing is computed again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
