"""Draw one part of a set of samples on this machine, beside other machines that draw the others. No torch."""

import logging
from typing import TYPE_CHECKING

from radiffuse.config import SampleSettings
from radiffuse.local_files import scratch_folder
from radiffuse.manifest import Manifest
from radiffuse.parts import Part
from radiffuse.processes import run_processes
from radiffuse.sample_plan import missing_chunks, plan_samples

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)


def launch_sample_part(
    store: "Store", run_name: str, model: Manifest, settings: SampleSettings, baseline: bool, part: Part
) -> int:
    """Draw the part's missing chunks under torchrun; returns how many chunks the part has.

    Whoever draws the last chunk of all completes the set, so it may be this part. Raises what the ranks met.
    """
    plan = plan_samples(run_name, model, settings, baseline).model_copy(update={"part": str(part)})
    own = plan.own_chunks()
    missing = set(missing_chunks(store, plan)).intersection(own)
    if missing:
        with scratch_folder("job") as folder:
            job = folder / "job"
            job.write_text(plan.model_dump_json(), encoding="utf-8")
            logger.info("launch module=radiffuse.sample part=%s chunks=%d uri=%s", part, len(missing), plan.uri)
            run_processes("radiffuse.sample", job, settings.nproc_per_node, folder)
    return len(own)
