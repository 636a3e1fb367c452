"""What runs is what versions.toml says."""

import subprocess

import pytest

from tests.cluster.build import executable
from tests.cluster.plane import ControlPlane
from tests.cluster.versions import PRODUCTS, TOOLS

pytestmark = pytest.mark.cluster


def test_the_api_server_and_kubectl_have_the_pinned_versions(control_plane: ControlPlane) -> None:
    versions = control_plane.kubectl("version")

    assert f"Server Version: {PRODUCTS['kubernetes'].version}" in versions
    assert f"Client Version: {TOOLS['kubectl'].version}" in versions


def test_etcd_and_kwok_have_the_pinned_versions() -> None:
    said = {
        name: subprocess.run([executable(name), "--version"], capture_output=True, text=True, check=True).stdout
        for name in ("etcd", "kwok")
    }

    assert PRODUCTS["etcd"].version.removeprefix("v") in said["etcd"]
    assert PRODUCTS["kwok"].version in said["kwok"]


@pytest.mark.parametrize("name", ["helm", "helm-newer"])
def test_each_helm_has_the_pinned_version(name: str) -> None:
    command = [executable(name), "version", "--template", "{{.Version}}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert said == TOOLS[name].version
