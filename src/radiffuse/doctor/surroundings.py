"""What the checks look at: the job that is to run, the cluster, and the store, each reached when it is first needed."""

import secrets
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from radiffuse.cluster.api_errors import ForbiddenError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.job import JOB_PRESETS, TrainingJob, load_job
from radiffuse.cluster.kinds import KINDS, NAMESPACES, JobKind, Object, Resource
from radiffuse.cluster.permissions import Right
from radiffuse.cluster.pod import pod_template
from radiffuse.cluster.quantities import amount
from radiffuse.cluster.sections import RunFacts
from radiffuse.config import read_document
from radiffuse.doctor.store_probe import StoreProbe
from radiffuse.errors import ClusterError
from radiffuse.store_settings import StoreSettings

RUN_NAME = "doctor"


class MayNotLookError(Exception):
    """This account has no right to look at something."""

    def __init__(self, right: Right, namespace: str | None) -> None:
        super().__init__(f"this account may not {right.verbs[0]} {right.resource}")
        self.right, self.namespace = right, namespace


class Surroundings:
    """A job and where it is to run. Use it as a context manager; nothing is reached before a check asks for it."""

    def __init__(
        self,
        job: TrainingJob,
        namespace: str | None = None,
        kubeconfig: Path | None = None,
        kfp_endpoint: str | None = None,
        may_create_buckets: bool = False,
    ) -> None:
        self._job, self._namespace, self._kubeconfig = job, namespace, kubeconfig
        self.kfp_endpoint, self.may_create_buckets = kfp_endpoint, may_create_buckets
        self._client: ClusterClient | None = None
        self._store: StoreProbe | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def connect(self) -> ClusterClient:
        """Make the client; raises ClusterError when there are no usable credentials."""
        self._client = ClusterClient(self._kubeconfig)
        return self._client

    @property
    def client(self) -> ClusterClient:
        """Of the cluster; raises ClusterError before `connect`."""
        if self._client is None:
            raise ClusterError("no credentials for a cluster were loaded")
        return self._client

    @property
    def namespace(self) -> str:
        """Where the job is to run."""
        return self._namespace or self._job.namespace or self.client.namespace

    @property
    def place(self) -> tuple[str | None, str | None]:
        """Server and namespace, as far as they are known."""
        if self._client is None:
            return None, self._namespace
        return self._client.server, self.namespace

    @property
    def job(self) -> TrainingJob:
        """The job that is to run, in its namespace once that is known."""
        return self._job.model_copy(update={"namespace": self.place[1]})

    @property
    def kind(self) -> JobKind:
        """What the job is to the API."""
        return next(kind for kind in KINDS.values() if kind.name.lower() == self._job.backend)

    @property
    def pod_resources(self) -> dict[str, Decimal]:
        """What each pod requests, which is its limit too."""
        template = pod_template(self._job, self.kind.container, [], "Never")
        return {name: amount(value) for name, value in template["spec"]["containers"][0]["resources"]["limits"].items()}

    @property
    def store(self) -> StoreProbe:
        """The store that the environment names; raises ConfigError when it names none."""
        if self._store is None:
            self._store = StoreProbe(StoreSettings.from_environment())
        return self._store

    def find(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """One object, or None when there is none; raises MayNotLookError."""
        try:
            return self.client.find(resource, namespace, name)
        except ForbiddenError as error:
            # A namespace may be granted to be read from within.
            where = name if resource == NAMESPACES else namespace
            raise MayNotLookError(Right(resource, ("get",), "", names=(name,)), where) from error

    def list_items(self, resource: Resource, namespace: str | None, labels: str = "") -> list[Object]:
        """All objects that match, of the whole cluster when the namespace is None; raises MayNotLookError."""
        try:
            return self.client.list_items(resource, namespace, labels)[0]
        except ForbiddenError as error:
            raise MayNotLookError(Right(resource, ("list",), ""), namespace) from error


def examined_job(source: str, overrides: tuple[str, ...] = ()) -> TrainingJob:
    """The job of a document, as if for a run whose batch suits its processes. Raises ConfigError as `load_job` does."""
    document = read_document(source, JOB_PRESETS, overrides)
    size = _number(document, "nodes") * (_number(document, "processes_per_node") or _number(document, "gpus_per_node"))
    # Named at random: a dry run must meet no job that exists.
    run = RunFacts(name=RUN_NAME, digest=secrets.token_hex(8), total_batch_size=max(1, size), train_batch_size=1)
    return load_job(source, overrides, run=run)


def _number(document: dict[str, Any], field: str) -> int:
    """The setting, or its default; 0 for what the job's own model will refuse."""
    value = document.get(field, TrainingJob.model_fields[field].default)
    return value if isinstance(value, int) else 0
