"""The part of KFP 2.17's REST interface that its command line and client use to submit a run and to follow it.

A run is really executed, by whatever function the server is given. As on a real API server, a request that asks for
something unknown is refused with a message, and a run's `state` says no more than how far it is.
"""

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import yaml

API = "/apis/v2beta1"
CREATED = "2026-11-22T12:00:00Z"

Execute = Callable[[str, dict[str, Any], Callable[[str, str], None]], str]
"""Pipeline package as YAML, its parameters, and where to report (step, state) -> final state of the run."""


class KfpServer:
    """Serves on 127.0.0.1 while it is a context; `runs` are those that were created, `requests` all that was asked."""

    def __init__(self, execute: Execute) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self._execute = execute
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._threads: list[threading.Thread] = [threading.Thread(target=self._http.serve_forever, daemon=True)]

    @property
    def endpoint(self) -> str:
        """URL for --endpoint."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def find_experiments(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """All, or those that the filter's predicates name."""
        found = list(self.experiments.values())
        for predicate in json.loads(query.get("filter", ["{}"])[0]).get("predicates", []):
            value = predicate.get("stringValue", predicate.get("string_value"))
            found = [experiment for experiment in found if experiment["display_name"] == value]
        return {"experiments": found, "total_size": len(found)}

    def create_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        """A new one, with an identifier."""
        experiment = {**body, "experiment_id": str(uuid.uuid4()), "created_at": CREATED}
        self.experiments[experiment["experiment_id"]] = experiment
        return experiment

    def create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take a run and start it; raises ValueError for what a real API server refuses."""
        if body.get("experiment_id") not in self.experiments:
            raise ValueError("no such experiment")
        given = body["pipeline_spec"]
        documents = [given["pipeline_spec"], given["platform_spec"]] if "pipeline_spec" in given else [given]
        if "root" not in documents[0]:
            raise ValueError("unknown pipeline specification")
        run = {**body, "run_id": str(uuid.uuid4()), "state": "PENDING", "created_at": CREATED}
        run["run_details"] = {"task_details": []}
        self.runs[run["run_id"]] = run
        thread = threading.Thread(target=self._run, args=(run, yaml.safe_dump_all(documents)), daemon=True)
        self._threads.append(thread)
        thread.start()
        return run

    def _run(self, run: dict[str, Any], package: str) -> None:
        details = run["run_details"]["task_details"]

        def report(step: str, state: str) -> None:
            known = next((task for task in details if task["display_name"] == step), None)
            if known is None:
                known = {"task_id": str(uuid.uuid4()), "display_name": step, "run_id": run["run_id"]}
                details.append(known)
            known["state"] = state

        run["state"] = "RUNNING"
        run["state"] = self._execute(package, run.get("runtime_config", {}).get("parameters") or {}, report)


def kfp_run_submit(server: KfpServer, package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`kfp run submit`, KFP's own command line, as a process."""
    program = str(Path(sys.executable).with_name("kfp"))
    command = [program, "--endpoint", server.endpoint, "run", "submit", "-e", "radiffuse", "-f", str(package), *words]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False, env=environment)


def _handler(server: KfpServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests read what was asked in `requests`."""

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            server.requests.append(("GET", url.path))
            if url.path == f"{API}/healthz":
                self._answer(200, {"multi_user": False, "pipeline_store": "database"})
            elif url.path == f"{API}/experiments":
                self._answer(200, server.find_experiments(parse_qs(url.query)))
            elif (match := re.fullmatch(rf"{API}/runs/([^/:]+)", url.path)) and match[1] in server.runs:
                self._answer(200, server.runs[match[1]])
            else:
                self._refuse(404, f"no {url.path}")

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            server.requests.append(("POST", path))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            create = {f"{API}/experiments": server.create_experiment, f"{API}/runs": server.create_run}.get(path)
            if create is None:
                self._refuse(404, f"no {path}")
                return
            try:
                self._answer(200, create(body))
            except (ValueError, KeyError) as error:
                self._refuse(400, f"Invalid input error: {error}")

        def _refuse(self, status: int, message: str) -> None:
            self._answer(status, {"error": message, "code": 3, "message": message, "details": []})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
