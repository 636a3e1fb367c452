"""Both versions of Helm lint the chart and make the same of it; nothing that it makes hangs on a cluster's answers."""

from pathlib import Path

import pytest

from tests.charts.rendering import CHART, HELMS, MODES, OPTIONAL_APIS, HelmError, helm, template, yaml_documents

pytestmark = pytest.mark.charts

APIS = [f"--api-versions={api}" for api in OPTIONAL_APIS]


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("mode", MODES)
def test_lint_has_nothing_to_say(mode: str, version: str) -> None:
    said = helm("lint", str(CHART), "--strict", "--quiet", "--values", str(MODES[mode]), version=version)
    assert not [line for line in said.splitlines() if line.startswith("[")], said


@pytest.mark.parametrize("mode", MODES)
def test_two_versions_of_helm_make_the_same(mode: str) -> None:
    first, second = (template(mode=mode, version=version) for version in HELMS)
    assert first == second


@pytest.mark.parametrize("mode", MODES)
def test_rendering_twice_gives_the_same_text(mode: str) -> None:
    """No dates, no random passwords: a second upgrade with the same values changes nothing."""
    command = ("template", "radiffuse", str(CHART), "--values", str(MODES[mode]), *APIS)
    assert helm(*command) == helm(*command)


@pytest.mark.parametrize("word", ["lookup", "randAlphaNum", "genCA", "genSignedCert", "now", "uuidv4", "htpasswd"])
def test_no_template_asks_the_cluster_the_clock_or_the_dice(word: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in (CHART / "templates").rglob("*.*")]
    assert texts and not [text for text in texts if f" {word} " in text or f"({word} " in text]


@pytest.mark.parametrize("version", HELMS)
def test_the_chart_packs_and_the_package_makes_the_same(version: str, tmp_path: Path) -> None:
    helm("package", str(CHART), "--destination", str(tmp_path), version=version)
    (package,) = tmp_path.glob("radiffuse-*.tgz")
    assert template(mode="richest", chart=package, version=version) == template(mode="richest", version=version)


@pytest.mark.parametrize("version", HELMS)
def test_a_parent_chart_has_it_on_a_condition(version: str, tmp_path: Path) -> None:
    dependency = "{name: radiffuse, version: '*', condition: radiffuse.enabled}"
    head = "{apiVersion: v2, name: parent, version: 0.1.0"
    (tmp_path / "Chart.yaml").write_text(f"{head}, dependencies: [{dependency}]}}", encoding="utf-8")
    helm("package", str(CHART), "--destination", str(tmp_path / "charts"), version=version)
    command = ("template", "radiffuse", str(tmp_path), "--namespace", "radiffuse", "--set")
    own = yaml_documents(helm(*command, "global.site=north,radiffuse.enabled=true", version=version))
    assert own == template(version=version)
    assert not yaml_documents(helm(*command, "radiffuse.enabled=false", version=version))


@pytest.mark.parametrize("kube_version", ["1.30.0", "1.37.1"])
def test_every_kubernetes_that_the_schemas_are_of_is_taken(kube_version: str) -> None:
    assert helm("template", "radiffuse", str(CHART), "--kube-version", kube_version)


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(HelmError, match=r"kubeVersion: >=1\.30\.0-0 which is incompatible with Kubernetes v1\.29\.9"):
        helm("template", "radiffuse", str(CHART), "--kube-version", "1.29.9")
