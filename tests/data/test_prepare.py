"""`prepare_images`: the zip is the data set, whatever interrupted its making."""

import errno
import json
import multiprocessing
import os
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from passband.data import ImageFolder, prepare, prepare_images

Image = pytest.importorskip("PIL.Image")


def write(path: Path, height: int, width: int, seed: int = 0, channels: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, channels) if channels > 1 else (height, width)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, six images of different sizes."""
    root = tmp_path / "images"
    for number in range(6):
        write(root / ("b" if number % 2 else "a") / f"{number}.png", 40 + number, 60 - number, seed=number)
    return root


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made" / "small.zip"


def stacked(data: ImageFolder) -> torch.Tensor:
    return data.pixel_batch(range(len(data)))


# The result.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": 1},
        {"compression": 9},
        {"crop": "tile"},
        {"crop": "tile", "scale": 0.5},
        {"crop": "tile", "limit": 11, "channels": 1},
        {"limit": 4},
        {"crop": "tile", "subset": "train", "eval_share": 0.3},
        {"crop": "tile", "subset": "eval", "eval_share": 0.3},
    ],
)
@pytest.mark.parametrize("labels", ["none", "folder"])
def test_the_zip_holds_the_samples_bit_for_bit(folder, out, monkeypatch, options, labels):
    monkeypatch.setattr(prepare, "SAMPLES_PER_PART", 5)
    made = prepare_images([folder], out, 16, labels=labels, **options)
    options.pop("compression", None)
    direct = ImageFolder(folder, 16, labels=labels, **options)
    found = ImageFolder(out, 16, labels="json", channels=direct.channels, strict=True)
    assert torch.equal(stacked(found), stacked(direct))
    assert made.images == len(found) == len(direct) > 0
    assert found.num_classes == direct.num_classes == made.num_classes == (2 if labels == "folder" else 0)
    assert found.class_names == made.class_names == direct.class_names
    if labels == "folder":
        assert [found.label(i) for i in range(len(found))] == [direct.label(i) for i in range(len(direct))]
    assert made.nbytes == out.stat().st_size
    assert made.skipped == []
    assert list(out.parent.iterdir()) == [out]


def test_the_layout_is_that_of_edm(folder, out):
    prepare_images([folder], out, 8, crop="tile", labels="folder")
    count = len(ImageFolder(folder, 8, crop="tile"))
    with zipfile.ZipFile(out) as archive:
        names = [f"{i // 1000:05d}/img{i:08d}.png" for i in range(count)]
        assert archive.namelist() == [*names, "dataset.json"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        notes = json.loads(archive.read("dataset.json"))
        assert archive.testzip() is None
    assert [name for name, _ in notes["labels"]] == names
    assert {label for _, label in notes["labels"]} == {0, 1}
    assert (notes["num_classes"], notes["class_names"]) == (2, ["a", "b"])


def test_more_than_a_thousand_images_take_several_folders(folder, out):
    prepare_images([folder], out, 3, crop="tile")
    with zipfile.ZipFile(out) as archive:
        assert "00001/img00001234.png" in archive.namelist()
        assert json.loads(archive.read("dataset.json")) == {"labels": None}


def test_a_zip_of_a_zip_keeps_pixels_and_labels(folder, out, tmp_path):
    prepare_images([folder], out, 16, crop="tile", labels="folder")
    again = prepare_images([out], tmp_path / "again.zip", 16, labels="json").path
    assert again.read_bytes() == out.read_bytes()


def test_classes_survive_where_no_sample_of_the_last_is_left(folder, out):
    write(folder / "c" / "tiny.png", 4, 4)
    prepare_images([folder], out, 16, crop="tile", labels="folder")
    assert ImageFolder(out, 16, labels="json").class_names == ("a", "b", "c")


def test_several_sources_follow_each_other(folder, out, tmp_path):
    other = tmp_path / "other"
    write(other / "b" / "x.png", 32, 32, seed=7)
    write(other / "c" / "y.png", 32, 32, seed=8)
    prepare_images([folder, other], out, 16, labels="folder")
    found = ImageFolder(out, 16, labels="json")
    parts = [stacked(ImageFolder(path, 16)) for path in (folder, other)]
    assert torch.equal(stacked(found), torch.cat(parts))
    assert found.class_names == ("a", "b", "c")
    assert [found.label(i) for i in range(8)] == [0, 0, 0, 1, 1, 1, 1, 2]
    limited = prepare_images([folder, other], tmp_path / "limited.zip", 16, limit=5)
    assert limited.images == 5


def test_label_files_of_several_sources(tmp_path, out):
    for number, pairs in enumerate([[["a.png", 1]], [["a.png", 4]], None]):
        write(tmp_path / str(number) / "a.png", 16, 16, seed=number)
        (tmp_path / str(number) / "dataset.json").write_text(json.dumps({"labels": pairs}))
    prepare_images([tmp_path / "0", tmp_path / "1"], out, 16, labels="json")
    found = ImageFolder(out, 16, labels="json")
    assert [found.label(0), found.label(1), found.num_classes] == [1, 4, 5]
    with pytest.raises(ValueError, match=r"sources' dataset\.json do not go together"):
        prepare_images([tmp_path / "0", tmp_path / "2"], tmp_path / "x.zip", 16, labels="json")


def test_broken_images_are_left_out_with_their_labels(folder, out, monkeypatch):
    monkeypatch.setattr(prepare, "SAMPLES_PER_PART", 2)
    whole = dict(zip(names(folder), stacked(ImageFolder(folder, 16)), strict=True))
    broken(folder / "a" / "2.png")
    (folder / "b" / "bad.png").write_bytes(b"")
    made = prepare_images([folder], out, 16, labels="folder")
    found = ImageFolder(out, 16, labels="json")
    kept = ["a/0.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]
    assert torch.equal(stacked(found), torch.stack([whole[name] for name in kept]))
    assert [found.label(i) for i in range(5)] == [0, 0, 1, 1, 1]
    assert [skipped.name for skipped in made.skipped] == ["b/bad.png", "a/2.png"]
    assert "truncated" in made.skipped[1].reason
    for bad in ("b/bad.png", "a/2.png"):
        with pytest.raises(ValueError, match=f"cannot use the image '{bad}'"):
            prepare_images([folder], out.with_name("strict.zip"), 16, strict=True)
        (folder / "b" / "bad.png").unlink(missing_ok=True)


def names(folder: Path) -> list[str]:
    return ImageFolder(folder, 16).names


def test_nothing_decodes(tmp_path, out):
    broken(write(tmp_path / "images" / "a.png", 32, 32))
    with pytest.raises(ValueError, match=r"none of the images can be decoded; the last one is 'a.png'.*truncated"):
        prepare_images([tmp_path / "images"], out, 16)
    assert not out.exists()


# Interruptions. Parts hold one file each, six samples.


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, out: Path, moment: str, workers: int = 0) -> None:
    """Make the zip in a process of its own that kills itself at the moment."""
    pid = os.fork()
    if pid == 0:
        try:
            prepare.SAMPLES_PER_PART = 3
            arm(moment, out)
            prepare_images(
                [folder],
                out,
                16,
                crop="tile",
                labels="folder",
                workers=workers,
                on_progress=lambda done, total: (
                    die_with_workers(out) if done >= 6 and moment == "while writing" else None
                ),
            )
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def arm(moment: str, out: Path) -> None:
    replace = Path.replace
    names = {"before the rename": "small.zip", "in a part": "part-000001.zip", "in the settings": "settings.json"}
    if moment == "after the rename":
        prepare.shutil.rmtree = lambda folder: die()
    elif moment == "before the rename":
        Path.replace = lambda self, to: die() if to == out else replace(self, to)
    else:
        Path.replace = lambda self, to: die() if to.name == names.get(moment) else replace(self, to)


def die_with_workers(out: Path) -> None:
    pids = [str(child.pid) for child in multiprocessing.active_children()]
    out.with_name("pids").write_text(" ".join(pids))
    die()


@pytest.fixture
def uninterrupted(folder: Path, tmp_path: Path) -> bytes:
    return prepare_images([folder], tmp_path / "whole.zip", 16, crop="tile", labels="folder").path.read_bytes()


def again(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> prepare.Prepared:
    monkeypatch.setattr(prepare, "SAMPLES_PER_PART", 3)
    return prepare_images([folder], out, 16, crop="tile", labels="folder", **options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("moment", "finished"),
    [
        ("in the settings", 0),
        ("in a part", 6),
        ("while writing", 6),
        ("before the rename", 36),
        ("after the rename", 36),
    ],
)
def test_killed_and_continued(folder, out, uninterrupted, monkeypatch, moment, finished):
    killed(folder, out, moment)
    assert out.exists() == (moment == "after the rename")
    out.with_name("pids").unlink(missing_ok=True)
    made = again(folder, out, monkeypatch)
    assert made.resumed == finished
    assert out.read_bytes() == uninterrupted
    assert list(out.parent.iterdir()) == [out]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
def test_workers_end_with_a_killed_parent(folder, out, uninterrupted, monkeypatch):
    killed(folder, out, "while writing", workers=2)
    pids = [int(pid) for pid in out.with_name("pids").read_text().split()]
    assert len(pids) == 2
    for _ in range(1200):
        if not any(map(alive, pids)):
            break
        time.sleep(0.05)
    assert not any(map(alive, pids))
    assert again(folder, out, monkeypatch).resumed >= 6  # what the workers wrote is what this process would have
    assert out.read_bytes() == uninterrupted


def test_ctrl_c_keeps_what_is_finished(folder, out, uninterrupted, monkeypatch):
    def interrupt(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again(folder, out, monkeypatch, on_progress=interrupt)
    calls = []
    made = again(folder, out, monkeypatch, on_progress=lambda *call: calls.append(call))
    assert made.resumed == 12
    assert calls == [(12, 36), (18, 36), (24, 36), (30, 36), (36, 36)]
    assert out.read_bytes() == uninterrupted


def interrupted(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped after two parts; its folder comes back."""

    def interrupt(done: int, total: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again(folder, out, monkeypatch, on_progress=interrupt)
    return out.with_name(".small.zip.parts")


def test_other_settings_start_anew_where_nothing_was_finished(folder, out, uninterrupted, monkeypatch):
    parts = interrupted(folder, out, monkeypatch)
    for path in parts.glob("part-*.zip"):
        path.unlink()
    assert prepare_images([folder], out, 8).resumed == 0
    assert ImageFolder(out, 8).sizes[0] == (8, 8)
    assert not parts.exists()


def test_a_resolution_that_would_fill_the_memory(folder, out):
    with pytest.raises(ValueError, match=r"resolution must lie in \[1, 16384\], got resolution 99999"):
        prepare_images([folder], out, 99999)
    assert not out.with_name(".small.zip.parts").exists()


def test_other_settings_do_not_continue(folder, out, uninterrupted, monkeypatch):
    interrupted(folder, out, monkeypatch)
    with pytest.raises(
        ValueError, match=r"had other settings: resolution 16 then, 8 now; labels 'folder' then, 'none'"
    ):
        prepare_images([folder], out, 8, crop="tile")
    extra = write(folder / "b" / "new.png", 32, 32)
    with pytest.raises(ValueError, match="the images in the sources have changed since"):
        again(folder, out, monkeypatch)
    extra.unlink()
    assert again(folder, out, monkeypatch).resumed == 12
    assert out.read_bytes() == uninterrupted


def test_damaged_settings_are_told(folder, out, monkeypatch):
    parts = interrupted(folder, out, monkeypatch)
    (parts / "settings.json").write_text("{")
    with pytest.raises(ValueError, match="remove that folder to start anew"):
        again(folder, out, monkeypatch)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_part_is_made_again(folder, out, uninterrupted, monkeypatch, damage):
    part = interrupted(folder, out, monkeypatch) / "part-000001.zip"
    data = bytearray(part.read_bytes())
    if damage == "flipped":
        data[data.index(b"IDAT") + 20] ^= 0xFF
    part.write_bytes(bytes(data[:-40]) if damage == "cut" else bytes(data))
    with pytest.raises(ValueError, match=r"part-000001.zip' was damaged .* run the same command again"):
        again(folder, out, monkeypatch)
    assert not out.exists()
    assert again(folder, out, monkeypatch).resumed == 30
    assert out.read_bytes() == uninterrupted


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let a zip's file number `after` and all later ones not be written."""
    real, opened = zipfile.ZipFile.writestr, []

    def full(self, info, data):
        if info.filename in ("0", "00000/img00000000.png"):
            opened.append(info)
        if len(opened) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, info, data)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)


@pytest.mark.parametrize("after", [0, 2, 6])  # the last: while the parts are put together
def test_a_full_disk_loses_nothing(folder, out, uninterrupted, monkeypatch, after):
    with monkeypatch.context() as patch:
        fill_the_disk(patch, after)
        with pytest.raises(
            OSError, match=r"the disk is full .*finished parts are kept in .*same command again"
        ) as caught:
            again(folder, out, patch)
    assert caught.value.errno == errno.ENOSPC
    assert not out.exists()
    assert not list(out.parent.rglob("*.partial"))
    assert again(folder, out, monkeypatch).resumed == 6 * after
    assert out.read_bytes() == uninterrupted


# Bad arguments.


def test_the_result_is_not_written_over(folder, out):
    write(out.with_suffix(".png"), 8, 8).rename(out)
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match=r"small.zip' exists already: remove it or choose another name"):
        prepare_images([folder], out, 16)
    assert out.read_bytes() == before


def test_a_finished_zip_of_another_run_is_not_taken_for_this_one(folder, out, monkeypatch):
    interrupted(folder, out, monkeypatch)
    out.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="exists already"):
        again(folder, out, monkeypatch)
    assert out.read_bytes() == b"precious"


def test_no_permission(folder, out, monkeypatch):
    def refuse(self, *arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: .*\.small\.zip\.parts"):
        prepare_images([folder], out, 16)


def test_a_truncated_zip(folder, out, tmp_path):
    whole = prepare_images([folder], out, 16).path
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(ValueError, match="neither a folder nor a readable zip"):
        prepare_images([cut], tmp_path / "new.zip", 16)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sources": []}, ValueError, "sources is empty"),
        ({"sources": "images"}, TypeError, "sources must be a list of folders and zips, got 'images'"),
        ({"sources": ["nowhere"]}, FileNotFoundError, "no such folder or zip of images: .*nowhere"),
        ({"out": "small.tar"}, ValueError, "the result is a zip, got the name 'small.tar'"),
        ({"resolution": 0}, ValueError, "resolution must lie in"),
        ({"crop": "middle"}, ValueError, "unknown crop: got 'middle'"),
        ({"labels": "names"}, ValueError, "unknown labels: got 'names'"),
        ({"workers": -1}, ValueError, "workers >= 0"),
        ({"compression": 10}, ValueError, "compression 0 … 9"),
        ({"scale": 0.5}, ValueError, "scale goes with crop='tile'"),
        ({"labels": "json"}, ValueError, "labels='json' needs dataset.json"),
    ],
)
def test_bad_options(folder, tmp_path, options, error, message):
    arguments = {"sources": [folder], "out": tmp_path / "new.zip", "resolution": 16, **options}
    with pytest.raises(error, match=message):
        prepare_images(arguments.pop("sources"), arguments.pop("out"), arguments.pop("resolution"), **arguments)
    assert not list(tmp_path.glob("*.zip"))
    assert not list(tmp_path.glob(".*"))
