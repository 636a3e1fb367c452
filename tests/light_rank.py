"""A rank without torch that ends as the name of its plan says, for tests of the worker."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from radiffuse.errors import ConfigError, TrainingError
from radiffuse.manifest import Manifest
from radiffuse.metrics import TrainingMetrics
from radiffuse.rank import run_rank
from radiffuse.storage import open_store
from radiffuse.train_plan import TrainPlan


def work(plan: TrainPlan) -> None:
    """The last rank does what the plan's name begins with; the others hang, as in a collective operation."""
    fate = plan.name.partition("-")[0]
    if os.environ["RANK"] == str(int(os.environ["WORLD_SIZE"]) - 1):
        if fate == "refuse":
            raise ConfigError("train.method unet cannot be trained on this")
        if fate == "nonfinite":
            TrainingMetrics(CollectorRegistry(), rank=0).refuse_step()
            raise TrainingError("step 1: the loss is nan")
        if fate == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "done":
            subprocess.run("sleep 0.2 & exit", shell=True, check=True)  # leaves an orphan
            time.sleep(1)
            open_store().commit(Manifest(kind="model", name=plan.name, uri=plan.uri, digest=plan.digest))
            return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("hanging", file=sys.stderr, flush=True)
    time.sleep(600)


if __name__ == "__main__":
    sys.exit(run_rank(lambda: work(TrainPlan.model_validate_json(Path(sys.argv[1]).read_bytes()))))
