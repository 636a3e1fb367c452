"""A small API server on loopback: any kind of object by namespace and name, lists, watches, merge patches, refusals.

It keeps the promises that a client relies on (resource versions, 404, 409, 410, streams) and knows no operator: a test
says what becomes of a job. The tests of tests/cluster/ ask the real one the same questions.
"""

import http.server
import json
import re
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

Object = dict[str, Any]
PATH = re.compile(r"/(?:api|apis/[^/]+)/[^/]+/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?(?:/([^/]+))?")


class SmallApi:
    """Use it as a context manager; `kubeconfig` points at it."""

    def __init__(self, folder: Path) -> None:
        self.changed = threading.Condition()
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.log: list[tuple[int, str, Object, str]] = []
        self.version = 1
        self.oldest = 0
        """Watches from versions before this one have expired."""
        self.epoch = 0
        self.forbidden: set[str] = set()
        """Kinds that may not be read."""
        self.refusals: list[tuple[int, str]] = []
        """Status and words with which the next requests are refused, whatever they ask."""
        self.pod_log = b""
        self.requests: list[tuple[str, str]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.kubeconfig = folder / "kubeconfig"
        cluster = {"server": f"http://127.0.0.1:{self._server.server_port}"}
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "small", "cluster": cluster}],
                    "users": [{"name": "user", "user": {"token": "x"}}],
                    "contexts": [
                        {"name": "small", "context": {"cluster": "small", "user": "user", "namespace": "train"}}
                    ],
                    "current-context": "small",
                }
            )
        )

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.break_streams()
        self._server.shutdown()
        self._server.server_close()

    def put(self, plural: str, item: Object, namespace: str = "train") -> Object:
        """Make or replace an object, as a controller would."""
        with self.changed:
            key = plural, namespace, item["metadata"]["name"]
            kind = "MODIFIED" if key in self.objects else "ADDED"
            item["metadata"].setdefault("uid", uuid.uuid4().hex)
            item["metadata"].setdefault("creationTimestamp", "2027-01-15T07:00:00Z")
            item["metadata"]["namespace"] = namespace
            self.objects[key] = item
            self._note(kind, item, plural)
        return item

    def remove(self, plural: str, name: str, namespace: str = "train") -> Object | None:
        """Take an object away."""
        with self.changed:
            item = self.objects.pop((plural, namespace, name), None)
            if item is not None:
                self._note("DELETED", item, plural)
        return item

    def get(self, plural: str, name: str, namespace: str = "train") -> Object | None:
        with self.changed:
            return self.objects.get((plural, namespace, name))

    def forget(self) -> None:
        """As after a restart: streams break, and old versions have expired."""
        with self.changed:
            self.version += 10
            self.oldest = self.version
        self.break_streams()

    def break_streams(self) -> None:
        with self.changed:
            self.epoch += 1
            self.changed.notify_all()

    def changes_after(self, version: int, plural: str, namespace: str) -> Iterator[tuple[str, Object]]:
        """What a watch reports, until the streams break."""
        position, epoch = 0, self.epoch
        while self.epoch == epoch:
            with self.changed:
                new, position = self.log[position:], len(self.log)
                if not new:
                    self.changed.wait(1.0)
            for number, kind, item, changed_plural in new:
                if number > version and changed_plural == plural and item["metadata"]["namespace"] == namespace:
                    yield kind, item

    def _note(self, kind: str, item: Object, plural: str) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((self.version, kind, json.loads(json.dumps(item)), plural))
        self.changed.notify_all()


def _matches(item: Object, query: dict[str, str]) -> bool:
    labels = item["metadata"].get("labels", {})
    wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
    name = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return labels.items() >= wanted.items() and name in ("", item["metadata"]["name"])


def _merge(item: Object, changes: Object) -> None:
    for key, value in changes.items():
        if value is None:
            item.pop(key, None)
        elif isinstance(value, dict):
            _merge(item.setdefault(key, {}), value)
        else:
            item[key] = value


def _handler(api: SmallApi) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self._serve(self._get)

        def do_POST(self) -> None:
            self._serve(self._post)

        def do_PATCH(self) -> None:
            self._serve(self._patch)

        def do_DELETE(self) -> None:
            self._serve(self._delete)

        def _serve(self, method: Any) -> None:
            address = urllib.parse.urlsplit(self.path)
            self.query = dict(urllib.parse.parse_qsl(address.query))
            self.body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            api.requests.append((self.command, address.path))
            found = PATH.fullmatch(address.path)
            if api.refusals and address.path != "/version":
                self._fail(*api.refusals.pop(0))
            elif address.path == "/version" or "selfsubject" in address.path:
                self._answer(200, {"status": {"allowed": True}})
            elif found is None:
                self._fail(404, "404 page not found")
            elif self.command == "GET" and found[2] in api.forbidden:
                self._fail(403, f'User "user" cannot list resource "{found[2]}"')
            else:
                method(*found.groups())

        def _get(self, namespace: str, plural: str, name: str | None, sub: str | None) -> None:
            if sub == "log":
                self._send(200, api.pod_log)
            elif name is not None:
                item = api.get(plural, name, namespace)
                self._answer(200, item) if item else self._fail(404, f'{plural} "{name}" not found')
            elif "watch" in self.query:
                self._watch(namespace, plural)
            else:
                with api.changed:
                    items = [
                        item for (kind, where, _), item in api.objects.items() if (kind, where) == (plural, namespace)
                    ]
                    found = [item for item in items if _matches(item, self.query)]
                    self._answer(200, {"items": found, "metadata": {"resourceVersion": str(api.version)}})

        def _watch(self, namespace: str, plural: str) -> None:
            version = int(self.query["resourceVersion"])
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if version < api.oldest:
                self._chunk({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}})
            else:
                for kind, item in api.changes_after(version, plural, namespace):
                    if _matches(item, self.query):
                        self._chunk({"type": kind, "object": item})
            self.wfile.write(b"0\r\n\r\n")

        def _post(self, namespace: str, plural: str, *_: object) -> None:
            name = self.body["metadata"]["name"]
            if api.get(plural, name, namespace) is not None:
                self._fail(409, f'{plural} "{name}" already exists')
            elif "dryRun" in self.query:
                self._answer(201, self.body)
            else:
                self._answer(201, api.put(plural, self.body, namespace))

        def _patch(self, namespace: str, plural: str, name: str, *_: object) -> None:
            item = api.get(plural, name, namespace)
            if item is None:
                self._fail(404, f'{plural} "{name}" not found')
                return
            with api.changed:
                _merge(item, self.body)
                self._answer(200, api.put(plural, item, namespace))

        def _delete(self, namespace: str, plural: str, name: str, *_: object) -> None:
            item = api.remove(plural, name, namespace)
            self._answer(200, item) if item else self._fail(404, f'{plural} "{name}" not found')

        def _fail(self, status: int, message: str) -> None:
            self._answer(status, {"kind": "Status", "code": status, "message": message})

        def _answer(self, status: int, document: object) -> None:
            self._send(status, json.dumps(document).encode())

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status in (429, 503):  # as the real one says when it starts or has too much to do
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(data)

        def _chunk(self, document: object) -> None:
            data = json.dumps(document).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    return Handler


def now() -> str:
    """As Kubernetes writes times."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
