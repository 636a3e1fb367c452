"""What this account may do: all that a launcher does, asked of the API server right by right."""

from collections.abc import Callable

from radiffuse.cluster.api_errors import ForbiddenError, NotFoundError
from radiffuse.cluster.fields import text
from radiffuse.cluster.permissions import Right, rights
from radiffuse.cluster.resources import SELF_REVIEWS
from radiffuse.doctor.finding import Finding, failed, ok, warning
from radiffuse.doctor.surroundings import Surroundings


def permissions(surroundings: Surroundings) -> Finding:
    """The account may do what a launcher does."""
    client, where = surroundings.client, surroundings.namespace
    missing = lacking(
        surroundings, lambda verb, right, name: client.may(verb, right.resource, where, right.subresource, name)
    )
    return judged(surroundings, _account(surroundings), missing)


def lacking(surroundings: Surroundings, may: Callable[[str, Right, str], bool]) -> list[Right]:
    """Of the rights of a launcher of this job, those that `may` denies, with the verbs and names that it denies."""
    found = []
    for right in rights(surroundings.job):
        denied = [(verb, name) for verb in right.verbs for name in right.names or ("",) if not may(verb, right, name)]
        verbs, names = {verb for verb, _ in denied}, {name for _, name in denied}
        if denied:
            found.append(
                Right(
                    right.resource,
                    tuple(verb for verb in right.verbs if verb in verbs),
                    right.why,
                    right.without,
                    right.subresource,
                    tuple(name for name in right.names if name in names),
                )
            )
    return found


def judged(surroundings: Surroundings, account: str, missing: list[Right]) -> Finding:
    """The finding for an account that lacks these rights; each is named with the line of a Role that grants it."""
    if not missing:
        return ok(f"{account} may do all that a launcher does")
    listed = "; ".join(f"{', '.join(right.verbs)} {right.target}" for right in missing)
    lines = "\n".join(f"- {right.line}" for right in missing)
    fix = f"add to a Role in namespace {surroundings.namespace} that is bound to {account}:\n{lines}"
    if all(right.without is not None for right in missing):
        return warning(f"{account} may not {listed}", fix)
    return failed(f"{account} may not {listed}", fix)


def _account(surroundings: Surroundings) -> str:
    """Its name, as far as the server tells it."""
    try:
        review = surroundings.client.create(SELF_REVIEWS, None, {})
    except (ForbiddenError, NotFoundError):
        return "this account"
    return text(review, "status", "userInfo", "username") or "this account"
