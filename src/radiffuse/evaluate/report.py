"""What report.json holds. `docs/report.md` explains the fields; `report_schema` is the JSON schema of them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from radiffuse.evaluate.lineage import ProvenanceNode

SCHEMA_VERSION = 2

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BeforeAfterReal(Record):
    """The classifier's accuracy on samples before and after adaptation, and on held-out real images."""

    before: Share = Field(description="Samples of the model before adaptation.")
    after: Share = Field(description="Samples of the adapted model.")
    real: Share = Field(description="Real images of the test split, normal or with the pathology.")


class Confusion(Record):
    """Counts; positive means that the pathology is there (real) or was asked for (samples)."""

    true_positive: Count
    false_negative: Count
    false_positive: Count
    true_negative: Count


class Accuracy(Record):
    """How often the classifier's answer is the truth, or what was asked for."""

    correct: Count
    total: int = Field(ge=1)
    accuracy: Share
    interval_95: tuple[Share, Share] = Field(description="Wilson's score interval.")
    confusion: Confusion


class AccuracyDetails(Record):
    """The accuracies with their counts."""

    before: Accuracy
    after: Accuracy
    real: Accuracy
    real_blurred: Accuracy = Field(description="The same real images, down 2 to 6 times and up again.")
    real_other_findings: Accuracy | None = Field(
        description="Test images with other findings only; None: there are none."
    )
    external: Accuracy | None = Field(description="Images of a second dataset; None: none was given.")


class PromptResult(Record):
    """One prompt's samples. MS-SSIM is the mean over pairs of its images; None: fewer than two, or too small."""

    prompt: str
    pathologies: tuple[str, ...]
    before: Accuracy | None = Field(description="None: no sample was drawn from this prompt.")
    after: Accuracy | None
    ms_ssim_before: Finite | None
    ms_ssim_after: Finite | None
    ms_ssim_real: Finite | None = Field(description="Of real test images with exactly the prompt's pathologies.")


class FrechetDistance(Record):
    """Squared Fréchet distance to real images of the test split, in the features that `extractor` names."""

    before: NotNegative
    after: NotNegative
    after_same_number: NotNegative = Field(description="Of only as many samples after as before: few samples, bias up.")
    floor: NotNegative = Field(description="Between two halves of the real images.")
    extractor: str = Field(description="Whose features; distances of different extractors do not compare.")
    dimensions: int = Field(ge=1)
    reference_images: Count = Field(description="Real images, with as large a share of positives as the samples.")


class VaeReconstruction(Record):
    """Held-out real images through the adapted model's VAE and back, grey, means over images."""

    images: int = Field(ge=1)
    rmse: NotNegative = Field(description="Of full scale.")
    psnr_db: Finite
    ssim: Finite
    was_trained: bool = Field(description="False: the VAE is the base model's.")


class ClassifierSummary(Record):
    """The judge, trained on real images of the validation split."""

    parameters: int = Field(ge=1)
    train_images: Count
    train_positives: Count
    epochs: int = Field(ge=1)
    input_px: int = Field(ge=1, description="Side of the images it sees.")


class TrainingPoint(Record):
    """One logged step of the adapted model's training."""

    step: Count
    loss: Finite
    images_per_second: NotNegative


class Report(Record):
    """A judged model."""

    schema_version: int = Field(SCHEMA_VERSION, description="Raised when a field changes its meaning or goes.")
    name: str = Field(description="The run.")
    pathology: str = Field(description="CheXpert name of what the classifier recognises.")
    num_samples: int = Field(ge=1, description="Images of the adapted model that were judged.")
    num_samples_before: int = Field(ge=1, description="Images of the model before adaptation.")
    effusion_accuracy: BeforeAfterReal = Field(description="Of `pathology`; the key keeps its name for any pathology.")
    accuracy: AccuracyDetails = Field(description="The same with counts, intervals and confusion matrices.")
    frechet_distance: FrechetDistance = Field(description="Between real and generated images; lower is closer.")
    prompts: tuple[PromptResult, ...] = Field(description="In order of their first sample.")
    ms_ssim_window_px: int | None = Field(description="Of the Gaussian window; None: images too small for MS-SSIM.")
    vae: VaeReconstruction = Field(description="What survives the adapted model's VAE.")
    classifier: ClassifierSummary = Field(description="Who judges.")
    training: tuple[TrainingPoint, ...] = Field(description="Empty when the model has no metrics.jsonl.")
    limits: tuple[str, ...] = Field(description="What the figures do not say.")
    settings: dict[str, Any] = Field(description="EvaluateSettings.")
    code_version: str = Field(description="Version of radiffuse that judged.")
    provenance: tuple[ProvenanceNode, ...] = Field(description="From the report back to the data, each once.")

    def headline(self) -> dict[str, int | float]:
        """The figures that a manifest, and the Kubeflow dashboard, show."""
        return {
            "num_samples": self.num_samples,
            "effusion_accuracy_before": round(self.effusion_accuracy.before, 4),
            "effusion_accuracy_after": round(self.effusion_accuracy.after, 4),
            "effusion_accuracy_real": round(self.effusion_accuracy.real, 4),
            "frechet_distance_before": round(self.frechet_distance.before, 3),
            "frechet_distance_after": round(self.frechet_distance.after, 3),
            "vae_psnr_db": round(self.vae.psnr_db, 2),
            "vae_ssim": round(self.vae.ssim, 4),
        }


def report_schema() -> dict[str, Any]:
    """JSON schema of report.json."""
    return Report.model_json_schema()
