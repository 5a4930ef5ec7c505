"""Samples whose height and width differ."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.data import HubImages, ImageFolder, prepare_images
from passband.data._decode import center_crop, cropped

Image = pytest.importorskip("PIL.Image")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def image(tmp_path: Path) -> np.ndarray:
    """The pixels of the only image of tmp_path, 50 high and 70 wide."""
    pixels = noise(50, 70)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return pixels


def test_tiles_are_the_images_own_pixels(tmp_path: Path, image: np.ndarray):
    data = ImageFolder(tmp_path, (24, 16), crop="tile")
    assert (data.size, data.resolution, len(data)) == ((24, 16), (24, 16), 2 * 4)
    assert data[0].shape == (3, 24, 16)
    for index in range(len(data)):
        row, column = divmod(index, 4)
        expected = image[24 * row : 24 * (row + 1), 16 * column : 16 * (column + 1)]
        assert np.array_equal(data.pixels(index).permute(1, 2, 0).numpy(), expected)
    assert data.nbytes == 8 * 24 * 16 * 3
    assert data.resized == []


@pytest.mark.parametrize(("size", "rows", "columns"), [((50, 40), (0, 50), (15, 55)), ((20, 70), (15, 35), (0, 70))])
def test_a_center_crop_that_fits_is_not_resampled(
    tmp_path: Path, image: np.ndarray, size: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
):
    data = ImageFolder(tmp_path, size)
    assert np.array_equal(data.pixels(0).permute(1, 2, 0).numpy(), image[slice(*rows), slice(*columns)])
    assert data.resized == []


@pytest.mark.parametrize("size", [(16, 24), (24, 16), (8, 35), (100, 10)])
def test_center_crop_is_lanczos_of_the_central_part(tmp_path: Path, image: np.ndarray, size: tuple[int, int]):
    height, width = size
    aspect = width / height
    part = (70, round(70 / aspect)) if 70 / aspect <= 50 else (round(50 * aspect), 50)
    left, top = (70 - part[0]) // 2, (50 - part[1]) // 2
    box = (left, top, left + part[0], top + part[1])
    expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, box=box))
    data = ImageFolder(tmp_path, size)
    assert np.array_equal(data.pixels(0).permute(1, 2, 0).numpy(), expected)
    assert data.resized == [(70, 50)]


def test_a_pair_of_equal_sides_is_the_square(tmp_path: Path, image: np.ndarray):
    for crop in ("center", "tile"):
        square, pair = ImageFolder(tmp_path, 20, crop=crop), ImageFolder(tmp_path, (20, 20), crop=crop)
        assert square.size == pair.size == (20, 20)
        assert square.resolution == 20
        assert torch.equal(torch.stack(list(square)), torch.stack(list(pair)))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_the_crop_has_the_aspect_and_fills_the_image(width: int, height: int, rows: int, columns: int):
    found = cropped(width, height, (rows, columns))
    assert found[0] == width or found[1] == height
    assert 1 <= found[0] <= width
    assert 1 <= found[1] <= height
    assert abs(found[0] * rows - found[1] * columns) <= max(rows, columns) * (1 if min(found) == 1 else 0.5)
    picture = Image.fromarray(noise(height, width))
    assert center_crop(picture, (rows, columns)).shape == (rows, columns, 3)


def test_tables_and_prepared_zips_have_them_too(tmp_path: Path, image: np.ndarray):
    expected = ImageFolder(tmp_path, (24, 16), crop="tile").pixel_batch(range(8))
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, format="PNG")
    rows = [{"image": {"bytes": encoded.getvalue()}}]
    assert torch.equal(HubImages(rows, [24, 16], crop="tile").pixel_batch(range(8)), expected)
    made = prepare_images([tmp_path], tmp_path / "out" / "small.zip", (24, 16), crop="tile")
    assert torch.equal(ImageFolder(made.path, (24, 16)).pixel_batch(range(8)), expected)
    with zipfile.ZipFile(made.path) as archive:
        assert json.loads(archive.read("dataset.json")) == {"labels": None}


@pytest.mark.parametrize(
    ("resolution", "error", "message"),
    [
        ((16,), ValueError, r"side of a square or \(height, width\), got \(16,\)"),
        ((16, 16, 3), ValueError, r"side of a square or \(height, width\)"),
        ((16, 0), ValueError, r"resolution must lie in \[1, 16384\], got resolution \(16, 0\)"),
        ((16, 8.5), TypeError, "each side of resolution must be an int, got 8.5"),
        ("16x8", TypeError, "resolution must be an int, got '16x8'"),
    ],
)
def test_other_sizes_are_refused(tmp_path: Path, image: np.ndarray, resolution: Any, error: type, message: str):
    with pytest.raises(error, match=message):
        ImageFolder(tmp_path, resolution)


def test_an_image_smaller_than_a_tile_is_named_with_both_sizes(tmp_path: Path, image: np.ndarray):
    with pytest.raises(ValueError, match="70 x 50 is smaller than a tile of 16 x 64"):
        ImageFolder(tmp_path, (64, 16), crop="tile")
