"""Folders of latents, made here by hand: reading at random, and what damage is told."""

import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from passband.data import ImageFolder, LatentShards, save_image
from passband.data._latent_header import FORMAT, LATENTS_FILE
from passband.data._shards import Moments, Note, Shard, merged, moments, shard_name, write_shard

SHAPE = (2, 3, 4)
SIZES = (4, 0, 3, 5)  # one shard is empty: all its images were broken
SHIFT, SCALE = [0.5, -1.0], [2.0, 0.25]


def shard_arrays(number: int, flips: bool) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(number)
    count = SIZES[number]
    ends = ("", "_flipped") if flips else ("",)
    arrays = {f"mean{end}": generator.standard_normal((count, *SHAPE)).astype(np.float16) for end in ends}
    arrays |= {f"std{end}": generator.random((count, *SHAPE)).astype(np.float16) for end in ends}
    for end in ("", ".flipped") if flips else ("",):
        arrays[f"features.net{end}"] = generator.standard_normal((count, 5, 1, 2)).astype(np.float16)
    return arrays | {"labels": generator.integers(0, 7, count), "index": np.arange(count) + sum(SIZES[:number])}


def write_folder(folder: Path, *, flips: bool = True, **changes: Any) -> Path:
    records = []
    for number, count in enumerate(SIZES):
        path = folder / shard_name(number)
        arrays = shard_arrays(number, flips) if count else {}
        write_shard(path, arrays, Note("this one", number, count, Moments(0, (), (), ()), [], ""))
        shard = Shard(path)
        records.append({"file": path.name, "count": count, "nbytes": shard.nbytes, "digest": shard.note.digest})
    header = {
        "format": FORMAT, "encoding": "this one", "shape": SHAPE, "image_shape": [3, 6, 8], "count": sum(SIZES),
        "num_classes": 7, "class_names": list("abcdefg"), "flips": flips, "shift": SHIFT, "scale": SCALE,
        "statistics": {}, "autoencoder": {}, "data": {"name": "images"}, "images": None, "teachers": {"net": [5, 1, 2]},
        "shards": records,
    }  # fmt: skip
    (folder / LATENTS_FILE).write_text(json.dumps(header | changes))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("latents"))


@pytest.fixture(scope="module")
def shards(folder: Path) -> LatentShards:
    return LatentShards(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def stored(name: str, index: int) -> np.ndarray:
    """A row as it was written, in float64."""
    for number, count in enumerate(SIZES):
        if index < count:
            return shard_arrays(number, True)[name][index].astype(np.float64)
        index -= count
    raise IndexError(index)


def reference(index: int, flipped: bool, seed: int | None) -> np.ndarray:
    end = "_flipped" if flipped else ""
    latent = stored(f"mean{end}", index)
    if seed is not None:
        noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
        latent = latent + stored(f"std{end}", index) * noise.double().numpy()
    shift, scale = (np.array(values)[:, None, None] for values in (SHIFT, SCALE))
    return (latent - shift) / scale


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted on Linux")
def test_shards_keep_no_file_open(folder: Path):
    """ImageNet's are more than a process may have open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    shards = LatentShards(folder)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    shards.read(range(len(shards)))


ROWS = st.lists(
    st.tuples(st.integers(0, sum(SIZES) - 1), st.booleans(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=9
)


@given(ROWS, st.booleans())
def test_each_row_is_its_own_whatever_the_batch(folder: Path, rows: list[tuple[int, bool, int]], sampled: bool):
    indices, flipped, seeds = ([row[part] for row in rows] for part in range(3))
    read = LatentShards(folder).read(indices, flipped=flipped, seeds=seeds if sampled else None, features=["net"])
    expected = [reference(index, flip, seed if sampled else None) for index, flip, seed in rows]
    assert read.latents.dtype == torch.float32
    assert np.allclose(read.latents.numpy(), np.stack(expected), rtol=1e-5, atol=1e-5)
    assert read.labels is not None
    assert read.labels.tolist() == [int(stored("labels", index)) for index in indices]
    ends = [".flipped" if flip else "" for flip in flipped]
    features = [stored(f"features.net{end}", index) for index, end in zip(indices, ends, strict=True)]
    assert np.array_equal(read.features["net"].double().numpy(), np.stack(features))
    assert read.images is None


def test_what_a_folder_says(shards: LatentShards, folder: Path):
    assert (len(shards), shards.shape, shards.num_classes, shards.flips) == (12, SHAPE, 7, True)
    assert (shards.scale, shards.shift) == (tuple(SCALE), tuple(SHIFT))
    assert (shards.teachers, shards.image_shape) == ({"net": (5, 1, 2)}, (3, 6, 8))
    assert shards.class_names == tuple("abcdefg")
    assert shards.autoencoder == folder / "autoencoder"
    assert shards.nbytes == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert [shards.label(index) for index in range(12)] == [int(stored("labels", index)) for index in range(12)]
    assert [shards.source(index) for index in range(12)] == list(range(12))
    assert torch.equal(shards[5], shards.read([5]).latents[0])


def test_standardize_and_restore_are_inverse(shards: LatentShards):
    latents = torch.randn(3, *SHAPE, dtype=torch.float64)
    assert torch.allclose(shards.restore(shards.standardize(latents)), latents, atol=1e-12)
    mean = torch.from_numpy(stored("mean", 2)).float()
    assert torch.allclose(shards.standardize(mean), shards[2], atol=1e-6)
    assert torch.allclose(shards.restore(shards[2]), mean, atol=1e-6)


def test_preloaded_samples_are_the_same(folder: Path, shards: LatentShards):
    loaded, told = LatentShards(folder), []
    loaded.preload(lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    rows = {"flipped": [True, False, True], "seeds": [1, 2, 3]}
    assert torch.equal(loaded.read([11, 0, 4], **rows).latents, shards.read([11, 0, 4], **rows).latents)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_the_same(shards: LatentShards, start: str):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {start}")
    loader = DataLoader(shards, batch_size=5, num_workers=1, multiprocessing_context=start)
    assert torch.equal(torch.cat(list(loader)), shards.read(range(12)).latents)


def test_copies_are_small_and_read_the_same(shards: LatentShards, folder: Path):
    pickled = pickle.dumps(shards)
    assert len(pickled) < 4000
    assert torch.equal(pickle.loads(pickled)[7], shards[7])


def test_a_copy_notices_that_the_folder_was_written_anew(copy: Path):
    pickled = pickle.dumps(LatentShards(copy))
    write_folder(copy, shift=[0.0, 0.0])
    with pytest.raises(ValueError, match="written anew while they were read"):
        pickle.loads(pickled)


@pytest.fixture
def photos(tmp_path: Path) -> ImageFolder:
    generator = torch.Generator().manual_seed(0)
    for number in range(sum(SIZES)):
        save_image(torch.rand(3, 6, 8, generator=generator) * 2 - 1, tmp_path / "photos" / f"{number:02d}.png")
    return ImageFolder(tmp_path / "photos", (6, 8))


def test_source_images_are_read_beside_the_latents(tmp_path: Path, photos: ImageFolder):
    (tmp_path / "latents").mkdir()
    shards = LatentShards(write_folder(tmp_path / "latents", images=photos.digest()), images=photos)
    images = shards.read([9, 1], flipped=[True, False]).images
    assert images is not None
    assert torch.equal(images, torch.stack([photos.pixels(9).flip(-1), photos.pixels(1)]))
    assert torch.equal(pickle.loads(pickle.dumps(shards)).read([9]).images[0], photos.pixels(9))


def test_other_images_are_refused(tmp_path: Path, photos: ImageFolder):
    (tmp_path / "latents").mkdir()
    shards = LatentShards(write_folder(tmp_path / "latents", images=photos.digest()))
    with pytest.raises(ValueError, match=r"are not those that the latents in .* were encoded from, or have changed"):
        shards.with_images(ImageFolder(tmp_path / "photos", (6, 6)))
    (tmp_path / "photos" / "00.png").unlink()
    with pytest.raises(ValueError, match=r"open them as `data` in its latents.json says, or encode again"):
        shards.with_images(ImageFolder(tmp_path / "photos", (6, 8)))


# What cannot be asked for.


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda s: s.read([12]), IndexError, "sample 12 is out of range for 12 latents"),
        (lambda s: s[-1], IndexError, "sample -1 is out of range"),
        (lambda s: s.label(12), IndexError, "out of range"),
        (lambda s: s.read([1, 2], flipped=[True]), ValueError, "each of the 2 samples needs its own flipped, got 1"),
        (lambda s: s.read([1, 2], seeds=[1, 2, 3]), ValueError, "each of the 2 samples needs its own seeds, got 3"),
        (lambda s: s.read([1], seeds=[0.5]), ValueError, "seeds must be integers that fit into 64 bits"),
        (lambda s: s.read([1], seeds=[2**64]), ValueError, "seeds must be integers that fit into 64 bits"),
        (lambda s: s.read([1], features=["nett"]), ValueError, r"no features of 'nett' \(did you mean 'net'\?\)"),
    ],
)
def test_bad_requests(shards: LatentShards, ask: Callable[[LatentShards], Any], error: type, message: str):
    with pytest.raises(error, match=message):
        ask(shards)


def test_flips_and_labels_that_are_not_stored(tmp_path: Path):
    plain = LatentShards(write_folder(tmp_path, flips=False, num_classes=0))
    assert plain.read([3]).labels is None
    assert plain.read([3], flipped=[False]).latents.shape == (1, *SHAPE)
    with pytest.raises(ValueError, match=r"flipped images are not stored in .*: encode them with --flips"):
        plain.read([3], flipped=[True])
    with pytest.raises(ValueError, match="have no labels; encode them with --labels"):
        plain.label(0)


# Damage.


def test_a_missing_shard(copy: Path):
    (copy / shard_name(2)).unlink()
    with pytest.raises(ValueError, match=r"shard-00002.safetensors' cannot be used: it is missing. Delete it and run"):
        LatentShards(copy)


@pytest.mark.parametrize("left", [0, 4, 100, 300, -1])
def test_a_shard_that_is_cut_short(copy: Path, left: int):
    path = copy / shard_name(0)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"shard-00000.safetensors' cannot be used: .* run the same `passband encode`"):
        LatentShards(copy)


@pytest.mark.parametrize("content", [b"not a shard at all", b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_another_file(copy: Path, content: bytes):
    (copy / shard_name(0)).write_bytes(content)
    with pytest.raises(ValueError, match=r"shard-00000.safetensors' cannot be used"):
        LatentShards(copy)


def test_a_shard_of_other_tensors(copy: Path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"mean": np.zeros((4, *SHAPE), np.float16)}, copy / shard_name(0))
    with pytest.raises(ValueError, match=r"a safetensors file that `passband encode` did not write|__metadata__"):
        LatentShards(copy)


def test_shards_that_changed_places(copy: Path):
    first, third = copy / shard_name(0), copy / shard_name(2)
    content = first.read_bytes()
    first.write_bytes(third.read_bytes())
    third.write_bytes(content)
    with pytest.raises(ValueError, match="it is a shard of another encoding, or of another number"):
        LatentShards(copy)


def test_a_shard_of_another_encoding(copy: Path):
    write_shard(copy / shard_name(0), shard_arrays(0, True), Note("x", 0, 4, Moments(0, (), (), ()), [], ""))
    with pytest.raises(ValueError, match="it is a shard of another encoding"):
        LatentShards(copy)


def test_a_shard_that_was_made_again_otherwise(copy: Path):
    arrays = shard_arrays(0, True)
    arrays["mean"] = arrays["mean"] + np.float16(1)
    write_shard(copy / shard_name(0), arrays, Note("this one", 0, 4, Moments(0, (), (), ()), [], ""))
    with pytest.raises(ValueError, match=r"it is not the shard that latents.json tells of"):
        LatentShards(copy)


def test_a_changed_byte_is_found_when_all_is_read(copy: Path):
    path = copy / shard_name(3)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    shards = LatentShards(copy)
    with pytest.raises(ValueError, match=r"shard-00003.* its content is not as it was written"):
        shards.preload()


def test_no_folder_an_unfinished_one_and_a_damaged_header(copy: Path, tmp_path: Path):
    with pytest.raises(
        FileNotFoundError, match=r"there are no latents at .*: expected a folder that `passband encode`"
    ):
        LatentShards(tmp_path / "nowhere")
    header = json.loads((copy / LATENTS_FILE).read_text())
    for content in ("{", "[]", json.dumps(header | {"format": "other"}), json.dumps({"format": FORMAT})):
        (copy / LATENTS_FILE).write_text(content)
        with pytest.raises(ValueError, match=r"latents.json' cannot be used .*: delete it and run the same"):
            LatentShards(copy)
    (copy / LATENTS_FILE).unlink()
    (copy / "encode.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="are not finished: run the same `passband encode` command again"):
        LatentShards(copy)


# Statistics.


def test_moments_of_parts_are_those_of_the_whole():
    generator = np.random.default_rng(0)
    mean = (generator.standard_normal((150, 3, 4, 5)) * [[[1e-3]], [[1]], [[20]]] + 30).astype(np.float16)
    std = generator.random((150, 3, 4, 5)).astype(np.float16)
    parts = [moments([mean[a:b]], [std[a:b]]) for a, b in ((0, 7), (7, 7), (7, 130), (130, 150))]
    whole = Moments(0, (), (), ())
    for part in parts:
        whole = merged(whole, part)
    exact, noise = mean.astype(np.float64), std.astype(np.float64)
    for found in (whole, moments([mean[:70], mean[70:]], [std[:70], std[70:]])):
        assert found.values == 150 * 20
        assert np.allclose(found.mean, exact.mean((0, 2, 3)), rtol=1e-13)
        assert np.allclose(np.array(found.squares) / found.values, exact.var((0, 2, 3)), rtol=1e-10)
        assert np.allclose(found.noise, (noise**2).sum((0, 2, 3)), rtol=1e-12)
