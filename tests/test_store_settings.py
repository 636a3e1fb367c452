"""Settings come from the environment or from mounted files, and never show their secrets."""

from pathlib import Path

import pytest

from radiffuse.errors import ConfigError
from radiffuse.store_settings import StoreSettings

NAMES = ("MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_SECURE", "MINIO_CA_CERT")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv("MINIO_ENDPOINT", "store.example:9000")
    monkeypatch.setenv("MINIO_ACCESS_KEY", "reader")
    monkeypatch.setenv("MINIO_SECRET_KEY", "sesame-sesame")
    return monkeypatch


def test_settings_come_from_the_environment_with_tls_by_default() -> None:
    assert StoreSettings.from_environment() == StoreSettings("store.example:9000", "reader", "sesame-sesame", True)


def test_keys_do_not_show_in_the_repr() -> None:
    assert repr(StoreSettings.from_environment()) == (
        "StoreSettings(endpoint='store.example:9000', secure=True, ca_cert=None)"
    )


def test_a_mounted_file_gives_a_secret(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounted = tmp_path / "secret"
    mounted.write_text("from-a-file\n")
    environment.delenv("MINIO_SECRET_KEY")
    environment.setenv("MINIO_SECRET_KEY_FILE", str(mounted))
    assert StoreSettings.from_environment().secret_key == "from-a-file"


def test_a_missing_mounted_file_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("MINIO_SECRET_KEY")
    environment.setenv("MINIO_SECRET_KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"cannot read .*absent, which MINIO_SECRET_KEY_FILE names: No such file"):
        StoreSettings.from_environment()


def test_a_secret_given_twice_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MINIO_SECRET_KEY_FILE", "/run/secret")
    with pytest.raises(ConfigError, match="MINIO_SECRET_KEY and MINIO_SECRET_KEY_FILE are both set; unset one"):
        StoreSettings.from_environment()


@pytest.mark.parametrize("name", ["MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"])
def test_a_missing_setting_says_how_to_get_a_store(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "")
    with pytest.raises(ConfigError, match=f'{name} is not set, nor {name}_FILE; .*"radiffuse store serve --dir store"'):
        StoreSettings.from_environment()


@pytest.mark.parametrize(
    ("endpoint", "secure", "expected"),
    [
        ("localhost:9000", "false", ("localhost:9000", False)),
        ("localhost:9000", "1", ("localhost:9000", True)),
        ("http://localhost:9000/", None, ("localhost:9000", False)),
        ("https://s3.example", None, ("s3.example", True)),
    ],
)
def test_a_scheme_says_whether_to_speak_tls(
    environment: pytest.MonkeyPatch, endpoint: str, secure: str | None, expected: tuple[str, bool]
) -> None:
    environment.setenv("MINIO_ENDPOINT", endpoint)
    if secure is not None:
        environment.setenv("MINIO_SECURE", secure)
    settings = StoreSettings.from_environment()
    assert (settings.endpoint, settings.secure) == expected


@pytest.mark.parametrize(
    ("endpoint", "secure", "message"),
    [
        ("http://localhost:9000", "true", "do not fit together; give host:port"),
        ("ftp://localhost", None, "do not fit together; give host:port"),
        ("localhost:9000/bucket", None, "must be host:port without a path, not 'localhost:9000/bucket'"),
        ("localhost:9000", "maybe", "MINIO_SECURE is 'maybe'; it must be true or false"),
    ],
)
def test_what_makes_no_sense_is_refused(
    environment: pytest.MonkeyPatch, endpoint: str, secure: str | None, message: str
) -> None:
    environment.setenv("MINIO_ENDPOINT", endpoint)
    if secure is not None:
        environment.setenv("MINIO_SECURE", secure)
    with pytest.raises(ConfigError, match=message):
        StoreSettings.from_environment()


def test_a_certificate_that_is_not_there_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MINIO_CA_CERT", "/no/ca.pem")
    with pytest.raises(ConfigError, match=r"MINIO_CA_CERT is /no/ca.pem: No such file or directory; it must be"):
        StoreSettings.from_environment()


def test_a_file_without_a_certificate_is_refused_before_any_connection(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    environment.setenv("MINIO_CA_CERT", str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"ca.pem: holds no PEM certificate; it must be a PEM certificate"):
        StoreSettings.from_environment()


@pytest.mark.parametrize(
    "endpoint", ["store example:9000", "store.example:9000 admin", "https://", "a:b", "st\u00f6re:1", "a:0"]
)
def test_an_endpoint_that_is_no_host_is_refused(environment: pytest.MonkeyPatch, endpoint: str) -> None:
    environment.setenv("MINIO_ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match=f"MINIO_ENDPOINT must be host:port, not '{endpoint}'"):
        StoreSettings.from_environment()


def test_a_host_may_end_with_the_dot_of_an_absolute_name(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MINIO_ENDPOINT", "minio.kubeflow.svc.cluster.local.:9000")
    assert StoreSettings.from_environment().endpoint == "minio.kubeflow.svc.cluster.local.:9000"


@pytest.mark.parametrize("key", ["r\u00e9ader", "two\nlines"])
def test_an_access_key_that_no_request_can_carry_is_refused_and_not_shown(
    environment: pytest.MonkeyPatch, key: str
) -> None:
    environment.setenv("MINIO_ACCESS_KEY", key)
    with pytest.raises(ConfigError, match=r"^MINIO_ACCESS_KEY must be ASCII text without control characters"):
        StoreSettings.from_environment()


def test_a_key_that_is_no_text_is_refused_and_not_shown(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("MINIO_SECRET_KEY", b"sesame\xff".decode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"^MINIO_SECRET_KEY holds bytes that are no UTF-8 text; set it again$"):
        StoreSettings.from_environment()
    (tmp_path / "secret").write_bytes(b"sesame\xff")
    environment.delenv("MINIO_SECRET_KEY")
    environment.setenv("MINIO_SECRET_KEY_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigError, match=r"/secret, which MINIO_SECRET_KEY_FILE names, is no UTF-8 text$"):
        StoreSettings.from_environment()
