"""Whose job it is: a pipeline's run, or the batch Job that a launcher runs in, takes the jobs that it sent with it."""

import logging
import os

from radiffuse.cluster.api_errors import ForbiddenError, NotFoundError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.fields import objects, text
from radiffuse.cluster.kinds import PODS, Object

logger = logging.getLogger(__name__)

KFP_POD_NAME_VARIABLE = "KFP_POD_NAME"
"""KFP sets it in every step."""
POD_NAME_VARIABLE = "POD_NAME"
"""The pod of a batch Job sets it itself, from `metadata.name`: its host name may be cut short."""
RUN_ID_LABEL = "pipeline/runid"
RUN_ID_ANNOTATION = "radiffuse.org/pipeline-run"
OWNERS = (("argoproj.io", "Workflow"), ("batch", "Job"))
"""API group and kind. Never the pod: it may be replaced, and the next one goes on for the same owner."""


class Owner:
    """The workflow of the pipeline's run, or a batch Job; one without `reference` owns nothing, as on a laptop."""

    def __init__(self, reference: Object | None = None, run_id: str = "") -> None:
        self.reference, self.run_id = reference, run_id

    @property
    def uid(self) -> str:
        """Of the workflow or batch Job; empty when there is none."""
        return text(self.reference, "uid")

    def claim(self, manifest: Object) -> Object:
        """The manifest with this owner in it."""
        metadata = dict(manifest["metadata"])
        if self.reference is not None:
            metadata["ownerReferences"] = [self.reference]
        if self.run_id:
            metadata["annotations"] = {**metadata.get("annotations", {}), RUN_ID_ANNOTATION: self.run_id}
        return {**manifest, "metadata": metadata}


def find_owner(client: ClusterClient, namespace: str) -> Owner:
    """What owns this process's own pod, when that pod is in that namespace: a pipeline's step, or a batch Job's."""
    pod_name = os.environ.get(KFP_POD_NAME_VARIABLE) or os.environ.get(POD_NAME_VARIABLE)
    if not pod_name:
        return Owner()
    if client.namespace != namespace:
        logger.warning(
            "a launcher in namespace %s cannot own a job in %s; delete the job yourself", client.namespace, namespace
        )
        return Owner()
    try:
        pod = client.get(PODS, namespace, pod_name)
    except (ForbiddenError, NotFoundError) as error:
        logger.warning("the job gets no owner, so deleting its launcher will not delete it: %s", error)
        return Owner()
    for reference in objects(pod, "metadata", "ownerReferences"):
        if (text(reference, "apiVersion").partition("/")[0], text(reference, "kind")) in OWNERS:
            # Without blockOwnerDeletion, for which some clusters demand a right over the owner's finalizers.
            kept: Object = {key: reference[key] for key in ("apiVersion", "kind", "name", "uid") if key in reference}
            return Owner(kept, text(pod, "metadata", "labels", RUN_ID_LABEL))
    logger.warning("pod %s belongs to no workflow and no batch Job, so nothing owns the job", pod_name)
    return Owner()


def owner_of(job: Object) -> Object | None:
    """The first owner of a job that exists."""
    return next(iter(objects(job, "metadata", "ownerReferences")), None)
