"""Kubeconfigs and addresses that lead to no Kubernetes API: each ends as one error that says what was found."""

import base64
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from radiffuse.cluster.api_errors import NoApiError, UnavailableError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.kinds import PODS, PYTORCHJOB
from radiffuse.cluster.status import cancel_job, listing
from radiffuse.errors import ClusterError

NO_API = "answers, but is no Kubernetes API"


def kubeconfig(folder: Path, server: str, **user: Any) -> Path:
    path = folder / "kubeconfig"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    document = {"clusters": [{"name": "c", "cluster": {"server": server}}], "contexts": [context]}
    path.write_text(json.dumps(document | {"users": [{"name": "u", "user": user}], "current-context": "c"}))
    return path


@contextmanager
def answering(body: bytes, content: str = "application/json", *, status: int = 200) -> Iterator[str]:
    """A server that says the same to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.send_response(status)
            self.send_header("Location", "/login")
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server names them so

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("body", "content", "found"),
    [
        (b"{}", "application/json", "JSON without metadata"),
        (b'{"metadata": "", "status": "ok", "items": 0, "versions": 1, "resources": {}}', "", "JSON without metadata"),
        (b"[]", "application/json", "JSON of another kind"),
        (b'{"metadata": {}}', "application/json", "an object without a name"),
        (b"<html>Welcome</html>", "text/html", "text/html"),
    ],
)
def test_a_server_of_another_kind_is_told_from_one_that_is_down(
    tmp_path: Path, body: bytes, content: str, found: str
) -> None:
    with answering(body, content) as address, ClusterClient(kubeconfig(tmp_path, f"http://{address}")) as client:
        for ask in (
            lambda: cancel_job(client, "train", "x", should_delete=False),
            lambda: client.patch(PYTORCHJOB.resource, "train", "x", {}),
        ):
            with pytest.raises(NoApiError, match=f"{NO_API}: asked to .* sent {found}"):
                ask()
        for ask in (
            lambda: listing(client, "train", is_json=False),
            lambda: client.may("get", PODS, "train"),
            lambda: client.knows(PYTORCHJOB.resource),
            lambda: client.versions("kubeflow.org"),
        ):
            with pytest.raises(NoApiError, match=NO_API):
                ask()


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_log_in_page_that_lies_behind_a_redirect_is_no_api(tmp_path: Path, status: int) -> None:
    with (
        answering(b"", status=status) as address,
        ClusterClient(kubeconfig(tmp_path, f"http://{address}")) as client,
        pytest.raises(NoApiError, match=f"{NO_API}: asked to get pods train/x, it sent a redirect; "),
    ):
        client.get(PODS, "train", "x")


def test_a_watch_that_brings_something_else_is_no_api(tmp_path: Path) -> None:
    with (
        answering(b"{}\n") as address,
        ClusterClient(kubeconfig(tmp_path, f"http://{address}")) as client,
        pytest.raises(NoApiError, match=NO_API),
    ):
        list(client.watch(PODS, "train", "1"))


def test_plain_http_behind_a_https_address_is_not_blamed_on_the_authority(tmp_path: Path) -> None:
    with answering(b"{}") as address, ClusterClient(kubeconfig(tmp_path, f"https://{address}")) as client:
        with pytest.raises(ClusterError, match=r"does not speak TLS .*http://") as caught:
            client.get(PODS, "train", "x")
        assert "authority" not in str(caught.value) and not isinstance(caught.value, UnavailableError)


@pytest.mark.parametrize("token", ["secret\nsecret", "secret\u2603"])
def test_a_token_that_no_header_can_carry_is_said_and_not_shown(tmp_path: Path, token: str) -> None:
    with answering(b"{}") as address, ClusterClient(kubeconfig(tmp_path, f"http://{address}", token=token)) as client:
        with pytest.raises(ClusterError, match="a line break or a character that no HTTP header can carry") as caught:
            client.get(PODS, "train", "x")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00\x01\x02\x80"])
def test_a_kubeconfig_of_bytes_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    with pytest.raises(ClusterError, match=r"the kubeconfig .*/config cannot be used: "):
        ClusterClient(path)


def test_a_kubeconfig_whose_certificate_is_no_base64_is_refused(tmp_path: Path) -> None:
    data = base64.b64encode(b"x").decode().rstrip("=")
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", **{"client-certificate-data": data})
    with pytest.raises(ClusterError, match=r"the kubeconfig .* cannot be used: .*padding"):
        ClusterClient(path)


def test_a_token_at_the_wrong_place_is_not_shown(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "https://127.0.0.1:1")
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"users": [{"name": "u", "token": "sesame", "exec": {}}]}))
    with pytest.raises(ClusterError, match=r"cannot be used: .*Expected key user in .*/\{\.\.\.\}; ") as caught:
        ClusterClient(path)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "words"), [("false", "process returned 1"), ("/nowhere/plugin", "No such file or directory")]
)
def test_a_plugin_for_credentials_that_fails_is_the_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str, words: str
) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "interactiveMode": "Never"}
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", exec=plugin)
    with pytest.raises(ClusterError, match=f"its plugin for credentials failed: .*{words}"):
        ClusterClient(path)
    assert not caplog.records


def test_a_variable_that_names_no_kubeconfig_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", ":")
    with pytest.raises(ClusterError, match="no kubeconfig at ':', "):
        ClusterClient()


@pytest.mark.parametrize(
    ("named", "why"), [("~nobody-of-that-name/config", "home directory"), ("x" * 300, "File name too long")]
)
def test_a_kubeconfig_that_cannot_be_looked_for_is_one_error(
    monkeypatch: pytest.MonkeyPatch, named: str, why: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", named)
    with pytest.raises(ClusterError, match=rf"cannot look for a kubeconfig at {named} \(.*{why}.*\); name one"):
        ClusterClient()


def test_a_pods_account_that_leads_to_no_server_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("radiffuse.cluster.client.SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("x")
    with pytest.raises(ClusterError, match=r"the pod's own account at .* cannot be used: Service host/port is not set"):
        ClusterClient()


def test_a_port_that_nobody_answers_is_worth_a_retry(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ClusterClient(kubeconfig(tmp_path, f"https://127.0.0.1:{port}")) as client, pytest.raises(UnavailableError):
        client.get(PODS, "train", "x")
