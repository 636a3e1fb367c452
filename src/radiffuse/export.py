"""A finished run as a plain diffusers pipeline: what was trained, beside what was not, and how it came about."""

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from radiffuse import __version__
from radiffuse.code_version import code_version
from radiffuse.history import History
from radiffuse.local_files import scratch_folder
from radiffuse.manifest import Manifest
from radiffuse.train_plan import TrainPlan

if TYPE_CHECKING:
    from radiffuse.models import Models
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

CARD, CONFIG, METRICS = "README.md", "radiffuse.json", "metrics.jsonl"

CARD_TEXT = """\
---
library_name: diffusers
pipeline_tag: text-to-image
tags:
- chest-x-ray
- medical
- stable-diffusion
---

# {name}

Adapted by radiffuse {version} with the method `{method}`: {trained} trained, everything else as in the base model.

| | |
|---|---|
| base model | `{model}` |
| data | `{data}` |
| optimizer steps x images | {steps} x {batch} |
| learning rate | {rate:g}, {schedule}, {warmup} steps of warm-up |
| averaged weights | {ema} |
| loss, mean of the last logged steps | {loss} |

`radiffuse.json` has every setting and where the inputs are; `metrics.jsonl` has the loss by step.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("<this folder>")
image = pipeline("a photo of a lung xray", num_inference_steps=75, guidance_scale=4).images[0]
```

## Limits

For research on generative models. Not a medical device, not for diagnosis, and not evidence about any patient: an
image drawn by it shows what its training data made likely, not an anatomy that exists. The base model's licence and
the data's terms of use apply to these weights too.
"""


def export_model(
    store: "Store", plan: TrainPlan, models: "Models", trained: tuple[str, ...], model_folder: Path, history: History
) -> Manifest:
    """Publish the pipeline with its model card, resolved settings and loss curve to `plan.uri`."""
    with scratch_folder("export") as scratch:
        folder = scratch / "model"
        write_pipeline(folder, models, trained, model_folder)
        (folder / CARD).write_text(model_card(plan, trained, history), encoding="utf-8")
        (folder / CONFIG).write_text(json.dumps(provenance(plan), indent=2) + "\n", encoding="utf-8")
        history.write(folder / METRICS)
        manifest = store.publish(_manifest(plan, history), folder)
    logger.info("model uri=%s", manifest.uri)
    return manifest


def write_pipeline(folder: Path, models: "Models", trained: tuple[str, ...], model_folder: Path) -> None:
    """Copy the base pipeline without the trained parts, and save those beside it."""
    left_out = {*trained, CARD, CONFIG, METRICS}

    def ignore(where: str, names: list[str]) -> set[str]:
        hidden = {name for name in names if name.startswith(".")}  # the local cache's own records
        return hidden | (left_out.intersection(names) if Path(where) == model_folder else set())

    shutil.copytree(model_folder, folder, ignore=ignore)
    for part in trained:
        getattr(models, part).save_pretrained(folder / part, safe_serialization=True)
        _forget_where(folder / part / "config.json")


def _forget_where(path: Path) -> None:
    """Take out of a part's description the folder that it was loaded from: it is this machine's, and of no use."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def model_card(plan: TrainPlan, trained: tuple[str, ...], history: History) -> str:
    """README.md in the form the Hugging Face hub reads."""
    settings = plan.settings
    return CARD_TEXT.format(
        name=plan.name,
        version=__version__,
        method=settings.method,
        trained=" and ".join(trained),
        model=plan.model.uri,
        data=plan.data.uri,
        steps=settings.max_train_steps,
        batch=settings.total_batch_size,
        rate=settings.learning_rate,
        schedule=settings.lr_schedule,
        warmup=settings.lr_warmup_steps,
        ema="none" if settings.ema_decay is None else f"decay {settings.ema_decay:g}; these are the averages",
        loss=f"{history.records[-1]['loss']:.4g}" if history.records else "not logged",
    )


def provenance(plan: TrainPlan) -> dict[str, object]:
    """All that made the weights: settings, addresses of the inputs, code version."""
    return {
        "name": plan.name,
        "digest": plan.digest,
        "code_version": code_version(),
        "inputs": {"model": plan.model.uri, "data": plan.data.uri},
        "base_model": plan.model.model_dump(mode="json", include={"name", "uri", "digest", "inputs", "settings"}),
        "data": plan.data.model_dump(mode="json", include={"name", "uri", "digest", "inputs", "settings", "counts"}),
        "train": plan.settings.model_dump(mode="json"),
    }


def _manifest(plan: TrainPlan, history: History) -> Manifest:
    counts: dict[str, int | float] = {"steps": plan.settings.max_train_steps}
    if history.records:
        last = history.records[-1]
        counts |= {"loss": last["loss"], "images_per_second": last["images_per_second"]}
    return Manifest(
        kind="model",
        name=plan.name,
        uri=plan.uri,
        digest=plan.digest,
        inputs={"model": plan.model.uri, "data": plan.data.uri},
        settings=plan.settings.model_dump(mode="json"),
        counts=counts,
    )
