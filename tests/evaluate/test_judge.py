"""A whole evaluation on toy radiographs, through a real store: what report.json and report.html say."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from radiffuse.code_version import code_version
from radiffuse.config import EvaluateSettings, SamplePrompt, SampleSettings
from radiffuse.data.sample_shards import Sample, write_samples
from radiffuse.data.shards import ShardWriter
from radiffuse.errors import DataError
from radiffuse.evaluate.assessment import read_training
from radiffuse.evaluate.judge import evaluate_samples
from radiffuse.evaluate.report import Report
from radiffuse.manifest import Manifest, digest_of
from radiffuse.sample_plan import commit_when_complete, image_seed, plan_samples, prompt_of, record_chunk, shard_name
from radiffuse.storage import Store
from tests.evaluate.cohort import EFFUSION, SIZE_PX, cohort_row, toy_image, write_cohort
from tests.tiny import tiny_pipeline

ROOT = Path(__file__).parents[2]
PROMPTS = (
    SamplePrompt(prompt="a photo of a lung xray"),
    SamplePrompt(prompt="a photo of a lung xray with a visible pleural effusion", pathologies=(EFFUSION,)),
    SamplePrompt(prompt="<b>bold</b> & no such finding", pathologies=("Edema",)),
)
SAMPLES = SampleSettings(prompts=PROMPTS, samples_per_prompt=6, baseline_samples_per_prompt=3, image_size_px=SIZE_PX)
SETTINGS = EvaluateSettings(classifier_epochs=6, classifier_batch_size=16, vae_images=6, samples_per_prompt_shown=3)


@dataclass(frozen=True)
class Run:
    """One evaluation, its inputs and its files."""

    dataset: Manifest
    before: Manifest
    after: Manifest
    manifest: Manifest
    report: dict
    page: str


def publish(store: Store, kind: str, name: str, folder: Path, **inputs: str) -> Manifest:
    bucket = {"dataset": "datasets", "model": "models"}[kind]
    digest = digest_of(kind=kind, name=name)
    uri = f"s3://{bucket}/{name}/{digest}"
    settings = {"image_size_px": SIZE_PX} if kind == "dataset" else {}
    manifest = Manifest(kind=kind, name=name, uri=uri, digest=digest, inputs=inputs, settings=settings)
    return store.publish(manifest, folder)


def toy_sample(settings: SampleSettings, sample_id: int, is_noise: bool) -> Sample:
    """What a well or not at all adapted model would draw."""
    index, prompt = prompt_of(settings, sample_id)
    grey = toy_image(10_000 + sample_id, EFFUSION in prompt.pathologies)
    image = np.stack([grey] * 3, axis=-1)
    if is_noise:
        image = np.random.default_rng(sample_id).integers(0, 256, image.shape).astype(np.uint8)
    return Sample(sample_id, image, prompt.prompt, prompt.pathologies, index, image_seed(settings.seed, sample_id))


def store_samples(store: Store, model: Manifest, baseline: bool, folder: Path) -> Manifest:
    plan = plan_samples("toy", model, SAMPLES, baseline)
    for chunk in plan.chunks():
        path = folder / shard_name(chunk)
        write_samples(path, [toy_sample(plan.settings, sample_id, baseline) for sample_id in chunk])
        record_chunk(store, plan, chunk, store.put_file(f"{plan.uri}/{path.name}", path))
    manifest = commit_when_complete(store, plan)
    assert manifest is not None
    return manifest


def write_metrics(path: Path, steps: int) -> None:
    records = [
        {"step": step, "loss": 1 / step, "images_per_second": 50.0, "grad_norm": 1.0} for step in range(1, steps)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("judge")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADIFFUSE_CACHE", str(folder / "cache"))
        cohort = write_cohort(folder / "cohort", {"train": 8, "validation": 96, "test": 48})
        dataset = publish(store, "dataset", "toy-cohort", cohort)
        base = publish(store, "model", "toy-base", tiny_pipeline(folder / "base"))
        adapted_folder = folder / "adapted"
        shutil.copytree(folder / "base", adapted_folder)
        write_metrics(adapted_folder / "metrics.jsonl", 30)
        adapted = publish(store, "model", "toy-adapted", adapted_folder, model=base.uri, data=dataset.uri)
        before, after = (store_samples(store, model, model is base, folder) for model in (base, adapted))
        manifest = evaluate_samples(store, "toy", dataset, before, after, SETTINGS, external=dataset)
        store.fetch(manifest, folder / "report")
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    return Run(dataset, before, after, manifest, report, page)


def test_the_report_tells_samples_as_asked_from_noise(run: Run) -> None:
    accuracy = run.report["effusion_accuracy"]
    assert accuracy["after"] >= 0.9
    assert accuracy["real"] >= 0.9
    assert accuracy["before"] < 0.9
    assert run.report["frechet_distance"]["after"] < run.report["frechet_distance"]["before"] / 3


def test_the_report_counts_what_was_judged(run: Run) -> None:
    assert (run.report["num_samples"], run.report["num_samples_before"]) == (18, 9)
    after = run.report["accuracy"]["after"]
    assert after["total"] == sum(after["confusion"].values()) == 18
    assert after["interval_95"][0] <= after["accuracy"] <= after["interval_95"][1]


def test_report_json_is_what_its_schema_says_and_has_no_number_that_is_not_finite(run: Run) -> None:
    text = json.dumps(run.report, allow_nan=False)
    assert Report.model_validate_json(text).pathology == EFFUSION
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(run.report, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(run.report | {"num_samples": "many"}, schema)


def test_the_manifest_carries_the_headline(run: Run) -> None:
    assert run.manifest.counts["effusion_accuracy_after"] == round(run.report["effusion_accuracy"]["after"], 4)
    assert {stored.name for stored in run.manifest.objects} == {"report.html", "report.json"}


def test_provenance_leads_back_to_weights_and_images(run: Run) -> None:
    names = {node["name"] for node in run.report["provenance"]}
    assert names == {"toy", "toy-baseline", "toy-adapted", "toy-base", "toy-cohort"}
    versions = {node["code_version"] for node in run.report["provenance"]} | {run.report["code_version"]}
    assert versions == {code_version()}


def test_samples_whose_roles_were_exchanged_are_refused(run: Run, store: Store) -> None:
    with pytest.raises(DataError, match=r"was adapted from that of .*; exchange --before and --after"):
        evaluate_samples(store, "toy", run.dataset, run.after, run.before, SETTINGS)


def test_pictures_of_another_size_are_refused(run: Run, store: Store) -> None:
    larger = run.after.model_copy(update={"settings": {"image_size_px": 2 * SIZE_PX}, "uri": "s3://samples/toy/larger"})
    with pytest.raises(DataError, match=rf"cannot be compared: .*toy/larger has {2 * SIZE_PX} px; draw or ingest"):
        evaluate_samples(store, "toy", run.dataset, run.before, larger, SETTINGS)


def test_a_prompt_without_real_counterpart_is_judged_but_not_compared(run: Run) -> None:
    results = {prompt["prompt"]: prompt for prompt in run.report["prompts"]}
    assert results[PROMPTS[2].prompt]["ms_ssim_real"] is None
    assert results[PROMPTS[1].prompt]["ms_ssim_real"] > 0
    assert "No held-out image has exactly these findings." in run.page


def test_the_second_dataset_is_judged_too(run: Run) -> None:
    assert run.report["accuracy"]["external"]["total"] == 8 + 84 + 42 - 1


def test_judging_again_returns_the_same_report_without_importing_torch(
    run: Run, store_environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("dataset", "before", "after"):
        getattr(run, name).save(tmp_path / f"{name}.json")
    script = f"""
import sys
from pathlib import Path
from radiffuse.config import EvaluateSettings
from radiffuse.evaluate.judge import evaluate_samples
from radiffuse.manifest import load_manifest
from radiffuse.storage import open_store
names = ("dataset", "before", "after")
dataset, before, after = (load_manifest(Path({str(tmp_path)!r}) / f"{{name}}.json") for name in names)
settings = EvaluateSettings.model_validate_json({SETTINGS.model_dump_json()!r})
print(evaluate_samples(open_store(), "toy", dataset, before, after, settings, external=dataset).uri)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == run.manifest.uri


class Outline(html.parser.HTMLParser):
    """Open tags, and every attribute met."""

    VOID = ("meta", "img", "br", "line", "rect", "circle", "path", "polyline", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value if value is not None else "") for name, value in attrs]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value if value is not None else "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def outline(run: Run) -> Outline:
    parser = Outline()
    parser.feed(run.page)
    parser.close()
    return parser


def test_every_element_of_the_page_is_closed(outline: Outline) -> None:
    assert outline.open == []


def test_the_page_loads_nothing_and_runs_nothing(run: Run, outline: Outline) -> None:
    links = [value for _, name, value in outline.attributes if name in ("src", "href", "xlink:href")]
    assert links
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in links)
    assert not re.search(r"<script|@import|url\(", run.page)


def test_links_within_the_page_have_a_target(outline: Outline) -> None:
    targets = {value for _, name, value in outline.attributes if name == "id"}
    assert all(value[1:] in targets for _, name, value in outline.attributes if name == "href")


def test_every_picture_has_words_of_its_own(outline: Outline) -> None:
    # Real pictures for two prompts, samples before and after for three, and the VAE's triples.
    assert len(outline.images) == 3 * 2 + 3 * 3 + 3 * 3 + 3 * 3
    assert all(image["alt"] for image in outline.images)


def test_prompts_are_text_on_the_page_not_markup(run: Run) -> None:
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; no such finding" in run.page
    assert "<b>bold" not in run.page


def test_the_page_says_the_result_and_the_limits_in_words(run: Run) -> None:
    assert "the adapted model drew what was asked for in" in run.page
    assert "every simulated patient shares one CT" in run.page
    assert "mean squared error" in run.page


def test_training_points_are_thinned_and_absent_without_a_log(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.jsonl", 5000)
    assert 300 <= len(read_training(tmp_path / "metrics.jsonl")) <= 400
    assert read_training(tmp_path / "none.jsonl") == ()


def test_one_sample_has_no_spread_and_is_refused(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path / "cache"))
    model = store.find(run.before.inputs["model"])
    plan = plan_samples("single", model, SAMPLES.model_copy(update={"prompts": PROMPTS[:1]}), baseline=True)
    plan = plan.model_copy(update={"settings": plan.settings.model_copy(update={"samples_per_prompt": 1})})
    (chunk,) = plan.chunks()
    write_samples(tmp_path / shard_name(chunk), [toy_sample(plan.settings, 0, is_noise=True)])
    record_chunk(store, plan, chunk, store.put_file(f"{plan.uri}/{shard_name(chunk)}", tmp_path / shard_name(chunk)))
    single = commit_when_complete(store, plan)
    with pytest.raises(DataError, match="1 samples before and 18 after; a spread takes two of each"):
        evaluate_samples(store, "toy", run.dataset, single, run.after, SETTINGS)


def test_a_second_dataset_without_either_class_is_refused(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "others"
    folder.mkdir()
    with ShardWriter(folder, images_per_shard=8) as writer:
        for number in range(3):
            writer.write(cohort_row(number, "other", "test"))
    others = publish(store, "dataset", "toy-others", folder)
    other = SETTINGS.model_copy(update={"seed": 6})
    with pytest.raises(DataError, match=r"none of the 3 images of s3://datasets/toy-others/.* shows Pleural Effusion"):
        evaluate_samples(store, "toy", run.dataset, run.before, run.after, other, external=others)


def test_samples_of_a_model_that_is_gone_are_refused(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path))
    orphans = run.after.model_copy(update={"inputs": {"model": "s3://models/gone/0"}})
    other = SETTINGS.model_copy(update={"seed": 5})
    with pytest.raises(DataError, match="name the model s3://models/gone/0, which the store does not have"):
        evaluate_samples(store, "toy", run.dataset, run.before, orphans, other)
