"""Runs to launch in tests: a plan without data, a job whose fake pods end as told, a launcher in a thread."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.launcher import see_through
from radiffuse.cluster.owner import Owner
from radiffuse.cluster.sections import Deadlines
from radiffuse.cluster.state import JobState
from radiffuse.cluster.submit import Submitted, job_for, submit
from radiffuse.cluster.timeline import Timeline
from radiffuse.config import TrainSettings
from radiffuse.manifest import Manifest
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan, plan_training

if TYPE_CHECKING:
    from tests.cluster.plane import ControlPlane
    from tests.cluster_model.small_api import SmallApi

SECRET = "radiffuse-store"
ENTRIES = ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_ENDPOINT")
STEPS, BATCH = 100, 64
DEADLINES = {"admitted_seconds": 40, "scheduled_seconds": 60, "pulled_seconds": 60, "cancelled_seconds": 30}


def make_inputs() -> tuple[Manifest, Manifest]:
    """Latents and a model that are named and do not exist: fake pods read nothing."""
    digest = uuid.uuid4().hex[:16]
    latents = Manifest(kind="latents", name="few", uri=f"s3://datasets/few/{digest}", digest=digest)
    return latents, Manifest(kind="model", name="tiny", uri=f"s3://models/tiny/{digest}", digest=digest)


def make_plan(name: str = "few") -> TrainPlan:
    """A plan of its own digest at each call."""
    return plan_training(name, *make_inputs(), settings(), processes=None)


def settings() -> TrainSettings:
    return TrainSettings(max_train_steps=STEPS, total_batch_size=BATCH, train_batch_size=1)


def result_of(plan: TrainPlan) -> Manifest:
    """What the pods would have published."""
    return Manifest(kind="model", name=plan.name, uri=plan.uri, digest=plan.digest)


def publish_result(store: Store, plan: TrainPlan) -> None:
    store.put_bytes(f"{plan.uri}/manifest.json", result_of(plan).model_dump_json().encode())


def document(outcome: str = "", *, after_milliseconds: int = 500, message: str = "", **fields: Any) -> dict[str, Any]:
    """A job document whose fake pods end as `outcome` says."""
    annotations = {"test.radiffuse.org/after-milliseconds": str(after_milliseconds)}
    if outcome:
        annotations["test.radiffuse.org/outcome"] = outcome
    if message:
        annotations["test.radiffuse.org/termination-message"] = message
    return {"annotations": annotations, **fields}


def make_secret(plane: "ControlPlane", namespace: str, *entries: str) -> None:
    """The store's secret; nothing in it is one."""
    plane.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": namespace},
            "stringData": dict.fromkeys(entries or ENTRIES, "x"),
        }
    )


@dataclass
class Launch:
    """A launcher at work in a thread, as a pipeline step would be."""

    client: ClusterClient
    store: Store
    plan: TrainPlan
    job: TrainingJob
    timeline: Timeline
    state: JobState | None = None
    error: BaseException | None = None
    submitted: Submitted | None = None
    ended_after_seconds: float = 0.0
    _thread: threading.Thread = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self, seconds: float = 90.0) -> JobState:
        """The state in which it ended; raises what it raised."""
        self._thread.join(seconds)
        if self.error is not None:
            raise self.error
        assert self.state is not None, f"no end after {seconds} s; the last state was {self.timeline.last}"
        return self.state

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)

    def beat(self, step: int, start: int = 1) -> None:
        """Leave the progress that a worker would."""
        record = {"global_step": step, "max_train_steps": STEPS, "loss": 0.5, "images_per_second": 64.0}
        record |= {"start": start, "unix_seconds": time.time()}
        self.store.put_bytes(f"{self.plan.checkpoints_uri}/progress.json", json.dumps(record).encode())

    def phases(self) -> list[str]:
        return [moment.what for moment in self.timeline.phases]

    def _run(self) -> None:
        start = time.monotonic()
        try:
            self.submitted = submit(self.client, self.store, self.plan, self.job, Owner(), lambda: None)
            self.state = see_through(
                self.client, self.store, self.plan, self.job, self.submitted, self.timeline, self._check
            )
        except BaseException as error:
            self.error = error
        finally:
            self.ended_after_seconds = time.monotonic() - start

    def _check(self) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt


@contextmanager
def launched(
    plane: "ControlPlane | SmallApi",
    store: Store,
    namespace: str,
    job_document: dict[str, Any],
    kubeconfig: Path | None = None,
    **deadlines: int,
) -> Iterator[Launch]:
    """A launcher that has begun; it is stopped at the end, if it has not ended by then. Deadlines are a test's."""
    plan = make_plan()
    job = job_for(plan, json.dumps(job_document), namespace)
    # Shorter than a document may set them: its pods have a rendezvous to wait for, those here have none.
    job = job.model_copy(update={"deadlines": Deadlines(**(DEADLINES | deadlines))})
    with ClusterClient(kubeconfig or plane.kubeconfig) as client:
        launch = Launch(client, store, plan, job, Timeline(job.name))
        launch.start()
        try:
            yield launch
        finally:
            launch.stop()
