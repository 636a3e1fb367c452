"""A rank that ends as its job file says, for tests of the launcher; it needs no torch."""

import os
import signal
import sys
import time
from pathlib import Path

from radiffuse.errors import ConfigError
from radiffuse.rank import run_rank


def work(job: Path) -> None:
    """Rank 1 does what the job says; rank 0 waits to be ended."""
    (job.parent / f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    fate = job.read_text()
    if os.environ["RANK"] == "1":
        if fate == "refuse":
            raise ConfigError("train.metrics_port 1 cannot be served: Permission denied")
        if fate == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "broken":
            raise ZeroDivisionError("division by zero")
    time.sleep(60)


if __name__ == "__main__":
    sys.exit(run_rank(lambda: work(Path(sys.argv[1]))))
