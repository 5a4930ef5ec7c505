"""How well an autoencoder reconstructs: against closed forms, for any batch size and any number of processes."""

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from passband.cli import main
from passband.data import ImageFolder, from_uint8, save_image
from passband.integrations.autoencoder import Autoencoder
from passband.metrics import psnr, ssim
from passband.training import make_recipe
from passband.training.checkpoint import write_checkpoint
from passband.training.evaluate import RealImages
from passband.training.ranks import Ranks
from passband.training.reconstruct import (
    Reconstructed,
    ReconstructionSettings,
    evaluate_autoencoder,
    reconstruct,
)

COUNT = 21


class _Map(nn.Module):
    """An autoencoder whose latent is the image, and whose decoder is a given function."""

    def __init__(self, decode: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.config = {"block_out_channels": (1,), "in_channels": 3, "latent_channels": 3}
        self._decode = decode

    def encode(self, images: Tensor) -> Any:
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=images, std=torch.ones_like(images)))

    def decode(self, latents: Tensor) -> Any:
        return SimpleNamespace(sample=self._decode(latents))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, generator = tmp_path_factory.mktemp("images"), torch.Generator().manual_seed(0)
    for index in range(COUNT):
        save_image(torch.rand(3, 16, 24, generator=generator) * 1.5 - 1, root / f"{index:02d}.png")
    return root


@pytest.fixture(scope="module")
def images(folder: Path) -> RealImages:
    return RealImages(ImageFolder(folder, (16, 24)), str(folder), {})


def run(images: RealImages, decode: Callable[[Tensor], Tensor], **options: Any) -> Reconstructed:
    return reconstruct(Autoencoder(_Map(decode)), images, **options)


def test_nothing_lost_is_measured_as_nothing_lost(images: RealImages) -> None:
    found = run(images, lambda z: z)
    assert math.isinf(found.metrics["psnr"])
    assert found.metrics["ssim"] == pytest.approx(1)
    assert found.metrics["lsd"] == 0
    assert (found.measured, found.exact) == (COUNT, COUNT)


def test_one_step_of_brightness(images: RealImages) -> None:
    """One of 255 steps everywhere: 20 log10(255) decibels; the images are dark enough for it not to be clipped."""
    found = run(images, lambda z: z + 1 / 127.5, batch_size=4)
    assert found.metrics["psnr"] == pytest.approx(20 * math.log10(255))
    assert found.exact == 0


def noisy(z: Tensor) -> Tensor:
    """Another reconstruction for each image, whatever batch it comes in."""
    return torch.stack([image.flip(-1) * 0.9 + 0.01 * image.mean() for image in z])


def test_it_is_the_mean_over_all_images(images: RealImages) -> None:
    real = torch.stack([from_uint8(images.read(index)) for index in range(COUNT)])
    found = run(images, noisy, batch_size=2)
    assert found.metrics["psnr"] == pytest.approx(psnr(real, noisy(real)).mean().item())
    assert found.metrics["ssim"] == pytest.approx(ssim(real, noisy(real)).mean().item())
    assert found.pictures.shape == (16, 3, 16, 24)
    assert torch.equal(found.pictures[0], real[0])  # an image, and what was made of it
    assert torch.allclose(found.pictures[1], noisy(real[:1])[0])
    assert torch.equal(found.pictures[-2], real[-1])


class _Mean(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().mean((1, 2, 3))


def test_a_distance_of_ones_own(images: RealImages) -> None:
    found = run(images, lambda z: z + 2 / 127.5, perceptual=_Mean())
    assert found.metrics["perceptual"] == pytest.approx(2 / 127.5, rel=1e-5)


class _Threads(Ranks):
    """Processes of one launch, as threads."""

    def __init__(self, index: int, count: int, shared: list[Any], barrier: threading.Barrier) -> None:
        self.index, self.count, self.device = index, count, torch.device("cpu")
        self.shared, self.barrier = shared, barrier

    def gather(self, value: Any) -> list[Any]:
        self.shared[self.index] = value
        self.barrier.wait()
        found = list(self.shared)
        self.barrier.wait()
        return found


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_give_the_bits_of_one(images: RealImages, count: int) -> None:
    alone = run(images, noisy, perceptual=_Mean(), batch_size=2)
    barrier, shared, found = threading.Barrier(count, timeout=30), [None] * count, {}

    def work(index: int) -> None:
        ranks = _Threads(index, count, shared, barrier)
        found[index] = run(images, noisy, perceptual=_Mean(), batch_size=2, ranks=ranks)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found.values():
        assert result.metrics == alone.metrics
        assert torch.equal(result.pictures, alone.pictures)
    assert len(found) == count


def test_a_broken_image_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    for file in sorted(folder.glob("*.png"))[:5]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    damaged = tmp_path / "02.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    found = run(RealImages(ImageFolder(tmp_path, (16, 24)), "", {}), noisy)
    assert found.measured == 4
    assert [name for name, _ in found.skipped] == ["02.png"]


def test_reconstructions_that_are_not_finite(images: RealImages) -> None:
    with pytest.raises(ValueError, match="the reconstructions must be finite"):
        run(images, lambda z: z * float("nan"))


def test_sides_that_do_not_fit(images: RealImages) -> None:
    network = _Map(lambda z: z)
    network.config["block_out_channels"] = (1,) * 5
    with pytest.raises(ValueError, match=r"must be multiples of 16 .* got 16 x 24"):
        reconstruct(Autoencoder(network), images)


# A run's folder.


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that trained an autoencoder on two thirds of the images, flipped at random."""
    root = tmp_path_factory.mktemp("trained") / "run"
    torch.manual_seed(0)
    network = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    data = {"name": "images", "path": str(folder), "resolution": [16, 24], "subset": "train", "eval_share": 1 / 3}
    sizes = {"block_out_channels": [8, 8], "norm_num_groups": 4}
    recipe = {"task": "autoencoder", "name": "tiny", "data": {**data, "flip": True}, "model": sizes}
    root.mkdir()
    (root / "recipe.yaml").write_text(make_recipe(recipe).to_yaml())

    def fill(target: Path) -> None:
        network.save_pretrained(target / "vae")
        network.save_pretrained(target / "ema")

    write_checkpoint(root / "checkpoints", 7, fill)
    return root


PLAIN = ReconstructionSettings(features=None, perceptual=None)


def test_a_run_is_measured_on_what_it_holds_out(trained: Path, folder: Path, tmp_path: Path) -> None:
    results = evaluate_autoencoder(trained, PLAIN, tmp_path)
    held_out = ImageFolder(folder, (16, 24), subset="eval", eval_share=1 / 3)
    assert results["count"] == len(held_out) < COUNT
    network = AutoencoderKL.from_pretrained(trained / "checkpoints" / "step-00000007" / "ema").eval()
    real = torch.stack([held_out[index] for index in range(len(held_out))])
    with torch.no_grad():
        made = network.decode(network.encode(real).latent_dist.mean).sample
    values = {entry["metric"]: entry["value"] for entry in results["metrics"]}
    assert values["psnr"] == pytest.approx(psnr(real, made).mean().item(), rel=1e-4)
    assert values["ssim"] == pytest.approx(ssim(real, made).mean().item(), rel=1e-3)
    assert (tmp_path / "reconstructions.png").is_file()
    assert results["note"]["step"] == 7


def test_what_is_there_is_not_done_again(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate_autoencoder(trained, PLAIN, tmp_path)
    monkeypatch.setattr("passband.training.reconstruct.reconstruct", None)
    assert evaluate_autoencoder(trained, PLAIN, tmp_path) == json.loads((tmp_path / "results.json").read_text())
    assert first["metrics"] == evaluate_autoencoder(trained, PLAIN, tmp_path)["metrics"]
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):  # other settings are other numbers
        evaluate_autoencoder(trained, PLAIN.model_copy(update={"limit": 3}), tmp_path)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["passband", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_prints_the_numbers(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "evaluate", trained, "--out", tmp_path, "--limit", 6) == 0
    shown = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert [entry["metric"] for entry in results["metrics"]] == ["psnr", "ssim", "perceptual", "frechet", "lsd"]
    for entry in results["metrics"]:
        assert entry["title"] in shown
        assert f"{entry['value']:.4g}" in shown


def test_the_command_takes_what_diffusers_saved(
    trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = trained / "checkpoints" / "step-00000007" / "vae"
    options = ("--real", folder, "--resolution", "16x24", "--perceptual", "none", "--out", tmp_path)
    assert command(monkeypatch, "evaluate", saved, *options) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["count"] == COUNT
    assert "perceptual" not in {entry["metric"] for entry in results["metrics"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--count", 5, "--guidance", 2.0), "no samples are drawn: leave out --count, --guidance"),
        (("--features", "a.pt", "--features", "b.pt"), "compared by one kind of features, got 2"),
        (("--resolution", 32), "--resolution is that of the images in --real: give both, or neither"),
    ],
)
def test_options_that_an_autoencoder_has_not(
    trained: Path, options: tuple[object, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert command(monkeypatch, "evaluate", trained, *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_saved_one_needs_images(trained: Path) -> None:
    saved = trained / "checkpoints" / "step-00000007" / "vae"
    with pytest.raises(ValueError, match="has no recipe that names its data: give images with --real"):
        evaluate_autoencoder(saved, PLAIN)
    with pytest.raises(ValueError, match="at which size to read the images: give --resolution"):
        evaluate_autoencoder(saved, PLAIN.model_copy(update={"real": trained}))
