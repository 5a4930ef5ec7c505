"""Array files are read as NumPy and safetensors read them: every row, layout and type, and damage is said."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from passband.data import ArraySamples
from passband.data.arrays import is_array_file, split_name

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (70, 9, 6, 3), dtype=np.uint8)
FLOATS = RANDOM.uniform(-1, 1, (70, 9, 6, 3)).astype(np.float32)


def saved(folder: Path, kind: str, array: np.ndarray) -> Path:
    """The array in a file of a kind; in an .npz beside labels and statistics, as ADM's reference batches are."""
    path = folder / f"samples{kind if kind.startswith('.') else '.npz'}"
    beside = {"arr_1": np.arange(len(array)), "mu": np.zeros(7), "sigma": np.eye(7)}
    if kind == ".npy":
        np.save(path, array)
    elif kind == ".safetensors":
        save_file({"samples": torch.from_numpy(array), "labels": torch.arange(len(array))}, path)
    elif kind == "compressed":
        np.savez_compressed(path, arr_0=array, **beside)
    else:
        np.savez(path, arr_0=array, **beside)
    return path


@pytest.mark.parametrize("kind", [".npy", ".npz", "compressed", ".safetensors"])
@pytest.mark.parametrize("array", [PIXELS, FLOATS], ids=["uint8", "float32"])
def test_rows_are_those_that_were_saved_in_any_order(tmp_path: Path, kind: str, array: np.ndarray) -> None:
    data = ArraySamples(saved(tmp_path, kind, array))
    expected = torch.from_numpy(array / 127.5 - 1 if array.dtype == np.uint8 else array).float().permute(0, 3, 1, 2)
    assert (len(data), data.shape, data.kind) == (70, (3, 9, 6), "images")
    for indices in (range(70), [5, 6, 7, 40], [69, 3, 4, 2]):
        torch.testing.assert_close(data.read(indices), expected[list(indices)])
    torch.testing.assert_close(data[11], expected[11])
    torch.testing.assert_close(pickle.loads(pickle.dumps(data)).read([69, 0]), expected[[69, 0]])
    assert data.read([]).shape == (0, 3, 9, 6)


@given(
    st.sampled_from(["<f2", ">f4", "<f8", "|u1", ">f2"]),
    st.sampled_from([(5, 7), (2, 30), (4, 4), (1, 6, 7), (6, 7, 3), (3, 6, 6)]),
    st.integers(1, 5),
)
def test_types_and_byte_orders(tmp_path_factory: pytest.TempPathFactory, dtype: str, axes, count: int) -> None:
    array = (np.arange(count * np.prod(axes)).reshape(count, *axes) % 200).astype(dtype)
    path = tmp_path_factory.mktemp("arrays") / "a.npy"
    np.save(path, array)
    data = ArraySamples(path, values="raw")
    rows = data.read(range(count)).numpy()
    assert rows.dtype == np.float32
    assert sorted(rows.flatten()) == sorted(array.astype(np.float32).flatten())
    assert rows.shape == (count, *data.shape)


def test_bfloat16(tmp_path: Path) -> None:
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({"latents": latents}, tmp_path / "a.safetensors")
    data = ArraySamples(tmp_path / "a.safetensors")
    assert (data.kind, data.shape) == ("latents", (4, 8, 8))
    assert torch.equal(data.read(range(6)), latents.float())
    assert "bfloat16, channels first" in data.reading


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ((16, 16, 3), (3, 16, 16)),
        ((3, 16, 16), (3, 16, 16)),
        ((16, 24, 1), (1, 16, 24)),
        ((4, 16, 24), (4, 16, 24)),
        ((16, 24, 4), (4, 16, 24)),
        ((8, 12, 12), (8, 12, 12)),
        ((12, 12, 8), (8, 12, 12)),
        ((40, 12, 12), (40, 12, 12)),  # more channels than pixels on a side
        ((8, 12, 20), (8, 12, 20)),  # nothing tells: channels first
        ((12, 12), (1, 12, 12)),
        ((2, 40), (2, 40)),
        ((40,), (1, 40)),
    ],
)
def test_axes_are_told_by_their_sizes(tmp_path: Path, axes, shape) -> None:
    array = RANDOM.standard_normal((3, *axes)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    data = ArraySamples(tmp_path / "a.npy", values="raw")
    assert data.shape == shape
    expected = np.moveaxis(array, -1, 1) if len(axes) == 3 and axes != shape else array.reshape(3, *shape)
    assert torch.equal(data.read(range(3)), torch.from_numpy(expected.copy()))


@pytest.mark.parametrize(
    ("low", "high", "values", "kind"),
    [
        (-1, 1, "-1..1", "images"),
        (-1.2, 1.3, "-1..1", "images"),
        (0, 1, "0..1", "images"),
        (-0.1, 1.1, "0..1", "images"),
        (0, 255, "0..255", "images"),
        (-4, 4, "raw", "latents"),
    ],
)
def test_values_of_floats_are_told_by_their_range(tmp_path: Path, low, high, values: str, kind: str) -> None:
    array = RANDOM.uniform(0, 1, (8, 3, 8, 8))
    array[0, 0, 0, :2] = 0, 1
    np.save(tmp_path / "a.npy", np.concatenate([low + (high - low) * array, np.full((1, 3, 8, 8), np.nan)]))
    data = ArraySamples(tmp_path / "a.npy")
    assert (data.values, data.kind) == (values, kind)
    expected = low + (high - low) * array
    ends = {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255), "raw": (-1, 1)}[values]
    expected = 2 * (expected - ends[0]) / (ends[1] - ends[0]) - 1
    torch.testing.assert_close(data.read(range(8)), torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-5)
    asked = ArraySamples(tmp_path / "a.npy", values="-1..1")
    assert asked.kind == "images"
    assert float(asked.read([0]).max()) == pytest.approx(high)


def test_one_of_several_arrays_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=PIXELS[:4], b=FLOATS[:5])
    assert len(ArraySamples(f"{tmp_path / 'two.npz'}:b")) == 5
    assert split_name("x/two.npz:b") == (Path("x/two.npz"), "b")
    assert is_array_file("x/two.NPZ:b")
    assert not is_array_file("x/images.zip")
    with pytest.raises(ValueError, match=r"several arrays: name one, as in .*two\.npz:a.*'b' of shape \(5, 9, 6, 3\)"):
        ArraySamples(tmp_path / "two.npz")
    with pytest.raises(ValueError, match="holds no array 'c'; it holds 'a'"):
        ArraySamples(f"{tmp_path / 'two.npz'}:c")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 400 MB, of holes, is read at its ends within the memory of a few rows."""
    import tracemalloc

    header = np.lib.format.header_data_from_array_1_0(PIXELS) | {"shape": (2000, 256, 256, 3)}
    with (tmp_path / "large.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2000 * 256 * 256 * 3)
    tracemalloc.start()
    data = ArraySamples(tmp_path / "large.npy")
    assert float(data.read([0, 1999]).max()) == -1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 256 * 256 * 3


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8, 3), dtype=np.int64), "values of type int64; expected uint8 pixels or floats"),
        (np.zeros((3, 8, 8, 4), dtype=np.uint8), "4 channels; images have 1 .gray. or 3"),
        (np.zeros((3, 2, 8, 8, 3), dtype=np.float32), r"shape \(3, 2, 8, 8, 3\); expected samples first"),
        (np.zeros((0, 8, 8, 3), dtype=np.uint8), "is empty"),
        (np.asfortranarray(FLOATS), "ascontiguousarray"),
        (np.zeros(5), "expected samples first"),
    ],
)
def test_what_holds_no_samples_is_a_clear_error(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        ArraySamples(tmp_path / "a.npy")


def test_statistics_are_no_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(8), sigma=np.eye(8))
    with pytest.raises(ValueError, match=r"holds no samples.*'mu' of shape \(8,\), 'sigma'"):
        ArraySamples(tmp_path / "stats.npz")


@pytest.mark.parametrize("kind", [".npy", ".npz", "compressed", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.6])
def test_cut_files_are_clear_errors(tmp_path: Path, kind: str, share: float) -> None:
    path = saved(tmp_path, kind, PIXELS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"samples\.\w+' cannot be read as arrays"):
        ArraySamples(path).read(range(70))


def test_damaged_pixels_of_a_compressed_array_are_a_clear_error(tmp_path: Path) -> None:
    path = saved(tmp_path, "compressed", PIXELS)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        middle = archive.getinfo("arr_0.npy").compress_size // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as arrays"):
        ArraySamples(path).read(range(70))


def test_wrong_questions_are_clear_errors(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RANDOM.standard_normal((3, 4, 8, 8)))
    with pytest.raises(FileNotFoundError, match="no such file"):
        ArraySamples(tmp_path / "b.npy")
    with pytest.raises(ValueError, match="one array without a name"):
        ArraySamples(f"{tmp_path / 'a.npy'}:x")
    with pytest.raises(ValueError, match=r"did you mean '0\.\.1'"):
        ArraySamples(tmp_path / "a.npy", values="0.1")
    with pytest.raises(ValueError, match="are those of images of 1 or 3 channels"):
        ArraySamples(tmp_path / "a.npy", values="0..1")
    with pytest.raises(IndexError, match="sample 3 is out of range for 3 samples"):
        ArraySamples(tmp_path / "a.npy")[3]


def test_what_cannot_be_read_beside_the_samples_does_not_matter(tmp_path: Path) -> None:
    """Statistics stored column by column, and objects, which would have to be unpickled."""
    path = tmp_path / "samples.npz"
    beside = {"sigma": np.asfortranarray(RANDOM.normal(size=(5, 5))), "notes": np.array([{"a": 1}], dtype=object)}
    np.savez(path, arr_0=PIXELS, **beside)
    assert len(ArraySamples(path)) == 70
    with pytest.raises(ValueError, match="column by column"):
        ArraySamples(f"{path}:sigma")
    np.savez(path, **beside)
    with pytest.raises(ValueError, match="holds no samples"):
        ArraySamples(path)


class Executed:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", [".npy", ".npz", "compressed"])
def test_objects_are_never_unpickled(tmp_path: Path, kind: str) -> None:
    array = np.empty((4, 2, 2), dtype=object)
    array[:] = Executed(tmp_path / "executed")
    path = saved(tmp_path, kind, array)
    with pytest.raises(ValueError, match=r"object|cannot be read as arrays"):
        ArraySamples(path)
    assert not (tmp_path / "executed").exists()


def test_a_damaged_header_of_a_compressed_array_is_a_clear_error(tmp_path: Path) -> None:
    path = saved(tmp_path, "compressed", PIXELS)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("arr_0.npy").header_offset + 30 + len("arr_0.npy")
    data = bytearray(path.read_bytes())
    data[start + 20 : start + 60] = b"\xff" * 40
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"cannot be read as arrays: .*; write or download it again$"):
        ArraySamples(path)


@pytest.mark.parametrize(("shape", "offset"), [([-4, 3, 8, 8], 0), ([4, 3, 8, 8], -100)])
def test_impossible_headers_are_clear_errors(tmp_path: Path, shape: list[int], offset: int) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [offset, 0]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4000))
    with pytest.raises(ValueError, match="cannot be read as arrays: its header says a shape of"):
        ArraySamples(tmp_path / "a.safetensors")
