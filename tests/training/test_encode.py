"""Encoding a data set: what is stored, and that nothing is lost, mixed or different, however it is run."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from passband.data import Checkerboard, ImageFolder, LatentShards, from_uint8, save_image
from passband.data._shards import Shard, shard_name
from passband.integrations.autoencoder import Autoencoder, load_network
from passband.integrations.teachers import ModuleTeacher
from passband.training.encode import encode
from passband.training.encode_shard import NonFiniteLatentsError

diffusers = pytest.importorskip("diffusers")

SIZE = (8, 12)


def network(channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return diffusers.AutoencoderKL(
        in_channels=channels, out_channels=channels, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=2,
        mid_block_add_attention=False, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    network().save_pretrained(folder)
    return folder


@pytest.fixture
def autoencoder(vae: Path) -> Autoencoder:
    return Autoencoder(load_network(vae), "vae")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven images in the folders of two classes: two tiles each."""
    folder = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for number in range(11):
        image = torch.rand(3, 9, 25, generator=generator) * 2 - 1
        save_image(image, folder / "ab"[number % 2] / f"{number:02d}.png")
    return folder


@pytest.fixture
def images(photos: Path) -> ImageFolder:
    return ImageFolder(photos, SIZE, crop="tile", labels="folder")


@pytest.fixture(scope="module")
def encoded(vae: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 images and their flips in five shards of five."""
    out = tmp_path_factory.mktemp("encoded") / "latents"
    encode(ImageFolder(photos, SIZE, crop="tile", labels="folder"), Autoencoder(load_network(vae), "vae"), out, **USUAL)
    return out


USUAL: dict[str, Any] = {"flips": True, "shard_size": 5, "batch_size": 2, "data": {"name": "images"}}


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_means_and_stds_are_the_autoencoders(encoded: Path, images: ImageFolder, autoencoder: Autoencoder):
    pixels = from_uint8(images.pixel_batch(range(22)))
    with torch.no_grad():
        plain, flipped = autoencoder.encode(pixels), autoencoder.encode(pixels.flip(-1))
    arrays = [Shard(encoded / shard_name(number)).arrays for number in range(5)]
    for name, expected in (
        ("mean", plain.mean), ("std", plain.std), ("mean_flipped", flipped.mean), ("std_flipped", flipped.std),
    ):  # fmt: skip
        found = np.concatenate([part[name] for part in arrays])
        assert found.dtype == np.float16
        assert np.allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert not np.allclose(flipped.mean, plain.mean.flip(-1), atol=1e-2)  # or the test could not tell


def test_what_is_read_back(encoded: Path, images: ImageFolder, autoencoder: Autoencoder):
    shards = LatentShards(encoded, images=images)
    assert (len(shards), shards.shape, shards.image_shape) == (22, (2, 4, 6), (3, 8, 12))
    assert (shards.num_classes, shards.class_names) == (2, ("a", "b"))
    assert [shards.label(index) for index in range(22)] == [images.label(index) for index in range(22)]
    assert shards.data == {"name": "images"}
    batch = shards.read([21, 4], flipped=[False, True])
    assert torch.equal(batch.images, torch.stack([images.pixels(21), images.pixels(4).flip(-1)]))
    with torch.no_grad():
        mean = autoencoder.encode(from_uint8(batch.images)).mean
        assert torch.allclose(shards.restore(batch.latents), mean, atol=3e-3)
        copy = Autoencoder(load_network(shards.autoencoder))
        assert torch.equal(copy.encode(from_uint8(batch.images)).mean, mean)


def test_the_scale_brings_drawn_latents_to_mean_0_and_std_1(
    encoded: Path, images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path
):
    for folder, scale in ((encoded, "global"), (tmp_path / "out", "channel")):
        if scale == "channel":
            encode(images, autoencoder, folder, scale=scale, **USUAL)
        shards = LatentShards(folder)
        assert (len(set(shards.scale)) == 1) == (len(set(shards.shift)) == 1) == (scale == "global")
        drawn = torch.cat(
            [shards.read(range(22), flipped=[flip] * 22, seeds=range(k * 22, (k + 1) * 22)).latents
             for k in range(50) for flip in (False, True)]
        )  # fmt: skip
        dims = (0, 2, 3) if scale == "channel" else (0, 1, 2, 3)
        assert torch.allclose(drawn.mean(dims), torch.zeros(()), atol=0.01)
        assert torch.allclose(drawn.std(dims), torch.ones(()), atol=0.01)
        facts = shards.header["statistics"]
        raw = shards.restore(drawn)
        assert torch.allclose(raw.mean((0, 2, 3)), torch.tensor(facts["mean"]), atol=0.01)
        assert torch.allclose(raw.std((0, 2, 3)), torch.tensor(facts["std"]), atol=0.01)


def test_the_batch_size_and_workers_change_rounding_at_most(
    encoded: Path, images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path
):
    encode(images, autoencoder, tmp_path / "out", **USUAL | {"batch_size": 5, "workers": 1})
    found, expected = LatentShards(tmp_path / "out"), LatentShards(encoded)
    assert torch.allclose(found.read(range(22)).latents, expected.read(range(22)).latents, atol=2e-3)


def test_full_precision_and_no_flips(images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path):
    encode(images, autoencoder, tmp_path / "out", dtype="float32", shard_size=30, batch_size=22)
    with torch.no_grad():
        posterior = autoencoder.encode(from_uint8(images.pixel_batch(range(22))))
    arrays = Shard(tmp_path / "out" / shard_name(0)).arrays
    assert np.array_equal(arrays["mean"], posterior.mean.numpy())
    assert sorted(arrays) == ["index", "labels", "mean", "std"]


def test_features_of_teachers(images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path):
    teachers = [ModuleTeacher(nn.AvgPool2d(side), f"pool{side}", mean=0.0, std=255.0) for side in (2, 4)]
    encode(images, autoencoder, tmp_path / "out", teachers=teachers, **USUAL)
    shards = LatentShards(tmp_path / "out", images=images)
    assert shards.teachers == {"pool2": (3, 4, 6), "pool4": (3, 2, 3)}
    batch = shards.read([3, 20], flipped=[True, False], features=["pool4"])
    expected = torch.nn.functional.avg_pool2d(batch.images.float() / 255, 4)
    assert list(batch.features) == ["pool4"]
    assert torch.allclose(batch.features["pool4"], expected, atol=1e-3)
    with pytest.raises(ValueError, match="each teacher needs its own name, got pool2, pool2"):
        encode(images, autoencoder, tmp_path / "other", teachers=[teachers[0], teachers[0]], **USUAL)


def test_any_data_set_of_images(tmp_path: Path):
    boards = Checkerboard(8, (2,), length=7)
    encode(boards, Autoencoder(network(channels=1)), tmp_path / "out", flips=True, shard_size=4)
    shards = LatentShards(tmp_path / "out")
    assert (len(shards), shards.shape, shards.num_classes, shards.data) == (7, (2, 4, 4), 0, None)


# The same bytes, however it is run.

SHARED = """
import sys
from passband.data import ImageFolder
from passband.integrations.autoencoder import Autoencoder, load_network
from passband.training.encode import encode
photos, vae, out = sys.argv[1:4]
images = ImageFolder(photos, (8, 12), crop="tile", labels="folder")
encode(images, Autoencoder(load_network(vae), "vae"), out, flips=True, shard_size=5, batch_size=2,
       data={"name": "images"})
"""
FAULT = """
import os
import passband.training.encode as module
def fail(*arguments):
    raise ValueError("only the second")
if os.environ["RANK"] == "1":
    module.encode_shard = fail
try:
    encode(images, Autoencoder(load_network(vae), "vae"), out + "-2", shard_size=5)
except ValueError as error:
    print(error)
"""
SLOW = """
import time
read = ImageFolder.pixel_batch
ImageFolder.pixel_batch = lambda *arguments: (time.sleep(0.3), read(*arguments))[1]
"""


@pytest.fixture(scope="module")
def launched(
    two_processes: Callable[..., list[str]], photos: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """What two processes wrote, and what each told of a fault that only the second one met."""
    out = tmp_path_factory.mktemp("launched") / "latents"
    outputs = two_processes("-c", SHARED + FAULT, photos, vae, out)
    return out, [output.strip().splitlines()[-1] for output in outputs]


def test_two_processes_write_the_same_bytes(launched: tuple[Path, list[str]], encoded: Path):
    found, expected = content(launched[0]), content(encoded)
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []


def test_a_fault_of_one_process_ends_all(launched: tuple[Path, list[str]]):
    assert launched[1] == ["only the second"] * 2


def test_a_killed_run_goes_on_to_the_same_bytes(
    encoded: Path, images: ImageFolder, autoencoder: Autoencoder, photos: Path, vae: Path, tmp_path: Path
):
    out = tmp_path / "out"
    slow = SHARED.replace("encode(images", SLOW + "encode(images")
    process = subprocess.Popen([sys.executable, "-c", slow, str(photos), str(vae), str(out)])
    try:
        deadline = time.monotonic() + 120
        while not (out / shard_name(1)).is_file():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with pytest.raises(FileNotFoundError, match="are not finished: run the same `passband encode` command again"):
        LatentShards(out)
    (out / ".shard-00002.safetensors.0123456789ab.partial").write_bytes(b"half")
    kept = (out / shard_name(0)).stat().st_mtime_ns
    told = []
    made = encode(images, autoencoder, out, **USUAL, on_progress=lambda done, total: told.append((done, total)))
    assert (out / shard_name(0)).stat().st_mtime_ns == kept
    assert made.resumed >= 10
    assert told[0] == (made.resumed, 22)
    assert told[-1] == (22, 22)
    assert content(out) == content(encoded)


def test_a_finished_folder_stays(encoded: Path, images: ImageFolder, autoencoder: Autoencoder):
    before = {file: file.stat().st_mtime_ns for file in encoded.glob("*.safetensors")}
    made = encode(images, autoencoder, encoded, **USUAL)
    assert made.resumed == 22
    assert {file: file.stat().st_mtime_ns for file in encoded.glob("*.safetensors")} == before


def test_a_damaged_shard_is_made_again(encoded: Path, images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path):
    out = Path(shutil.copytree(encoded, tmp_path / "out"))
    (out / shard_name(1)).write_bytes((out / shard_name(1)).read_bytes()[:500])
    (out / shard_name(3)).unlink()
    assert encode(images, autoencoder, out, **USUAL).resumed == 12
    assert content(out) == content(encoded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flips": False}, "flips True then, False now"),
        ({"dtype": "float32"}, "dtype 'float16' then, 'float32' now"),
        ({"shard_size": 6}, "shard_size 5 then, 6 now"),
        ({"scale": "channel"}, "scale 'global' then, 'channel' now"),
        ({"teachers": [ModuleTeacher(nn.AvgPool2d(2), "pool", 0.0, 1.0)]}, r"teachers \[\] then, \['pool'\] now"),
        ({"autoencoder": True}, "another autoencoder"),
        ({"images": True}, "other images, or they have changed since"),
    ],
)
def test_other_settings_are_refused(
    encoded: Path, images: ImageFolder, autoencoder: Autoencoder, photos: Path, change: dict[str, Any], message: str
):
    before = content(encoded)
    if change.pop("autoencoder", False):
        autoencoder = Autoencoder(network(seed=1))
    if change.pop("images", False):
        images = ImageFolder(photos, SIZE, crop="tile", labels="folder", limit=20)
    with pytest.raises(ValueError, match=f"encoded with other settings: .*{message}.*choose another folder"):
        encode(images, autoencoder, encoded, **USUAL | change)
    assert content(encoded) == before


def test_settings_may_change_while_nothing_is_encoded(images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(NonFiniteLatentsError):
        encode(images, Autoencoder(broken(1)), out, **USUAL)
    encode(images, autoencoder, out, **USUAL | {"flips": False})
    assert not LatentShards(out).flips


# What goes wrong.


def broken(after: int) -> nn.Module:
    """An autoencoder that gives NaN from its n-th batch on."""
    found: Any = network()
    calls = []

    def spoil(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        calls.append(1)
        return output * float("nan") if len(calls) >= after else output

    found.encoder.register_forward_hook(spoil)
    return found


def test_latents_that_are_not_finite_name_their_images(images: ImageFolder, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(
        NonFiniteLatentsError, match=r"mean, std of 'a/06\.png', 'a/08\.png' hold NaN, .*--dtype float32"
    ):
        encode(images, Autoencoder(broken(5)), out, shard_size=5, batch_size=2)
    assert [file.name for file in out.glob("shard-*")] == [shard_name(0)]  # what was finished stays


def test_values_beyond_half_precision_are_refused(images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path):
    with torch.no_grad():
        autoencoder.network.quant_conv.weight.mul_(1e6)
    with pytest.raises(NonFiniteLatentsError, match="beyond the range of --dtype float16: try --dtype float32"):
        encode(images, autoencoder, tmp_path / "out", shard_size=5)
    encode(images, autoencoder, tmp_path / "wide", dtype="float32")
    assert bool(LatentShards(tmp_path / "wide").read(range(22)).latents.isfinite().all())


@pytest.fixture
def some_broken(photos: Path, tmp_path: Path) -> Path:
    """The images, of which the pixels of two (four tiles) and the header of one (two) are broken."""
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    for name in ("a/00.png", "b/03.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:400])
    (folder / "a" / "02.png").write_bytes(b"nothing")
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_images_are_left_out_and_named(
    some_broken: Path, autoencoder: Autoencoder, tmp_path: Path, workers: int
):
    images = ImageFolder(some_broken, SIZE, crop="tile", labels="folder")
    made = encode(images, autoencoder, tmp_path / "out", shard_size=2, batch_size=1, workers=workers)
    assert [name for name, _ in made.skipped] == ["a/00.png", "a/02.png", "b/03.png"]
    shards = LatentShards(tmp_path / "out", images=ImageFolder(some_broken, SIZE, crop="tile", labels="folder"))
    assert len(shards) == made.header["count"] == 22 - 6
    whole = [index for index in range(20) if images.origin(index)[0] not in ("a/00.png", "b/03.png")]
    assert [shards.source(index) for index in range(16)] == whole
    batch = shards.read(range(16))
    assert batch.labels.tolist() == [images.label(index) for index in whole]
    with torch.no_grad():
        mean = autoencoder.encode(from_uint8(batch.images)).mean
    assert torch.allclose(shards.restore(batch.latents), mean, atol=3e-3)


def test_strict_stops_at_a_broken_image(some_broken: Path, autoencoder: Autoencoder, tmp_path: Path):
    (some_broken / "a" / "02.png").unlink()
    images = ImageFolder(some_broken, SIZE, crop="tile", strict=True)
    with pytest.raises(ValueError, match=r"cannot use the image 'a/00\.png'"):
        encode(images, autoencoder, tmp_path / "out", workers=1)


def test_no_image_that_decodes(autoencoder: Autoencoder, tmp_path: Path):
    save_image(torch.rand(3, *SIZE), tmp_path / "photos" / "0.png")
    file = tmp_path / "photos" / "0.png"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"none of the 1 images in .* can be decoded"):
        encode(ImageFolder(tmp_path / "photos", SIZE), autoencoder, tmp_path / "out")


def test_a_full_disk_loses_nothing(
    encoded: Path, images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, write = tmp_path / "out", Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "shard-00002" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"the disk is full .*: the finished shards are kept in .* run the same command"):
        encode(images, autoencoder, out, **USUAL)
    monkeypatch.undo()
    assert sorted(file.name for file in out.glob("*shard*")) == [shard_name(0), shard_name(1)]
    assert encode(images, autoencoder, out, **USUAL).resumed == 10
    assert content(out) == content(encoded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "unknown dtype: got 'float8'"),
        ({"scale": "none"}, "unknown scale: got 'none'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"shard_size": 0}, "shard_size must be at least 1, got 0"),
    ],
)
def test_bad_options(images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path, options: Any, message: str):
    with pytest.raises(ValueError, match=message):
        encode(images, autoencoder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_images_that_do_not_fit_the_autoencoder(photos: Path, autoencoder: Autoencoder, tmp_path: Path):
    with pytest.raises(ValueError, match=r"multiples of 2 for vae, got 9 x 12"):
        encode(ImageFolder(photos, (9, 12)), autoencoder, tmp_path / "out")
    with pytest.raises(ValueError, match=r"images of 3 channel\(s\), the data has 1: open them with channels 3"):
        encode(ImageFolder(photos, 8, channels=1), autoencoder, tmp_path / "out")


def test_folders_that_hold_something_else(images: ImageFolder, autoencoder: Autoencoder, photos: Path, tmp_path: Path):
    with pytest.raises(FileExistsError, match="holds other files: choose another folder"):
        encode(images, autoencoder, photos)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file: choose another folder"):
        encode(images, autoencoder, tmp_path / "file")


def test_a_channel_that_never_changes_needs_the_global_scale(
    images: ImageFolder, autoencoder: Autoencoder, tmp_path: Path
):
    with torch.no_grad():
        autoencoder.network.quant_conv.weight[0] = 0
        autoencoder.network.quant_conv.weight[2] = 0
        autoencoder.network.quant_conv.bias[0] = 0
        autoencoder.network.quant_conv.bias[2] = -100  # of the log variance
    with pytest.raises(ValueError, match=r"channel\(s\) \[0\] are the same everywhere.*: use --scale global"):
        encode(images, autoencoder, tmp_path / "out", scale="channel", **USUAL)
    made = encode(images, autoencoder, tmp_path / "out", **USUAL)
    assert made.resumed == 22
    assert made.header["scaled"] == "global"


def test_the_header_is_json_for_others_too(encoded: Path):
    header = json.loads((encoded / "latents.json").read_text())
    assert header["autoencoder"]["name"] == "vae"
    assert len(header["autoencoder"]["sha256"]) == 64
    assert header["count"] == sum(shard["count"] for shard in header["shards"]) == 22


def test_a_disk_that_is_full_at_the_copy_of_the_autoencoder(
    autoencoder: Autoencoder, images: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(target: Path) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(autoencoder.network, "save_pretrained", full)
    with pytest.raises(OSError, match=r"the copy of the autoencoder cannot be written.*No space left on device"):
        encode(images, autoencoder, tmp_path / "latents", **USUAL)
