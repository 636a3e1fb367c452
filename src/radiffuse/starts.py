"""What a run remembers of its starts, in the store beside its checkpoints: how many, how they ended, when to give up.

`starts.json` counts starts and the ends of those before; `outcome.json` says that another start of the same plan is in
vain. A new submission forgets both.
"""

import json
import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from radiffuse.checkpoint_index import complete_steps
from radiffuse.errors import GaveUp, ObjectNotFoundError
from radiffuse.manifest import digest_of
from radiffuse.outcome import Ending, Outcome, read_ending
from radiffuse.train_plan import TrainPlan

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Starts:
    """The starts of a run so far."""

    total: int = 0
    starts: int = 0
    """Since a checkpoint newer than `step` was there."""
    step: int = 0
    """Of the newest complete checkpoint at the last start."""
    endings: dict[str, int] = field(default_factory=dict)
    """How often a start ended in each outcome; one that was killed in between says nothing and is not in it."""
    reason: str = "it was killed before it could say why"
    """Why the last start ended."""
    first_unix_seconds: float = 0.0
    """When the first start was; 0 where an earlier version counted it."""
    first_step: int = 0
    """Of the newest complete checkpoint at the first start."""

    def next(self, step: int) -> "Starts":
        """One more start, at the newest complete checkpoint that there is now."""
        starts = self.starts + 1 if self.total and step == self.step else 1
        first = self if self.total else Starts(first_unix_seconds=time.time(), first_step=step)
        return replace(first, total=self.total + 1, starts=starts, step=step, reason=Starts.reason)

    def ended(self, ending: Ending) -> "Starts":
        """The start that is counted last has ended."""
        endings = Counter(self.endings)
        endings[ending.outcome.name] += 1
        return replace(self, endings=dict(endings), reason=ending.reason)


def count_start(store: "Store", plan: TrainPlan, max_starts: int) -> Starts:
    """Count one more start; raises GaveUp when `max_starts` in a row have ended before a newer checkpoint."""
    before = _read_starts(store, plan)
    steps = complete_steps(store, plan.checkpoints_uri)
    now = before.next(steps[-1] if steps else 0)
    if now.starts > max_starts:
        raise GaveUp(
            f"{max_starts} starts in a row got no further than step {now.step}; the last ended so: {before.reason}"
        )
    write_starts(store, plan, now)
    logger.info("start=%d since_progress=%d step=%d", now.total, now.starts, now.step)
    return now


def write_starts(store: "Store", plan: TrainPlan, starts: Starts) -> None:
    """Remember them."""
    store.put_bytes(_starts_uri(plan), json.dumps(asdict(starts)).encode())


def write_terminal(store: "Store", plan: TrainPlan, ending: Ending) -> None:
    """Let later starts of this very plan end at once, with the same outcome."""
    record = {"plan": _digest(plan), "ending": ending.to_json()}
    store.put_bytes(_terminal_uri(plan), json.dumps(record).encode())


def read_terminal(store: "Store", plan: TrainPlan) -> Ending | None:
    """Why this plan is not to be started again; None when it may be, or when its settings have changed since."""
    try:
        record = json.loads(store.get_bytes(_terminal_uri(plan)))
    except ObjectNotFoundError:
        return None
    return read_ending(record["ending"]) if record["plan"] == _digest(plan) else None


def forget_starts(store: "Store", plan: TrainPlan) -> None:
    """What whoever submits the plan anew calls: starts are counted from one, and nothing is in vain."""
    store.delete([_terminal_uri(plan), _starts_uri(plan)])


def is_terminal(outcome: Outcome) -> bool:
    """Whether another start of the same plan would end the same way."""
    return outcome in (Outcome.WRONG_INPUT, Outcome.GAVE_UP)


def _read_starts(store: "Store", plan: TrainPlan) -> Starts:
    try:
        return Starts(**json.loads(store.get_bytes(_starts_uri(plan))))
    except ObjectNotFoundError:
        return Starts()


def _starts_uri(plan: TrainPlan) -> str:
    return f"{plan.checkpoints_uri}/starts.json"


def _terminal_uri(plan: TrainPlan) -> str:
    return f"{plan.checkpoints_uri}/outcome.json"


def _digest(plan: TrainPlan) -> str:
    """Of every setting, those included that change nothing in what is learnt: a batch may fit after a change."""
    return digest_of(plan=plan.model_dump(mode="json"))
