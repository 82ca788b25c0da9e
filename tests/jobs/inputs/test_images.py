"""Every kind of file that people put into folders; expected values are worked out by hand."""

from __future__ import annotations

import io
import struct
import zlib

import fsspec
import numpy as np
import pytest
from PIL import Image

from gan2shape.jobs.inputs.images import ImageError, load_depth, load_image, load_mask

S = 32


def save(path, array_or_image, **options):
    image = array_or_image
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **options)
    return str(path)


def ramp(width=S, height=S):
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    pixels[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return pixels


def test_rgb_of_the_right_size_is_exact(tmp_path):
    pixels = ramp()
    image = load_image(save(tmp_path / "a.png", pixels), S)
    assert image.pixels.dtype == np.float32
    np.testing.assert_allclose(image.pixels, pixels / 255, atol=1e-7)
    assert image.alpha is None
    assert (image.width, image.height) == (S, S)


def test_central_square_is_kept(tmp_path):
    pixels = np.zeros((S, 3 * S, 3), np.uint8)
    pixels[:, S : 2 * S] = ramp()
    image = load_image(save(tmp_path / "a.png", pixels), S)
    np.testing.assert_allclose(image.pixels, ramp() / 255, atol=1e-7)
    assert (image.width, image.height) == (3 * S, S)


def test_resizing_is_antialiased(tmp_path):
    checker = (np.indices((4 * S, 4 * S)).sum(0) % 2 * 255).astype(np.uint8)
    image = load_image(save(tmp_path / "a.png", checker), S)
    np.testing.assert_allclose(image.pixels, 0.5, atol=0.01)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "HSV"])
def test_modes_show_the_same_picture(tmp_path, mode):
    half = np.zeros((S, S), np.uint8)
    half[:, S // 2 :] = 255
    grey = Image.fromarray(half)
    if mode == "I;16":
        picture = Image.fromarray(half.astype(np.uint16) * 257)
    elif mode == "HSV":
        picture = grey.convert("RGB").convert("HSV")
    else:
        picture = grey.convert("RGB").convert(mode) if mode != "1" else grey.convert("1")
    name = tmp_path / ("a.tiff" if mode in ("CMYK", "YCbCr", "HSV", "LA") else "a.png")
    if mode == "HSV":
        picture = picture.convert("RGB")
    image = load_image(save(name, picture), S)
    expected = np.repeat(half[..., None], 3, axis=2) / 255
    np.testing.assert_allclose(image.pixels, expected, atol=0.01)
    assert image.alpha is None  # opaque everywhere


def test_16_bit_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, S).astype(np.uint16)[None].repeat(S, 0)
    for name in ("a.png", "a.tiff"):
        image = load_image(save(tmp_path / name, values), S)
        np.testing.assert_allclose(image.pixels[..., 1], values / 65535, atol=1e-4)


def test_16_bit_colour_png(tmp_path):
    """Written by hand, since Pillow writes none."""
    colour = np.array([65535, 32768, 257], ">u2")
    rows = b"".join(b"\0" + colour.tobytes() * S for _ in range(S))

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", S, S, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
    (tmp_path / "a.png").write_bytes(png + chunk(b"IEND", b""))
    image = load_image(str(tmp_path / "a.png"), S)
    np.testing.assert_allclose(image.pixels[0, 0], [1, 0.5, 1 / 255], atol=0.005)


def test_alpha_is_composited_over_black_and_kept(tmp_path):
    pixels = np.full((S, S, 4), 200, np.uint8)
    pixels[:, : S // 2, 3] = 0
    pixels[:, S // 2 :, 3] = 255
    image = load_image(save(tmp_path / "a.png", pixels), S)
    assert image.pixels[:, : S // 2].max() == 0
    np.testing.assert_allclose(image.pixels[:, S // 2 :], 200 / 255, atol=1e-6)
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha > 0.5, pixels[..., 3] > 0)


def test_invisible_colours_do_not_bleed_when_resized(tmp_path):
    pixels = np.zeros((4 * S, 4 * S, 4), np.uint8)
    pixels[..., :3] = 255  # white, but transparent
    pixels[:, 2 * S + 2 :] = (0, 0, 0, 255)
    image = load_image(save(tmp_path / "a.png", pixels), S)
    assert image.pixels.max() < 1e-6


def test_palette_with_a_transparent_colour(tmp_path):
    picture = Image.fromarray(np.repeat(np.arange(2, dtype=np.uint8), S // 2)[None].repeat(S, 0))
    picture = picture.convert("P")
    picture.putpalette([255, 0, 0, 0, 255, 0] + [0] * 750)
    image = load_image(save(tmp_path / "a.png", picture, transparency=0), S)
    np.testing.assert_allclose(image.pixels[0, 0], 0, atol=1e-6)
    np.testing.assert_allclose(image.pixels[0, -1], [0, 1, 0], atol=1e-6)
    assert image.alpha is not None


def test_exif_orientation_is_applied(tmp_path):
    upright = Image.fromarray(ramp())
    stored = upright.transpose(Image.Transpose.ROTATE_90)  # the camera was held sideways
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    image = load_image(save(tmp_path / "a.jpg", stored, exif=exif, quality=100, subsampling=0), S)
    np.testing.assert_allclose(image.pixels, ramp() / 255, atol=0.05)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((S, S), value, np.uint8)) for value in (60, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(load_image(str(tmp_path / "a.gif"), S).pixels, 60 / 255, atol=0.01)


def test_large_jpeg_is_reduced_by_its_decoder(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("RGB", (11000, 11000), (200, 100, 50)))
    image = load_image(path, S)
    np.testing.assert_allclose(image.pixels[5, 5], np.array([200, 100, 50]) / 255, atol=0.02)
    assert (image.width, image.height) == (11000, 11000)


def test_url():
    buffer = io.BytesIO()
    Image.fromarray(ramp()).save(buffer, "png")
    fsspec.filesystem("memory").pipe("/images/a.png", buffer.getvalue())
    image = load_image("memory://images/a.png", S)
    np.testing.assert_allclose(image.pixels, ramp() / 255, atol=1e-7)
    with pytest.raises(ImageError, match="missing"):
        load_image("memory://images/b.png", S)


def png_bytes() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (S, S, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not an image"),
        (png_bytes()[:400], "damaged"),
        (png_bytes()[:20] + b"\0" * 60, "damaged|not an image"),
        (None, "missing"),
    ],
)
def test_what_cannot_be_read_has_a_reason(tmp_path, content, reason):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        load_image(str(path), S)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    header = struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0)
    body = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data + png_bytes()[33:])
    with pytest.raises(ImageError, match="144 million pixels"):
        load_image(str(tmp_path / "a.png"), S)


def test_tiny_images_are_refused(tmp_path):
    with pytest.raises(ImageError, match="3 x 3 pixels"):
        load_image(save(tmp_path / "a.png", np.zeros((3, 3), np.uint8)), S)


def test_integer_images_wider_than_16_bits(tmp_path):
    values = np.full((S, S), 2**30, np.int32)
    image = load_image(save(tmp_path / "a.tiff", values), S)
    np.testing.assert_allclose(image.pixels, 0.5, atol=1e-3)


def test_floating_point_images_must_be_in_range(tmp_path):
    good = save(tmp_path / "a.tiff", np.full((S, S), 0.25, np.float32))
    np.testing.assert_allclose(load_image(good, S).pixels, 0.25)
    with pytest.raises(ImageError, match="outside 0 to 1"):
        load_image(save(tmp_path / "b.tiff", np.full((S, S), 7, np.float32)), S)


def test_depth_is_read_as_it_is(tmp_path):
    depth = np.random.default_rng(1).uniform(0.9, 1.1, (S, S)).astype(np.float32)
    depth[0, 0] = np.nan
    np.save(tmp_path / "a.npy", depth.astype(np.float64))
    np.testing.assert_array_equal(load_depth(save(tmp_path / "a.tiff", depth), S), depth)
    np.testing.assert_array_equal(load_depth(str(tmp_path / "a.npy"), S), depth)


def test_8_bit_depth_is_near_white(tmp_path):
    picture = np.full((S, S), 255, np.uint8)
    picture[0] = 0
    depth = load_depth(save(tmp_path / "a.png", picture), S)
    np.testing.assert_allclose(depth[1:], 0.9, atol=1e-6)
    np.testing.assert_allclose(depth[0], 1.1, atol=1e-6)


def test_unusable_depth_has_a_reason(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(ImageError, match="no NumPy array"):
        load_depth(str(tmp_path / "a.npy"), S)
    np.save(tmp_path / "b.npy", np.zeros((S, S), np.int64))
    with pytest.raises(ImageError, match="floating-point"):
        load_depth(str(tmp_path / "b.npy"), S)
    np.save(tmp_path / "c.npy", np.full((S, S), np.nan))
    with pytest.raises(ImageError, match="no number"):
        load_depth(str(tmp_path / "c.npy"), S)


@pytest.mark.parametrize("top", [1, 255])
def test_masks_of_zero_and_one_or_255(tmp_path, top):
    mask = np.zeros((S, S), np.uint8)
    mask[8:20, 4:9] = top
    np.testing.assert_array_equal(load_mask(save(tmp_path / "a.png", mask), S), mask > 0)


def test_mask_in_the_alpha_channel(tmp_path):
    mask = np.zeros((S, S, 4), np.uint8)
    mask[8:20, 4:9, 3] = 255
    np.testing.assert_array_equal(load_mask(save(tmp_path / "a.png", mask), S), mask[..., 3] > 0)


def test_empty_mask(tmp_path):
    assert not load_mask(save(tmp_path / "a.png", np.zeros((S, S), np.uint8)), S).any()
