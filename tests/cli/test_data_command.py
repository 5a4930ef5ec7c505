"""`passband data prepare`: the zip, what is said about it, and one clear error for each fault."""

from pathlib import Path

import pytest
import torch

from passband.data import ImageFolder, save_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for number in range(4):
        image = torch.rand(3, 40, 34, generator=generator) * 2 - 1
        save_image(image, tmp_path / "my images" / f"class {number % 2}" / f"{number}.png")
    return tmp_path / "my images"


def stacked(data: ImageFolder) -> torch.Tensor:
    return data.pixel_batch(range(len(data)))


def test_options_reach_the_zip(passband, folder: Path, tmp_path: Path):
    out = tmp_path / "small.zip"
    options = ["--crop", "tile", "--scale", 0.9, "--channels", 1, "--labels", "folder", "--limit", 9, "--workers", 0]
    options += ["--subset", "train", "--eval-share", 0.2, "--compression", 4, "--format", "png"]
    result = passband("data", "prepare", folder, "--out", out, "--resolution", 12, *options)
    assert result.status == 0, result.err
    direct = ImageFolder(
        folder, 12, crop="tile", scale=0.9, channels=1, labels="folder", limit=9, subset="train", eval_share=0.2
    )
    found = ImageFolder(out, 12, channels=1, labels="json")
    assert torch.equal(stacked(found), stacked(direct))
    assert [found.label(i) for i in range(9)] == [direct.label(i) for i in range(9)]
    assert f"{out}: 9 images of 12 x 12, 2 classes" in result.out
    assert f"data.path={out} data.resolution=12 data.channels=1 data.crop=center data.labels=json" in result.out


def test_left_out_images_are_named(passband, folder: Path):
    (folder / "class 0" / "bad.png").write_bytes(b"")
    (folder / "class 0" / "2.png").write_bytes((folder / "class 0" / "2.png").read_bytes()[:300])
    result = passband(
        "data", "prepare", folder, folder / "class 1", "--out", "a b.zip", "--resolution", 16, "--workers", 0
    )
    assert result.status == 0
    assert "2 file(s) could not be used and were left out" in result.err
    assert f"{folder / 'class 0' / 'bad.png'}: the file is empty (0 bytes)" in result.err
    assert f"{folder / 'class 0' / '2.png'}: image file is truncated" in result.err
    assert "a b.zip: 5 images of 16 x 16, 5 kB\n" in result.out
    assert "data.path='a b.zip' data.resolution=16" in result.out
    assert "labels" not in result.out
    strict = passband("data", "prepare", folder, "--out", "c.zip", "--resolution", 16, "--workers", 0, "--strict")
    assert strict.status == 2
    assert "cannot use the image 'class 0/bad.png'" in strict.err
    assert not Path("c.zip").exists()


def test_interrupted_and_continued(passband, folder: Path, monkeypatch):
    monkeypatch.setattr("passband.data.prepare.SAMPLES_PER_PART", 1)
    from passband.data import prepare

    write_part = prepare.PartWriter.__call__

    def interrupt(self, task):
        if task.number == 2:
            raise KeyboardInterrupt
        return write_part(self, task)

    command = ["data", "prepare", folder, "--out", "small.zip", "--resolution", 16, "--workers", 0]
    with monkeypatch.context() as patch:
        patch.setattr(prepare.PartWriter, "__call__", interrupt)
        result = passband(*command)
    assert result.status == 130
    assert "interrupted: what is finished is kept; the same command continues" in result.err
    assert "error:" not in result.err
    result = passband(*command)
    assert result.status == 0
    assert "2 of the squares had been finished before." in result.err
    assert torch.equal(stacked(ImageFolder("small.zip", 16)), stacked(ImageFolder(folder, 16)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "jpg"], "error: unknown format: got 'jpg'; expected 'png'"),
        (["--labels", "json"], "error: labels='json' needs dataset.json at the root of"),
        (["--crop", "tyle"], "error: unknown crop: got 'tyle' (did you mean 'tile'?)"),
        (["--out", "x.tar"], "error: the result is a zip, got the name 'x.tar'"),
        (["--out", "taken.zip"], "error: 'taken.zip' exists already: remove it or choose another name"),
        (["--compression", "12"], "Invalid value for '--compression'"),
    ],
)
def test_faults(passband, folder: Path, options: list[str], message: str):
    Path("taken.zip").write_bytes(b"")
    result = passband("data", "prepare", folder, "--out", "x.zip", "--resolution", 16, "--workers", 0, *options)
    assert result.status == 2
    assert message in result.err
    assert not list(Path().glob(".*"))


def test_needed_options(passband, folder: Path):
    assert "Missing option '--out'" in passband("data", "prepare", folder, "--resolution", 16).err
    assert "Missing option '--resolution'" in passband("data", "prepare", folder, "--out", "x.zip").err
    assert "Missing argument 'SOURCE'" in passband("data", "prepare", "--out", "x.zip", "--resolution", 16).err
    assert "prepare" in passband("data").out + passband("data").err
