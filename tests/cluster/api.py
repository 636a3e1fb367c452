"""The API server, asked by this process: a kubectl costs a fifth of a second of processor time, whatever it does."""

import json
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from tests.cluster.processes import CommandError, wait_until

Object = dict[str, Any]
AS_APPLIED = "fieldManager=tests&force=true&fieldValidation=Strict"


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


class Api:
    """An API server as its admin sees it."""

    def __init__(self, server: str, tls: ssl.SSLContext) -> None:
        self._server, self._tls = server, tls
        self._resources: dict[tuple[str, str], Object] = {}

    def answers(self, path: str) -> bool:
        """Whether there is a server, and it says yes."""
        try:
            with urllib.request.urlopen(self._server + path, timeout=5, context=self._tls) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False

    def apply(self, wanted: Object, seconds: float) -> None:
        """Apply on the server's side, like `kubectl apply --server-side --force-conflicts`; raises CommandError."""
        path = f"{self._place(wanted)}/{wanted['metadata']['name']}?{AS_APPLIED}"
        self._ask("PATCH", path, seconds, wanted)

    def items(self, version: str, plural: str, namespace: str) -> list[Object]:
        """All objects of a kind in a namespace; raises CommandError."""
        return list(self._ask("GET", f"{_root(version)}/namespaces/{namespace}/{plural}")["items"])

    def delete_all(self, version: str, plural: str, namespace: str) -> bool:
        """Delete those, and what they own a moment later; whether there were any. Raises CommandError."""
        found = self.items(version, plural, namespace)
        if found:
            path = f"{_root(version)}/namespaces/{namespace}/{plural}?propagationPolicy=Background"
            self._ask("DELETE", path)
        return bool(found)

    def _place(self, wanted: Object) -> str:
        """Where objects of its kind lie."""
        version, kind = wanted["apiVersion"], wanted["kind"]
        if (version, kind) not in self._resources:
            for each in self._ask("GET", _root(version))["resources"]:
                if "/" not in each["name"]:
                    self._resources[version, each["kind"]] = each
        if (version, kind) not in self._resources:
            raise CommandError(f"the API knows no {kind} of {version}")
        found = self._resources[version, kind]
        space = f"/namespaces/{wanted['metadata'].get('namespace', 'default')}" if found["namespaced"] else ""
        return f"{_root(version)}{space}/{found['name']}"

    def _ask(self, method: str, path: str, seconds: float = 60.0, body: Object | None = None) -> Object:
        """What it answers; one that has just started sends its clients away until it has found where kinds are kept."""
        return wait_until(lambda: self._answer(method, path, seconds, body), seconds, f"the API is ready for {path}")

    def _answer(self, method: str, path: str, seconds: float, body: Object | None) -> Object | None:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/apply-patch+yaml"}
        request = urllib.request.Request(self._server + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds, context=self._tls) as answer:
                found: Object = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.TOO_MANY_REQUESTS:
                return None
            said = error.read().decode()
            raise CommandError(json.loads(said)["message"] if said.startswith("{") else f"{path}: {said}") from error
        except (urllib.error.URLError, ConnectionError) as error:
            raise CommandError(f"{method} {path}: {error}") from error
        return found
