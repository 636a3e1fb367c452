"""torchrun, with two manners added: it ends when its launcher does, and it says in one line how a rank died."""

import signal
import sys

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from radiffuse.errors import TrainingError
from radiffuse.orphans import end_with_parent
from radiffuse.outcome import Outcome
from radiffuse.rank import leave_error


def main() -> int:
    """Run torchrun with this process's arguments."""
    end_with_parent()
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            if failure.exitcode < 0:
                name = signal.Signals(-failure.exitcode).name
                cause = "; the machine may have run out of memory" if name == "SIGKILL" else ""
                leave_error(TrainingError(f"rank {rank} was killed by {name}{cause}"), rank=f"agent-{rank}")
        return Outcome.CRASHED
    except DistError as error:
        leave_error(TrainingError(f"the nodes did not find each other, or lost each other: {error}"), rank="agent")
        return Outcome.CRASHED
    except SignalException:
        return Outcome.PREEMPTED
    return Outcome.DONE


if __name__ == "__main__":
    sys.exit(main())
