"""How a training pod ends: its exit code, and the few words that it leaves for whoever watches it. Light: no torch."""

import json
import signal
from dataclasses import asdict, dataclass, replace
from enum import IntEnum

from radiffuse.errors import ConfigError, DataError, GaveUp, Preempted

MESSAGE_BYTES = 4096  # of a container's termination log, to the byte; the kubelet cuts what is longer


class Outcome(IntEnum):
    """Exit codes, from 128 on worth a retry: so the operator's ExitCode policy reads them, and so do we."""

    DONE = 0
    FAILED = 1
    """Any failure of a command that nobody retries."""
    WRONG_INPUT = 2
    """Settings or data are wrong, and will be so the next time."""
    GAVE_UP = 3
    """Many starts, and none of them got past the newest checkpoint."""
    CRASHED = 128 + signal.SIGABRT
    """What a retry may cure: a lost rank, a store or a master that does not answer."""
    PREEMPTED = 128 + signal.SIGTERM
    """Stopped from outside with a complete checkpoint. Not zero: no half of a gang may look finished."""

    @property
    def is_retryable(self) -> bool:
        """Whether another start may end better."""
        return self >= 128

    @classmethod
    def of(cls, error: Exception) -> "Outcome":
        """What an error means for the pod that met it."""
        if isinstance(error, ConfigError | DataError):
            return cls.WRONG_INPUT
        if isinstance(error, GaveUp):
            return cls.GAVE_UP
        return cls.PREEMPTED if isinstance(error, Preempted) else cls.CRASHED


@dataclass(frozen=True)
class Ending:
    """What a pod's termination log says, and the record that keeps a plan from being started in vain."""

    outcome: Outcome
    reason: str
    global_step: int

    def to_json(self, max_bytes: int = MESSAGE_BYTES) -> str:
        """JSON of at most that many bytes; a longer reason is cut, and ends in three dots."""
        fields = asdict(self) | {"outcome": self.outcome.name}
        text = json.dumps(fields)
        if len(text) <= max_bytes:  # json.dumps writes ASCII: characters are bytes
            return text
        kept = len(self.reason) * 3 // 4  # how many bytes a character becomes is json's affair
        return replace(self, reason=self.reason[:kept].removesuffix("...") + "...").to_json(max_bytes)


def read_ending(text: str) -> Ending | None:
    """What `to_json` wrote; None when it is anything else, such as the end of a log."""
    try:
        fields = json.loads(text)
        return Ending(Outcome[fields["outcome"]], str(fields["reason"]), int(fields["global_step"]))
    except (ValueError, TypeError, KeyError):
        return None
