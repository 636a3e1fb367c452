"""A small convolutional classifier: does a radiograph show the pathology? It judges samples, so it never sees one.

It learns from real images of patients that the generator never saw, sharp and blurred. Without the blurred ones a
generator that paints softly would fool it: its soft pictures lie outside what the classifier knows.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from radiffuse.config import EvaluateSettings
from radiffuse.data.shards import ImageDataset
from radiffuse.errors import DataError
from radiffuse.progress import Progress

FEATURES = 64
# Larger images are reduced: the findings judged here are larger than a hundredth of the chest.
MAX_SIDE_PX = 128
BLUR_FACTORS = (1.0, 6.0)  # down by up to this and up again; facts in the module's docstring
MIN_PER_CLASS = 8
INFERENCE_BATCH_SIZE = 128

GreyImages = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledImages:
    """Grey images (N, h, w) uint8, at most MAX_SIDE_PX, with the truth.

    index: (N,) place in the dataset; is_positive: (N,); is_normal: (N,), read as having no finding.
    """

    index: npt.NDArray[np.int64]
    images: GreyImages
    is_positive: npt.NDArray[np.bool_]
    is_normal: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.images)

    def select(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "LabelledImages":
        """Some of the images, by mask or by place."""
        return LabelledImages(self.index[chosen], self.images[chosen], self.is_positive[chosen], self.is_normal[chosen])


# Inputs, outputs, stride. Most of the work is done at an eighth of the size and below: findings are large.
STAGES = ((1, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1), (64, 112, 2), (112, 112, 1))


class Classifier(nn.Module):
    """0.25 M weights: 3x3 convolutions, pooled to FEATURES, one logit. Takes (B, 1, h, w) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(_conv(*stage) for stage in STAGES))
        self.features = nn.Linear(STAGES[-1][1], FEATURES)
        self.logit = nn.Linear(FEATURES, 1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (B,)."""
        pooled = self.stages(pixel_values).mean(dim=(2, 3))
        logits: torch.Tensor = self.logit(functional.relu(self.features(pooled)))
        return logits.squeeze(1)


def _conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def load_labelled(dataset: ImageDataset, split: str | None, pathology: str) -> LabelledImages:
    """Images of one split whose label is known: positive, or negative because read as normal or as something else.

    An image with no positive label that is not normal either is left out: its label is blank or uncertain.
    """
    pathologies, no_finding = dataset.column("pathologies"), dataset.column("no_finding")
    known = [int(index) for index in dataset.indices(split) if pathologies[index] or no_finding[index]]
    if not known:
        where = "the dataset" if split is None else f"split {split!r}"
        raise DataError(f"no labelled image in {where}; ingest more images, or give that split a larger share")
    return LabelledImages(
        np.array(known),
        np.stack([reduce_image(dataset[index].image) for index in known]),
        np.array([pathology in pathologies[index] for index in known]),
        np.array([bool(no_finding[index]) for index in known]),
    )


def reduce_image(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A grey image (H, W), box-filtered to MAX_SIDE_PX where it is larger: what the classifier sees of it."""
    if image.shape[-1] <= MAX_SIDE_PX:
        return image
    return np.asarray(Image.fromarray(image).resize((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.BOX))


def train_classifier(data: LabelledImages, settings: EvaluateSettings) -> Classifier:
    """Train on real images, half of every batch blurred; one cycle of AdamW. Raises DataError when a class lacks."""
    positives = int(data.is_positive.sum())
    if min(positives, len(data) - positives) < MIN_PER_CLASS:
        raise DataError(
            f"the classifier needs {MIN_PER_CLASS} validation images with {settings.pathology} and as many without, "
            f"found {positives} and {len(data) - positives}; give ingest.splits.validation a larger share"
        )
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    model = Classifier().train()
    targets = torch.from_numpy(data.is_positive).float()
    # Each class weighs the same, whatever its share: the prompts that will be judged come in equal numbers.
    pos_weight = torch.tensor((len(data) - positives) / positives)
    steps = settings.classifier_epochs * math.ceil(len(data) / settings.classifier_batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.classifier_learning_rate, weight_decay=1e-2)
    lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.classifier_learning_rate, total_steps=steps)
    with Progress(steps, "classifier", "steps") as progress:
        for _ in range(settings.classifier_epochs):
            for index in torch.split(torch.randperm(len(data), generator=generator), settings.classifier_batch_size):
                batch = augment(to_pixel_values(data.images[index.numpy()]), generator)
                loss = functional.binary_cross_entropy_with_logits(model(batch), targets[index], pos_weight=pos_weight)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                lr_scheduler.step()
                progress.update(1, loss=loss.item())
    return model.eval()


def to_pixel_values(images: GreyImages) -> torch.Tensor:
    """(N, 1, h, w) float32 in [-1, 1] of grey images (N, h, w)."""
    return torch.from_numpy(images).float().div_(127.5).sub_(1).unsqueeze(1)


def augment(pixel_values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift by up to 4 %, change contrast and brightness a little, and blur every second image."""
    shifted = _shift(pixel_values, generator)
    gain = 1 + 0.2 * (torch.rand(len(shifted), 1, 1, 1, generator=generator) - 0.5)
    offset = 0.2 * (torch.rand(len(shifted), 1, 1, 1, generator=generator) - 0.5)
    changed = shifted * gain + offset
    low, high = BLUR_FACTORS
    # One factor for the half batch: each resize is one call.
    factor = low + (high - low) * float(torch.rand(1, generator=generator))
    return torch.cat([changed[::2], blur(changed[1::2], factor)])[_interleave(len(changed))]


def _shift(pixel_values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    reach = max(1, pixel_values.shape[-1] // 24)
    padded = functional.pad(pixel_values, (reach,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    return padded[..., down : down + pixel_values.shape[-2], right : right + pixel_values.shape[-1]]


def _interleave(size: int) -> torch.Tensor:
    """Index that undoes `cat([x[::2], x[1::2]])`."""
    return torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2)]).argsort()


def blur(pixel_values: torch.Tensor, factor: float) -> torch.Tensor:
    """Down by `factor` and up to the same size again."""
    side = pixel_values.shape[-1]
    if len(pixel_values) == 0 or factor <= 1:
        return pixel_values
    small = functional.interpolate(pixel_values, size=(max(4, round(side / factor)),) * 2, mode="area")
    return functional.interpolate(small, size=(side, side), mode="bicubic", align_corners=False)


def blur_images(images: GreyImages, factor: float) -> GreyImages:
    """Images (N, H, W) uint8, down by `factor` and up again."""
    blurred = blur(torch.from_numpy(images).float().unsqueeze(1), factor)
    return blurred.squeeze(1).round().clamp(0, 255).to(torch.uint8).numpy()


@dataclass(frozen=True)
class Judgement:
    """Probabilities (N,) of the pathology."""

    probabilities: npt.NDArray[np.float64]

    @property
    def is_positive(self) -> npt.NDArray[np.bool_]:
        """Predicted: probability of at least one half."""
        return self.probabilities >= 0.5


@torch.no_grad()
def judge_images(model: Classifier, images: GreyImages) -> Judgement:
    """What the classifier says of grey images (N, H, W) uint8, in fp32."""
    logits = [
        model(to_pixel_values(images[start : start + INFERENCE_BATCH_SIZE]))
        for start in range(0, len(images), INFERENCE_BATCH_SIZE)
    ]
    return Judgement(torch.sigmoid(torch.cat(logits)).double().numpy())
