"""Checkpoints in the store: saved in the background, complete when their manifest is there, checked when read.

One folder per checkpoint, `step-00000500`, holds the trained weights, the optimizer's moments, the averaged weights
(all safetensors) and `state.json`. Frozen weights are not in it: the run's model has them.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from radiffuse.checkpoint_index import begun_steps, complete_steps, step_uri
from radiffuse.errors import IntegrityError, ObjectNotFoundError
from radiffuse.local_files import scratch_folder
from radiffuse.manifest import Manifest
from radiffuse.metrics import RunMetrics
from radiffuse.optimization import Ema

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

WEIGHTS, OPTIMIZER, EMA, STATE = "weights.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")

TensorFiles = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Trained:
    """What training changes, by name; `ema` is None when weights are not averaged."""

    parameters: Mapping[str, Tensor]
    optimizer: torch.optim.AdamW
    ema: Ema | None

    def snapshot(self) -> TensorFiles:
        """Copies in host memory, by file: once this returns, training may go on."""
        files: TensorFiles = {WEIGHTS: _copy(self.parameters.items())}
        files[OPTIMIZER] = _copy(
            (f"{moment}.{name}", self.optimizer.state[parameter][moment])
            for name, parameter in self.parameters.items()
            for moment in MOMENTS
        )
        if self.ema is not None:
            files[EMA] = _copy(zip(self.parameters, self.ema.averages, strict=True))
        return files

    def averaged(self) -> AbstractContextManager[None]:
        """While it lasts, the averages stand in for the weights; nothing changes where weights are not averaged."""
        return nullcontext() if self.ema is None else self.ema.in_place()

    @torch.no_grad()
    def restore(self, folder: Path, global_step: int) -> None:
        """Take over what `snapshot` copied after optimizer step `global_step`."""
        weights, moments = load_file(folder / WEIGHTS), load_file(folder / OPTIMIZER)
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])
            # In the parameter's own memory layout: the fused optimizer walks through all of them alike.
            state = {moment: torch.empty_like(parameter).copy_(moments[f"{moment}.{name}"]) for moment in MOMENTS}
            state["step"] = torch.tensor(float(global_step), device=parameter.device)
            self.optimizer.state[parameter] = state
        if self.ema is not None:
            averages = load_file(folder / EMA)
            for name, average in zip(self.parameters, self.ema.averages, strict=True):
                average.copy_(averages[name])


def _copy(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors}


class Checkpoints:
    """The checkpoints of one run below `uri`; a context manager that waits for the last upload.

    One upload at a time: saving while another is under way waits for that one. What went wrong in the background is
    raised by the next `save` or `wait`. `metrics` are those of the run, which rank 0 has.
    """

    def __init__(
        self, store: "Store", uri: str, name: str, digest: str, kept: int, metrics: RunMetrics | None = None
    ) -> None:
        self._store, self._uri, self._name, self._digest, self._kept = store, uri, name, digest, kept
        self._metrics = metrics
        self._uploader = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._uploader.shutdown(wait=True)

    def latest_step(self) -> int:
        """Optimizer steps done at the newest complete checkpoint; 0 when there is none."""
        return max(complete_steps(self._store, self._uri), default=0)

    def fetch(self, step: int) -> Path:
        """That checkpoint's files in a local folder, which the processes of this machine share.

        Raises IntegrityError when a byte is wrong: an older checkpoint in its place would be another run's result.
        """
        uri = step_uri(self._uri, step)
        try:
            manifest = self._store.find(uri)
            if manifest is not None:
                return self._store.fetch_cached(manifest)
        except (IntegrityError, ObjectNotFoundError) as error:
            older = [other for other in complete_steps(self._store, self._uri) if other < step]
            resume = f'"radiffuse store delete {uri}" to go on from step {older[-1]}, or ' if older else ""
            finding = str(error).partition("; ")[0]  # what follows is advice for outputs that a step can make again
            raise IntegrityError(
                f"the newest checkpoint is damaged: {finding}. No other was used in its place; "
                f'{resume}"radiffuse store delete {self._uri}" to start afresh'
            ) from error
        raise ObjectNotFoundError(f"the checkpoint {uri} was deleted while the run started; run again")

    def save(self, global_step: int, files: TensorFiles, state: Mapping[str, Any]) -> None:
        """Upload in the background; the checkpoint counts once its manifest is written, last."""
        self.wait()
        self._pending = self._uploader.submit(self._try_upload, global_step, files, dict(state))

    def wait(self) -> None:
        """Until the checkpoint that was saved last is complete."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _try_upload(self, global_step: int, files: TensorFiles, state: Mapping[str, Any]) -> None:
        try:
            self._upload(global_step, files, state)
        except Exception:
            if self._metrics is not None:  # at once: whoever waits for the upload may do so minutes later
                self._metrics.checkpoint_failures.inc()
            raise

    def _upload(self, global_step: int, files: TensorFiles, state: Mapping[str, Any]) -> None:
        start = time.monotonic()
        with scratch_folder("checkpoint") as folder:
            for name, tensors in files.items():
                save_file(tensors, folder / name)
            (folder / STATE).write_text(json.dumps(state), encoding="utf-8")
            manifest = Manifest(
                kind="checkpoint",
                name=self._name,
                uri=step_uri(self._uri, global_step),
                digest=self._digest,
                counts={"global_step": global_step},
            )
            size_bytes = sum(stored.size_bytes for stored in self._store.publish(manifest, folder).objects)
        seconds = time.monotonic() - start
        if self._metrics is not None:
            self._metrics.count_checkpoint(global_step, size_bytes, seconds)
        logger.info("checkpoint step=%d size_bytes=%d upload_seconds=%.2f", global_step, size_bytes, seconds)
        self._prune(global_step)

    def _prune(self, newest: int) -> None:
        """Delete all but the newest complete checkpoints, and what interrupted uploads left before them."""
        kept = set(complete_steps(self._store, self._uri)[-self._kept :])
        for step in begun_steps(self._store, self._uri):
            if step not in kept and step < newest:
                self._store.delete(list(self._store.list(f"{step_uri(self._uri, step)}/")))


def read_state(folder: Path) -> dict[str, Any]:
    """What `save` was given besides tensors."""
    state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
    return state


def discard(folder: Path) -> None:
    """Remove a fetched checkpoint: it is read once, and as large as three models."""
    shutil.rmtree(folder, ignore_errors=True)
