"""What is to be trained, on what, in which batches, and where it goes. Light: it imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from radiffuse.config import TrainSettings
from radiffuse.errors import ConfigError
from radiffuse.manifest import Kind, Manifest, digest_of

FORMAT = 1
DATA_KINDS: dict[str, Kind] = {"unet": "latents", "unet_text_encoder": "latents", "vae": "dataset"}
# They change how fast a run goes, how it is watched and what is kept of it, never what is learnt.
NOT_LEARNT = {
    "train_batch_size",
    "gradient_checkpointing",
    "nproc_per_node",
    "checkpoint_every_steps",
    "checkpoints_kept",
    "log_every_steps",
    "dataloader_workers",
    "metrics_port",
}


class TrainPlan(BaseModel):
    """One run; it is the job file that `python -m radiffuse.train` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    digest: str
    data: Manifest
    model: Manifest
    settings: TrainSettings

    @property
    def uri(self) -> str:
        """Where the trained model goes."""
        return f"s3://models/{self.name}/{self.digest}"

    @property
    def checkpoints_uri(self) -> str:
        """Where its checkpoints go, one folder each."""
        return f"s3://checkpoints/{self.name}-{self.digest}"


def plan_training(
    run_name: str, data: Manifest, model: Manifest, settings: TrainSettings, processes: int | None
) -> TrainPlan:
    """Check what can be checked before anything is loaded; the address is a digest of inputs and settings.

    processes: that train together; None: a job document will say it, and `job_for` checks the batch then.
    Raises ConfigError when the batch does not divide, or when the data is not what method and model train on.
    """
    if processes is not None:
        plan_batches(settings.total_batch_size, settings.train_batch_size, processes)
    needed = DATA_KINDS[settings.method]
    if data.kind != needed:
        hint = "; make them with `radiffuse encode`" if needed == "latents" else ""
        raise ConfigError(f"train.method {settings.method} trains on {needed}, not on the {data.kind} {data.uri}{hint}")
    if data.inputs.get("vae", vae := model.fingerprint("vae/")) != vae:
        raise ConfigError(
            f"the latents {data.uri} were encoded by the VAE of {data.inputs['model']}, which is not that of "
            f"{model.uri}; encode the dataset with the model that is to be trained"
        )
    learnt = settings.model_dump(mode="json", exclude=NOT_LEARNT)
    digest = digest_of(data=data.uri, model=model.uri, settings=learnt, format=FORMAT)
    return TrainPlan(name=run_name, digest=digest, data=data, model=model, settings=settings)


@dataclass(frozen=True)
class BatchPlan:
    """How one optimizer step's global batch is cut: over `processes`, then into `micro_steps` of `micro_batch_size`."""

    total_batch_size: int
    processes: int
    micro_batch_size: int
    micro_steps: int

    @property
    def share(self) -> int:
        """Samples of one process in an optimizer step."""
        return self.total_batch_size // self.processes

    def positions(self, step: int, rank: int, micro_step: int) -> tuple[int, int]:
        """First and one past the last position in the sample stream for a process's micro-step."""
        start = step * self.total_batch_size + rank * self.share + micro_step * self.micro_batch_size
        return start, start + self.micro_batch_size

    def places(self, steps: range) -> Iterator[tuple[int, int]]:
        """(step, micro_step) in the order a process meets them."""
        return ((step, micro_step) for step in steps for micro_step in range(self.micro_steps))


def plan_batches(total_batch_size: int, train_batch_size: int, processes: int) -> BatchPlan:
    """Cut the global batch equally; raises ConfigError that lists batch sizes that divide."""
    share, rest = divmod(total_batch_size, processes)
    micro_batch_size = min(train_batch_size, share)
    if rest or share == 0:
        raise ConfigError(
            f"train.total_batch_size {total_batch_size} does not divide over {processes} processes; "
            f"nearest total_batch_size that does: {max(1, round(total_batch_size / processes)) * processes}"
        )
    if share % micro_batch_size:
        fitting = [size for size in range(1, train_batch_size + 1) if share % size == 0]
        raise ConfigError(
            f"each of {processes} processes has {share} of train.total_batch_size {total_batch_size}, which does not "
            f"divide into micro-steps of train.train_batch_size {train_batch_size}; sizes that do: {fitting[-3:]}"
        )
    return BatchPlan(total_batch_size, processes, micro_batch_size, share // micro_batch_size)
