"""All checks, in the order in which they are made; `pipelines.generate` writes the documentation's table from them."""

from radiffuse.doctor import (
    account_checks,
    api_checks,
    kfp_checks,
    namespace_checks,
    node_checks,
    operator_checks,
    prometheus_checks,
    queue_checks,
    store_checks,
)
from radiffuse.doctor.examine import Check

CHECKS = (
    Check("kubeconfig", api_checks.kubeconfig, "credentials for a cluster can be read"),
    Check(
        "API server",
        api_checks.api_server,
        "it answers, takes the credentials, is Kubernetes 1.30 to 1.37",
        ("kubeconfig",),
    ),
    Check(
        "kinds", api_checks.kinds, "the API has the job's kinds of object, in the versions we write", ("API server",)
    ),
    Check("operator", operator_checks.operator, "its webhook is registered and something answers there", ("kinds",)),
    Check(
        "certificate", operator_checks.certificate, "the webhook's authority is valid for 30 days more", ("operator",)
    ),
    Check(
        "init container",
        operator_checks.init_container,
        "what the operator puts before workers is admitted",
        ("operator",),
    ),
    Check("namespace", namespace_checks.namespace, "it exists", ("API server",)),
    Check("pod security", namespace_checks.pod_security, "the restricted level is enforced", ("namespace",)),
    Check("permissions", account_checks.permissions, "the account may do what a launcher does", ("namespace",)),
    Check("secrets", namespace_checks.secrets, "those of the job exist with their entries", ("namespace",)),
    Check("image", namespace_checks.image, "it is named by digest"),
    Check(
        "dry run",
        operator_checks.dry_run,
        "the API server and every webhook accept the job",
        ("certificate", "namespace"),
    ),
    Check("service account", namespace_checks.service_account, "that of the pods exists", ("namespace",)),
    Check("runtime class", namespace_checks.runtime_class, "that of the job exists", ("API server",)),
    Check("priority class", namespace_checks.priority_class, "that of the job exists", ("API server",)),
    Check("quota", namespace_checks.quota, "quotas and limit ranges leave room for the job", ("namespace",)),
    Check(
        "pods",
        namespace_checks.pods,
        "the API server accepts a pod of the job; for accounts that may make pods",
        ("service account", "runtime class", "priority class", "quota"),
    ),
    Check("GPUs", node_checks.gpus, "nodes have them", ("API server",)),
    Check("gang", node_checks.gang, "enough nodes hold a pod of the job: GPUs, CPU, memory, labels, taints", ("GPUs",)),
    Check("queue", queue_checks.queue, "Kueue and the job's LocalQueue are there and active", ("namespace",)),
    Check("queue integration", queue_checks.integration, "Kueue manages this kind of job", ("queue",)),
    Check("workload priority", queue_checks.workload_priority, "that of the job exists", ("queue",)),
    Check("store settings", store_checks.settings, "`MINIO_*` or mounted files say where the store is"),
    Check("store", store_checks.reachable, "it answers, over a trusted connection", ("store settings",)),
    Check("store clock", store_checks.clock, "it is within a minute of ours; S3 refuses 15 minutes", ("store",)),
    Check("store buckets", store_checks.buckets, "the account is accepted and the buckets exist", ("store clock",)),
    Check("store objects", store_checks.objects, "one can be put, got and deleted in each bucket", ("store buckets",)),
    Check(
        "store of the pods",
        store_checks.of_the_pods,
        "the pods' secret names the same store, and keys that it accepts",
        ("store clock", "secrets"),
    ),
    Check("KFP", kfp_checks.kfp, "its API answers, in version 2.17"),
    Check("KFP account", kfp_checks.kfp_account, "`pipeline-runner` may do what a launcher does", ("namespace",)),
    Check("PodMonitor", prometheus_checks.pod_monitor, "one selects the job's pods", ("namespace",)),
    Check("Prometheus", prometheus_checks.prometheus, "one picks the PodMonitor", ("PodMonitor",)),
)
