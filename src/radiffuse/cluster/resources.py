"""Where the API keeps what a job needs and others provide."""

from radiffuse.cluster.kinds import Resource

NODES = Resource("", "v1", "nodes")
CONFIG_MAPS = Resource("", "v1", "configmaps")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas")
LIMIT_RANGES = Resource("", "v1", "limitranges")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
WEBHOOKS = Resource("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")
RUNTIME_CLASSES = Resource("node.k8s.io", "v1", "runtimeclasses")
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses")
JOB_SETS = Resource("jobset.x-k8s.io", "v1alpha2", "jobsets")
WORKLOAD_PRIORITIES = Resource("kueue.x-k8s.io", "v1beta2", "workloadpriorityclasses")
POD_MONITORS = Resource("monitoring.coreos.com", "v1", "podmonitors")
PROMETHEUSES = Resource("monitoring.coreos.com", "v1", "prometheuses")
SELF_REVIEWS = Resource("authentication.k8s.io", "v1", "selfsubjectreviews")
LOCAL_ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "localsubjectaccessreviews")
