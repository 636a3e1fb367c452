"""A training job on real nodes: a plan in MinIO, its PyTorchJob in the cluster, and questions to both."""

import json
from dataclasses import dataclass
from typing import Any

from radiffuse.checkpoint_index import complete_steps
from radiffuse.cluster.job import TrainingJob, load_job
from radiffuse.cluster.sections import RunFacts
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from tests.cluster.nodes.minio import Minio
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until
from tests.training import losses, published_records

STEPS = 120
EVERY = 10
"""Steps between checkpoints."""
SETTINGS = {
    "method": "unet_text_encoder",
    "max_train_steps": STEPS,
    "checkpoint_every_steps": EVERY,
    "checkpoints_kept": 3,
    "ema_decay": 0.9,
}
NODES = 2
DEADLINE_SECONDS = 600.0
"""For whatever a job does next; two cores run both nodes and, on a bad day, much else."""


@dataclass(frozen=True)
class TrainingRun:
    """One run and its job; `submit` creates both."""

    plane: ControlPlane
    namespace: str
    store: Store
    plan: TrainPlan
    job: TrainingJob

    @property
    def master(self) -> str:
        """Name of the pod with rank 0."""
        return f"{self.job.name}-master-0"

    @property
    def worker(self) -> str:
        """Name of the other pod."""
        return f"{self.job.name}-worker-0"

    @property
    def steps(self) -> list[int]:
        """Of the complete checkpoints in the store."""
        return list(complete_steps(self.store, self.plan.checkpoints_uri))

    @property
    def losses(self) -> list[float]:
        """Of every step, as published with the trained model."""
        return losses(published_records(self.store, self.plan))

    @property
    def starts(self) -> int:
        """How often the gang has started."""
        return int(json.loads(self.store.get_bytes(f"{self.plan.checkpoints_uri}/starts.json"))["total"])

    @property
    def resumed_step(self) -> int:
        """Optimizer steps that the last start found done, as its last metrics say."""
        final = json.loads(self.store.get_bytes(f"{self.plan.checkpoints_uri}/metrics/node-0.json"))
        values = {sample["name"]: sample["value"] for sample in final["samples"]}
        return int(values["radiffuse_train_resumed_step"])

    def pod(self, name: str) -> dict[str, Any]:
        """A pod as it is now."""
        return self.plane.get("pod", name, "--namespace", self.namespace)

    def conditions(self) -> dict[str, str]:
        """Conditions of the job that are true, with their messages."""
        found = self.plane.get("pytorchjob", self.job.name, "--namespace", self.namespace).get("status", {})
        return {each["type"]: each["message"] for each in found.get("conditions", []) if each["status"] == "True"}

    def wait_for_checkpoint(self, step: int) -> int:
        """Wait until a checkpoint of that step or a later one is complete; its step."""
        return wait_until(
            lambda: max((found for found in self.steps if found >= step), default=None),
            DEADLINE_SECONDS,
            f"a checkpoint of step {step} or later",
        )

    def wait_until_succeeded(self) -> None:
        """Wait for the job's end; raises AssertionError when it failed instead."""

        def has_ended() -> bool:
            conditions = self.conditions()
            assert "Failed" not in conditions, conditions["Failed"]
            return "Succeeded" in conditions

        wait_until(has_ended, DEADLINE_SECONDS, f"{self.job.name} has Succeeded")


def submit(plane: ControlPlane, namespace: str, minio: Minio, plan: TrainPlan, image: str) -> TrainingRun:
    """Publish the plan and the store's secret, and create the job."""
    document = {
        "namespace": namespace,
        "nodes": NODES,
        "gpus_per_node": 0,
        "processes_per_node": 1,
        "cpu_per_process": "1",
        "memory_per_process": "3Gi",
        "shared_memory_per_process": "128Mi",
        "image": image,
        "image_pull_policy": "Never",
        "node_lost_seconds": 5,
        "checkpoint_seconds": 30,
        "linger_seconds": 10,
    }
    job = load_job(json.dumps(document), run=RunFacts.of(plan))
    minio.store.put_bytes(job.plan_uri, plan.model_dump_json().encode())
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": job.store.secret, "namespace": namespace}}
    plane.apply(secret | {"stringData": minio.environment})
    plane.apply(*job.to_manifests())
    return TrainingRun(plane, namespace, minio.store, plan, job)
