"""Every setting and its default, with meaning, unit and bounds.

A run is one document: a preset or a YAML file, and `--set section.field=value` over it. Unknown keys are refused,
and the resolved document is stored beside whatever it made.
"""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from radiffuse.data.labels import PATHOLOGIES
from radiffuse.errors import ConfigError
from radiffuse.setting_errors import describe

PRESETS = resources.files("radiffuse") / "presets"

_Model = TypeVar("_Model", bound=BaseModel)


Precision = Literal["fp32", "bf16"]
InferencePrecision = Precision | Literal["fastest"]
"""fastest: bf16 where the device has units for it (GPUs from Ampere on, CPUs with AMX), fp32 elsewhere."""

MAX_SEED = 2**63 - 1
"""What torch, numpy and JSON readers take alike."""


class Settings(BaseModel):
    """Frozen, closed to unknown keys, and its numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Pydantic takes true for 1; YAML reads yes, on and off as booleans, too.
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind is not bool and bool not in get_args(kind):
            raise ValueError("Input should be no boolean")
        return value


def _known_pathology(name: str) -> str:
    if name not in PATHOLOGIES:
        raise ValueError(f"Input should be one of {', '.join(PATHOLOGIES)}")
    return name


Pathology = Annotated[str, AfterValidator(_known_pathology)]


class SplitFractions(Settings):
    """Shares of the patients; they add up to 1."""

    train: float = Field(0.8, gt=0, le=1, description="Adapts the model.")
    validation: float = Field(0.1, ge=0, lt=1, description="Trains the classifier that judges; never the model.")
    test: float = Field(0.1, ge=0, lt=1, description="Held out from both: reference images for every metric.")

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test must add up to 1, not {total:g}")
        return self


class IngestSettings(Settings):
    """From a published layout to image-prompt shards."""

    image_size_px: int = Field(512, ge=32, le=2048, multiple_of=8, description="Side of the stored square, pixels.")
    view_positions: tuple[Literal["AP", "PA"], ...] = Field(("AP", "PA"), min_length=1, description="Frontal kinds.")
    max_images: int | None = Field(None, ge=1, description="Images drawn at random by seed; None takes all.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Draws the images, the few-shot set and the split.")
    splits: SplitFractions = SplitFractions()
    few_shot_per_class: int = Field(5, ge=0, description="Images with no finding, and as many with only effusion.")
    split_source: Literal["fractions", "published"] = Field(
        "fractions", description="Patients by `splits`, or the split table that MIMIC-CXR-JPG publishes."
    )
    prompt_source: Literal["labels", "impression"] = Field(
        "labels", description="Synthetic prompts from the labels, or the report's impression (MIMIC-CXR only)."
    )
    impression_length_unit: Literal["tokens", "characters"] = Field(
        "tokens", description="What the limits count; tokens: words, digits and punctuation, plus CLIP's start and end."
    )
    impression_min_length: int = Field(7, ge=0, description="Shorter impressions are left out; RoentGen's 7.")
    impression_max_length: int = Field(77, ge=1, description="Longer ones too; 77 tokens are CLIP's context.")
    images_per_shard: int = Field(2048, ge=1, description="Images in one Arrow file.")


class EncodeSettings(Settings):
    """From image shards to the VAE's posterior means and standard deviations."""

    batch_size: int = Field(16, ge=1, description="Images per VAE forward pass.")
    precision: InferencePrecision = Field(
        "fp32",
        description="Of the VAE while it encodes. fastest: bf16 on GPUs from Ampere on and CPUs with AMX, else fp32.",
    )


class TrainSettings(Settings):
    """One fine-tuning run."""

    method: Literal["unet", "unet_text_encoder", "vae"] = Field("unet", description="What is trained.")
    max_train_steps: int = Field(1000, ge=1, description="Optimizer steps.")
    total_batch_size: int = Field(256, ge=1, description="Images per optimizer step, over all processes.")
    train_batch_size: int = Field(8, ge=1, description="Images per process and micro-step, at most.")
    learning_rate: float = Field(5e-5, gt=0, le=1, description="Peak; RoentGen's 5e-5.")
    lr_schedule: Literal["constant", "cosine", "linear"] = Field("constant", description="After the warm-up.")
    lr_warmup_steps: int = Field(500, ge=0, description="Optimizer steps from 0 to the peak.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the gradient's mean.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW: decay of the gradient's square.")
    adam_epsilon: float = Field(1e-8, gt=0, description="AdamW: added to the denominator.")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW: decoupled, per unit of learning rate.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm over all parameters.")
    ema_decay: float | None = Field(None, gt=0, lt=1, description="Averages the weights that are exported; None: off.")
    prompt_dropout_prob: float = Field(0.0, ge=0, le=1, description="Chance that a prompt becomes the empty string.")
    snr_gamma: float | None = Field(None, gt=0, description="Min-SNR loss weight (Hang et al. 2023); None: off.")
    kl_weight: float = Field(1e-6, ge=0, description="VAE only: weight of the mean KL of a latent's elements.")
    precision: Precision | None = Field(
        None, description="Autocast; master weights stay fp32. None: bf16 on GPUs, fp32 on CPUs."
    )
    gradient_checkpointing: bool = Field(False, description="Trade a second forward pass for memory.")
    nproc_per_node: int = Field(1, ge=1, description="Processes torchrun starts on this node, one per GPU.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Data order, noise, timesteps and dropout.")
    checkpoint_every_steps: int = Field(500, ge=1, description="Optimizer steps between checkpoints.")
    checkpoints_kept: int = Field(2, ge=1, description="Newest complete checkpoints that pruning leaves.")
    log_every_steps: int = Field(10, ge=1, description="Optimizer steps between log lines and metric updates.")
    dataloader_workers: int = Field(0, ge=0, description="Loader threads per training process; 0 loads in line.")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="Prometheus port on a laptop; None: off.")


class SamplePrompt(Settings):
    """A prompt, and what an image drawn from it should show."""

    prompt: str = Field(max_length=1000, description="At most 1,000 characters; the encoder cuts it further.")
    pathologies: tuple[Pathology, ...] = Field(
        (), description="CheXpert names, such as 'Pleural Effusion'; empty: none."
    )


class SampleSettings(Settings):
    """Images from prompts."""

    prompts: tuple[SamplePrompt, ...] = Field(
        (
            SamplePrompt(prompt="a photo of a lung xray"),
            SamplePrompt(
                prompt="a photo of a lung xray with a visible pleural effusion", pathologies=("Pleural Effusion",)
            ),
        ),
        min_length=1,
        description="What to draw, and what it should show.",
    )
    samples_per_prompt: int = Field(100, ge=1, description="Drawn from the adapted model.")
    baseline_samples_per_prompt: int = Field(100, ge=1, description="Drawn from the model before it was adapted.")
    image_size_px: int = Field(512, ge=32, le=2048, multiple_of=8, description="Side of the drawn square, pixels.")
    num_inference_steps: int = Field(75, ge=1, le=1000, description="PNDM steps.")
    guidance_scale: float = Field(4.0, ge=1, le=50, description="1.0 is no guidance.")
    batch_size: int = Field(8, ge=1, description="Images per U-Net call, before guidance doubles it.")
    precision: InferencePrecision | None = Field(
        None,
        description="Of the text encoder and the U-Net. None: bf16 on GPUs, fp32 on CPUs."
        " fastest: bf16 on GPUs from Ampere on and CPUs with AMX, else fp32.",
    )
    nproc_per_node: int = Field(1, ge=1, description="Processes that share the prompts, one per GPU.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="With the sample's number it alone decides an image's noise.")


class EvaluateSettings(Settings):
    """The judge."""

    classifier_epochs: int = Field(8, ge=1, description="Passes over the validation split.")
    classifier_batch_size: int = Field(32, ge=1, description="Images per optimizer step.")
    classifier_learning_rate: float = Field(3e-3, gt=0, description="Peak of a one-cycle schedule.")
    pathology: Pathology = Field("Pleural Effusion", description="CheXpert name of what the classifier recognises.")
    vae_images: int = Field(100, ge=1, description="Held-out images whose reconstruction is measured.")
    samples_per_prompt_shown: int = Field(6, ge=1, description="Pictures per prompt in the report.")
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Of the classifier's weights and order, and of which real images it is shown."
    )


class RunConfig(Settings):
    """A whole run."""

    name: str = Field(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$", description="A DNS label; part of every address.")
    ingest: IngestSettings = IngestSettings()
    encode: EncodeSettings = EncodeSettings()
    train: TrainSettings = TrainSettings()
    sample: SampleSettings = SampleSettings()
    evaluate: EvaluateSettings = EvaluateSettings()


def preset_names() -> list[str]:
    """Names that `load_config` takes in place of a path."""
    return documents_in(PRESETS)


def load_config(source: str, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Resolve a run from a preset's name, a YAML file's path or a JSON document, with `section.field=value` over it.

    Raises ConfigError that names the setting, what was found and what is allowed.
    """
    return validated(RunConfig, read_document(source, PRESETS, overrides))


def documents_in(presets: Traversable) -> list[str]:
    """Names of the YAML documents of a folder."""
    return sorted(entry.name.removesuffix(".yaml") for entry in presets.iterdir() if entry.name.endswith(".yaml"))


def read_document(
    source: str, presets: Traversable, overrides: tuple[str, ...] = (), option: str = "--set"
) -> dict[str, Any]:
    """A document by its name in `presets`, its path, or as JSON, with `section.field=value` over it; not yet checked.

    `option` is what gave the overrides. Raises ConfigError when there is none, or when it is no mapping.
    """
    document = _parse(*_find(source, presets))
    for override in overrides:
        _apply_override(document, override, option)
    return document


def validated(model: type[_Model], document: dict[str, Any]) -> _Model:
    """The document as that model; raises ConfigError that names every mistake at once."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError(describe(error, model)) from error


def is_document(source: str) -> bool:
    """Whether it is a document itself, in braces or of several lines; else a preset's name or a path."""
    return source.lstrip().startswith("{") or "\n" in source.strip()


def _find(source: str, presets: Traversable) -> tuple[str, str]:
    """A document's text, and what to call it."""
    if is_document(source):
        return source, "the document given"
    if source in documents_in(presets):
        return (presets / f"{source}.yaml").read_text(encoding="utf-8"), f"preset {source}"
    try:
        return Path(source).read_text(encoding="utf-8"), source
    except OSError as error:
        names = ", ".join(documents_in(presets))
        raise ConfigError(f"no configuration {source!r}: {error.strerror}; presets are {names}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} is no UTF-8 text at byte {error.start}; a configuration is a YAML file") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML as it is meant: a key that is given twice in one section is a mistake, not an override."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


def _load_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _UniqueKeys)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error


def _parse(text: str, where: str) -> dict[str, Any]:
    document = _load_yaml(text, where)
    if not isinstance(document, dict):
        raise ConfigError(f"{where} must hold settings by section, not {type(document).__name__}")
    return document


def _apply_override(document: dict[str, Any], override: str, option: str) -> None:
    path, separator, value = override.partition("=")
    if not separator:
        raise ConfigError(f"{option} takes section.field=value, not {override!r}")
    *sections, field = path.strip().split(".")
    for section in sections:
        document = document.setdefault(section, {})
        if not isinstance(document, dict):
            raise ConfigError(f"{option} {path}: {section} is a value, not a section")
    document[field] = _parse_number(_load_yaml(value, f"{option} {path.strip()}"))


def _parse_number(value: Any) -> Any:
    """YAML 1.1 reads 1e-5 as text; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
