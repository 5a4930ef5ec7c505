"""Sets of samples are measured as one direct pass would: from any files, in any processes, shared and interrupted."""

import json
import math
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from passband.data import ArraySamples, ImageFolder, LatentShards, from_uint8, save_image
from passband.data._latent_header import FORMAT, LATENTS_FILE
from passband.data._shards import Moments, Note, Shard, shard_name, write_shard
from passband.metrics import PowerLawMeasure, SampleSpectrum
from passband.reports import image_mosaic
from passband.training import Recipe, RecipeError, RunFolder, make_recipe
from passband.training import sample_measure as measuring_module
from passband.training.image_samples import ImageSet
from passband.training.measured_files import load_measured, part_name
from passband.training.measured_set import MeasuredSet, Measuring, law_stride
from passband.training.merge_tree import MergeTree
from passband.training.path_kinds import kind_of_path
from passband.training.row_samples import RowSet
from passband.training.sample_measure import measure_sets
from passband.training.sample_paths import Opening, open_pair
from passband.training.sample_series import cut_mosaic, find_steps
from passband.training.sample_sets import Chunk, SampleSet
from passband.training.sample_work import Wanted

SIDE, COUNT = 16, 30
QUICK = Measuring(replicates=20)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pixels: torch.Tensor) -> Path:
    root = tmp_path_factory.mktemp("images")
    for number, image in enumerate(pixels):
        save_image(from_uint8(image), root / f"{number // 10:06d}" / f"{number:06d}.png")  # as EDM writes them
    return root


def images(path: Path, **options: Any) -> ImageSet:
    return ImageSet(ImageFolder(path, SIDE, **options))


def measured(samples: SampleSet, **options: Any) -> MeasuredSet:
    return measure_sets([Wanted("real", samples, block=10, **options)], QUICK, workers=1)[0]


def same_bits(a: MeasuredSet, b: MeasuredSet) -> bool:
    first, second = a.arrays(), b.arrays()
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def close(a: SampleSpectrum, b: SampleSpectrum) -> None:
    torch.testing.assert_close(a.means.mean, b.means.mean, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(a.means.replicate_means, b.means.replicate_means, rtol=1e-6, atol=1e-9, equal_nan=True)
    assert (a.count, a.shape, a.planes) == (b.count, b.shape, b.planes)


# Merging.


@given(st.permutations(range(13)), st.integers(1, 13), st.data())
def test_parts_merge_alike_in_any_order_and_when_interrupted(order: list[int], count: int, data: Any) -> None:
    straight: MergeTree[str] = MergeTree(count, lambda low, high: f"({low} {high})")
    for number in range(count):
        straight.add(number, str(number))
        assert len(straight.nodes) <= math.log2(count) + 1
    came = [number for number in order if number < count]
    stop = data.draw(st.integers(0, count))
    tree: MergeTree[str] = MergeTree(count, straight.merge)
    for number in came[:stop]:
        tree.add(number, str(number))
    again: MergeTree[str] = MergeTree(count, straight.merge)
    again.restore(tree.nodes)
    assert again.missing() == sorted(came[stop:])
    for number in again.missing():
        again.add(number, str(number))
    assert again.whole == straight.whole
    assert [int(part) for part in again.whole.replace("(", "").replace(")", "").split()] == list(range(count))


def test_a_tree_without_all_parts_has_no_whole() -> None:
    tree: MergeTree[str] = MergeTree(3, str.__add__)
    tree.add(1, "b")
    with pytest.raises(ValueError, match="2 of 3 parts have not come yet"):
        _ = tree.whole


# What is measured.


def test_a_folder_is_measured_as_in_one_direct_pass(folder: Path, pixels: torch.Tensor) -> None:
    found = measured(images(folder))
    names = [f"{number // 10:06d}/{number:06d}" for number in range(COUNT)]
    direct, law = SampleSpectrum(replicates=20), PowerLawMeasure()
    direct.update(from_uint8(pixels), names)
    law.update(from_uint8(pixels))
    close(found.spectrum, direct)
    assert found.law.compute().beta == pytest.approx(law.compute().beta, rel=1e-5)
    assert found.count == COUNT
    assert len(found.shown) == 24
    assert all(torch.equal(shown, pixels[number]) for number, shown in found.shown.items())


def test_a_zip_and_an_array_give_what_the_folder_gives(folder: Path, pixels: torch.Tensor, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, path.relative_to(folder))
    whole = measured(images(folder))
    assert same_bits(whole, measured(images(tmp_path / "images.zip")))
    np.savez(tmp_path / "samples.npz", pixels.permute(0, 2, 3, 1).numpy())
    rows = measured(RowSet(ArraySamples(tmp_path / "samples.npz")))
    torch.testing.assert_close(rows.spectrum.means.mean, whole.spectrum.means.mean, rtol=1e-6, atol=1e-9)
    assert all(torch.equal(rows.shown[number], shown) for number, shown in whole.shown.items())


def test_tiles_of_one_file_are_resampled_together(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    large = [torch.rand(3, 2 * SIDE, 3 * SIDE + 5, generator=generator) * 2 - 1 for _ in range(4)]
    for number, image in enumerate(large):
        save_image(image, tmp_path / f"{number}.png")
    data = ImageFolder(tmp_path, SIDE, crop="tile")
    found = measured(ImageSet(data))
    direct = SampleSpectrum(replicates=20)
    direct.update(torch.stack([data[i] for i in range(24)]), [str(i // 6) for i in range(24)])
    close(found.spectrum, direct)


def test_luma_of_an_array_is_that_of_the_images(folder: Path, pixels: torch.Tensor, tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", pixels.numpy())
    rows = measured(RowSet(ArraySamples(tmp_path / "samples.npy"), channels=1))
    gray = measured(images(folder, channels=1))
    assert rows.spectrum.shape == gray.spectrum.shape == (1, SIDE, SIDE)
    # Pixels of files are rounded to 8 bits again: 1/12 of a step squared, a thousandth of the power.
    torch.testing.assert_close(rows.spectrum.means.mean[:9], gray.spectrum.means.mean[:9], rtol=5e-3, atol=1e-4)


def test_a_limit_takes_rows_from_the_whole_array(tmp_path: Path) -> None:
    save_file({"x": torch.arange(100.0)[:, None, None].expand(-1, 2, 40).contiguous()}, tmp_path / "a.safetensors")
    rows = RowSet(ArraySamples(tmp_path / "a.safetensors"), limit=8)
    assert rows.kind == "signals"
    (block,) = rows.blocks(64)
    (chunk,) = rows.reader.read(block)
    assert chunk.samples[:, 0, 0].tolist() == [0, 12, 25, 37, 50, 62, 75, 87]
    assert chunk.keys == [str(row) for row in (0, 12, 25, 37, 50, 62, 75, 87)]
    assert list(chunk.numbers) == list(range(8))


def latents(root: Path, **changes: Any) -> Path:
    random = np.random.default_rng(0)
    arrays = {name: random.random((9, 2, 8, 8)).astype(np.float16) for name in ("mean", "std")}
    arrays["index"] = np.arange(9)
    root.mkdir()
    write_shard(root / shard_name(0), arrays, Note("e", 0, 9, Moments(0, (), (), ()), [], ""))
    shard = Shard(root / shard_name(0))
    header = {
        "format": FORMAT, "encoding": "e", "shape": [2, 8, 8], "image_shape": [3, 64, 64], "count": 9, "num_classes": 0,
        "class_names": [], "flips": False, "shift": [0.1, 0.2], "scale": [2.0, 3.0], "statistics": {}, "data": None,
        "autoencoder": {}, "images": None, "teachers": {},
        "shards": [{"file": shard.path.name, "count": 9, "nbytes": shard.nbytes, "digest": shard.note.digest}],
    }  # fmt: skip
    (root / LATENTS_FILE).write_text(json.dumps(header | changes))
    return root


def test_latents_are_measured_as_a_network_is_trained_on_them(tmp_path: Path) -> None:
    data = LatentShards(latents(tmp_path / "latents"))
    found = measure_sets([Wanted("real", RowSet(data))], Measuring("latents", replicates=20), workers=1)[0]
    direct = SampleSpectrum(kind="latents", replicates=20)
    direct.update(data.read(range(9), seeds=range(9)).latents)
    close(found.spectrum, direct)
    assert found.thumbnails is None


@pytest.mark.parametrize("crop", ["center", "tile"])
def test_broken_files_are_left_out_and_named(folder: Path, tmp_path: Path, crop: str) -> None:
    root = Path(shutil.copytree(folder, tmp_path / "images"))
    whole = measured(images(folder, crop=crop))
    content = (root / "000001" / "000012.png").read_bytes()
    (root / "000001" / "000012b.png").write_bytes(content[: len(content) // 2])
    (root / "empty.png").touch()
    samples = images(root, crop=crop)
    found = measured(samples)
    close(found.spectrum, whole.spectrum)
    (note,) = samples.notes("fake", found.skipped)
    assert note.startswith("Left out of the fake images: 2. ")
    assert "000001/000012b.png (" in note
    assert "empty.png (" in note
    (root / "empty.png").unlink()
    strict = images(root, crop=crop, strict=True)
    with pytest.raises(ValueError, match=r"000012b\.png.*not asking for strict"):
        measured(strict)


def test_a_set_of_broken_files_is_a_clear_error(folder: Path, tmp_path: Path) -> None:
    content = (folder / "000001" / "000012.png").read_bytes()
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"none of the real images .* can be used; 2 were left out.*'a\.png'"):
        measured(images(tmp_path))


def test_a_sample_that_is_not_finite_is_named(tmp_path: Path) -> None:
    rows = torch.zeros(20, 2, 8, 8)
    rows[13, 0, 0, 0] = torch.nan
    np.save(tmp_path / "a.npy", rows.numpy())
    with pytest.raises(ValueError, match=r"must be finite.*'13'"):
        measured(RowSet(ArraySamples(tmp_path / "a.npy", values="raw")))


# Processes, shares, interruptions.


def in_disorder(
    make_job: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...], tasks: Sequence[Any], workers: int
) -> Iterator[Any]:
    """As `run_tasks`, with the jobs of several processes that get copies, and the last task done first."""
    jobs = [make_job(*pickle.loads(pickle.dumps(arguments))) for _ in range(workers)]
    for number, task in reversed(list(enumerate(tasks))):
        yield pickle.loads(pickle.dumps(jobs[number % workers](pickle.loads(pickle.dumps(task)))))


def test_any_number_of_processes_gives_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = measured(images(folder))
    monkeypatch.setattr(measuring_module, "run_tasks", in_disorder)
    wanted = [Wanted(name, images(folder), block=10) for name in ("real", "fake")]
    for found in measure_sets(wanted, QUICK, workers=3):
        assert same_bits(found, alone)


def test_large_sets_have_a_process_for_each_core(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def run(job: Any, arguments: Any, tasks: Any, workers: int) -> Iterator[Any]:
        asked.append(workers)
        return in_disorder(job, arguments, tasks, 1)

    monkeypatch.setattr(measuring_module, "run_tasks", run)
    monkeypatch.setattr(measuring_module.os, "sched_getaffinity", lambda _: range(3), raising=False)
    wanted = [Wanted("real", images(folder))]
    measure_sets(wanted, QUICK)
    measure_sets(wanted, QUICK, workers=5)
    for values in (COUNT * 3 * SIDE**2 / 2, COUNT * 3 * SIDE**2 / 20):
        monkeypatch.setattr(measuring_module, "_WORTH_A_PROCESS", values)
        measure_sets(wanted, QUICK)
    assert asked == [1, 5, 2, 3]


def test_the_power_law_of_a_large_set_is_measured_on_a_part_of_it(pixels: torch.Tensor) -> None:
    assert [law_stride(count) for count in (1, 4096, 4097, 1_000_000)] == [1, 1, 2, 245]
    found, direct = MeasuredSet("real images", QUICK), PowerLawMeasure()
    found.update(Chunk(from_uint8(pixels), [str(i) for i in range(COUNT)], range(4, 4 + COUNT)), law_every=3)
    direct.update(from_uint8(pixels[2::3]))
    assert found.law.compute().power.tolist() == direct.compute().power.tolist()
    assert found.count == COUNT


def test_progress_counts_samples(folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    wanted = [Wanted("real", images(folder), block=12)]
    measure_sets(wanted, QUICK, workers=1, on_progress=lambda *now: seen.append(now))
    assert seen == [("real: measuring", done, COUNT) for done in (12, 24, 30)]


class Counted(ImageSet):
    """A set that counts the blocks which are read."""

    def __init__(self, data: ImageFolder, stop_after: int = 1 << 30) -> None:
        super().__init__(data)
        self.read = 0
        reading = self.reader.read

        def read(block: Any) -> Any:
            self.read += 1
            if self.read == stop_after:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGINT)
            return reading(block)

        self.reader.read = read  # type: ignore[method-assign]


def test_an_interrupted_measurement_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    keep = tmp_path / "real.spectrum.safetensors"
    whole = measured(images(folder))
    stopped = Counted(ImageFolder(folder, SIDE), stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        measured(stopped, keep=keep)
    assert [path.name for path in tmp_path.iterdir()] == ["real.partial.safetensors"]
    again = Counted(ImageFolder(folder, SIDE))
    assert same_bits(measured(again, keep=keep), whole)
    assert (stopped.read, again.read) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["real.spectrum.safetensors"]


def test_what_was_measured_is_reused_until_a_file_changes(folder: Path, tmp_path: Path) -> None:
    root, keep = Path(shutil.copytree(folder, tmp_path / "images")), tmp_path / "kept" / "real.spectrum.safetensors"
    first = Counted(ImageFolder(root, SIDE))
    found = measured(first, keep=keep)
    reused = Counted(ImageFolder(root, SIDE))
    again = measured(reused, keep=keep, must_fit=True)
    assert same_bits(again, found)
    assert (first.read, reused.read) == (3, 0)
    save_image(torch.zeros(3, SIDE, SIDE), root / "000001" / "000012.png")
    changed = Counted(ImageFolder(root, SIDE))
    with pytest.raises(ValueError, match="measured on other samples, or otherwise: files"):
        measured(changed, keep=keep, must_fit=True)
    assert not same_bits(measured(changed, keep=keep), found)
    assert changed.read == 3
    keep.write_bytes(keep.read_bytes()[:1000])  # damaged: measured again
    assert measured(Counted(ImageFolder(root, SIDE)), keep=keep).count == COUNT


def test_a_kept_set_is_read_by_the_metrics_too(folder: Path, tmp_path: Path) -> None:
    found = measured(images(folder), keep=tmp_path / "real.spectrum.safetensors")
    loaded = SampleSpectrum.load(tmp_path / "real.spectrum.safetensors")
    torch.testing.assert_close(loaded.means.mean, found.spectrum.means.mean, rtol=0, atol=0)


def test_shares_of_several_machines_make_the_whole(folder: Path, tmp_path: Path) -> None:
    whole = measured(images(folder))
    for index in (3, 1, 2):
        path = Path(shutil.copytree(folder, tmp_path / f"machine {index}"))  # other paths and times
        measured(images(path), keep=tmp_path / "parts" / part_name((index, 3)), share=(index, 3))
    assert kind_of_path(tmp_path / "parts") == "measured"
    found = load_measured(tmp_path / "parts", "real")
    close(found.spectrum, whole.spectrum)
    assert found.law.compute().beta == pytest.approx(whole.law.compute().beta, rel=1e-6)
    assert {number: pixels.tolist() for number, pixels in found.shown.items()} == {
        number: pixels.tolist() for number, pixels in whole.shown.items()
    }
    second = tmp_path / "parts" / part_name((2, 3))
    shutil.copy(second, tmp_path / "parts" / ("again." + part_name((2, 3))))
    with pytest.raises(ValueError, match="holds a share twice"):
        load_measured(tmp_path / "parts", "real")
    (tmp_path / "parts" / ("again." + part_name((2, 3)))).unlink()
    second.unlink()
    with pytest.raises(ValueError, match="lacks share 2 of 3: measure with --share 2/3"):
        load_measured(tmp_path / "parts", "real")


def test_measured_sets_of_different_samples_are_not_merged(folder: Path, tmp_path: Path) -> None:
    for name, limit in (("real", None), ("fake", 9)):
        measured(images(folder, limit=limit), keep=tmp_path / f"{name}.spectrum.safetensors")
    with pytest.raises(ValueError, match=r"different samples or settings \(fake\.spectrum\.safetensors, real\."):
        load_measured(tmp_path, "real")
    with pytest.raises(ValueError, match="share 4 of 4 holds none of the 30 samples"):
        measured(images(folder), share=(4, 4))


# A training over time.


@pytest.mark.parametrize("count", [1, 3, 8, 9, 17])
def test_a_picture_of_many_images_is_cut_back_into_them(count: int) -> None:
    pixels = torch.randint(0, 256, (count, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    cut = cut_mosaic(image_mosaic(from_uint8(pixels)), count, Path("x.png"))
    assert torch.equal(torch.from_numpy(cut).permute(0, 3, 1, 2), pixels)


def test_a_picture_of_another_number_of_images_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"'x\.png' of 54 × 14 pixels cannot be cut into the 23 samples"):
        cut_mosaic(image_mosaic(torch.zeros(16, 3, 6, 5)), 23, Path("x.png"))


def run_folder(root: Path, recipe: Recipe, pixels: torch.Tensor, steps: Sequence[int]) -> Path:
    RunFolder(root).start(recipe)
    for step in steps:
        mosaic = image_mosaic(from_uint8(pixels[: recipe.sampling.count]))
        picture = from_uint8(torch.from_numpy(mosaic).permute(2, 0, 1))
        save_image(picture, root / "samples" / f"step-{step:08d}.png")
    return root


def test_a_run_is_a_series_over_time(tiny: Callable[..., Recipe], pixels: torch.Tensor, folder: Path, tmp_path) -> None:
    recipe = tiny(sampling={"count": 11})
    root = run_folder(tmp_path / "run", recipe, pixels, (20, 3))
    shutil.copytree(folder, root / "samples" / "step-00000020")  # of many samples: counts instead of the picture
    (root / "samples" / "step-00000030").mkdir()  # drawing them was stopped before the first
    for path in (root, root / "samples"):
        assert [step.step for step in find_steps(path)] == [3, 20]
        pair = open_pair(folder, path, Opening())
        assert pair.steps == [3, 20]
        assert [len(side) for side in pair.fake if isinstance(side, SampleSet)] == [11, COUNT]
    assert isinstance(pair.fake[0], SampleSet)
    found = measured(pair.fake[0])
    direct = SampleSpectrum(replicates=20)
    direct.update(from_uint8(pixels[:11]), [str(seed) for seed in range(11)])
    close(found.spectrum, direct)


def test_runs_without_samples_are_clear_errors(tiny: Callable[..., Recipe], folder: Path, tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").start(tiny())
    with pytest.raises(ValueError, match="holds no samples yet"):
        open_pair(folder, tmp_path / "run", Opening())
    with pytest.raises(ValueError, match="the reference is one set of samples"):
        open_pair(tmp_path / "run", folder, Opening())


def test_runs_of_other_things_are_clear_errors(folder: Path, tmp_path: Path) -> None:
    data = {"name": "images", "path": "x", "resolution": SIDE}
    RunFolder(tmp_path / "vae").start(make_recipe({"name": "vae", "task": "autoencoder", "data": data}))
    save_image(torch.zeros(3, 50, 50), tmp_path / "vae" / "samples" / "step-00000001.png")
    with pytest.raises(RecipeError, match="a run of an autoencoder, whose pictures show images beside"):
        open_pair(folder, tmp_path / "vae" / "samples", Opening())
    voice = {"name": "voice", "data": {"name": "audio", "path": "x"}, "model": {"name": "diffwave"}}
    RunFolder(tmp_path / "voice").start(make_recipe(voice | {"process": {"name": "vp"}}))
    with pytest.raises(RecipeError, match="a run of audio, whose samples are compared with clips"):
        open_pair(folder, tmp_path / "voice", Opening())


def test_a_picture_named_like_a_step_is_an_image_without_a_run(folder: Path, tmp_path: Path) -> None:
    for step in range(3):
        save_image(torch.zeros(3, 12, 12), tmp_path / f"step-{step:08d}.png")
    assert kind_of_path(tmp_path) == "images"
    assert [len(side) for side in open_pair(folder, tmp_path, Opening()).fake if isinstance(side, SampleSet)] == [3]


# What a path is, and which two fit.


def test_images_take_the_size_of_what_has_one(folder: Path, pixels: torch.Tensor, tmp_path: Path) -> None:
    np.savez(tmp_path / "gray.npz", pixels[:, 0, :12, :10].numpy())
    for paths in ((folder, tmp_path / "gray.npz"), (tmp_path / "gray.npz", folder)):
        pair = open_pair(*paths, Opening())
        assert pair.real.shape == pair.fake[0].shape == (1, 12, 10)
    assert open_pair(folder, folder, Opening(resolution=(8, 12), channels=1)).real.shape == (1, 8, 12)
    assert open_pair(folder, folder, Opening()).real.shape == (3, SIDE, SIDE)
    with pytest.raises(ValueError, match="have size 12 × 10, and are compared as they are: leave out --resolution"):
        open_pair(folder, tmp_path / "gray.npz", Opening(resolution=12))
    with pytest.raises(ValueError, match=r"1 channel\(s\), so they cannot be compared with --channels 3"):
        open_pair(folder, tmp_path / "gray.npz", Opening(channels=3))


def test_a_measured_set_is_compared_like_any_other(folder: Path, tmp_path: Path) -> None:
    measured(images(folder), keep=tmp_path / "a" / "real.spectrum.safetensors")
    for path in (tmp_path / "a", tmp_path / "a" / "real.spectrum.safetensors"):
        pair = open_pair(path, folder, Opening())
        assert isinstance(pair.real, MeasuredSet)
        assert isinstance(pair.fake[0], SampleSet)
        assert pair.fake[0].shape == (3, SIDE, SIDE)


def test_what_does_not_fit_is_a_clear_error(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "latents.npy", np.random.default_rng(0).normal(size=(5, 3, SIDE, SIDE)) * 3)
    np.save(tmp_path / "small.npy", np.zeros((5, 4, 8, 8), dtype=np.float32))
    with pytest.raises(ValueError, match=r"holds images, .*latents.*say so with --values"):
        open_pair(folder, tmp_path / "latents.npy", Opening())
    with pytest.raises(ValueError, match=r"one shape.*\(3, 16, 16\).*\(4, 8, 8\)"):
        open_pair(tmp_path / "latents.npy", tmp_path / "small.npy", Opening())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_pair(folder, tmp_path / "nowhere", Opening())
    with pytest.raises(ValueError, match=r"holds neither audio nor images, but arrays, such as 'latents\.npy'"):
        open_pair(folder, tmp_path, Opening())
    (tmp_path / "notes").mkdir()
    with pytest.raises(ValueError, match="found neither audio nor images"):
        open_pair(folder, tmp_path / "notes", Opening())
