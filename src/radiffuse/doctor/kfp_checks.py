"""Kubeflow Pipelines, which is not needed to train: its API, and the account under which it runs steps."""

import re

import urllib3
from urllib3.exceptions import HTTPError

from radiffuse.cluster.api_errors import ForbiddenError
from radiffuse.cluster.client import SERVICE_ACCOUNT
from radiffuse.cluster.fields import field, text
from radiffuse.cluster.permissions import KFP_ACCOUNTS, Right
from radiffuse.cluster.resources import LOCAL_ACCESS_REVIEWS, SERVICE_ACCOUNTS
from radiffuse.doctor.account_checks import judged, lacking
from radiffuse.doctor.finding import Finding, failed, ok, skipped, warning
from radiffuse.doctor.surroundings import MayNotLookError, Surroundings

IN_CLUSTER = "http://ml-pipeline.kubeflow:8888"
TESTED = (2, 17)
TIMEOUT = urllib3.Timeout(connect=3.0, read=5.0)


def kfp(surroundings: Surroundings) -> Finding:
    """The API of Kubeflow Pipelines answers, in a version that we know."""
    given = surroundings.kfp_endpoint
    if given is None and not (SERVICE_ACCOUNT / "token").is_file():
        return skipped("not reachable from outside the cluster by itself", "name its address with --kfp-endpoint")
    endpoint = (given or IN_CLUSTER).rstrip("/")
    address = f"{endpoint if '://' in endpoint else f'http://{endpoint}'}/apis/v2beta1/healthz"
    try:
        answer = urllib3.PoolManager(timeout=TIMEOUT, retries=False).request("GET", address, redirect=False)
        health = answer.json() if answer.status == 200 else None
    except (HTTPError, ValueError):
        if given is None:  # where it usually is, and need not be
            return skipped(f"none answers at {IN_CLUSTER}; only pipelines need it", "name another with --kfp-endpoint")
        return failed(f"{address} does not answer as KFP does", "check --kfp-endpoint, and that ml-pipeline runs")
    return _version(address, health, None if health is not None else answer.status)


def _version(address: str, health: object, status: int | None) -> Finding:
    if status is not None:
        return failed(f"{address} answers {status}", "name the address of the API itself, past its login")
    version = text(health, "tag_name")
    match = re.match(r"v?(\d+)\.(\d+)", version)
    tested = ".".join(map(str, TESTED))
    if match is None:
        return warning(f"KFP does not say its version ({version!r})", f"make sure that it is {tested}")
    found = int(match[1]), int(match[2])
    if found[0] != TESTED[0]:
        return failed(f"KFP {version}", f"install KFP {tested}: pipelines are compiled for version {TESTED[0]}")
    if found != TESTED:
        return warning(
            f"KFP {version}; pipelines are tested with {tested}", f"install KFP {tested}, or go on with care"
        )
    return ok(f"KFP {version}")


def kfp_account(surroundings: Surroundings) -> Finding:
    """The account of pipeline steps may do what a launcher does."""
    where = surroundings.namespace
    found = [name for name in KFP_ACCOUNTS if surroundings.find(SERVICE_ACCOUNTS, where, name) is not None]
    if not found:
        return skipped(f"no pipelines run in namespace {where}: it has no {' and no '.join(KFP_ACCOUNTS)}")
    account = f"system:serviceaccount:{where}:{found[0]}"
    missing = lacking(surroundings, lambda verb, right, name: _may(surroundings, account, verb, right, name))
    return judged(surroundings, account, missing)


def _may(surroundings: Surroundings, account: str, verb: str, right: Right, name: str) -> bool:
    where = surroundings.namespace
    asked = {"verb": verb, "group": right.resource.group, "resource": right.resource.plural, "name": name}
    asked |= {"subresource": right.subresource, "namespace": where}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{where}", "system:authenticated"]
    spec = {"user": account, "groups": groups, "resourceAttributes": asked}
    try:
        review = surroundings.client.create(
            LOCAL_ACCESS_REVIEWS, where, {"metadata": {"namespace": where}, "spec": spec}
        )
    except ForbiddenError as error:
        raise MayNotLookError(Right(LOCAL_ACCESS_REVIEWS, ("create",), ""), where) from error
    return field(review, "status", "allowed") is True
