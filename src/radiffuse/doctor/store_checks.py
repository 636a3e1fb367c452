"""The store, from where this runs and with the account of this environment; and that the pods are given the same."""

import base64
import json
import os
from pathlib import Path

from radiffuse.cluster.fields import mapping
from radiffuse.cluster.kinds import SECRETS, Object
from radiffuse.cluster.sections import StoreAccess
from radiffuse.doctor.finding import Finding, failed, ok, skipped, warning
from radiffuse.doctor.store_probe import StoreProbe
from radiffuse.doctor.surroundings import Surroundings
from radiffuse.errors import ConfigError, RadiffuseError
from radiffuse.store_settings import StoreSettings, can_be_access_key, read_boolean

WARN_SECONDS, REFUSED_SECONDS = 60, 900
"""S3 refuses a request whose time is more than 15 minutes from its own."""


def settings(surroundings: Surroundings) -> Finding:
    """The environment, or mounted files, say where the store is and who we are there."""
    found = surroundings.store.settings
    names = ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")
    origin = "mounted files" if any(os.environ.get(f"{name}_FILE") for name in names) else "the environment"
    encryption = "with TLS" if found.secure else "without TLS"
    return ok(f"{found.endpoint} {encryption}, with keys from {origin}")


def reachable(surroundings: Surroundings) -> Finding:
    """Something answers there, over a connection that is trusted."""
    surroundings.store.greet()
    endpoint = surroundings.store.settings.endpoint
    if surroundings.store.settings.secure:
        return ok(f"{endpoint} answers, and its certificate is trusted")
    return ok(f"{endpoint} answers")


def clock(surroundings: Surroundings) -> Finding:
    """Its clock and ours agree well enough for signed requests."""
    skew = surroundings.store.skew_seconds
    if skew is None:
        return skipped("the store does not tell its time")
    words = f"the store's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this one's"
    fix = "set both clocks by NTP (chrony or systemd-timesyncd)"
    if abs(skew) > REFUSED_SECONDS:
        return failed(f"{words}, and it refuses requests from {REFUSED_SECONDS} s on", fix)
    return warning(words, fix) if abs(skew) > WARN_SECONDS else ok("within a minute of this one's")


def buckets(surroundings: Surroundings) -> Finding:
    """The account is accepted, and all buckets exist, or are made where the command says so."""
    if surroundings.may_create_buckets and (created := surroundings.store.create_buckets()):
        return ok(f"made {', '.join(created)}")
    missing = surroundings.store.missing_buckets()
    if missing:
        return failed(f"there are no buckets {', '.join(missing)}", "radiffuse store init")
    surroundings.store.require_store()
    return ok("all there")


def objects(surroundings: Surroundings) -> Finding:
    """An object can be put, got and deleted in each bucket."""
    surroundings.store.write_and_delete()
    return ok("put, got and deleted one in each bucket")


def of_the_pods(surroundings: Surroundings) -> Finding:
    """What the pods are given is the same store, and an account that it accepts."""
    access, ours = surroundings.job.store, surroundings.store.settings
    secret = f"secret {access.secret!r} in namespace {surroundings.namespace}"
    data = mapping(surroundings.find(SECRETS, surroundings.namespace, access.secret) or {}, "data")
    if (problem := _problem(access, data)) is not None:
        entry, what = problem
        return failed(f"the pods could not use the {secret}: its {entry} {what}", _patch(surroundings, entry))
    theirs = _settings_of_pods(access, data, ours.ca_cert)
    if (theirs.endpoint, theirs.secure) != (ours.endpoint, ours.secure):
        return warning(
            f"the {secret} names another store than MINIO_ENDPOINT does, or speaks to it otherwise",
            "give both the same address, unless it has one here and another one there",
        )
    if theirs == ours:
        return ok("the same store and account as here")
    try:
        StoreProbe(theirs).missing_buckets()
    except RadiffuseError:
        return failed(
            f"the store does not accept the keys in the {secret}",
            "put those of an account of the store in it: "
            + _patch(surroundings, access.access_key_entry, access.secret_key_entry),
        )
    return ok("the same store, by another account, which it accepts")


def _problem(access: StoreAccess, data: Object) -> tuple[str, str] | None:
    """The first entry that no pod could use, and what is wrong with it, in words that do not show what it holds."""
    entries = [access.access_key_entry, access.secret_key_entry]
    entries += [access.endpoint_entry] if access.endpoint is None else []
    entries += [access.secure_entry] if access.secure is None and access.secure_entry in data else []
    for entry in entries:
        if (what := _unread(data, entry)) is not None:
            return entry, what
    if not can_be_access_key(_decoded(data, access.access_key_entry)):
        return access.access_key_entry, "holds characters that are not ASCII, or control characters"
    try:
        read_boolean(_secure(access, data))
    except ConfigError:
        return access.secure_entry, "is neither true nor false"
    try:
        _settings_of_pods(access, data, None)
    except ConfigError:
        return access.endpoint_entry, "is not host:port, or has a scheme that contradicts whether TLS is to be spoken"
    return None


def _unread(data: Object, entry: str) -> str | None:
    try:
        return None if _decoded(data, entry) else "is empty"
    except UnicodeDecodeError:
        return "holds bytes that are no UTF-8 text"


def _patch(surroundings: Surroundings, *entries: str) -> str:
    """The command that sets these entries of the pods' secret, without what is secret in it."""
    access = surroundings.job.store
    given = {access.endpoint_entry: "host:port", access.secure_entry: "true"}
    patch = json.dumps({"stringData": {entry: given.get(entry, "...") for entry in entries}})
    return f"kubectl --namespace {surroundings.namespace} patch secret {access.secret} --patch '{patch}'"


def _settings_of_pods(access: StoreAccess, data: Object, ca_cert: Path | None) -> StoreSettings:
    """As a pod would read them; raises ConfigError as it would."""
    return StoreSettings.from_texts(
        _decoded(data, access.endpoint_entry) if access.endpoint is None else access.endpoint,
        _decoded(data, access.access_key_entry),
        _decoded(data, access.secret_key_entry),
        _secure(access, data),
        ca_cert,
    )


def _secure(access: StoreAccess, data: Object) -> str | None:
    """As MINIO_SECURE says it; None: not at all."""
    return _decoded(data, access.secure_entry) or None if access.secure is None else str(access.secure).lower()


def _decoded(data: Object, entry: str) -> str:
    """An entry's text without the blanks around it, which a pod strips too; raises UnicodeDecodeError."""
    return base64.b64decode(str(data.get(entry, ""))).decode().strip()
