import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backbones.base.errors import PreflightError
from backbones.base.grey import BY_IMAGE, GreyScale, scale_of_set
from detection.data.pixels import read_image

HEIGHT, WIDTH = 24, 40
ORIENTATION = 0x0112


def gradient() -> Image.Image:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([rows * 10, columns * 6, np.full_like(rows, 90)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def pixels_of(path: Path) -> Any:
    image = read_image(path, HEIGHT, WIDTH)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def test_plain_rgb_is_unchanged(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.png")
    assert (pixels_of(tmp_path / "a.png") == np.asarray(gradient())).all()


def test_grey_has_three_equal_channels(tmp_path: Path) -> None:
    grey = gradient().convert("L")
    for name in ("a.png", "a.jpg"):
        grey.save(tmp_path / name, quality=95)
        pixels = pixels_of(tmp_path / name)
        assert np.abs(pixels - np.asarray(grey)[..., None]).max() < 12
        assert (pixels[..., 0] == pixels[..., 2]).all()


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    gradient().convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    assert np.abs(pixels_of(tmp_path / "a.jpg") - np.asarray(gradient())).mean() < 6


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.linspace(0, 65_535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    pixels = pixels_of(tmp_path / name)
    assert (pixels == (values >> 8)[..., None]).all()


@pytest.mark.parametrize(
    ("kind", "largest", "shift"),
    [
        ("uint16", 255, 0),
        ("uint16", 4095, 4),
        ("uint16", 4096, 8),
        ("int32", 255, 0),
        ("int32", 4095, 4),
        ("int32", 65_535, 8),
        ("int32", 1_000_000, 12),
    ],
)
def test_deep_grey_is_scaled_by_the_bits_in_use(
    tmp_path: Path, kind: str, largest: int, shift: int
) -> None:
    values = np.linspace(0, largest, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(kind)
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels = pixels_of(tmp_path / "a.tif")
    assert (pixels == (values >> shift)[..., None]).all()


@pytest.mark.parametrize(
    ("kind", "lowest", "largest", "shift"),
    [("int16", -1024, 3071, 4), ("int32", -1024, 3071, 4), ("int32", -40, 200, 0),
     ("int16", -2000, 3000, 5), ("int16", -32_768, 32_767, 8)],
)  # fmt: skip
def test_negative_values_become_black_from_the_lowest_on(
    tmp_path: Path, kind: str, lowest: int, largest: int, shift: int
) -> None:
    values = np.linspace(lowest, largest, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(kind)
    write_tiff(tmp_path / "a.tif", values)
    expected = (values.astype(np.int64) - lowest) >> shift
    assert (pixels_of(tmp_path / "a.tif") == expected[..., None]).all()


def write_tiff(path: Path, values: Any) -> None:
    """Write an uncompressed grey TIFF of any whole numbers, which Pillow writes of 32 bits only."""
    height, width = values.shape
    bits = 8 * values.itemsize
    signed = 2 if values.dtype.kind == "i" else 1
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, height), (279, values.nbytes), (339, signed)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    header = struct.pack("<2sHI", b"II", 42, 8 + values.nbytes)
    path.write_bytes(header + values.astype(values.dtype.newbyteorder("<")).tobytes() + directory)


@pytest.mark.parametrize("nothing", [-9999, -32_768, -1])
def test_a_value_for_nothing_here_does_not_decide(tmp_path: Path, nothing: int) -> None:
    values = np.linspace(0, 4095, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype("int32")
    values[:3] = nothing
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert (pixels_of(tmp_path / "a.tif") == (values.clip(min=0) >> 4)[..., None]).all()


@pytest.mark.parametrize(
    ("found", "scale"),
    [
        ([(0, 4000)] * 3 + [(0, 3000)], BY_IMAGE),
        ([(0, 60_000)] * 40, BY_IMAGE),
        # Dark images of one camera.
        ([(0, 4000)] * 3 + [(0, 150)], GreyScale(bits=12)),
        ([(0, 60_000)] * 3 + [(0, 2000)] * 3, GreyScale(bits=16)),
        # Another device.
        ([(0, 4000)] * 3 + [(0, 250)] * 3, BY_IMAGE),
        # One faulty pixel in 40 images.
        ([(0, 4000)] * 39 + [(0, 60_000)], BY_IMAGE),
        ([(0, 4000)] * 38 + [(0, 60_000), (0, 100)], GreyScale(bits=12)),
        ([(-1024, 3071), (-1000, 200)], GreyScale(-1024, 12)),
        ([(0, 3071), (-10, 200)], GreyScale(-10, 12)),
        ([], BY_IMAGE),
    ],
)
def test_the_scale_of_a_set(found: list[tuple[int, int]], scale: GreyScale) -> None:
    assert scale_of_set(found) == scale


def test_a_dark_image_stays_darker_than_its_neighbours(tmp_path: Path) -> None:
    values = np.linspace(0, 150, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", HEIGHT, WIDTH, GreyScale(bits=12))
    assert (np.asarray(pixels) == (values >> 4)[..., None]).all()


@pytest.mark.parametrize("mode", ["1", "P", "PA", "LA", "RGBA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    gradient().convert(mode).save(tmp_path / "a.tif" if mode == "PA" else tmp_path / "a.png")
    path = next(tmp_path.iterdir())
    assert pixels_of(path).shape == (HEIGHT, WIDTH, 3)


def test_palette_with_transparent_entries(tmp_path: Path) -> None:
    image = gradient().convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128] * 100))
    assert np.abs(pixels_of(tmp_path / "a.png") - np.asarray(gradient())).mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_as_detectron2_does(tmp_path: Path, orientation: int) -> None:
    from detectron2.data.detection_utils import read_image as theirs

    stored = gradient() if orientation < 5 else gradient().transpose(Image.Transpose.TRANSPOSE)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif)
    assert (pixels_of(tmp_path / "a.jpg") == theirs(str(tmp_path / "a.jpg"), "RGB")).all()


def test_annotations_made_on_unturned_pixels_get_those(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    gradient().save(tmp_path / "a.png", exif=exif)
    assert (pixels_of(tmp_path / "a.png") == np.asarray(gradient())).all()


def test_another_size_is_refused(tmp_path: Path) -> None:
    gradient().resize((WIDTH + 1, HEIGHT)).save(tmp_path / "a.png")
    with pytest.raises(PreflightError, match=r"a.png has 41 x 24 pixels, .* say 40 x 24"):
        read_image(tmp_path / "a.png", HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.tif", "a.bmp", "a.webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.8])
def test_damage_is_one_sentence_with_the_name(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PreflightError) as caught:
        read_image(path, HEIGHT, WIDTH)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="is missing"):
        read_image(tmp_path / "a.png", HEIGHT, WIDTH)
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(PreflightError, match="cannot be decoded"):
        read_image(tmp_path / "a.png", HEIGHT, WIDTH)
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(PreflightError, match="floating-point"):
        read_image(tmp_path / "a.tif", HEIGHT, WIDTH)
