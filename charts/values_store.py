"""The single-node store for trying things out."""

from typing import Annotated, Any, Literal

from pydantic import Field

from charts.values_common import Annotations, ChartSettings, Image, Port, Resources, Scheduling, Tag, resources
from radiffuse.cluster.names import SECRET_LIKE, ObjectName, Text
from radiffuse.cluster.quantities import Memory


class StoreImage(Image):
    """An image of somebody else's, whose version is not ours."""

    tag: Tag = Field(description="Version of the server; never latest.")


SILO = StoreImage(registry="docker.io", repository="pgsty/silo", tag="RELEASE.2026-08-06T00-00-00Z")
"""The maintained fork of MinIO, whose own images are no longer published."""
_VARIABLE: dict[str, Any] = {
    "x-pattern": r"^[A-Za-z_][A-Za-z0-9_]*$",
    "not": {"pattern": f"(?i:{SECRET_LIKE.pattern})"},
}
ServerVariable = Annotated[str, Field(json_schema_extra=_VARIABLE)]


class Persistence(ChartSettings):
    """The store's volume."""

    enabled: bool = Field(True, description="Keep objects in a PersistentVolumeClaim; false: they go with the pod.")
    existing_claim: ObjectName | None = Field(None, description="A claim that exists; None: the chart makes one.")
    size: Memory = Field("20Gi", description="Of the claim; it can grow where its class allows, never shrink.")
    storage_class: ObjectName | None = Field(None, description="StorageClass; None: the cluster's default.")
    access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"] = Field(
        "ReadWriteOnce", description="Of the claim."
    )
    keep: bool = Field(
        True, description="Leave the claim, and what it holds, when the store is switched off or the release removed."
    )
    annotations: Annotations = Field({}, description="Of the claim.")


class DevStore(ChartSettings):
    """One store, one disk, no TLS: for trying, never for patient data. Credentials come from a secret that exists."""

    enabled: bool = Field(False, description="Run it; `store.endpoint` and `store.secure` then follow and stay null.")
    image: StoreImage = Field(SILO, description="Any server that speaks S3 as MinIO does.")
    command: tuple[str, ...] = Field((), description="Instead of the image's entry point.")
    args: tuple[str, ...] = Field(
        ("server", "/data", "--address", ":9000", "--console-address", ":9001", "--certs-dir", "/tmp/certs"),
        description="Of the command; objects go below /data, and only /tmp can be written besides.",
    )
    port: Port = Field(9000, description="Where the server speaks S3; `args` say the same.")
    access_key_variable: str = Field(
        "MINIO_ROOT_USER", pattern=r"^[A-Z_][A-Z0-9_]*$", description="Variable that the server takes the key from."
    )
    secret_key_variable: str = Field(
        "MINIO_ROOT_PASSWORD", pattern=r"^[A-Z_][A-Z0-9_]*$", description="Variable for the secret key."
    )
    secret: ObjectName | None = Field(
        None, description="Existing secret with the server's keys, in the entries that `store` names; None: its secret."
    )
    env: dict[ServerVariable, Text] = Field(
        {"MINIO_PROMETHEUS_AUTH_TYPE": "public"}, description="More variables of the server, never secrets."
    )
    metrics_path: str | None = Field(
        "/minio/v2/metrics/cluster", pattern=r"^/\S*$", description="Its Prometheus metrics; null: it has none."
    )
    health_path: str | None = Field(
        "/minio/health/live", pattern=r"^/\S*$", description="Asked by probes; null: they only connect."
    )
    user_id: int = Field(20002, ge=1, description="Numeric user of the server and owner of its files.")
    persistence: Persistence = Persistence()
    resources: Resources = Field(resources("500m", "1Gi"), description="Of the server.")
    scheduling: Scheduling = Scheduling()
