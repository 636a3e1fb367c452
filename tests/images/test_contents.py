"""What is read out of an image: its packages and licences, and credentials that a build left in a layer."""

import json
import tarfile
from pathlib import Path

import pytest

from images.bill import bill_of_materials, licence_list
from images.commands import ImageError
from images.contents import Package, read_contents
from images.layout import BLOBS, Layout
from images.scan import find_secrets
from tests.images.small_image import debian_base, python_package, write_image

SITE = "opt/radiffuse/lib/python3.13/site-packages"
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-2+

Files: debian/*
License: MIT
"""
# Put together here, so that no scanner takes this file for what it describes.
PRIVATE_KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\n"
AWS_KEY = "AKIA" + "ABCDEFGHIJKLMNOP"
INDEX_PASSWORD = "[global]\nindex-url = https://someone:" + "hunter2@index.example.org/simple\n"


def secrets_of(layout: Layout) -> list[str]:
    return find_secrets(layout, read_contents(layout))


def test_packages_of_both_managers_are_listed_with_what_they_state(tmp_path: Path) -> None:
    base = debian_base(bash=COPYRIGHT, odd="Copyright somebody.\n")
    numpy = python_package("numpy", "2.4.6", "BSD-3-Clause", {"numpy/__init__.py": ""}, SITE)
    contents = read_contents(write_image(tmp_path / "image", [base, numpy]))
    assert contents.packages() == [
        Package("deb", "bash", "1.0-1", "GPL-2+, MIT", "amd64"),
        Package("deb", "odd", "1.0-1", "see /usr/share/doc/odd/copyright", "amd64"),
        Package("pypi", "numpy", "2.4.6", "BSD-3-Clause"),
    ]
    page = licence_list("radiffuse-train", "0.1.0", contents)
    assert "| numpy | 2.4.6 | pypi | BSD-3-Clause |" in page
    assert "3 packages" in page


def test_a_package_that_a_later_layer_removes_is_not_listed(tmp_path: Path) -> None:
    numpy = python_package("numpy", "2.4.6", "BSD-3-Clause", {}, SITE)
    removal = {f"{SITE}/.wh.numpy-2.4.6.dist-info": ""}
    assert read_contents(write_image(tmp_path / "image", [numpy, removal])).packages() == []


def test_the_bill_of_materials_names_each_package_by_its_address(tmp_path: Path) -> None:
    base = debian_base(bash=COPYRIGHT)
    numpy = python_package("numpy", "2.4.6", "BSD-3-Clause AND MIT", {}, SITE)
    layout = write_image(tmp_path / "image", [base, numpy])
    bill = json.loads(bill_of_materials("radiffuse-train", "0.1.0", layout.digest, read_contents(layout)))
    by_name = {component["name"]: component for component in bill["components"]}
    assert by_name["numpy"]["purl"] == "pkg:pypi/numpy@2.4.6"
    assert by_name["numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert by_name["bash"]["purl"] == "pkg:deb/debian/bash@1.0-1?arch=amd64&distro=debian-12"
    assert layout.digest.removeprefix("sha256:") in bill["metadata"]["component"]["purl"]


def test_a_key_is_found_also_when_a_later_layer_removes_it(tmp_path: Path) -> None:
    layout = write_image(tmp_path / "image", [{"opt/key.pem": PRIVATE_KEY}, {"opt/.wh.key.pem": ""}])
    assert secrets_of(layout) == ["layer 0, /opt/key.pem: Private Key"]


def test_the_settings_are_searched_and_the_secret_is_not_repeated(tmp_path: Path) -> None:
    layout = write_image(tmp_path / "image", [{}], {"Env": [f"AWS_ACCESS_KEY_ID={AWS_KEY}"]})
    assert secrets_of(layout) == ["settings: AWS Access Key"]


def test_what_an_installer_was_told_about_its_index_is_found(tmp_path: Path) -> None:
    layout = write_image(tmp_path / "image", [{"etc/pip.conf": INDEX_PASSWORD}])
    assert secrets_of(layout) == [
        "layer 0, /etc/pip.conf: the name of a file with credentials",
        "layer 0, /etc/pip.conf: Basic Auth Credentials",
    ]


def test_what_a_package_of_the_index_brings_is_its_own_but_what_ours_brings_is_read(tmp_path: Path) -> None:
    theirs = python_package("cryptography", "50.0.2", "Apache-2.0", {"cryptography/example.py": PRIVATE_KEY}, SITE)
    ours = python_package("radiffuse", "0.1.0", "Apache-2.0", {"radiffuse/leak.py": PRIVATE_KEY}, "opt/package")
    layout = write_image(tmp_path / "image", [debian_base(), theirs, ours])
    assert secrets_of(layout) == ["layer 2, /opt/package/radiffuse/leak.py: Private Key"]


def test_a_file_beside_a_package_that_its_record_does_not_name_is_read(tmp_path: Path) -> None:
    numpy = python_package("numpy", "2.4.6", "BSD-3-Clause", {"numpy/__init__.py": ""}, SITE)
    compiled = {f"{SITE}/numpy/__pycache__/__init__.cpython-313.pyc": AWS_KEY}
    layout = write_image(tmp_path / "image", [numpy | compiled | {f"{SITE}/numpy/new.py": f"key = '{AWS_KEY}'\n"}])
    assert secrets_of(layout) == [f"layer 0, /{SITE}/numpy/new.py: AWS Access Key"]


def test_an_archive_and_a_copy_hold_the_image_under_the_tag_asked_for(tmp_path: Path) -> None:
    layout = write_image(tmp_path / "image", [{"file": "text"}])
    with (tmp_path / "image.tar").open("wb") as file:
        layout.write_archive(file, tag="0.1.0")
    with tarfile.open(tmp_path / "image.tar") as archive:
        archive.extractall(tmp_path / "archive", filter="data")
    layout.copy_to(tmp_path / "copy", "0.1.0")
    for copy in (Layout(tmp_path / "archive", "0.1.0"), Layout(tmp_path / "copy", "0.1.0")):
        assert copy.digest == layout.digest
        assert {path.name for path in (copy.folder / BLOBS).iterdir()} == set(layout.blobs())


def test_an_image_that_is_not_there_is_missed_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no OCI image in .*absent.*make images"):
        read_contents(Layout(tmp_path / "absent", "0.1.0"))
    layout = write_image(tmp_path / "image", [{}])
    with pytest.raises(ImageError, match=r"no image 9\.9 in .*make images"):
        read_contents(Layout(layout.folder, "9.9"))
