"""What the policy checker finds passes only with a reason that is still needed."""

import yaml

from tests.charts.scan import EXCEPTIONS, Finding, judged

PROBE = Finding("CKV_K8S_8", "Liveness Probe Should be Configured", "Pod", "default.yaml:7")
ENTRY = Finding(
    "CKV_SECRET_6", "Base64 High Entropy String", "", "default.yaml:9", "secret_key_entry: MINIO_SECRET_KEY"
)
OF_PODS = {"check": "CKV_K8S_8", "kinds": ["Pod"], "reason": "It ends by itself."}
OF_NAMES = {"check": "CKV_SECRET_6", "lines": "secret_key_entry: [A-Z_]+", "reason": "A name."}


def test_a_finding_without_an_exception_is_said_with_its_place() -> None:
    (said,) = judged([PROBE], [])
    assert said == "default.yaml:7: Pod: Liveness Probe Should be Configured (CKV_K8S_8)"


def test_an_exception_is_for_its_kinds_and_lines_alone() -> None:
    assert judged([PROBE, ENTRY], [OF_PODS, OF_NAMES]) == []
    other_kind = Finding(PROBE.check, PROBE.title, "Deployment", PROBE.where)
    other_line = Finding(ENTRY.check, ENTRY.title, "", ENTRY.where, "password: c2VjcmV0IQ==")
    assert len(judged([PROBE, ENTRY, other_kind, other_line], [OF_PODS, OF_NAMES])) == 2


def test_an_exception_that_nothing_needs_is_said() -> None:
    assert judged([], [OF_PODS]) == ["CKV_K8S_8: an exception that nothing needs"]


def test_each_exception_has_a_reason() -> None:
    for each in yaml.safe_load(EXCEPTIONS.read_text(encoding="utf-8")):
        assert len(each["reason"]) > 40 and ("kinds" in each) != ("lines" in each)
