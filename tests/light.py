"""A plan that nothing is trained by: for tests of what goes on around a run."""

import uuid

from radiffuse.config import TrainSettings
from radiffuse.manifest import Manifest
from radiffuse.train_plan import TrainPlan, plan_training


def light_plan(fate: str = "light", **settings: object) -> TrainPlan:
    """A plan under a name of its own, which tells `light_rank.py` how to end."""
    latents = Manifest(kind="latents", name="none", uri="s3://datasets/none/0", digest="0")
    model = Manifest(kind="model", name="none", uri="s3://models/none/0", digest="0")
    chosen = {"max_train_steps": 40, "total_batch_size": 4, "train_batch_size": 2, "precision": "fp32"}
    name = f"{fate}-{uuid.uuid4().hex[:8]}"
    return plan_training(name, latents, model, TrainSettings(**chosen | settings), processes=None)
