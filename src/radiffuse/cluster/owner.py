"""Whose job it is: a pipeline's run owns the jobs that its steps send, and takes them with it when it is deleted."""

import logging
import os

from radiffuse.cluster.api_errors import ForbiddenError, NotFoundError
from radiffuse.cluster.client import ClusterClient
from radiffuse.cluster.fields import objects, text
from radiffuse.cluster.kinds import PODS, Object

logger = logging.getLogger(__name__)

POD_NAME_VARIABLE = "KFP_POD_NAME"
RUN_ID_LABEL = "pipeline/runid"
RUN_ID_ANNOTATION = "radiffuse.org/pipeline-run"


class Owner:
    """The workflow of the pipeline's run; one without `reference` owns nothing, as on a laptop."""

    def __init__(self, reference: Object | None = None, run_id: str = "") -> None:
        self.reference, self.run_id = reference, run_id

    @property
    def uid(self) -> str:
        """Of the workflow; empty when there is none."""
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
    """The workflow that owns this process's own pod, when that pod is a pipeline step in that namespace."""
    pod_name = os.environ.get(POD_NAME_VARIABLE)
    if not pod_name:
        return Owner()
    if client.namespace != namespace:
        logger.warning(
            "a run in namespace %s cannot own a job in %s; delete the job yourself", client.namespace, namespace
        )
        return Owner()
    try:
        pod = client.get(PODS, namespace, pod_name)
    except (ForbiddenError, NotFoundError) as error:
        logger.warning("the job gets no owner, so deleting the run will not delete it: %s", error)
        return Owner()
    for reference in objects(pod, "metadata", "ownerReferences"):
        if text(reference, "kind") == "Workflow":
            kept = {key: reference[key] for key in ("apiVersion", "kind", "name", "uid") if key in reference}
            return Owner(kept | {"blockOwnerDeletion": True}, text(pod, "metadata", "labels", RUN_ID_LABEL))
    logger.warning("pod %s belongs to no workflow, so nothing owns the job", pod_name)
    return Owner()


def owner_of(job: Object) -> Object | None:
    """The first owner of a job that exists."""
    return next(iter(objects(job, "metadata", "ownerReferences")), None)
