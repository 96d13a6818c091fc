"""Image files of every kind, small and made here."""

from __future__ import annotations

import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlrun.data.files.images import BadImage, Header, is_image_name, read_header, read_image, read_whole

WHITE = [255, 255, 255]


def picture(width: int = 40, height: int = 40, *, channels: int = 3) -> Image.Image:
    """Smooth, so that lossy formats keep it nearly: red grows to the right, green downwards."""
    across, down = np.linspace(20, 230, width), np.linspace(20, 230, height)
    red, green = np.broadcast_to(across, (height, width)), np.broadcast_to(down[:, None], (height, width))
    pixels = np.stack((red, green, np.full_like(red, 90)), axis=2).round().astype(np.uint8)
    return Image.fromarray(pixels if channels == 3 else pixels[..., 0])


def save_png(
    path: Path, values: list[int], *, bits: int, kind: int, channels: int = 1, clear: tuple[int, ...] | None = None
) -> Path:
    """A PNG of one line, with whole bytes of values of so many bits; Pillow writes few of these. kind: the colour type."""
    written = "".join(f"{value:0{bits}b}" for value in values)
    line = b"\0" + int(written, 2).to_bytes(len(written) // 8, "big")
    header = struct.pack(">IIBBBBB", len(values) // channels, 1, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(line)), (b"IEND", b"")]
    if clear is not None:
        chunks.insert(1, (b"tRNS", struct.pack(f">{len(clear)}H", *clear)))
    told = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(told))
    return path


def read(path: Path, size: int = 40, **changes: Any) -> np.ndarray:
    return read_image(path, **({"size": size, "fit": "crop", "channels": 3, "interpolation": "bilinear"} | changes))


@pytest.mark.parametrize(
    ("name", "close"),
    [("a.jpg", 12), ("a.JPEG", 12), ("a.png", 0), ("a.bmp", 0), ("a.webp", 12), ("a.tif", 0), ("a.gif", 40), ("a.ppm", 0)],
)  # fmt: skip
def test_every_format_gives_the_picture_that_was_saved(tmp_path: Path, name: str, close: int) -> None:
    picture().save(tmp_path / name)
    found = read(tmp_path / name)
    assert found.dtype == np.uint8 and found.shape == (40, 40, 3) and found.flags.writeable
    assert np.abs(found.astype(int) - np.asarray(picture()).astype(int)).max() <= close


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert (read(tmp_path / "a.gif", 8) == [255, 0, 0]).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.array([[0, 257, 32896, 65535]] * 4, dtype=np.uint16)).save(tmp_path / name)
    assert read(tmp_path / name, 4, channels=1)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert read(tmp_path / name, 4)[0, 2].tolist() == [128, 128, 128]


def test_twelve_bits_are_scaled_over_their_whole_range(tmp_path: Path) -> None:
    pixels = bytes.fromhex("0007ffffffff")  # 0, 2047, 4095, 4095
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    (tmp_path / "a.tif").write_bytes(head + pixels + struct.pack("<H", len(tags)) + entries + bytes(4))
    assert read_whole(tmp_path / "a.tif", channels=1)[0, :, 0].tolist() == [0, 127, 255, 255]


def test_a_header_tells_of_more_than_eight_bits_a_channel_whatever_pillow_makes_of_them(tmp_path: Path) -> None:
    for name, (kind, channels) in {"grey": (0, 1), "colour": (2, 3), "grey_alpha": (4, 2), "alpha": (6, 4)}.items():
        for bits in (8, 16):
            path = save_png(tmp_path / f"{name}.png", [200] * channels, bits=bits, kind=kind, channels=channels)
            with Image.open(path) as image:
                header = read_header(image)
            assert header.is_deep == (bits == 16), name
            assert (header.is_grey, header.is_transparent) == ("grey" in name, "alpha" in name)


@pytest.mark.parametrize(
    ("content", "deep"),
    [(b"P6 1 1 65535\n000000", True), (b"P6 1 1 255\n000", False), (b"P5 1 1 4095\n00", True), (b"P4 1 1\n0", False)],
)
def test_a_header_tells_what_a_ppm_file_holds(tmp_path: Path, content: bytes, deep: bool) -> None:
    (tmp_path / "a.ppm").write_bytes(content)
    with Image.open(tmp_path / "a.ppm") as image:
        assert read_header(image).is_deep == deep


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_a_header_of_eight_bits_is_not_deep(tmp_path: Path, compression: str | None) -> None:
    picture().save(tmp_path / "a.tif", compression=compression)
    picture().save(tmp_path / "a.webp")
    for name in ("a.tif", "a.webp"):
        with Image.open(tmp_path / name) as image:
            assert read_header(image) == Header((40, 40), is_grey=False, is_transparent=False, is_deep=False)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadImage, match="pixels of 32 bits have no known range; convert the file to 8 or 16 bits"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_cmyk_becomes_rgb(tmp_path: Path, name: str) -> None:
    picture().convert("CMYK").save(tmp_path / name)
    assert np.abs(read(tmp_path / name).astype(int) - np.asarray(picture()).astype(int)).max() <= 12


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (6, 6), (200, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 3, 6))
    clear.convert(mode).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", 6)
    assert found[0, 0].tolist() == [0, 0, 0] and found[0, 5].tolist() == WHITE


def test_a_palette_with_one_transparent_colour_lies_on_white(tmp_path: Path) -> None:
    flat = Image.new("P", (6, 6), 1)
    flat.putpalette([10, 20, 30, 40, 50, 60])
    flat.paste(0, (0, 0, 3, 6))
    flat.save(tmp_path / "a.png", transparency=1)
    found = read(tmp_path / "a.png", 6)
    assert found[0, 0].tolist() == [10, 20, 30] and found[0, 5].tolist() == WHITE


@pytest.mark.parametrize(
    ("bits", "values", "clear", "found"),
    [
        (2, [0, 1, 2, 3], 1, [0, 255, 170, 255]),
        (4, [0, 1, 2, 14], 1, [0, 255, 34, 238]),
        (8, [0, 1, 2, 3], 1, [0, 255, 2, 3]),
        (16, [1000, 1001, 40000, 0], 1000, [255, 4, 156, 0]),
    ],
)
def test_the_grey_that_a_png_has_for_transparent_lies_on_white(
    tmp_path: Path, bits: int, values: list[int], clear: int, found: list[int]
) -> None:
    path = save_png(tmp_path / "a.png", values, bits=bits, kind=0, clear=(clear,))
    assert read_whole(path, channels=1)[0, :, 0].tolist() == found
    assert (read_whole(path, channels=3) == np.array(found)[None, :, None]).all()


def test_the_colour_of_sixteen_bits_that_a_png_has_for_transparent_lies_on_white(tmp_path: Path) -> None:
    values = [1000, 2000, 3000, 1000, 2000, 60000]
    path = save_png(tmp_path / "a.png", values, bits=16, kind=2, channels=3, clear=(1000, 2000, 3000))
    assert read_whole(path, channels=3)[0].tolist() == [WHITE, [3, 7, 234]]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    """Stored turned as the camera would hold it, with the tag that says so."""
    undone = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's numbers of the turns that lead there
    upright = picture(24, 16)
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undone[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif, **({"lossless": True} if name.endswith("webp") else {}))
    found = read_whole(tmp_path / name, channels=3)
    assert found.shape == (16, 24, 3)
    assert np.abs(found.astype(int) - np.asarray(upright).astype(int)).max() <= 12


def test_grey_is_luma_and_colour_of_grey_is_repeated(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (100, 150, 200)).save(tmp_path / "colour.png")
    picture(4, 4, channels=1).save(tmp_path / "grey.png")
    assert (read(tmp_path / "colour.png", 4, channels=1) == round(0.299 * 100 + 0.587 * 150 + 0.114 * 200)).all()
    grey = read(tmp_path / "grey.png", 4)
    assert grey.shape == (4, 4, 3) and (grey == grey[..., :1]).all()


def test_crop_takes_the_central_square_squash_all_and_pad_repeats_the_edges(tmp_path: Path) -> None:
    wide = np.zeros((20, 40, 3), dtype=np.uint8)
    wide[:, 10:30] = 200  # the central square
    wide[0], wide[-1] = 90, 90
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png", 20, fit="crop")[1:-1] == 200).all()
    squashed = read(tmp_path / "a.png", 20, fit="squash")
    assert (squashed[5, :4] == 0).all() and (squashed[5, 7:13] == 200).all()
    padded = read(tmp_path / "a.png", 40, fit="pad")
    assert (padded[11:29, 10:30] == 200).all() and (padded[:10] == 90).all() and (padded[30:] == 90).all()


def test_a_large_jpeg_is_decoded_at_a_fraction_that_still_has_the_wanted_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(810, 600).save(tmp_path / "a.jpg", quality=95)
    decoded = []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda self: decoded.append(self.size) or load(self))
    found = {fit: read(tmp_path / "a.jpg", 150, fit=fit) for fit in ("crop", "squash", "pad")}
    assert decoded[0] == (203, 150)
    monkeypatch.setattr(Image.Image, "draft", lambda *_: None)
    for fit, small in found.items():
        whole = read(tmp_path / "a.jpg", 150, fit=fit)
        assert np.abs(small.astype(int) - whole.astype(int)).max() <= 4


def test_what_is_no_image_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    picture(200, 200).save(tmp_path / "sound.jpg")
    sound = (tmp_path / "sound.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(sound[: len(sound) // 2])
    noise = np.random.RandomState(0).randint(0, 256, (30, 30, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "sound.png")
    broken = bytearray((tmp_path / "sound.png").read_bytes())
    broken[200:220] = bytes(20)
    (tmp_path / "broken.png").write_bytes(broken)
    for name, reason in {
        "empty.jpg": "an empty file",
        "text.png": "not an image of a known format, or its beginning is damaged",
        "folder.png": "is a directory",
        "none.jpg": "no such file or directory",
        "nu\0l.jpg": "embedded null byte",
        "cut.jpg": "image file is truncated",
        "broken.png": "broken data stream",
    }.items():
        with pytest.raises(BadImage) as caught:
            read(tmp_path / name)
        assert caught.value.path == tmp_path / name and caught.value.reason.startswith(reason)
        assert str(caught.value) == f"{tmp_path / name}: {caught.value.reason}"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_suffixes_count_in_either_case_and_hidden_files_never() -> None:
    assert all(map(is_image_name, ("a.jpg", "A.JPG", "b.Tiff", "c.d.png")))
    assert not any(map(is_image_name, (".a.jpg", "._a.jpg", ".jpg", "Thumbs.db", "a", "a.txt", "jpg")))
