"""A process answers for the orphans below it as long as it says so, and no longer."""

import os
import subprocess
import sys

import psutil
import pytest

from radiffuse.orphans import reaping_orphans
from tests.cluster.processes import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")


def leave_an_orphan() -> psutil.Process:
    done = subprocess.run(["sh", "-c", "sleep 600 >/dev/null & echo $!"], stdout=subprocess.PIPE, check=True)
    return psutil.Process(int(done.stdout))


def test_an_orphan_is_adopted_and_reaped() -> None:
    with reaping_orphans(lambda: 0):
        orphan = leave_an_orphan()
        assert orphan.ppid() == os.getpid()
        orphan.kill()
        wait_until(lambda: not psutil.pid_exists(orphan.pid), 20, "the orphan is gone, not a zombie")


def test_afterwards_an_orphan_goes_where_it_went_before() -> None:
    with reaping_orphans(lambda: None):
        pass
    orphan = leave_an_orphan()
    assert orphan.ppid() != os.getpid()
    orphan.kill()
