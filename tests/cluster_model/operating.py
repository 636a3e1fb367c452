"""What an operator and two kubelets would do, on a small API server."""

import time
from collections.abc import Callable
from typing import Any

from radiffuse.cluster.kinds import PYTORCHJOB
from radiffuse.outcome import Ending, Outcome
from tests.cluster_model.objects import Object, condition, pod, running
from tests.cluster_model.small_api import SmallApi, now

WRONG = Ending(Outcome.WRONG_INPUT, "train.learning_rate must be below 1", 0).to_json()


def until(happens: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def the_job(api: SmallApi) -> Object:
    (job,) = [item for (plural, _, _), item in api.objects.items() if plural == "pytorchjobs"]
    return job


def set_conditions(api: SmallApi, *kinds: str) -> None:
    job = the_job(api)
    job["status"] = {"conditions": [condition(kind, message=f"the job is {kind}") for kind in kinds]}
    api.put("pytorchjobs", job)


def set_pods(api: SmallApi, master: Object | None = None, worker: Object | None = None) -> None:
    name = the_job(api)["metadata"]["name"]
    for role, status in (("master", master), ("worker", worker)):
        item = pod(role, status=status if status is not None else running(started=now()))
        item["metadata"]["name"] = f"{name}-{role}-0"
        item["metadata"]["labels"][PYTORCHJOB.job_label] = name
        api.put("pods", item)
