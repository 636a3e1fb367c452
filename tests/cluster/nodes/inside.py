"""The first process of a process namespace for nodes: hides what is the machine's, runs a command and reaps orphans.

`python -m tests.cluster.nodes.inside COMMAND...`; `tests.cluster.nodes.run` starts it there.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.isolation import is_isolated
from tests.cluster.nodes.run import FIXED_PLACES

MODULE = "tests.cluster.nodes.inside"
HIDDEN = (Path("/run"), Path("/var/log"), *FIXED_PLACES)
"""Where daemons write to fixed places; each sees an empty file system there, gone with the namespace."""
SETTINGS = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
"""Of this network namespace alone: pods reach each other through the host, and Services through its rules."""


def main() -> int:
    """Exit code of the command."""
    if not is_isolated():
        raise SystemExit("start this through tests.cluster.nodes.run; here it would hide the machine's own /run")
    return _run() if os.getpid() == 1 else _enter()


def _enter() -> int:
    """Run this module again as the first process of a new namespace; all that is in there dies with it."""
    enter = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--", sys.executable, "-m", MODULE]
    process = subprocess.Popen([*enter, *sys.argv[1:]])
    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal sends it to the command as well
    signal.signal(signal.SIGTERM, lambda *_: process.kill())  # unshare itself takes no notice of SIGTERM
    code = process.wait()
    return code if code >= 0 else 128 - code


def _run() -> int:
    for path in HIDDEN:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], check=True)
    for name, value in SETTINGS.items():
        (Path("/proc/sys") / name).write_text(value, encoding="utf-8")
    process = subprocess.Popen(sys.argv[1:])
    signal.signal(signal.SIGINT, lambda *_: None)
    return _reap_until(process.pid)


def _reap_until(pid: int) -> int:
    """Containers' processes become ours when their parents end, and stay dead bodies until they are waited for."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
