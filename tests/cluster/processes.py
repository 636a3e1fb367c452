"""Servers as child processes that write to a log and never outlive the test run, and waiting with a deadline."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.1
STOP_SECONDS = 10.0
"""After SIGTERM; then SIGKILL."""


class CommandError(Exception):
    """A command failed; the message is what it wrote to standard error."""


class ServerError(Exception):
    """A server did not start or did not stay; the message ends with the last lines of its log."""


class Server:
    """A server process in a group of its own, its output appended to a log.

    Start it from the main thread: the kernel kills it when the thread that started it ends.
    """

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self._command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.is_running():
            return
        environment = os.environ | (self._environment or {})
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; raises ServerError when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self.name} is not running{self.tail()}")
        return self._process.pid

    def wait_until_ready(self, is_ready: Callable[[], object], seconds: float) -> None:
        """Wait; raises ServerError when it ends meanwhile or is not ready in time."""

        def ready() -> object:
            if not self.is_running():
                code = None if self._process is None else self._process.returncode
                raise ServerError(f"{self.name} ended with exit code {code}{self.tail()}")
            return is_ready()

        try:
            wait_until(ready, seconds, f"{self.name} is ready")
        except TimeoutError as error:
            raise ServerError(f"{error}{self.tail()}") from error

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """End it and whatever it started, and wait for that."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            os.killpg(process.pid, signal_number)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._process = None

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log, for a message."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "; it has no log"
        return f"; {self.log} ends\n" + "\n".join(text.splitlines()[-lines:])


def wait_until(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """The condition's first value that is true; raises TimeoutError with the last value seen."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}; last seen: {value!r}")
        time.sleep(POLL_SECONDS)


def run(command: list[str], stdin: str = "", seconds: float = 60.0) -> str:
    """Standard output of a command; raises CommandError with its standard error, or TimeoutError."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"`{' '.join(command)[:200]}` took over {seconds:.0f} s") from error
    if done.returncode != 0:
        raise CommandError(done.stderr.strip() or f"`{' '.join(command)[:200]}` ended with {done.returncode}")
    return done.stdout
