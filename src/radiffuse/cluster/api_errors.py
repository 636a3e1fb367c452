"""What a Kubernetes API server's refusals and silences mean to a person, and to the code that must tell them apart.

The server's own words are part of every message: a webhook's or a quota's reason stands nowhere else.
"""

import json
from typing import Any

from urllib3.exceptions import HTTPError, MaxRetryError, ReadTimeoutError, ResponseError, SSLError

from radiffuse.errors import ClusterError, ConfigError

BUSY = (408, 429, 500, 502, 503, 504)
NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "WRONG VERSION NUMBER",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "RECORD LAYER FAILURE",
)
"""OpenSSL's words, from version to version, for an answer that is no TLS at all."""


class UnavailableError(ClusterError):
    """The API server cannot be reached, is starting, or is overloaded. Worth a retry."""


class UnauthenticatedError(ClusterError):
    """The credentials have expired, or the API server does not know them (401)."""


class ForbiddenError(ClusterError):
    """The account has no right to do this (403)."""


class NotFoundError(ClusterError):
    """No such object, or no such kind of object (404)."""


class ConflictError(ClusterError):
    """An object of that name exists (409), or it has changed since it was read."""


class ExpiredError(ClusterError):
    """The resource version is too old to watch from (410): list again."""


class NoApiError(ClusterError):
    """Something answers there that is no Kubernetes API, such as a web page. Never worth a retry."""

    def __init__(self, server: str, what: str, found: str) -> None:
        super().__init__(
            f"{server} answers, but is no Kubernetes API: asked to {what}, it sent {found}; check the server's address "
            "in the kubeconfig"
        )


class RefusedError(ClusterError, ConfigError):
    """The object is not valid to the API server or to a webhook (400, 403 or 422). Never worth a retry."""


def refusal(status: int, body: Any, what: str, server: str) -> ClusterError:
    """The error for an HTTP status and the answer's body; `what` says what was asked, as in 'create pytorchjob a/b'."""
    words = _words(body)
    said = f"{server} refused to {what}: {words}"
    if status == 401:
        return UnauthenticatedError(
            f"{server} did not accept the credentials to {what} ({words}); they have expired or are another cluster's: "
            "log in again, or ask for a new kubeconfig"
        )
    if status == 403:
        return _forbidden(said, words, what)
    if status == 404:
        return NotFoundError(f"{server} has nothing to {what}: {words}")
    if status in (400, 413, 415, 422):
        return RefusedError(f"{said}; nothing was changed")
    if status in BUSY:
        return UnavailableError(f"{server} could not {what} just now ({status}): {words}")
    kinds = {409: ConflictError, 410: ExpiredError}
    return kinds.get(status, ClusterError)(f"{said} ({status})")


def _forbidden(said: str, words: str, what: str) -> ClusterError:
    """403 has three meanings: a webhook's verdict on the object, a quota, and an account without the right."""
    if "admission webhook" in words or "ValidatingAdmissionPolicy" in words:
        return RefusedError(f"{said}; nothing was changed")
    if "exceeded quota" in words:
        return ClusterError(f"{said}; ask for more quota in this namespace, or for a smaller job")
    return ForbiddenError(
        f'{said}; docs/permissions.md lists the rights a launcher needs, "kubectl auth can-i" checks one'
    )


def unreachable(error: Exception, what: str, server: str) -> ClusterError:
    """The error for a connection that cannot be made, is not trusted, or broke."""
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    if isinstance(reason, ReadTimeoutError):
        return UnavailableError(f"{server} did not answer in time when asked to {what}")
    if isinstance(reason, ResponseError):  # RETRIES follow no redirect; an API server sends none
        return NoApiError(server, what, "a redirect")
    if any(words in str(reason).upper() for words in NO_TLS):
        return ClusterError(
            f"{server} does not speak TLS ({_last_words(reason)}); check the address in the kubeconfig: the port may "
            "be another service's, or a proxy's that wants http://"
        )
    if isinstance(reason, SSLError) or "certificate" in str(reason).lower():
        return ClusterError(
            f"no trusted TLS connection to {server} ({_last_words(reason)}); the kubeconfig's certificate authority "
            "is not this cluster's, or the server's certificate has expired"
        )
    return UnavailableError(
        f"cannot reach {server} ({_last_words(reason)}); check the server's address in the kubeconfig and that it is up"
    )


def _last_words(error: Exception) -> str:
    # urllib3 puts its own objects before the words, as "<connection>: words" or as an argument of their own.
    text = str(error.args[-1] if isinstance(error, HTTPError) and error.args else error)
    return text.rpartition(": ")[2]


def _words(body: Any) -> str:
    """The message of the Status object that the server answers with, or the start of whatever it answers with."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        status = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:200]
    message = status.get("message") if isinstance(status, dict) else None
    return " ".join(str(message).split()) if message else "no reason given"
