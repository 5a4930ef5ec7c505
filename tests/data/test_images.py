import errno
import io
import multiprocessing
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband._seeds import seed_for
from passband.data import ImageFolder, from_uint8, random_flip, save_image, to_uint8

Image = pytest.importorskip("PIL.Image")


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(folder, name, pixels, **options):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def write_truncated(folder, name, size=64):
    """A JPEG whose header is whole and whose pixels are not."""
    path = write(folder, name, noise(size, size), quality=95)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def only(folder, size, **options):
    """The one sample of a folder, as (height, width, channels) uint8."""
    data = ImageFolder(folder, size, **options)
    assert len(data) == 1, data.skipped
    assert data.skipped == []
    return data.pixels(0).permute(1, 2, 0).numpy()


# Reading: the pixels are those that were written.


def test_values_are_scaled_to_plus_minus_one(tmp_path):
    pixels = noise(16, 16)
    write(tmp_path, "a.png", pixels)
    x = ImageFolder(tmp_path, 16)[0]
    assert x.dtype == torch.float32
    assert x.shape == (3, 16, 16)
    assert torch.allclose(x.double(), torch.from_numpy(pixels).permute(2, 0, 1).double() / 127.5 - 1, atol=1e-7)


def test_names_sorted_nested_unicode_and_any_case(tmp_path):
    names = ["b/deep er/ü 1.PNG", "a.png", "b/2.Jpg", "Z.tiff", "c.WEBP", "d.gif", "e.bmp", "f.ppm", "g.jpeg"]
    for name in names:
        write(tmp_path, name, noise(8, 8))
    for ignored in (".hidden.png", ".cache/x.png", "__MACOSX/x.png", "notes.txt"):
        path = tmp_path / ignored
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not an image")
    data = ImageFolder(tmp_path, 8, strict=True)
    assert data.names == sorted(names)
    assert [data.origin(i) for i in range(len(data))] == [(name, 0) for name in sorted(names)]
    assert torch.stack(list(data)).shape == (9, 3, 8, 8)


def test_links_to_folders_are_followed_once(tmp_path):
    write(tmp_path, "real/a.png", noise(8, 8))
    write(tmp_path / "elsewhere", "b.png", noise(8, 8))
    root = tmp_path / "real"
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert ImageFolder(root, 8).names == ["a.png", "more/b.png"]


def test_zip_equals_the_folder(tmp_path):
    folder = tmp_path / "folder"
    for i, name in enumerate(["x/1.png", "x/2 ä.png", "3.jpg"]):
        write(folder, name, noise(20, 24, seed=i))
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX/._1.png").write_bytes(b"resource fork")
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        z.mkdir("x.png")
        for path in folder.rglob("*"):
            z.write(path, path.relative_to(folder).as_posix())
    for crop in ("center", "tile"):
        a, b = (ImageFolder(p, 8, crop=crop, strict=True) for p in (folder, archive))
        assert a.names == b.names == ["3.jpg", "x/1.png", "x/2 ä.png"]
        assert torch.equal(torch.stack(list(a)), torch.stack(list(b)))


# Modes.


def test_gray_becomes_three_equal_channels(tmp_path):
    pixels = noise(8, 8, 1)
    write(tmp_path, "a.png", pixels)
    assert (only(tmp_path, 8) == pixels[:, :, None]).all()
    assert (only(tmp_path, 8, channels=1)[:, :, 0] == pixels).all()


def test_one_bit(tmp_path):
    bits = noise(8, 8, 1) > 127
    write(tmp_path, "a.png", Image.fromarray(bits.astype(np.uint8) * 255).convert("1"))
    assert (only(tmp_path, 8, channels=1)[:, :, 0] == np.where(bits, 255, 0)).all()


def test_luma_is_itu_601(tmp_path):
    pixels = noise(8, 8)
    write(tmp_path, "a.png", pixels)
    luma = pixels.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(only(tmp_path, 8, channels=1)[:, :, 0] - luma).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_palette(tmp_path, channels):
    palette, index = noise(1, 16, 3)[0], noise(8, 8, 1) % 16
    image = Image.fromarray(index).convert("P")
    image.putpalette(palette.tobytes())
    image.putdata(index.ravel().tolist())
    write(tmp_path, "a.png", image)
    expected = palette[index]
    if channels == 1:
        expected = expected.astype(float) @ [[0.299], [0.587], [0.114]]
    assert np.abs(only(tmp_path, 8, channels=channels) - expected).max() <= (1 if channels == 1 else 0)


def on_white(pixels, alpha):
    share = alpha.astype(float)[:, :, None] / 255
    return pixels * share + 255 * (1 - share)


def test_transparency_is_laid_on_white(tmp_path):
    rgba, la = noise(8, 8, 4), noise(8, 8, 2, seed=1)
    write(tmp_path / "rgba", "a.png", rgba)
    write(tmp_path / "la", "a.png", la_image(la))
    assert np.abs(only(tmp_path / "rgba", 8) - on_white(rgba[:, :, :3], rgba[:, :, 3])).max() <= 1
    assert np.abs(only(tmp_path / "la", 8, channels=1) - on_white(la[:, :, :1], la[:, :, 1])).max() <= 1


def la_image(pixels):
    return Image.merge("LA", [Image.fromarray(np.ascontiguousarray(pixels[:, :, i])) for i in range(2)])


def test_transparent_colour_of_palette_and_gray(tmp_path):
    index = noise(8, 8, 1) % 4
    image = Image.fromarray(index).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    image.putdata(index.ravel().tolist())
    write(tmp_path / "p", "a.png", image, transparency=2)
    palette = np.array([[10, 20, 30], [40, 50, 60], [255, 255, 255], [100, 110, 120]])
    assert (only(tmp_path / "p", 8) == palette[index]).all()
    write(tmp_path / "l", "a.png", Image.fromarray(index), transparency=1)
    assert (only(tmp_path / "l", 8, channels=1)[:, :, 0] == np.where(index == 1, 255, index)).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_gray_is_scaled(tmp_path, suffix):
    wide = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    wide[0, :4] = [0, 65535, 128, 129]
    write(tmp_path, f"a.{suffix}", wide)
    expected = np.rint(wide / 65535 * 255)
    assert expected[0, :4].tolist() == [0, 255, 0, 1]
    assert (only(tmp_path, 8, channels=1)[:, :, 0] == expected).all()
    assert (only(tmp_path, 8) == expected[:, :, None]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_cmyk(tmp_path, channels):
    ink = np.zeros((8, 8, 4), dtype=np.uint8)
    ink[:, 4:, 0] = 255  # right half: full cyan, no black
    write(tmp_path, "a.tif", Image.frombytes("CMYK", (8, 8), ink.tobytes()))
    out = only(tmp_path, 8, channels=channels)
    assert (out[:, :4] == 255).all()
    assert (out[:, 4:] == ([0, 255, 255] if channels == 3 else [179])).all()


@pytest.mark.parametrize(("mode", "dtype"), [("I", np.int32), ("F", np.float32)])
def test_pixels_without_a_range_are_left_out(tmp_path, mode, dtype):
    write(tmp_path, "a.tif", np.ones((8, 8), dtype=dtype))
    write(tmp_path, "b.png", noise(8, 8))
    data = ImageFolder(tmp_path, 8)
    data.preload()
    assert [s.name for s in data.skipped] == ["a.tif"]
    assert f"mode {mode!r} (32 bits) have no stated range" in data.skipped[0].reason


def test_a_mix_of_modes_stacks(tmp_path):
    for i, mode in enumerate(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"]):
        suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
        write(tmp_path, f"{i}.{suffix}", Image.new(mode, (20, 12), 1))
    for channels in (1, 3):
        data = ImageFolder(tmp_path, 8, channels=channels, strict=True)
        assert torch.stack(list(data)).shape == (9, channels, 8, 8)


def test_the_first_of_several_frames_counts(tmp_path):
    first, second = Image.new("L", (8, 8), 40), Image.new("L", (8, 8), 200)
    for name in ("a.gif", "a.tif", "a.png"):
        write(tmp_path / name, name, first, save_all=True, append_images=[second])
        assert (only(tmp_path / name, 8, channels=1) == 40).all()


# Orientation, crop and tiles.

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_exif_orientation(tmp_path, orientation, suffix):
    pixels = noise(16, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    write(tmp_path, f"a.{suffix}", pixels, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    upright = UPRIGHT[orientation](pixels)
    data = ImageFolder(tmp_path, 8, crop="tile", strict=True)
    columns = upright.shape[1] // 8
    assert len(data) == 6
    for tile in range(6):
        top, left = tile // columns * 8, tile % columns * 8
        assert (data.pixels(tile).permute(1, 2, 0).numpy() == upright[top : top + 8, left : left + 8]).all()


def test_damaged_exif_does_not_lose_the_image(tmp_path):
    write(tmp_path, "a.png", noise(8, 8), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        only(tmp_path, 8)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 21), (30, 16), (17, 16)])
def test_center_crop_without_resizing_is_exact(tmp_path, height, width):
    pixels = noise(height, width)
    write(tmp_path, "a.png", pixels)
    top, left = (height - 16) // 2, (width - 16) // 2
    assert (only(tmp_path, 16) == pixels[top : top + 16, left : left + 16]).all()


def test_center_crop_takes_the_middle(tmp_path):
    pixels = np.zeros((32, 96), dtype=np.uint8)
    pixels[:, 32:64] = 255
    write(tmp_path, "a.png", pixels)
    assert (only(tmp_path, 16, channels=1)[:, 2:-2] >= 250).all()


def test_the_middle_of_an_odd_margin_is_not_shifted_by_half_a_pixel(tmp_path):
    pixels = noise(64, 67)
    write(tmp_path / "odd", "a.png", pixels)
    write(tmp_path / "cut", "a.png", pixels[:, 1:65])
    odd, cut = only(tmp_path / "odd", 32), only(tmp_path / "cut", 32)
    assert (odd[:, 4:-4] == cut[:, 4:-4]).all()


def test_resizing_is_antialiased(tmp_path):
    # A cosine at 3/8 cycles per pixel, halved: it lies above the new Nyquist and would alias to 1/4; 1/32 passes.
    u = np.arange(128)
    for name, frequency in (("above", 3 / 8), ("below", 1 / 32)):
        row = np.rint(127.5 + 100 * np.cos(2 * np.pi * frequency * u)).astype(np.uint8)
        write(tmp_path / name, "a.png", np.tile(row, (128, 1)))
    above, below = (only(tmp_path / n, 64, channels=1).astype(float)[:, 4:-4] for n in ("above", "below"))
    assert np.abs(above - 127.5).max() < 12
    assert 90 < np.abs(below - 127.5).max() < 110


def test_small_images_are_enlarged_by_center_crop(tmp_path):
    write(tmp_path, "a.png", Image.new("RGB", (3, 5), (9, 8, 7)))
    assert (only(tmp_path, 16) == [9, 8, 7]).all()


def test_tiles_are_native_and_do_not_overlap(tmp_path):
    pixels = noise(21, 35)
    write(tmp_path, "a.png", pixels)
    data = ImageFolder(tmp_path, 8, crop="tile")
    assert len(data) == 8
    assert data.nbytes == 8 * 8 * 8 * 3
    grid = torch.stack([data.pixels(i) for i in range(8)]).reshape(2, 4, 3, 8, 8)
    assert (grid.permute(0, 3, 1, 4, 2).reshape(16, 32, 3).numpy() == pixels[:16, :32]).all()
    assert data.origin(6) == ("a.png", 6)


def test_an_image_smaller_than_a_tile_is_left_out(tmp_path):
    write(tmp_path, "small.png", noise(7, 30))
    write(tmp_path, "tall.png", noise(9, 8))
    data = ImageFolder(tmp_path, 8, crop="tile")
    assert len(data) == 1
    assert data.skipped == [("small.png", "30 x 7 is smaller than a tile of 8 x 8")]
    with pytest.raises(ValueError, match=r"'small.png' in .*smaller than a tile of 8 x 8; repair or remove"):
        ImageFolder(tmp_path, 8, crop="tile", strict=True)


# Subsets and limits.


def tiled_folder(folder, count=3):
    for i in range(count):
        write(folder, f"{i}.png", noise(160, 160, 1, seed=i))


def origins(data):
    return [data.origin(i) for i in range(len(data))]


def test_split_partitions_with_the_same_mix_of_sources(tmp_path):
    tiled_folder(tmp_path)
    whole, train, evaluation = (
        ImageFolder(tmp_path, 8, crop="tile", channels=1, subset=s, eval_share=0.25) for s in ("all", "train", "eval")
    )
    assert sorted(origins(train) + origins(evaluation)) == sorted(origins(whole))
    for i in range(3):  # 400 tiles each: a binomial share of 0.25, five standard deviations
        share = sum(name == f"{i}.png" for name, _ in origins(evaluation)) / 400
        assert abs(share - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5
    place = {origin: i for i, origin in enumerate(origins(whole))}
    for i, origin in enumerate(origins(evaluation)):
        assert torch.equal(evaluation[i], whole[place[origin]])


def test_a_new_file_moves_no_old_one_across_the_split(tmp_path):
    tiled_folder(tmp_path, 2)
    before = origins(ImageFolder(tmp_path, 32, crop="tile", subset="train"))
    write(tmp_path, "0a.png", noise(160, 160))
    after = origins(ImageFolder(tmp_path, 32, crop="tile", subset="train"))
    assert [origin for origin in after if origin[0] != "0a.png"] == before


def test_limit_picks_from_all_over(tmp_path):
    tiled_folder(tmp_path)
    data = ImageFolder(tmp_path, 8, crop="tile", limit=300)
    assert len(data) == 300
    counts = [sum(name == f"{i}.png" for name, _ in origins(data)) for i in range(3)]
    assert min(counts) > 60
    assert set(origins(ImageFolder(tmp_path, 8, crop="tile", limit=50))) < set(origins(data))
    assert len(ImageFolder(tmp_path, 8, crop="tile", limit=10**6)) == 1200


def test_limit_of_whole_images_reads_few_headers(tmp_path):
    for i in range(30):
        write(tmp_path, f"{i:02}.png", noise(8, 8, seed=i))
    calls = []
    data = ImageFolder(tmp_path, 8, limit=4, progress=lambda done, total: calls.append((done, total)))
    assert len(data) == 4
    assert data.names == sorted(data.names)
    assert data.names != ["00.png", "01.png", "02.png", "03.png"]
    assert calls == [(1, 30), (2, 30), (3, 30), (4, 30)]


def test_limit_passes_over_broken_images(tmp_path):
    for i in range(6):
        write(tmp_path, f"{i}.png", noise(8, 8))
    victim = ImageFolder(tmp_path, 8, limit=1).names[0]
    (tmp_path / victim).write_bytes(b"")
    data = ImageFolder(tmp_path, 8, limit=1)
    assert data.names != [victim]
    assert [s.name for s in data.skipped] == [victim]


def test_empty_subset(tmp_path):
    write(tmp_path, "a.png", noise(8, 8))
    with pytest.raises(ValueError, match=r"subset 'eval' with eval_share 0\.0 holds none"):
        ImageFolder(tmp_path, 8, subset="eval", eval_share=0.0)


# Broken images.


def png_header(width, height):
    def chunk(kind, data):
        import zlib

        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>404 not found</html>", "not an image"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "not an image"),
        (png_header(60_000, 60_000), "too many pixels"),
    ],
)
def test_broken_headers_are_left_out_and_named(tmp_path, content, reason):
    write(tmp_path, "a.png", noise(8, 8))
    (tmp_path / "b bad.jpg").write_bytes(content)
    write(tmp_path, "c.png", noise(8, 8))
    data = ImageFolder(tmp_path, 8)
    assert data.names == ["a.png", "c.png"]
    assert [s.name for s in data.skipped] == ["b bad.jpg"]
    assert reason in data.skipped[0].reason
    with pytest.raises(ValueError, match=f"cannot use the image 'b bad.jpg' in .*{reason}"):
        ImageFolder(tmp_path, 8, strict=True)


def test_broken_link_and_folder_with_an_image_name(tmp_path):
    write(tmp_path, "a.png", noise(8, 8))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    write(tmp_path, "folder.png/b.png", noise(8, 8))
    data = ImageFolder(tmp_path, 8)
    assert data.names == ["a.png", "folder.png/b.png"]
    assert data.skipped == [("gone.png", os.strerror(errno.ENOENT))]


@pytest.mark.parametrize("crop", ["center", "tile"])
@pytest.mark.parametrize("preload", [False, True])
def test_broken_pixels_are_replaced_by_the_next_whole_file(tmp_path, crop, preload):
    write(tmp_path, "a.png", noise(32, 32, seed=1))
    write_truncated(tmp_path, "b.jpg", 64)
    write_truncated(tmp_path, "c.jpg", 64)
    write(tmp_path, "d.png", noise(32, 32, seed=2))
    write_truncated(tmp_path, "e.jpg", 64)
    data = ImageFolder(tmp_path, 16, crop=crop)
    good = ImageFolder(tmp_path, 16, crop=crop)
    if preload:
        data.preload()
    per = {"a.png": 1, "d.png": 1} if crop == "center" else {"a.png": 4, "d.png": 4}
    places = {origin: i for i, origin in enumerate(origins(good))}
    order = reversed(range(len(data))) if preload else range(len(data))
    for i in order:
        name, tile = data.origin(i)
        instead = {"b.jpg": "d.png", "c.jpg": "d.png", "e.jpg": "a.png"}.get(name, name)
        assert torch.equal(data[i], good[places[instead, tile % per[instead]]])
    assert sorted(s.name for s in data.skipped) == ["b.jpg", "c.jpg", "e.jpg"]
    assert all("truncated" in s.reason for s in data.skipped)


def test_strict_raises_on_broken_pixels(tmp_path):
    write(tmp_path, "a.png", noise(8, 8))
    write_truncated(tmp_path, "b.jpg")
    data = ImageFolder(tmp_path, 8, strict=True)
    assert data[0].shape == (3, 8, 8)
    with pytest.raises(ValueError, match=r"cannot use the image 'b.jpg' in .*truncated.*repair or remove"):
        data[1]
    with pytest.raises(ValueError, match=r"b\.jpg"):
        data.preload()


def test_no_image_decodes(tmp_path):
    write_truncated(tmp_path, "a.jpg")
    write_truncated(tmp_path, "b.jpg")
    with pytest.raises(ValueError, match=r"none of the 2 images in .* can be decoded.*truncated"):
        ImageFolder(tmp_path, 8)[0]


def test_a_file_changed_after_indexing_is_noticed(tmp_path):
    write(tmp_path, "a.png", noise(16, 16))
    write(tmp_path, "b.png", noise(16, 16, seed=1))
    data = ImageFolder(tmp_path, 8, crop="tile")
    write(tmp_path, "a.png", noise(24, 8))
    assert torch.equal(data[1], data[5])
    assert data.skipped == [("a.png", "decodes to 8 x 24 pixels, its header says 16 x 16")]


def test_running_out_of_file_handles_is_not_the_images_fault(tmp_path, monkeypatch):
    write(tmp_path, "a.png", noise(8, 8))
    data = ImageFolder(tmp_path, 8)

    def no_handles(name):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(data._source, "open", no_handles)
    with pytest.raises(OSError, match="Too many open files"):
        data[0]


def test_broken_entries_of_a_zip(tmp_path):
    good = io.BytesIO()
    Image.fromarray(noise(8, 8)).save(good, "PNG")
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("bad.png", b"nothing")
        z.writestr("crc.png", good.getvalue())
        z.writestr("good.png", good.getvalue())
    data = bytearray(archive.read_bytes())
    data[data.index(b"crc.png") + 7 + 50] ^= 0xFF  # inside the stored pixels
    archive.write_bytes(bytes(data))
    dataset = ImageFolder(archive, 8)
    dataset.preload()
    assert sorted(s.name for s in dataset.skipped) == ["bad.png", "crc.png"]
    assert len({x.numpy().tobytes() for x in dataset}) == 1


# Bad arguments.


def test_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder or zip of images.*nowhere"):
        ImageFolder(tmp_path / "nowhere", 8)


def test_a_file_that_is_no_zip(tmp_path):
    path = write(tmp_path, "a.png", noise(8, 8))
    with pytest.raises(ValueError, match="neither a folder nor a readable zip"):
        ImageFolder(path, 8)


def test_damaged_zip(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("a.png", bytes(1000))
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match="neither a folder nor a readable zip"):
        ImageFolder(archive, 8)
    directory = whole.index(b"PK\x01\x02")
    archive.write_bytes(whole[:directory] + b"XXXX" + whole[directory + 4 :])
    with pytest.raises(ValueError, match="is damaged"):
        ImageFolder(archive, 8)


def test_nothing_to_read(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"found no image in .*looked .* for files ending in .*\.jpg, .*\.png"):
        ImageFolder(tmp_path, 8)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(ValueError, match="found no image"):
        ImageFolder(tmp_path / "empty.zip", 8)


def test_nothing_usable(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"x")
    with pytest.raises(
        ValueError, match=r"none of the 2 images .* can be used; 2 were left out, .*'a.png': the file is"
    ):
        ImageFolder(tmp_path, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"crop": "centre"},
            r"unknown crop: got 'centre' \(did you mean 'center'\?\); expected one of 'center', 'tile'",
        ),
        ({"channels": 4}, "channels must be 1 .* or 3 .*, got 4"),
        ({"subset": "test"}, "unknown subset: got 'test'"),
        ({"resolution": 0}, "got resolution 0"),
        ({"limit": 0}, "limit 0"),
        ({"cache_bytes": -1}, "cache_bytes -1"),
        ({"eval_share": 1.5}, "eval_share must lie in"),
        ({"scale": 0.0, "crop": "tile"}, r"scale must lie in \(0, 1\], got 0.0"),
        ({"scale": 2.0, "crop": "tile"}, r"scale must lie in \(0, 1\], got 2.0"),
        ({"scale": 0.5}, "scale goes with crop='tile', got scale 0.5 with crop 'center'"),
        ({"labels": "csv"}, "unknown labels: got 'csv'"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(tmp_path, **{"resolution": 8, **options})


def test_index_out_of_range(tmp_path):
    write(tmp_path, "a.png", noise(8, 8))
    for index in (1, -1):
        with pytest.raises(IndexError, match=f"sample {index} is out of range for 1"):
            ImageFolder(tmp_path, 8)[index]


# Cache and workers.


def count_opens(data, monkeypatch):
    opened = []
    original = data._source.open
    monkeypatch.setattr(data._source, "open", lambda name: (opened.append(name), original(name))[1])
    return opened


def test_each_file_is_decoded_once(tmp_path, monkeypatch):
    tiled_folder(tmp_path, 2)
    data = ImageFolder(tmp_path, 32, crop="tile")
    opened = count_opens(data, monkeypatch)
    first = torch.stack(list(data))
    assert torch.equal(torch.stack(list(data)), first)
    assert opened == ["0.png", "1.png"]
    data[0].zero_()
    data.pixels(0).zero_()
    assert torch.equal(data[0], first[0])


def test_the_cache_keeps_to_its_size(tmp_path, monkeypatch):
    for i in range(4):
        write(tmp_path, f"{i}.png", noise(8, 8, seed=i))
    free = ImageFolder(tmp_path, 8)
    data = ImageFolder(tmp_path, 8, cache_bytes=2 * 8 * 8 * 3)
    none = ImageFolder(tmp_path, 8, cache_bytes=0)
    opened = count_opens(data, monkeypatch)
    for i in [0, 1, 0, 2, 0, 1]:  # the least recently used one goes
        assert torch.equal(data[i], free[i])
        assert torch.equal(none[i], free[i])
        assert data._cache.nbytes == len(data._cache) * 8 * 8 * 3 <= data.cache_bytes
    assert opened == ["0.png", "1.png", "2.png", "1.png"]
    assert len(none._cache) == 0


class Held(torch.utils.data.Dataset):
    """How much a worker's cache holds, after it has read everything."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return 2

    def __getitem__(self, index):
        for i in range(len(self.images)):
            self.images.pixels(i)
        return torch.tensor([self.images._cache.room, self.images._cache.nbytes])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_workers_share_one_budget(tmp_path):
    size = 8 * 8 * 3
    for i in range(12):
        write(tmp_path, f"{i:02}.png", noise(8, 8, seed=i))
    data = ImageFolder(tmp_path, 8, cache_bytes=8 * size)
    for i in range(4):
        data.pixels(i)
    loader = torch.utils.data.DataLoader(Held(data), 1, num_workers=2, multiprocessing_context="fork")
    # Four are shared; the room for the other four is halved.
    assert [found[0].tolist() for found in loader] == [[2 * size, 6 * size]] * 2
    assert data._cache.nbytes == 4 * size
    copies = torch.utils.data.DataLoader(Held(pickle.loads(pickle.dumps(data))), 1, num_workers=2)
    assert [found[0].tolist() for found in copies] == [[4 * size, 4 * size]] * 2


@pytest.mark.parametrize("crop", ["center", "tile"])
def test_a_batch_of_pixels_is_the_samples_stacked(tmp_path, crop):
    write(tmp_path, "a.png", noise(32, 32, seed=1))
    write_truncated(tmp_path, "b.jpg", 32)
    write(tmp_path, "c.png", noise(32, 32, seed=2))
    data = ImageFolder(tmp_path, 16, crop=crop)
    indices = [*reversed(range(len(data))), 0, 0]
    assert torch.equal(data.pixel_batch(indices), torch.stack([data.pixels(i) for i in indices]))
    assert torch.equal(from_uint8(data.pixel_batch(indices)), torch.stack([data[i] for i in indices]))
    assert data.pixel_batch([]).shape == (0, 3, 16, 16)
    with pytest.raises(IndexError, match="sample 99 is out of range"):
        data.pixel_batch([0, 99])


def test_scaled_tiles_are_those_of_the_resized_image(tmp_path):
    image = Image.fromarray(noise(50, 70))
    write(tmp_path / "large", "a.png", image)
    write(tmp_path / "small", "a.png", image.resize((35, 25), Image.Resampling.LANCZOS))
    large = ImageFolder(tmp_path / "large", 8, crop="tile", scale=0.5)
    small = ImageFolder(tmp_path / "small", 8, crop="tile")
    assert len(large) == len(small) == 12
    assert torch.equal(torch.stack(list(large)), torch.stack(list(small)))
    with pytest.raises(ValueError, match=r"none of the 1 images .*35 x 25 is smaller than a tile of 40 x 40"):
        ImageFolder(tmp_path / "large", 40, crop="tile", scale=0.5)


def test_preload_reports_and_fills(tmp_path, monkeypatch):
    tiled_folder(tmp_path, 2)
    data = ImageFolder(tmp_path, 32, crop="tile")
    calls = []
    data.preload(lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    opened = count_opens(data, monkeypatch)
    assert len(list(data)) == 50
    assert opened == []


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_pickled_and_forked_copies_read_the_same(tmp_path, kind):
    folder = tmp_path / "f"
    tiled_folder(folder, 3)
    path = folder
    if kind == "zip":
        path = tmp_path / "f.zip"
        with zipfile.ZipFile(path, "w") as z:
            for file in folder.iterdir():
                z.write(file, file.name)
    data = ImageFolder(path, 32, crop="tile")
    data[0]  # an open handle and a filled cache in the parent
    copy = pickle.loads(pickle.dumps(data))
    expected = torch.stack(list(data))
    assert len(copy._cache) == 0
    assert torch.equal(torch.stack(list(copy)), expected)
    if "fork" in multiprocessing.get_all_start_methods():
        fresh = ImageFolder(path, 32, crop="tile")
        loader = torch.utils.data.DataLoader(fresh, 10, num_workers=2, multiprocessing_context="fork")
        assert torch.equal(torch.cat(list(loader)), expected)


def test_a_forked_process_opens_its_own_zip_handle(tmp_path, monkeypatch):
    write(tmp_path, "a.png", noise(8, 8))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.write(tmp_path / "a.png", "a.png")
    source = ImageFolder(tmp_path / "a.zip", 8)._source
    handle = source._zip()
    assert source._zip() is handle
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    assert source._zip() is not handle


def test_pillow_is_not_imported_before_it_is_needed():
    code = "import sys, passband.data; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_photographs(shared):
    data = ImageFolder(shared / "data" / "photos", 256, crop="tile", limit=20)
    assert data.skipped == []
    assert len(data) == 20
    sizes = [
        (e.header.width // 256) * (e.header.height // 256) for e in ImageFolder(data.path, 256, crop="tile")._entries
    ]
    assert len(sizes) == 14
    assert 1500 < sum(sizes) < 1700
    assert data[0].abs().max() <= 1


# Writing.


def test_every_pixel_value_survives_the_round_trip():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(pixels)), pixels)
    assert torch.equal(to_uint8(from_uint8(pixels).double()), pixels)


@given(st.floats(-3, 3, width=32))
def test_to_uint8_is_the_nearest_pixel(value):
    got = int(to_uint8(torch.tensor([value]))[0])
    exact = min(max((value + 1) * 127.5, 0.0), 255.0)
    assert abs(got - exact) <= 0.5 + 1e-4


def test_to_uint8_in_half_precision_and_at_infinity():
    x = torch.tensor([-float("inf"), -1.0, 0.5, float("inf")])
    assert to_uint8(x).tolist() == to_uint8(x.bfloat16()).tolist() == [0, 0, 191, 255]


def test_to_uint8_refuses():
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        to_uint8(torch.tensor([0.0, float("nan")]))
    with pytest.raises(TypeError, match="floating-point"):
        to_uint8(torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_images_read_back(tmp_path, channels):
    x = torch.rand(channels, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    save_image(x.requires_grad_(), tmp_path / "new folder" / "0.png")
    data = ImageFolder(tmp_path, 12, channels=channels)
    assert torch.equal(data.pixels(0), to_uint8(x))
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["0.png"]


def test_a_full_disk_leaves_the_old_image(tmp_path, monkeypatch):
    path = tmp_path / "0.png"
    save_image(torch.zeros(1, 8, 8), path)
    before = path.read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"the disk is full .* free some space") as caught:
        save_image(torch.ones(1, 8, 8), path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("shape", "name", "message"),
    [
        ((2, 3, 8, 8), "a.png", r"got shape \(2, 3, 8, 8\); save the images of a batch one by one"),
        ((2, 8, 8), "a.png", r"got shape \(2, 8, 8\)"),
        ((3, 0, 8), "a.png", r"got shape \(3, 0, 8\)"),
        ((3, 8, 8), "a.jpg", "got the name 'a.jpg'; let it end in .png"),
    ],
)
def test_save_refuses(tmp_path, shape, name, message):
    with pytest.raises(ValueError, match=message):
        save_image(torch.zeros(shape), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_random_flip_mirrors_half_of_all_seeds():
    x = torch.arange(12.0).reshape(1, 3, 4)
    seeds = [seed_for(0, position, "flip") for position in range(1000)]
    flipped = [torch.equal(random_flip(x, seed), x.flip(2)) for seed in seeds]
    kept = [torch.equal(random_flip(x, seed), x) for seed in seeds]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert abs(sum(flipped) - 500) < 5 * 250**0.5
