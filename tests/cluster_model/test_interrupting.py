"""A signal while a job is being sent: the launcher ends at once, and says what became of the job."""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from radiffuse.cluster.launcher import train_in_cluster
from radiffuse.errors import Preempted
from radiffuse.storage import Store
from tests.cluster_model.launches import document, make_plan
from tests.cluster_model.operating import until
from tests.cluster_model.small_api import SmallApi

AT_ONCE_SECONDS = 3.0


@contextmanager
def signalled(number: signal.Signals, when: threading.Event) -> Iterator[list[float]]:
    """Sends this process the signal once `when` is set; the list then has its time on the monotonic clock."""
    sent: list[float] = []

    def send() -> None:
        when.wait()
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    yield sent
    thread.join(10)


def launch(store: Store, kubeconfig: Path) -> None:
    train_in_cluster(store, make_plan(), json.dumps(document()), None, kubeconfig)


def leading_to(kubeconfig: Path, port: int) -> Path:
    known = json.loads(kubeconfig.read_text())
    known["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{port}"
    kubeconfig.write_text(json.dumps(known))
    return kubeconfig


class Said(logging.Handler):
    """Sets an event at the first line that has the words, and counts such lines."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.count, self.event = words, 0, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.count += 1
            self.event.set()


@pytest.fixture
def trying_again() -> Iterator[Said]:
    said, submitting = Said("trying again"), logging.getLogger("radiffuse.cluster.submit")
    submitting.addHandler(said)
    yield said
    submitting.removeHandler(said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_launcher_whose_server_is_down(
    api: SmallApi, store: Store, trying_again: Said, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with signalled(number, trying_again.event) as sent:
        with pytest.raises(Preempted, match="stopped; nothing was sent to the cluster") as caught:
            launch(store, leading_to(api.kubeconfig, port))
        assert caught.value.number is number
        assert time.monotonic() - sent[0] < AT_ONCE_SECONDS


def test_a_signal_ends_a_launcher_whose_server_hangs(api: SmallApi, store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = threading.Event()

        def take() -> None:  # the launcher's connection and its canceller's
            kept.extend(silent.accept() for _ in range(2))
            asked.set()

        kept: list[object] = []
        threading.Thread(target=take, daemon=True).start()
        with signalled(signal.SIGTERM, asked) as sent:
            with pytest.raises(Preempted, match="nothing was sent"):
                launch(store, leading_to(api.kubeconfig, silent.getsockname()[1]))
            assert time.monotonic() - sent[0] < AT_ONCE_SECONDS


def test_a_server_that_stays_away_is_mentioned_once(api: SmallApi, store: Store, trying_again: Said) -> None:
    api.refusals += [(503, "starting")] * 1000
    done = threading.Event()

    def wait() -> None:
        until(lambda: len(api.requests) > 6, "some requests were refused")
        done.set()

    threading.Thread(target=wait, daemon=True).start()
    with signalled(signal.SIGTERM, done), pytest.raises(Preempted):
        launch(store, api.kubeconfig)
    assert trying_again.count == 1


def test_a_job_that_could_not_be_stopped_is_not_called_suspended(api: SmallApi, store: Store) -> None:
    created = threading.Event()

    def wait() -> None:
        until(lambda: [key for key in api.objects if key[0] == "pytorchjobs"], "the job is sent")
        api.refusals += [(503, "overloaded")] * 100_000
        created.set()

    threading.Thread(target=wait, daemon=True).start()
    words = 'could not be stopped and may go on: .*overloaded.*"radiffuse job cancel few-.* -n train" stops it'
    with signalled(signal.SIGTERM, created), pytest.raises(Preempted, match=words):
        launch(store, api.kubeconfig)
