"""One image: stored as a grey square, or set aside with a reason."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from radiffuse.data.quality import prepare_image
from tests.data.layouts import chest, encode


def prepare(tmp_path, data, image_size_px=64):
    path = tmp_path / "view1_frontal.jpg"
    path.write_bytes(data)
    return prepare_image(path, image_size_px)


def stored(prepared):
    assert prepared.reason is None
    with Image.open(io.BytesIO(prepared.png)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)


def resized_png(width, height):
    """A PNG that claims another size than it has."""
    data = bytearray(encode(chest(), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_a_portrait_is_padded_left_and_right_with_zeros(tmp_path):
    pixels = stored(prepare(tmp_path, encode(chest(80, 100), quality=95), 50))
    assert pixels.shape == (50, 50)
    assert not pixels[:, :5].any()
    assert not pixels[:, 45:].any()
    assert pixels[:, 5:45].any(axis=0).all()


def test_a_landscape_is_padded_above_and_below(tmp_path):
    pixels = stored(prepare(tmp_path, encode(chest(100, 80)), 50))
    assert not pixels[:5].any()
    assert pixels[5:45].any(axis=1).all()


def test_left_stays_left(tmp_path):
    picture = chest(96, 96)
    picture.paste(255, (4, 4, 20, 20))
    pixels = stored(prepare(tmp_path, encode(picture), 96))
    assert pixels[4:20, 4:20].mean() > 240
    assert pixels[4:20, 76:92].mean() < 200


def test_a_large_picture_is_reduced_without_aliasing(tmp_path):
    ramp = np.linspace(0.2, 1, 1024)
    striped = np.outer(ramp, ramp * np.where(np.arange(1024) % 2, 255, 0))
    pixels = stored(prepare(tmp_path, encode(Image.fromarray(striped.astype(np.uint8)), "PNG"), 64))
    averages = striped.reshape(64, 16, 64, 16).mean(axis=(1, 3))
    assert np.abs(pixels - averages)[2:-2, 2:-2].max() < 2


def test_a_reduced_jpeg_decode_gives_what_a_full_one_gives(tmp_path):
    big = chest(1600, 2000)
    fast = stored(prepare(tmp_path, encode(big, quality=95), 128)).astype(float)
    slow = stored(prepare(tmp_path, encode(big, "PNG"), 128)).astype(float)
    assert np.sqrt(np.mean((fast - slow) ** 2)) < 1.5


def test_a_small_picture_is_enlarged(tmp_path):
    assert stored(prepare(tmp_path, encode(chest(40, 48)), 96)).shape == (96, 96)


def test_grey_stored_as_colour_is_grey(tmp_path):
    grey, colour = encode(chest(), quality=90), encode(chest().convert("RGB"), quality=90)
    difference = stored(prepare(tmp_path, grey)).astype(int) - stored(prepare(tmp_path, colour))
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize("mode", ["LA", "P", "RGBA", "1"])
def test_other_ways_to_store_grey_are_grey(tmp_path, mode):
    assert stored(prepare(tmp_path, encode(chest().convert(mode), "PNG"))).any()


@pytest.mark.parametrize("bits", [12, 16])
def test_16_bit_files_are_scaled_by_the_depth_they_use(tmp_path, bits):
    eight = np.asarray(chest())
    deep = np.rint(eight.astype(np.float64) * (2**bits - 1) / 255).astype(np.uint16)
    deep[0, 0] = 2**bits - 1
    pixels = stored(prepare(tmp_path, encode(Image.fromarray(deep), "PNG")))
    expected = stored(prepare(tmp_path, encode(chest(), "PNG")))
    assert np.abs(pixels.astype(int) - expected)[2:, 10:].max() <= 1


def tinted(strength):
    grey = np.asarray(chest()).astype(float)
    return Image.fromarray(np.stack([grey, grey * (1 - strength / 2), grey * (1 - strength)], 2).astype(np.uint8))


def marked():
    picture = chest(160, 192).convert("RGB")
    picture.paste((230, 20, 20), (120, 20, 134, 34))
    return picture


@pytest.mark.parametrize("picture", [tinted(0.15), tinted(0.8), marked(), chest().convert("CMYK")])
def test_coloured_pictures_are_set_aside(tmp_path, picture):
    assert prepare(tmp_path, encode(picture, quality=90)).reason == "coloured"


def framed(share):
    frame = Image.new("L", (200, 200), 0)
    side = round(200 * share**0.5)
    frame.paste(chest(side, side), (0, 0))
    return frame


@pytest.mark.parametrize(
    "picture",
    [chest(40, 96), chest(170, 96), framed(0.2), chest(200, 80).resize((200, 200)).crop((0, 0, 60, 200))],
    ids=["strip", "wide-strip", "mostly-border", "cut"],
)
def test_unusually_cropped_pictures_are_set_aside(tmp_path, picture):
    assert prepare(tmp_path, encode(picture)).reason == "cropped"


@pytest.mark.parametrize("picture", [chest(80, 97), chest(120, 80), framed(0.6)], ids=["portrait", "3:2", "collimated"])
def test_usual_shapes_stay(tmp_path, picture):
    assert prepare(tmp_path, encode(picture)).reason is None


def test_a_letter_in_a_black_border_is_not_content(tmp_path):
    picture = framed(0.2)
    picture.paste(255, (180, 180, 188, 192))
    assert prepare(tmp_path, encode(picture)).reason == "cropped"


def animation(kind):
    return encode(chest(), kind, save_all=True, append_images=[chest(seed=1)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (encode(chest())[:-400], "truncated"),
        (encode(chest(), "PNG")[:-400], "truncated"),
        (animation("GIF"), "animated"),
        (animation("PNG"), "animated"),
        (animation("TIFF"), "animated"),
        (resized_png(9000, 9000), "too_large"),
        (resized_png(50_000, 50_000), "too_large"),
        (b"<html>login</html>", "not_an_image"),
        (encode(chest(), "WEBP"), "not_an_image"),
        (encode(chest(), "PNG")[:60] + b"\0" * 40 + encode(chest(), "PNG")[100:], "damaged"),
        (encode(Image.fromarray(np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64)), "TIFF"), "damaged"),
        (encode(Image.new("L", (64, 64), 90)), "blank"),
    ],
    ids=[
        *(
            "empty",
            "truncated-jpeg",
            "truncated-png",
            "gif",
            "apng",
            "multi-page-tiff",
            "large",
            "bomb",
            "html",
            "webp",
        ),
        *("damaged-png", "float", "blank"),
    ],
)
def test_unreadable_pictures_are_set_aside_each_with_its_reason(tmp_path, data, reason):
    prepared = prepare(tmp_path, data)
    assert (prepared.reason, prepared.png) == (reason, b"")


def test_a_missing_picture_is_missing(tmp_path):
    assert prepare_image(tmp_path / "nowhere.jpg", 64).reason == "missing"


def test_a_folder_in_an_image_s_place_is_no_image(tmp_path):
    assert prepare_image(tmp_path, 64).reason == "not_an_image"


def test_a_pipe_is_no_image_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert prepare_image(tmp_path / "pipe.jpg", 64).reason == "not_an_image"


def test_an_image_below_a_file_is_missing(tmp_path):
    (tmp_path / "patient").touch()
    assert prepare_image(tmp_path / "patient" / "a.jpg", 64).reason == "missing"
