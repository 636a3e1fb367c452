"""What the doctor says of a server at the store's address that is none, and to nobody who listens."""

import base64
import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from radiffuse.cluster.kinds import SECRETS
from radiffuse.doctor.examine import Check, examine
from radiffuse.doctor.finding import Finding, Verdict, ok
from radiffuse.doctor.store_checks import buckets, of_the_pods, reachable
from radiffuse.doctor.store_probe import StoreProbe
from radiffuse.doctor.surroundings import Surroundings, examined_job
from radiffuse.store_settings import StoreSettings
from tests.test_doctor import Seen


@contextlib.contextmanager
def answering(page: bytes = b"<html/>", **headers: str) -> Iterator[Surroundings]:
    """A job whose store is a web server that has everything that it is asked for."""

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(200)
            for name, value in {"Date": formatdate(usegmt=True), "Content-Length": str(len(page)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(page)

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        surroundings = Surroundings(examined_job("2x32"), "train")
        surroundings._store = StoreProbe(StoreSettings(f"127.0.0.1:{server.server_port}", "a", "b", secure=False))
        yield surroundings
        server.shutdown()


def looked_at(surroundings: Surroundings, **looks: Callable[[Surroundings], Finding]) -> dict[str, Finding]:
    checks = [Check(name, look, "") for name, look in looks.items()]
    return {result.name: result.finding for result in examine(surroundings, checks)}


def test_a_server_that_has_everything_is_no_store() -> None:
    with answering() as surroundings:
        found = looked_at(surroundings, store=reachable, buckets=buckets)
    assert found["store"].verdict is Verdict.ok
    assert re.search(r"has s3://datasets/\S+, which nobody wrote, so it is no store$", found["buckets"].text)
    assert found["buckets"].fix == "make MINIO_ENDPOINT the address of a store's S3 API"


def test_an_answer_that_is_no_text_is_no_stores() -> None:
    with answering(page=b"\xff") as surroundings:
        found = looked_at(surroundings, buckets=buckets)["buckets"]
    assert found.text.endswith(" does not answer as an S3 store does")
    assert found.fix == "check MINIO_ENDPOINT and MINIO_SECURE"


def test_a_date_that_is_none_is_the_servers_fault() -> None:
    with answering(Date="yesterday") as surroundings:
        found = looked_at(surroundings, store=reachable)["store"]
    assert found.text.endswith(" answers with the date 'yesterday', which is none")
    assert found.fix == "make MINIO_ENDPOINT the address of a store's S3 API"


KEYS = {"MINIO_ACCESS_KEY": b"reader", "MINIO_SECRET_KEY": b"sesame-sesame"}
IN_PODS = {**KEYS, "MINIO_ENDPOINT": b"store.example:9000"}


def of_a_secret(monkeypatch: pytest.MonkeyPatch, **changed: bytes) -> Finding:
    for name, value in IN_PODS.items():
        monkeypatch.setenv(name, value.decode())
    data = {name: base64.b64encode(value).decode() for name, value in (IN_PODS | changed).items()}
    return of_the_pods(Seen("2x32", {SECRETS: [{"metadata": {"name": "radiffuse-store"}, "data": data}]}))


@pytest.mark.parametrize(
    ("entry", "value", "what"),
    [
        ("MINIO_ACCESS_KEY", "reäder".encode(), "holds characters that are not ASCII, or control characters"),
        ("MINIO_ACCESS_KEY", b"rea\nder", "holds characters that are not ASCII, or control characters"),
        ("MINIO_ACCESS_KEY", b"reader\xff", "holds bytes that are no UTF-8 text"),
        ("MINIO_ACCESS_KEY", b" \n", "is empty"),
        ("MINIO_SECRET_KEY", b"sesame\xff", "holds bytes that are no UTF-8 text"),
        ("MINIO_SECRET_KEY", b"", "is empty"),
        ("MINIO_ENDPOINT", b"store example", "is not host:port, or has a scheme that contradicts"),
        ("MINIO_SECURE", b"sesame", "is neither true nor false"),
        ("MINIO_SECURE", b"\xff", "holds bytes that are no UTF-8 text"),
    ],
)
def test_what_no_pod_could_use_in_its_secret_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, entry: str, value: bytes, what: str
) -> None:
    found = of_a_secret(monkeypatch, **{entry: value})
    assert found.verdict is Verdict.failed
    assert found.text.startswith(
        f"the pods could not use the secret 'radiffuse-store' in namespace train: its {entry} {what}"
    )
    assert found.fix.startswith(
        f"""kubectl --namespace train patch secret radiffuse-store --patch '{{"stringData": {{"{entry}": """
    )
    assert not re.search(r"re.?.?der|sesame|store example", found.text + found.fix)


def test_blanks_around_what_a_secret_holds_hurt_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    padded = {name: b" " + value + b"\n" for name, value in KEYS.items()}
    assert of_a_secret(monkeypatch, **padded) == ok("the same store and account as here")


def test_a_closed_output_is_a_failure_without_a_traceback(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m radiffuse.cli doctor --kubeconfig '{tmp_path}/absent' >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
