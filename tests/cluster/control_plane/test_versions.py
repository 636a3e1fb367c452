"""What runs is what versions.toml says, and what its modules pin."""

import subprocess

import pytest

from tests.cluster.build import executable
from tests.cluster.plane import ControlPlane
from tests.cluster.versions import PRODUCTS, WHEEL, Product

pytestmark = pytest.mark.cluster


def test_the_api_server_and_kubectl_have_the_pinned_versions(control_plane: ControlPlane) -> None:
    versions = control_plane.kubectl("version")

    assert f"Server Version: {PRODUCTS['kubernetes'].version}" in versions
    assert f"Client Version: {WHEEL.versions['kubectl']}" in versions


def test_etcd_and_kwok_have_the_pinned_versions() -> None:
    said = {
        name: subprocess.run([executable(name), "--version"], capture_output=True, text=True, check=True).stdout
        for name in ("etcd", "kwok")
    }

    assert PRODUCTS["etcd"].version.removeprefix("v") in said["etcd"]
    assert PRODUCTS["kwok"].version in said["kwok"]


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_the_committed_modules_require_the_version_that_is_pinned(product: Product) -> None:
    lines = (product.wrapper / "go.mod").read_text(encoding="utf-8").splitlines()

    assert any(line.split()[-2:] == [product.module, product.version] for line in lines if product.module in line)
