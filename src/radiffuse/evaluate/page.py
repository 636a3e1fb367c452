"""report.html: one self-contained page, no script, readable in print, in the dark and by colour-blind people."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

from radiffuse.evaluate.chain import describe_chain
from radiffuse.evaluate.charts import Chart, line_chart
from radiffuse.evaluate.numbers import grouped, percent, plain
from radiffuse.evaluate.pictures import Pictures
from radiffuse.evaluate.report import Accuracy, Report

TEMPLATE = resources.files("radiffuse.evaluate") / "report_template.html"
CHANCE = 0.5


@dataclass(frozen=True)
class Marker:
    """One accuracy on the scale from 0 to 1: whose, and what it is."""

    group: str
    label: str
    accuracy: Accuracy


@dataclass(frozen=True)
class Cell:
    """A figure, and its 95 % interval where it has one."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class MetricRow:
    """A line of the table of figures; None where a column does not apply."""

    name: str
    before: Cell | None
    after: Cell | None
    real: Cell | None
    meaning: str


def render_page(report: Report, pictures: Pictures, uri: str) -> str:
    """The page of a report that is stored at `uri`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, plain=plain, grouped=grouped)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        pictures=pictures,
        uri=uri,
        finding=report.pathology.lower(),
        sentence=result_sentence(report),
        markers=_markers(report),
        metrics=metric_rows(report),
        charts=training_charts(report),
        diversity=_diversity(report),
        chain=describe_chain(report, uri),
        columns=max(1, report.settings["samples_per_prompt_shown"]),
    )


def result_sentence(report: Report) -> str:
    """The result in plain words."""
    before, after = report.accuracy.before, report.accuracy.after
    verdict = ", no better than chance" if before.interval_95[0] <= CHANCE else ""
    return (
        f"Asked for {grouped(after.total)} chest radiographs with or without {report.pathology.lower()}, the adapted "
        f"model drew what was asked for in {grouped(after.correct)} ({percent(after.accuracy)}). Before adaptation it "
        f"did so in {grouped(before.correct)} of {grouped(before.total)} ({percent(before.accuracy)}){verdict}."
    )


def _markers(report: Report) -> tuple[Marker, ...]:
    return (
        Marker("before", "before adaptation", report.accuracy.before),
        Marker("after", "after adaptation", report.accuracy.after),
        Marker("real", "real, held out", report.accuracy.real),
    )


def metric_rows(report: Report) -> list[MetricRow]:
    """Every figure with what it means."""
    accuracy, frechet, vae = report.accuracy, report.frechet_distance, report.vae
    rows = [
        MetricRow(
            "Drawn as asked",
            _with_interval(accuracy.before),
            _with_interval(accuracy.after),
            _with_interval(accuracy.real),
            "Share of images in which the classifier sees what the prompt asks for; for real images, what the label "
            "says. Below it the 95 % interval (Wilson). A classifier that has only seen radiographs gives most "
            "other pictures one and the same answer, so about half is what chance gives.",
        ),
        MetricRow(
            "The same, real images blurred",
            None,
            None,
            _with_interval(accuracy.real_blurred),
            "Held-out radiographs, down 2 to 6 times and up again: a judge that fails here is fooled by soft images.",
        ),
    ]
    if accuracy.real_other_findings is not None:
        meaning = f"Held-out radiographs with other findings only, which must not be called {report.pathology.lower()}."
        rows.append(
            MetricRow("The same, other findings", None, None, _with_interval(accuracy.real_other_findings), meaning)
        )
    if accuracy.external is not None:
        meaning = "Radiographs of a second dataset: how far the judge carries."
        rows.append(MetricRow("The same, second dataset", None, None, _with_interval(accuracy.external), meaning))
    rows.append(
        MetricRow(
            "Fréchet distance",
            Cell(plain(frechet.before)),
            Cell(plain(frechet.after)),
            Cell(plain(frechet.floor)),
            f"Between real and generated images, in the features of {frechet.extractor} ({frechet.dimensions} "
            f"dimensions), with {frechet.reference_images} real images; lower is closer. Under real: two halves of the "
            "real images against each other; being half as many, they lie further apart than the whole would. With "
            f"only as many images after as before: {plain(frechet.after_same_number)}.",
        )
    )
    rows += [_diversity_row(report)]
    rows += [
        MetricRow("VAE: RMSE", None, None, Cell(plain(vae.rmse)), "Root mean square error, as a share of full scale."),
        MetricRow(
            "VAE: PSNR", None, None, Cell(f"{vae.psnr_db:.1f} dB"), "Peak signal to noise ratio; higher is better."
        ),
        MetricRow(
            "VAE: SSIM",
            None,
            None,
            Cell(f"{vae.ssim:.3f}"),
            f"Structural similarity, 1 is equal. {vae.images} held-out radiographs through the "
            f"{'adapted' if vae.was_trained else 'frozen'} VAE and back: no sample can be sharper than this.",
        ),
    ]
    return rows


def _diversity_row(report: Report) -> MetricRow:
    before, after, real = (None if mean is None else Cell(mean) for mean in _diversity(report).values())
    return MetricRow(
        "MS-SSIM within a prompt",
        before,
        after,
        real,
        "Likeness of images of one prompt, mean over pairs and prompts: 1 would be the same image again and again. "
        "Close to the real images' value is best. "
        + (f"Window {report.ms_ssim_window_px} px." if report.ms_ssim_window_px is not None else "Images too small."),
    )


def _diversity(report: Report) -> dict[str, str | None]:
    return {
        "before": mean_or_none([prompt.ms_ssim_before for prompt in report.prompts]),
        "after": mean_or_none([prompt.ms_ssim_after for prompt in report.prompts]),
        "real": mean_or_none([prompt.ms_ssim_real for prompt in report.prompts]),
    }


def mean_or_none(values: Sequence[float | None]) -> str | None:
    """Mean of those that there are, three decimals."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else None


def training_charts(report: Report) -> tuple[Chart, ...]:
    """Loss and throughput over optimizer steps; none when fewer than two steps were logged."""
    steps = [point.step for point in report.training]
    if len(steps) < 2:
        return ()
    losses = [point.loss for point in report.training]
    rates = [point.images_per_second for point in report.training]
    return (
        line_chart("Loss", "optimizer step", "mean squared error", steps, losses),
        line_chart("Throughput", "optimizer step", "images per second", steps, rates, from_zero=True),
    )


def _with_interval(accuracy: Accuracy) -> Cell:
    low, high = accuracy.interval_95
    return Cell(percent(accuracy.accuracy), f"{100 * low:.1f} to {100 * high:.1f}")
