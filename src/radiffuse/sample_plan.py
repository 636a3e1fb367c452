"""What is to be drawn, with which seeds, in which chunks, and when it is complete. Light: it imports no torch."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from radiffuse.config import SamplePrompt, SampleSettings
from radiffuse.manifest import Manifest, StoredObject, digest_of
from radiffuse.parts import WHOLE, Part

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

FORMAT = 2
# torch's CPU generator (Mersenne Twister) keeps the low 32 bits of its seed: beyond them, images would repeat.
SEED_MODULUS = 2**32
# A prime above a million, so that with seed 0 an image's seed is its number, and other seeds start elsewhere.
SEED_STRIDE = 1_000_003


def image_seed(seed: int, sample_id: int) -> int:
    """Seed of one image's noise: distinct for every sample_id below 2**32, whatever process or batch draws it."""
    return (seed * SEED_STRIDE + sample_id) % SEED_MODULUS


class SamplePlan(BaseModel):
    """The images to draw from one model; it is the job file that `python -m radiffuse.sample` takes.

    Samples take the prompts in turn (sample_id modulo the number of prompts), so asking for more of each keeps those
    there are, and a sample before adaptation has the noise of the sample with its number after.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    uri: str
    digest: str
    model: Manifest
    settings: SampleSettings
    part: str = str(WHOLE)
    """K/N: the share of the chunks that this job draws; it does not change what is drawn."""

    @property
    def num_samples(self) -> int:
        """Images in all."""
        return self.settings.samples_per_prompt * len(self.settings.prompts)

    def chunks(self) -> list[range]:
        """Batches of consecutive sample_ids, each one shard; the same for any number of processes."""
        return even_parts(range(self.num_samples), self.settings.batch_size)

    def own_chunks(self, rank: int = 0, world_size: int = 1) -> list[range]:
        """Those that one of a job's processes draws. By place in the plan, so that it needs nobody else to know."""
        return Part(rank + 1, world_size).share(Part.parse(self.part).share(self.chunks()))


def even_parts(sample_ids: range, limit: int) -> list[range]:
    """As few parts of at most `limit` as there can be, alike in size, so that no process is left with the rest."""
    count = -(-len(sample_ids) // limit)
    edges = [len(sample_ids) * part // max(count, 1) for part in range(count + 1)]
    return [sample_ids[first:last] for first, last in itertools.pairwise(edges)]


def prompt_of(settings: SampleSettings, sample_id: int) -> tuple[int, SamplePrompt]:
    """The prompt that a sample is drawn from, with its place among the prompts."""
    index = sample_id % len(settings.prompts)
    return index, settings.prompts[index]


def plan_samples(run_name: str, model: Manifest, settings: SampleSettings, baseline: bool) -> SamplePlan:
    """Resolve how many images are drawn, and where they go: the address is a digest of model and settings."""
    count = settings.baseline_samples_per_prompt if baseline else settings.samples_per_prompt
    resolved = settings.model_copy(update={"samples_per_prompt": count, "baseline_samples_per_prompt": count})
    # How many processes share the work does not change what they draw.
    drawn = resolved.model_dump(mode="json", exclude={"nproc_per_node", "baseline_samples_per_prompt"})
    digest = digest_of(model=model.uri, settings=drawn, format=FORMAT)
    name = f"{run_name}-baseline" if baseline else run_name
    return SamplePlan(name=name, uri=f"s3://samples/{name}/{digest}", digest=digest, model=model, settings=resolved)


def shard_name(chunk: range) -> str:
    """Object name of a chunk's shard."""
    return f"samples-{chunk.start:08d}.arrow"


def chunk_record_uri(plan: SamplePlan, chunk: range) -> str:
    """Where a chunk's size and digest are recorded once its shard is stored: it is the chunk's commit marker."""
    return f"{plan.uri}/chunks/{chunk.start:08d}.json"


def missing_chunks(store: "Store", plan: SamplePlan) -> list[range]:
    """Chunks that are not in the store yet, in order."""
    recorded = {PurePosixPath(uri).name for uri in store.list(f"{plan.uri}/chunks/")}
    return [chunk for chunk in plan.chunks() if f"{chunk.start:08d}.json" not in recorded]


def record_chunk(store: "Store", plan: SamplePlan, chunk: range, stored: StoredObject) -> None:
    """Mark a chunk as complete; called after its shard is stored."""
    store.put_bytes(chunk_record_uri(plan, chunk), stored.model_dump_json().encode())


def commit_when_complete(store: "Store", plan: SamplePlan) -> Manifest | None:
    """Write the samples' manifest if every chunk is there; None while one is missing.

    Every process calls it after its last chunk. Whoever comes last finds all of them, so no process waits for another;
    two that come at once write the same bytes.
    """
    if missing_chunks(store, plan):
        return None
    manifest = Manifest(
        kind="samples",
        name=plan.name,
        uri=plan.uri,
        digest=plan.digest,
        inputs={"model": plan.model.uri},
        settings=plan.settings.model_dump(mode="json"),
        counts={"images": plan.num_samples, "prompts": len(plan.settings.prompts)},
        objects=tuple(_recorded_objects(store, plan)),
    )
    store.commit(manifest)
    logger.info("samples complete images=%d uri=%s", plan.num_samples, plan.uri)
    return manifest


def _recorded_objects(store: "Store", plan: SamplePlan) -> Iterator[StoredObject]:
    for chunk in plan.chunks():
        yield StoredObject.model_validate_json(store.get_bytes(chunk_record_uri(plan, chunk)))
