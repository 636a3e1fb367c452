"""The rows that join what other exporters tell, for those who scrape them: nothing of it is measured a second time."""

from charts.watching.panel import Panel, Query, Row

OTHERS = {
    "dcgm-exporter": (
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_XID_ERRORS",
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "DCGM_FI_PROF_SM_ACTIVE",
    ),
    "Kubeflow Training Operator 1.9": (
        "training_operator_jobs_created_total",
        "training_operator_jobs_deleted_total",
        "training_operator_jobs_failed_total",
        "training_operator_jobs_restarted_total",
        "training_operator_jobs_successful_total",
    ),
    "Kubeflow Pipelines' API server 2.17": (
        "resource_manager_workflow_runs_failed",
        "resource_manager_workflow_runs_success",
        "run_server_create_requests",
    ),
    "MinIO, /minio/v2/metrics/cluster and /bucket": (
        "minio_bucket_usage_total_bytes",
        "minio_cluster_capacity_usable_free_bytes",
        "minio_s3_requests_5xx_errors_total",
        "minio_s3_requests_inflight_total",
        "minio_s3_requests_total",
        "minio_s3_traffic_received_bytes",
        "minio_s3_traffic_sent_bytes",
    ),
}
"""Exporter -> those of its series that are shown."""


def others_rows() -> tuple[Row, ...]:
    """All of them optional."""
    return (_gpus(), _operator(), _pipelines(), _minio())


def _gpu(field: str) -> str:
    """Of the job's pods; without honorLabels the pod that has the GPU is called exported_pod."""
    return f'({field}{{exported_pod=~"$pod"}} or {field}{{pod=~"$pod"}})'


def _over_gpus(title: str, meaning: str, field: str, unit: str) -> Panel:
    names = {"max": "most", "avg": "mean", "min": "least"}
    queries = tuple(Query(f"{function}({_gpu(field)})", name) for function, name in names.items())
    return Panel(title, meaning, queries, unit)


def _gpus() -> Row:
    return Row(
        "GPUs (dcgm-exporter)",
        (
            _over_gpus(
                "Tensor cores at work",
                "Part of the time, over the job's GPUs.",
                "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
                "percentunit",
            ),
            _over_gpus("Multiprocessors at work", "Part of the time.", "DCGM_FI_PROF_SM_ACTIVE", "percentunit"),
            _over_gpus("Memory used", "Of the GPU, by whomever.", "DCGM_FI_DEV_FB_USED", "mbytes"),
            _over_gpus("Power", "A GPU far below the others waits, or is capped.", "DCGM_FI_DEV_POWER_USAGE", "watt"),
            _over_gpus("Temperature", "A hot one lowers its clock.", "DCGM_FI_DEV_GPU_TEMP", "celsius"),
            Panel(
                "XID error",
                "The driver's last error on a GPU; 0: none.",
                (Query(f"max({_gpu('DCGM_FI_DEV_XID_ERRORS')})", "code"),),
            ),
        ),
        is_optional=True,
    )


def _operator() -> Row:
    jobs = "training_operator_jobs_{}_total"
    events = ("created", "successful", "failed", "restarted", "deleted")
    selector = '{job_namespace="$namespace", framework="pytorch"}'
    queries = tuple(Query(f"sum(increase({jobs.format(event)}{selector}[1h]))", event) for event in events)
    return Row(
        "Jobs (Kubeflow Training Operator)",
        (Panel("PyTorchJobs of the namespace, per hour", "All, whoever made them.", queries, width=24),),
        is_optional=True,
    )


def _pipelines() -> Row:
    runs = tuple(
        Query(f'sum(resource_manager_workflow_runs_{name}{{profile="$namespace"}})', name)
        for name in ("success", "failed")
    )
    return Row(
        "Pipelines (Kubeflow Pipelines' API server)",
        (
            Panel("Runs of the namespace", "Ended well, and failed.", runs, width=12),
            Panel(
                "Runs created per hour",
                "All, whoever made them.",
                (Query("sum(increase(run_server_create_requests[1h]))", "created"),),
                width=12,
            ),
        ),
        is_optional=True,
    )


def _minio() -> Row:
    return Row(
        "Store (MinIO)",
        (
            Panel(
                "Requests",
                "Of all who use it.",
                (
                    Query("sum(rate(minio_s3_requests_total[$__rate_interval]))", "all"),
                    Query("sum(rate(minio_s3_requests_5xx_errors_total[$__rate_interval]))", "5xx"),
                ),
                "reqps",
            ),
            Panel(
                "Requests under way",
                "Of all who use it.",
                (Query("sum(minio_s3_requests_inflight_total)", "under way"),),
            ),
            Panel(
                "Traffic",
                "Of all who use it.",
                (
                    Query("sum(rate(minio_s3_traffic_received_bytes[$__rate_interval]))", "in"),
                    Query("sum(rate(minio_s3_traffic_sent_bytes[$__rate_interval]))", "out"),
                ),
                "Bps",
            ),
            Panel(
                "Buckets",
                "What each holds.",
                (Query("max by (bucket) (minio_bucket_usage_total_bytes)", "{{bucket}}"),),
                "bytes",
                "heat",
                width=12,
            ),
            Panel(
                "Free",
                "For new objects.",
                (Query("min(minio_cluster_capacity_usable_free_bytes)", "free"),),
                "bytes",
                width=12,
            ),
        ),
        is_optional=True,
    )
