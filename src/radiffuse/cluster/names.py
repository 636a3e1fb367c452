"""What names, images and environment variables of a job may look like; each check says what it expected."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from radiffuse.errors import ConfigError
from radiffuse.store_settings import HOST_AND_PORT, check_host_and_port

LABEL_LENGTH = 63
_LABEL = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_NAMESPACE.pattern}(?:\.{_NAMESPACE.pattern})*")
_WORD = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(
    r"(?P<name>(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
SECRET_LIKE = re.compile(
    r"SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(?:API|ACCESS|PRIVATE)_?KEY"
    r"|TOKEN[0-9]*(?:_|$)|(?:^|[^Y])PASS[0-9]*(?:_|$)|.PWD[0-9]*(?:_|$)",
    re.I,
)
"""Wherever it stands in a name; TOKENIZERS_PARALLELISM and a BYPASS hold no secret."""
_SECRET_ENTRY = re.compile(r"[-._a-zA-Z0-9]+")
_TORCHRUN = re.compile(r"PET_[A-Za-z0-9_]*|MASTER_(?:ADDR|PORT)|(?:LOCAL_|GROUP_|ROLE_)?(?:RANK|WORLD_SIZE)")


def _check_dns_label(name: str) -> str:
    """A DNS-1035 label, as Services and PyTorchJobs need it."""
    if len(name) > LABEL_LENGTH or _LABEL.fullmatch(name) is None:
        raise ValueError(
            "must be a DNS-1035 label: lower-case letters, digits and '-', a letter first and no '-' last, "
            f"at most {LABEL_LENGTH} characters"
        )
    return name


def _check_namespace(name: str) -> str:
    if len(name) > LABEL_LENGTH or _NAMESPACE.fullmatch(name) is None:
        raise ValueError(
            "must be a DNS label: lower-case letters, digits and '-', neither first nor last a '-', "
            f"at most {LABEL_LENGTH} characters"
        )
    return name


def _check_object_name(name: str) -> str:
    if len(name) > 253 or _SUBDOMAIN.fullmatch(name) is None:
        raise ValueError(
            "must be an object's name: DNS labels (lower-case letters, digits and '-') joined by '.', "
            "at most 253 characters"
        )
    return name


def _check_label_key(key: str) -> str:
    prefix, separator, word = key.rpartition("/")
    if (separator and (len(prefix) > 253 or _SUBDOMAIN.fullmatch(prefix) is None)) or not _is_word(word):
        raise ValueError("must be a label's key, such as nvidia.com/gpu or team: [DNS name/]letters, digits, '-_.'")
    return key


def _as_text(value: object) -> object:
    """YAML reads 1, 1.5 and true as what they look like; a variable or a label holds text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _check_label_value(value: str) -> str:
    if value and not _is_word(value):
        raise ValueError(f"must be a label's value: letters, digits and '-_.', at most {LABEL_LENGTH} characters")
    return value


def _is_word(text: str) -> bool:
    return len(text) <= LABEL_LENGTH and _WORD.fullmatch(text) is not None


def _check_variable(name: str) -> str:
    """An environment variable that a job document may set in plain sight."""
    if _VARIABLE.fullmatch(name) is None:
        raise ValueError("must be a variable's name: letters, digits and '_', no digit first")
    if _TORCHRUN.fullmatch(name) is not None:
        raise ValueError("belongs to torchrun and is set by the operator from nodes and processes_per_node")
    if name.startswith("MINIO_"):
        raise ValueError("comes from an existing secret, never from a job document; name the secret in store.secret")
    if SECRET_LIKE.search(name) is not None:
        raise ValueError("looks like a secret, and whoever may read the job could read it; env holds no secrets")
    return name


def _check_secret_entry(name: str) -> str:
    if len(name) > 253 or _SECRET_ENTRY.fullmatch(name) is None:
        raise ValueError("must be the name of a secret's entry: letters, digits and '-_.', at most 253 characters")
    return name


def _check_image(image: str) -> str:
    """An image that names one version: by tag other than latest, or by digest."""
    match = _IMAGE.fullmatch(image)
    if match is None:
        raise ValueError("must be an image: [registry[:port]/]name with :tag, @sha256:<64 hexadecimal digits>, or both")
    if match["digest"] is None and match["tag"] in (None, "latest"):
        raise ValueError("must name a version, by a tag other than latest or by digest: all nodes run the same code")
    return image


def check_name(option: str, name: str, *, of_namespace: bool = False) -> None:
    """Raise ConfigError that names the option where a name on the command line is none that a document may hold."""
    try:
        (_check_namespace if of_namespace else _check_dns_label)(name)
    except ValueError as error:
        raise ConfigError(f"{option} {name!r} {error}") from None


def has_digest(image: str) -> bool:
    """Whether the image is named by its content."""
    return "@sha256:" in image


def schema_format(name: str, pattern: re.Pattern[str] | None = None, **more: Any) -> Any:
    """The JSON schema says in its `format` what kind of text it is, and in its `x-pattern` what it looks like."""
    # Not `pattern`, which pydantic moves about; a group's name is for Python alone.
    looks = {} if pattern is None else {"x-pattern": f"^(?:{re.sub(r'[?]P<[a-z]+>', '?:', pattern.pattern)})$"}
    return Field(json_schema_extra={"format": name, **looks, **more})


_LABEL_KEY = re.compile(rf"(?:{_SUBDOMAIN.pattern}/)?{_WORD.pattern}")
_NOT_OURS = re.compile(rf"^(?:{_TORCHRUN.pattern})$|^MINIO_|(?i:{SECRET_LIKE.pattern})")

DnsLabel = Annotated[str, AfterValidator(_check_dns_label), schema_format("DNS label", _LABEL, maxLength=LABEL_LENGTH)]
Namespace = Annotated[
    str, AfterValidator(_check_namespace), schema_format("DNS label", _NAMESPACE, maxLength=LABEL_LENGTH)
]
ObjectName = Annotated[str, AfterValidator(_check_object_name), schema_format("object name", _SUBDOMAIN, maxLength=253)]
SecretEntry = Annotated[
    str, AfterValidator(_check_secret_entry), schema_format("secret entry", _SECRET_ENTRY, maxLength=253)
]
HostAndPort = Annotated[
    str, AfterValidator(check_host_and_port), schema_format("host and port", HOST_AND_PORT, maxLength=253)
]
LabelKey = Annotated[str, AfterValidator(_check_label_key), schema_format("label key", _LABEL_KEY, maxLength=317)]
LabelValue = Annotated[
    str,
    BeforeValidator(_as_text),
    AfterValidator(_check_label_value),
    schema_format("label value", re.compile(rf"(?:{_WORD.pattern})?"), maxLength=LABEL_LENGTH),
]
Text = Annotated[str, BeforeValidator(_as_text), schema_format("text")]
Variable = Annotated[
    str,
    AfterValidator(_check_variable),
    schema_format("variable name", _VARIABLE, **{"not": {"pattern": _NOT_OURS.pattern}}),
]
Image = Annotated[str, AfterValidator(_check_image), schema_format("image", _IMAGE)]
