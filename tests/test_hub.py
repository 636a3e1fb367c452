"""Models on the hub: what HF_* say is done, and what cannot be had is refused within seconds, in one sentence."""

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from radiffuse.errors import ConfigError, DataError, StorageError
from radiffuse.hub import download_model
from radiffuse.manifest import load_manifest
from radiffuse.storage import Store
from tests.tiny import tiny_pipeline

MODEL, COMMIT = "lab/tiny-test", "133a221b8aa7292a167afc5127cb63fb5005638b"


class Hub(ThreadingHTTPServer):
    """Serves the files of a folder as one commit of one model, or an answer that is always the same."""

    daemon_threads = True

    def __init__(self, folder: Path, answer: tuple[int, dict[str, str], bytes] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.folder, self.answer = folder, answer

    @property
    def address(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self.server_port}"


class _Request(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        status, headers, body = self.server.answer or self._found()
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _found(self) -> tuple[int, dict[str, str], bytes]:
        path, api, files = self.path.partition("?")[0], f"/api/models/{MODEL}", f"/{MODEL}/resolve/{COMMIT}/"
        if path == f"{api}/revision/{COMMIT}":
            return 200, {}, json.dumps({"id": MODEL, "sha": COMMIT, "siblings": []}).encode()
        if path == f"{api}/tree/{COMMIT}":
            return 200, {}, json.dumps([self._entry(each) for each in self.server.folder.rglob("*.*")]).encode()
        if path.startswith(files):
            name = path.removeprefix(files)
            data = (self.server.folder / name).read_bytes()
            return 200, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}, data
        return 404, {"X-Error-Code": "RevisionNotFound" if path.startswith(api) else "RepoNotFound"}, b""

    def _entry(self, path: Path) -> dict[str, str | int]:
        name = path.relative_to(self.server.folder).as_posix()
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": name}


@contextlib.contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    with hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()


def stage(folder: Path, environment: Mapping[str, str], **variables: str) -> subprocess.CompletedProcess[str]:
    """The verb in a process of its own, which reads HF_* as it starts."""
    command = [sys.executable, "-m", "radiffuse.cli", "stage", f"{MODEL}@{COMMIT}", "--out", str(folder / "model.json")]
    settings = {"PATH": "/usr/bin:/bin", "HF_HOME": str(folder / "home"), **environment, **variables}
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)


def test_a_model_comes_from_where_hf_endpoint_says(
    store: Store, store_environment: dict[str, str], tmp_path: Path
) -> None:
    tiny_pipeline(tmp_path / "pipeline")
    with served(Hub(tmp_path / "pipeline")) as hub:
        done = stage(tmp_path, store_environment, HF_ENDPOINT=hub.address)
    assert (done.returncode, "Fetching" in done.stderr) == (0, False), done.stderr
    manifest = load_manifest(tmp_path / "model.json", "model")
    assert manifest.inputs == {"origin": f"hub:{MODEL}@{COMMIT}"}
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert store.get_bytes(f"{manifest.uri}/{weights}") == (tmp_path / "pipeline" / weights).read_bytes()


@pytest.mark.parametrize(
    ("variables", "where", "reason"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, "http://127.0.0.1:1", "[Errno 111] Connection refused"),
        ({"HF_HUB_OFFLINE": "1"}, "https://huggingface.co", "HF_HUB_OFFLINE is set"),
        ({"HTTPS_PROXY": "http://127.0.0.1:1"}, "https://huggingface.co", "[Errno 111] Connection refused"),
    ],
)
def test_a_hub_that_cannot_be_asked_is_one_line_within_seconds(
    store_environment: dict[str, str], tmp_path: Path, variables: dict[str, str], where: str, reason: str
) -> None:
    start = time.monotonic()
    done = stage(tmp_path, store_environment, **variables)
    assert time.monotonic() - start < 20
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {MODEL} cannot be downloaded from {where} ({reason}); check the network and HF_ENDPOINT, or stage a "
        "local folder instead\n"
    )


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((200, {}, b"<html>Please log in"), StorageError, r"\(what answers there is no hub\)"),
        ((503, {}, b""), StorageError, r"\(it answers 503 Service Unavailable\)"),
        (
            (401, {"X-Error-Code": "RepoNotFound"}, b""),
            DataError,
            "the hub has no lab/tiny-test, or it is gated; set HF_",
        ),
        ((403, {"X-Error-Code": "GatedRepo"}, b""), DataError, "the hub has no lab/tiny-test, or it is gated; set HF_"),
        (None, DataError, "the hub has no revision 0123abc of lab/tiny-test; name a commit that it lists"),
    ],
)
def test_what_a_hub_answers_instead_is_said(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: tuple[int, dict[str, str], bytes] | None,
    kind: type[Exception],
    words: str,
) -> None:
    with served(Hub(tmp_path, answer)) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        with pytest.raises(kind, match=words):
            download_model(MODEL, "0123abc", tmp_path / "download", ["*"])


@pytest.mark.parametrize(
    "endpoint", ["mirror.example", "http://mirror.example:port", "http://", "ftp://mirror.example"]
)
def test_an_endpoint_that_is_no_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match=r"HF_ENDPOINT must be http\(s\)://host:port, not '"):
        download_model(MODEL, COMMIT, tmp_path, ["*"])
