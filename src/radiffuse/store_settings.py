"""Where the object store is and who we are there: environment variables, or files that a secret is mounted as."""

import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from radiffuse.errors import ConfigError

HOST_AND_PORT = re.compile(
    r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
"""The port may be missing; the protocol then has one. A dot at a host's end spares a pod the search of its domains."""
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class StoreSettings:
    """The store's address and our credentials; the credentials stay out of its repr, so out of logs and tracebacks."""

    endpoint: str
    """host:port, without a scheme."""
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    secure: bool = True
    """Speak TLS; the certificate is always verified."""
    ca_cert: Path | None = None
    """PEM file of the authority that signed the store's certificate; None means those the system trusts."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read MINIO_ENDPOINT, MINIO_ACCESS_KEY, MINIO_SECRET_KEY, MINIO_SECURE (default true) and MINIO_CA_CERT.

        Each may instead be the content of the file that NAME_FILE points at. Raises ConfigError when one is missing
        or contradicts another.
        """
        endpoint, secure = _require("MINIO_ENDPOINT"), _read("MINIO_SECURE")
        ca_cert = _read("MINIO_CA_CERT")
        if ca_cert is not None:
            try:
                ssl.create_default_context(cafile=ca_cert)
            except OSError as error:  # ssl's own errors too
                reason = "holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
                raise ConfigError(f"MINIO_CA_CERT is {ca_cert}: {reason}; it must be a PEM certificate") from error
        path = None if ca_cert is None else Path(ca_cert)
        return cls.from_texts(endpoint, _require("MINIO_ACCESS_KEY"), _require("MINIO_SECRET_KEY"), secure, path)

    @classmethod
    def from_texts(
        cls, endpoint: str, access_key: str, secret_key: str, secure: str | None, ca_cert: Path | None
    ) -> Self:
        """As the variables spell them; `secure` None: not set. Raises ConfigError that shows endpoint and `secure`."""
        if not can_be_access_key(access_key):
            raise ConfigError("MINIO_ACCESS_KEY must be ASCII text without control characters; set it again")
        host, is_secure = _split_scheme(endpoint, read_boolean(secure))
        return cls(endpoint=host, access_key=access_key, secret_key=secret_key, secure=is_secure, ca_cert=ca_cert)


def can_be_access_key(text: str) -> bool:
    """Whether a header can carry it, which is where it travels; the secret key does not."""
    return text.isascii() and text.isprintable()


def check_host_and_port(text: str) -> str:
    """The text itself; raises ValueError that says what it must be."""
    match = HOST_AND_PORT.fullmatch(text)
    if match is None or int(match["port"] or 443) not in range(1, 65536):
        raise ValueError("must be host:port")
    return text


def _read(name: str) -> str | None:
    """The variable, or the content of the file that NAME_FILE names; an empty one counts as unset."""
    value, file = os.environ.get(name, "").strip(), os.environ.get(f"{name}_FILE", "").strip()
    if value and file:
        raise ConfigError(f"{name} and {name}_FILE are both set; unset one of them")
    if file:
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"cannot read {file}, which {name}_FILE names: {error.strerror}") from error
        except UnicodeDecodeError:
            raise ConfigError(f"{file}, which {name}_FILE names, is no UTF-8 text") from None
    if any(0xDC80 <= ord(character) <= 0xDCFF for character in value):
        # So Python carries bytes that are no UTF-8, and no request could be signed with them.
        raise ConfigError(f"{name} holds bytes that are no UTF-8 text; set it again")
    return value if value else None


def _require(name: str) -> str:
    value = _read(name)
    if value is None:
        raise ConfigError(
            f"{name} is not set, nor {name}_FILE; set it to reach your store, or start one here with"
            ' "radiffuse store serve --dir store" and load its settings with "set -a; . store/credentials.env"'
        )
    return value


def read_boolean(text: str | None) -> bool | None:
    """What MINIO_SECURE says; raises ConfigError."""
    if text is None:
        return None
    if text.lower() not in _BOOLEANS:
        raise ConfigError(f"MINIO_SECURE is {text!r}; it must be true or false")
    return _BOOLEANS[text.lower()]


def _split_scheme(endpoint: str, secure: bool | None) -> tuple[str, bool]:
    """People paste URLs; a scheme then says what MINIO_SECURE would, and must agree with it."""
    scheme, separator, host = endpoint.rpartition("://")
    if not separator:
        scheme = "http" if secure is False else "https"
    if scheme not in ("http", "https") or (secure is not None and secure != (scheme == "https")):
        raise ConfigError(f"MINIO_ENDPOINT {endpoint!r} and MINIO_SECURE={secure} do not fit together; give host:port")
    host = host.rstrip("/")
    if "/" in host:
        raise ConfigError(f"MINIO_ENDPOINT must be host:port without a path, not {endpoint!r}")
    try:
        check_host_and_port(host)
    except ValueError as error:
        raise ConfigError(f"MINIO_ENDPOINT {error}, not {endpoint!r}") from None
    return host, scheme == "https"
