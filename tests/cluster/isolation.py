"""A network namespace for a command: loopback, a bridge with the cluster's address, nothing else, and no root needed.

`python -m tests.cluster.isolation COMMAND...` is the half that runs inside; `isolated` starts it there.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

ADDRESS = "10.199.0.1"
"""Not loopback: an EndpointSlice, which the API server calls webhooks through, forbids 127.0.0.0/8."""
BRIDGE = "radiffuse0"
"""A bridge without ports carries the address; not every kernel has the dummy device."""
MARK = "RADIFFUSE_CLUSTER_NAMESPACE"
ROOT = Path(__file__).parent.parent.parent


class IsolationError(Exception):
    """No namespace can be made here; the message says what to allow or install."""


def is_isolated() -> bool:
    """Whether this process was started by `isolated`."""
    return os.environ.get(MARK) == ADDRESS


def isolated(command: list[str], environment: Mapping[str, str], own_user: bool = True) -> int:
    """Run a command in a network and mount namespace of its own; its exit code, or 128 + the signal that ended it.

    own_user: in a user namespace too, where this user is root; without, the caller must be root.
    SIGTERM is passed on, and SIGINT reaches the command by itself. Raises IsolationError.
    """
    return wait_for([start_isolated(command, environment, own_user)])[0]


def start_isolated(
    command: list[str], environment: Mapping[str, str], own_user: bool = True, output: IO[str] | None = None
) -> subprocess.Popen[bytes]:
    """Start what `isolated` runs, from the main thread; output: in place of this process's own. For `wait_for`."""
    inner = [sys.executable, "-m", "tests.cluster.isolation", *command]
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    # The command dies with us even when we are killed, and every server dies with the command.
    tied = ["setpriv", "--pdeathsig", "KILL", "--"]
    return subprocess.Popen(
        [*_unshare(own_user), *tied, *inner],
        cwd=ROOT,
        env={**clean, **environment, MARK: ADDRESS},
        stdout=output,
        stderr=output and subprocess.STDOUT,
    )


def wait_for(processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Exit codes, 128 + the signal for a process that one ended; SIGTERM is passed on to all meanwhile."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            for process in processes:
                process.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        codes = [process.wait() for process in processes]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return [code if code >= 0 else 128 - code for code in codes]


def _unshare(own_user: bool) -> list[str]:
    for tool, package in {"unshare": "util-linux", "setpriv": "util-linux", "ip": "iproute2"}.items():
        if shutil.which(tool) is None:
            raise IsolationError(f"the cluster tests need `{tool}`; install {package}")
    kinds = [["--user", "--map-root-user"]] if own_user else []
    said = "this user is not root"
    for kind in [*kinds, *([[]] if os.geteuid() == 0 else [])]:
        prefix = ["unshare", *kind, "--net", "--mount", "--"]
        done = subprocess.run([*prefix, "true"], capture_output=True, text=True)
        if done.returncode == 0:
            return prefix
        said = done.stderr.strip()
    raise IsolationError(
        f"the cluster tests need a network namespace of their own, which was refused here: {said};"
        " allow user namespaces (sysctl kernel.unprivileged_userns_clone=1,"
        " kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
    )


def main() -> int:
    """Set the network up, then become the command."""
    if not is_isolated():
        raise SystemExit("start this through tests.cluster.run; here it would change the machine's own network")
    for command in (
        ["link", "set", "lo", "up"],
        ["link", "add", BRIDGE, "type", "bridge"],
        ["address", "add", f"{ADDRESS}/32", "dev", BRIDGE],
        ["link", "set", BRIDGE, "up"],
    ):
        subprocess.run(["ip", *command], check=True)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
