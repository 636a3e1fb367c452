"""The one gateway to the Kubernetes API: plain JSON objects in and out, and our own errors for its refusals.

Objects stay the dictionaries that the server sends, in the spelling that manifests have.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import NamedTuple, Self

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3 import Retry
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse
from yaml import YAMLError

from radiffuse.cluster.api_errors import NoApiError, NotFoundError, refusal, unreachable
from radiffuse.cluster.kinds import ACCESS_REVIEWS, Object, Resource
from radiffuse.cluster.kubeconfig import kubeconfig_files, without_entries
from radiffuse.cluster.stream import Change, Stream
from radiffuse.errors import ClusterError

logger = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS, READ_SECONDS = 5, 30
WATCH_SECONDS = 60
"""The server ends a watch after this long, so that a connection which died in silence is noticed."""
LIST_PAGE = 500
# A second attempt when a kept connection turns out to be closed; who waits for a server to come back does so itself.
RETRIES = Retry(total=2, connect=1, read=1, redirect=0, status=0, respect_retry_after_header=False, backoff_factor=0.1)


class Request(NamedTuple):
    """One request; `what` says in a message what was asked, `seconds` bound the wait for the next bytes (None: not)."""

    method: str
    path: str
    what: str
    query: Mapping[str, str] = MappingProxyType({})
    body: Object | None = None
    content: str = "application/json"
    seconds: float | None = READ_SECONDS


class ClusterClient:
    """A client of one API server with the credentials of a kubeconfig, or of the pod it runs in.

    `kubeconfig` wins over KUBECONFIG, that over the pod's own account, and that over ~/.kube/config. Raises
    ClusterError when there are no usable credentials; every method raises the errors of api_errors.py.
    """

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self._configuration = client.Configuration()
        self._configuration.retries = RETRIES
        self.namespace = _configure(self._configuration, kubeconfig, context)
        """Where the credentials belong: the context's namespace, or the pod's own."""
        self.server: str = self._configuration.host
        self._client = client.ApiClient(self._configuration)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of every retry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the kept connections."""
        self._client.rest_client.pool_manager.clear()

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """One object; NotFoundError when there is none."""
        return self._object(Request("GET", resource.path(namespace, name), f"get {resource} {_place(namespace, name)}"))

    def find(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """One object, or None when there is none."""
        try:
            return self.get(resource, namespace, name)
        except NotFoundError:
            return None

    def list_items(
        self, resource: Resource, namespace: str | None, labels: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        """All objects that match, page by page, and the resource version from which to watch them.

        Without a namespace: those of the whole cluster.
        """
        items: list[Object] = []
        query = {"limit": str(LIST_PAGE), "labelSelector": labels, "fieldSelector": fields}
        what = f"list {resource}" + ("" if namespace is None else f" in {namespace}")
        while True:
            answer = self._json(Request("GET", resource.path(namespace), what, query), items=list | None)
            items += answer.get("items") or []
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query |= {"continue": metadata["continue"]}

    def watch(
        self, resource: Resource, namespace: str, version: str, labels: str = "", fields: str = ""
    ) -> "Stream[Change]":
        """Changes after that resource version, until the server ends the watch; ExpiredError: list again."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        query |= {"timeoutSeconds": str(WATCH_SECONDS), "labelSelector": labels, "fieldSelector": fields}
        what = f"watch {resource} in {namespace}"
        asked = Request("GET", resource.path(namespace), what, query, seconds=WATCH_SECONDS + 15)
        return Stream(self._send(asked), lambda line: self._change(line, what), what, self.server)

    def create(self, resource: Resource, namespace: str | None, body: Object, is_dry_run: bool = False) -> Object:
        """Send a new object; a dry run passes every check of the server and of its webhooks and keeps nothing."""
        name = (body.get("metadata") or {}).get("name", "")
        query = {"dryRun": "All"} if is_dry_run else {}
        what = f"{'dry-run ' if is_dry_run else ''}create {resource} {_place(namespace, name)}"
        return self._json(Request("POST", resource.path(namespace), what, query, body), metadata=dict)

    def patch(
        self, resource: Resource, namespace: str, name: str, changes: Object, seconds: float = READ_SECONDS
    ) -> Object:
        """Merge changes into an object (RFC 7386: a null removes), waiting at most that long for the answer."""
        what = f"patch {resource} {_place(namespace, name)}"
        content = "application/merge-patch+json"
        return self._object(Request("PATCH", resource.path(namespace, name), what, {}, changes, content, seconds))

    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        uid: str | None = None,
        seconds: float = READ_SECONDS,
    ) -> None:
        """Delete an object and what it owns; with a uid, that object and no successor of its name."""
        body: Object = {"propagationPolicy": "Background"} | ({"preconditions": {"uid": uid}} if uid else {})
        what = f"delete {resource} {_place(namespace, name)}"
        self._json(Request("DELETE", resource.path(namespace, name), what, body=body, seconds=seconds))

    def log(
        self, resource: Resource, namespace: str, pod: str, container: str, query: Mapping[str, str]
    ) -> "Stream[str]":
        """Lines of a container's log; the query is the API's own (follow, tailLines, sinceTime, timestamps)."""
        path, what = resource.path(namespace, pod, "log"), f"read the log of pod {_place(namespace, pod)}"
        seconds = None if query.get("follow") == "true" else READ_SECONDS
        asked = Request("GET", path, what, {"container": container, **query}, seconds=seconds)
        return Stream(self._send(asked), str, what, self.server)

    def may(self, verb: str, resource: Resource, namespace: str | None, subresource: str = "", name: str = "") -> bool:
        """Whether these credentials may do that, by the server's own judgement."""
        asked = {"verb": verb, "group": resource.group, "resource": resource.plural, "subresource": subresource}
        asked |= {"name": name} | ({"namespace": namespace} if namespace is not None else {})
        body = {"spec": {"resourceAttributes": asked}}
        review = Request("POST", ACCESS_REVIEWS.path(None), f"create {ACCESS_REVIEWS}", {}, body)
        return bool(self._json(review, status=dict)["status"].get("allowed"))

    def version(self) -> str:
        """Of the API server, such as v1.35.4; every account may ask."""
        return str(self._json(Request("GET", "/version", "say its version")).get("gitVersion", ""))

    def versions(self, group: str) -> list[str]:
        """Those in which the server knows an API group; none when nobody has installed it. Every account may ask."""
        try:
            answer = self._json(Request("GET", f"/apis/{group}", f"list the versions of {group}"), versions=list)
        except NotFoundError:
            return []
        return [str(each["version"]) for each in answer["versions"]]

    def knows(self, resource: Resource) -> bool:
        """Whether the server has that kind of object, in that version; every account may ask."""
        root = f"/apis/{resource.group}" if resource.group else "/api"
        asked = Request("GET", f"{root}/{resource.version}", f"list the kinds of {resource.group}")
        try:
            answer = self._json(asked, resources=list)
        except NotFoundError:
            return False
        return any(each["name"] == resource.plural for each in answer["resources"])

    def warm(self, seconds: float) -> None:
        """Open a connection or keep it open, with a request that every account may make."""
        self._json(Request("GET", "/version", "say its version", seconds=seconds))

    def _change(self, line: str, what: str) -> Change:
        event = json.loads(line)
        if not isinstance(event, dict) or not isinstance(event.get("object"), dict) or "type" not in event:
            raise NoApiError(self.server, what, "a line that tells of no change")
        if event["type"] == "ERROR":
            status = event["object"]
            raise refusal(int(status.get("code", 500)), json.dumps(status), what, self.server)
        return Change(event["type"], event["object"])

    def _object(self, asked: Request) -> Object:
        if "name" not in (answer := self._json(asked, metadata=dict))["metadata"]:
            raise NoApiError(self.server, asked.what, "an object without a name")
        return answer

    def _json(self, asked: Request, **needed: type | UnionType) -> Object:
        """The answer, a JSON object that has what is needed, of that type."""
        with contextlib.closing(self._send(asked)) as response:
            try:
                answer = json.loads(response.data)
            except HTTPError as error:
                raise unreachable(error, asked.what, self.server) from error
            except ValueError as error:
                found = response.headers.get("Content-Type", "what is no JSON")
                raise NoApiError(self.server, asked.what, found) from error
        if not isinstance(answer, dict):
            raise NoApiError(self.server, asked.what, f"JSON of another kind ({type(answer).__name__})")
        missing = [key for key, kind in needed.items() if key not in answer or not isinstance(answer[key], kind)]
        if missing:
            raise NoApiError(self.server, asked.what, f"JSON without {', '.join(missing)} as Kubernetes has it")
        return answer

    def _send(self, asked: Request) -> HTTPResponse:
        parameters = [(key, value) for key, value in asked.query.items() if value]
        try:
            response: HTTPResponse = self._client.call_api(
                asked.path,
                asked.method,
                query_params=parameters,
                header_params={"Accept": "application/json, */*", "Content-Type": asked.content},
                body=asked.body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(CONNECT_SECONDS, asked.seconds),
            )
        except ApiException as error:
            if error.status == 0:
                raise unreachable(error, asked.what, self.server) from error
            raise refusal(error.status, error.body, asked.what, self.server) from error
        except HTTPError as error:
            raise unreachable(error, asked.what, self.server) from error
        except ValueError:  # its words hold the token
            raise ClusterError(
                f"the credentials for {self.server} hold a line break or a character that no HTTP header can carry; "
                "correct the token in the kubeconfig"
            ) from None
        return response


def _place(namespace: str | None, name: str) -> str:
    return name if namespace is None else f"{namespace}/{name}"


def _configure(configuration: client.Configuration, kubeconfig: Path | None, context: str | None) -> str:
    """Fill in server and credentials; returns the namespace that goes with them."""
    if kubeconfig is None and not os.environ.get("KUBECONFIG") and (SERVICE_ACCOUNT / "token").is_file():
        return _configure_in_pod(configuration)
    files = kubeconfig_files(kubeconfig)
    joined = os.pathsep.join(map(str, files))
    try:
        with _complaints_raised():
            config.load_kube_config(joined, context, configuration, persist_config=False)
        contexts, active = config.list_kube_config_contexts(joined)
    except (ConfigException, YAMLError, OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ClusterError(
            f"the kubeconfig {joined} cannot be used: {without_entries(' '.join(str(error).split()))}; "
            '"kubectl config view" shows what is in it'
        ) from error
    chosen = next((entry for entry in contexts if entry["name"] == context), active)
    return str((chosen.get("context") or {}).get("namespace") or "default")


def _configure_in_pod(configuration: client.Configuration) -> str:
    try:
        config.load_incluster_config(client_configuration=configuration)
        return (SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    except (ConfigException, OSError) as error:
        raise ClusterError(
            f"the pod's own account at {SERVICE_ACCOUNT} cannot be used: {error}; name a kubeconfig with --kubeconfig "
            "or KUBECONFIG"
        ) from error


@contextlib.contextmanager
def _complaints_raised() -> Iterator[None]:
    """Raise what the library would only log, a credential plugin's failure above all, and go on without credentials."""
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        is_complaint = record.module == "kube_config" and record.levelno >= logging.ERROR
        if is_complaint:
            said.append(record.getMessage())
        return not is_complaint

    logging.getLogger().addFilter(keep)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(keep)
    if said:
        raise ConfigException(f"its plugin for credentials failed: {'; '.join(said)}")
