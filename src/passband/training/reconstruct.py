"""Evaluating an autoencoder: how well it reconstructs images, measured from the pixels that it decodes to."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from passband._files import write_file
from passband.data import ImageFolder, from_uint8, save_image, to_uint8
from passband.integrations.autoencoder import Autoencoder
from passband.metrics import FeatureExtractor, ReconstructionQuality, SpectrumDistance, load_features
from passband.reports import image_mosaic
from passband.reports.compare import finite, left_out_note
from passband.training.config import AutoencoderRecipe, RecipeError
from passband.training.decode import LATENTS, recorded_data
from passband.training.draw import split
from passband.training.evaluate import RealImages, held_out_images
from passband.training.perceptual import build_perceptual
from passband.training.progress import OnProgress
from passband.training.ranks import Ranks
from passband.training.restore import checkpoint_step, find_autoencoder
from passband.training.results import evaluation_folder, finished, framed
from passband.training.run_folder import RunFolder
from passband.training.sections import AnyData, PerceptualSettings, Settings

#: What is measured: name in results.json, title, and which direction is better.
RECONSTRUCTION_METRICS = {
    "psnr": ("PSNR (dB)", "higher"),
    "ssim": ("SSIM", "higher"),
    "perceptual": ("Perceptual distance", "lower"),
    "frechet": ("Fréchet distance of reconstructions (rFD)", "lower"),
    "lsd": ("Log-spectral distance (dB)", "lower"),
}
# In so many parts the images are summed up, however many processes there are: so the sums are the same to the bit.
_PARTS = 16
_PICTURES = 8


class ReconstructionSettings(Settings):
    """What is reconstructed and measured."""

    real: Path | None = Field(None, description="Folder or zip of images; default: those the recipe holds out.")
    resolution: int | tuple[int, int] | None = Field(None, description="Of the images in `real`.")
    limit: int | None = Field(None, ge=2, description="Images, at most.")
    features: str | None = "efficientnet-lite0"
    perceptual: PerceptualSettings | None = PerceptualSettings(name="efficientnet-lite0")
    weights: str = "ema"
    batch_size: int = Field(64, ge=1)

    @property
    def request(self) -> dict[str, Any]:
        """All of it that changes the numbers, as plain data."""
        return self.model_dump(mode="json", exclude={"batch_size"})


class Reconstructed(NamedTuple):
    """What an autoencoder makes of a set of images.

    Attributes:
        metrics: the measures, by their names in `RECONSTRUCTION_METRICS`.
        measured: the number of images.
        exact: how many are the same to the bit, which the mean PSNR leaves out.
        pictures: some images, each followed by its reconstruction.
        skipped: (name, reason) of images that could not be used.

    """

    metrics: dict[str, float]
    measured: int
    exact: int
    pictures: Tensor
    skipped: list[tuple[str, str]]


@torch.no_grad()
def reconstruct(
    autoencoder: Autoencoder,
    images: RealImages,
    *,
    perceptual: nn.Module | None = None,
    features: FeatureExtractor | None = None,
    batch_size: int = 64,
    ranks: Ranks | None = None,
    on_progress: OnProgress | None = None,
) -> Reconstructed:
    """Encode images to the means of their latents, decode these, and compare what would be saved.

    The numbers are the same for any number of processes.

    Args:
        autoencoder: the autoencoder.
        images: as they are read, neither flipped nor augmented.
        perceptual: a distance of two batches of images in [-1, 1]; None leaves it out.
        features: what the Fréchet distance compares; None leaves it out.
        batch_size: images at once.
        ranks: the processes that share the work, of which this is one; all must call this.
        on_progress: called as the work goes on.

    Raises:
        ValueError: if the sides of the images do not fit the autoencoder, a reconstruction is not finite, or no image
            can be used.

    """
    ranks = Ranks() if ranks is None else ranks
    autoencoder.to(ranks.device)
    if perceptual is not None:
        perceptual.to(ranks.device)
    whole = _Part.blank(perceptual, features)
    shown = sorted({round(i * (images.count - 1) / max(_PICTURES - 1, 1)) for i in range(_PICTURES)})
    parts = split(range(images.count), -(-images.count // _PARTS))
    done = 0
    for turn in range(0, len(parts), ranks.count):
        now = parts[turn : turn + ranks.count]
        part = _Part.blank(perceptual, features)
        for numbers in split(now[ranks.index], batch_size) if ranks.index < len(now) else ():
            _measure(part, autoencoder, images, numbers, shown, ranks.device)
        for state in ranks.gather(part.state()):
            whole.add(state)
        done += sum(map(len, now))
        if on_progress is not None:
            on_progress("reconstructing images", done, images.count)
    skipped = sorted({(s.name, s.reason) for part in ranks.gather(images.skipped) for s in part})
    return whole.result(skipped)


class _Part:
    """What is kept of some of the images."""

    def __init__(self, quality: ReconstructionQuality, spectrum: SpectrumDistance, pictures: dict[int, Tensor]) -> None:
        self.quality, self.spectrum, self.pictures = quality, spectrum, pictures

    @classmethod
    def blank(cls, perceptual: nn.Module | None, features: FeatureExtractor | None) -> "_Part":
        return cls(ReconstructionQuality(perceptual, features), SpectrumDistance(), {})

    def state(self) -> tuple[Any, ...]:
        return self.quality.state_dict(), self.spectrum.state_dict(), self.pictures, self.quality.count

    def add(self, state: tuple[Any, ...]) -> None:
        quality, spectrum, pictures, count = state
        if not count:
            return
        other = _Part.blank(self.quality.perceptual, self.quality.features)
        other.quality.load_state_dict(quality)
        other.spectrum.load_state_dict(spectrum)
        self.quality.merge(other.quality)
        self.spectrum.merge(other.spectrum)
        self.pictures |= pictures

    def result(self, skipped: list[tuple[str, str]]) -> Reconstructed:
        found = self.quality.compute()
        values = {"psnr": found.psnr, "ssim": found.ssim, "perceptual": found.perceptual, "frechet": found.frechet}
        values["lsd"] = self.spectrum.compute().lsd
        metrics = {name: value for name, value in values.items() if value is not None}
        pictures = torch.cat([self.pictures[number] for number in sorted(self.pictures)])
        return Reconstructed(metrics, found.count, found.exact, pictures, skipped)


def _measure(
    part: _Part,
    autoencoder: Autoencoder,
    images: RealImages,
    numbers: Sequence[int],
    shown: Sequence[int],
    device: torch.device,
) -> None:
    found = [(number, pixels) for number in numbers if (pixels := images.read(number)) is not None]
    if not found:
        return
    real = from_uint8(torch.stack([pixels for _, pixels in found])).to(device)
    autoencoder.latent_shape(*real.shape[2:])  # raises where the sides do not fit
    made = autoencoder.decode(autoencoder.encode(real).mean).float()
    part.quality.update(real, made)
    part.spectrum.update(real=real, fake=from_uint8(to_uint8(made)))
    for place, (number, _) in enumerate(found):
        if number in shown:
            part.pictures[number] = torch.stack([real[place], made[place]]).cpu()


def evaluate_autoencoder(
    path: Path,
    settings: ReconstructionSettings,
    out: Path | None = None,
    *,
    step: int | None = None,
    ranks: Ranks | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Reconstruct held-out images and write results.json and a picture; what is there already is not done again.

    Args:
        path: the folder of a run that trained an autoencoder, or of one that diffusers saved.
        settings: what is reconstructed and measured.
        out: folder of the evaluation; default: evaluation/step-STEP in the path.
        step: of a run: the checkpoint's step; default: the newest.
        ranks: the processes that share the work, of which this is one; all must call this.
        on_progress: called as the work goes on.

    Returns:
        The content of results.json.

    Raises:
        RecipeError, CheckpointError, OSError: if there is no such autoencoder.
        ValueError: if the images or the extractors cannot be used, or there are none.

    """
    ranks, started = Ranks() if ranks is None else ranks, time.monotonic()
    autoencoder = find_autoencoder(path, step=step, weights=settings.weights)
    found = checkpoint_step(path, step) if (path / "recipe.yaml").is_file() else 0
    out = evaluation_folder(path, found) if out is None else out
    note = {"run": str(path.resolve()), "step": found, "weights": settings.weights}
    there = finished(out, settings.request, note)
    if ranks.first(there is not None):
        return ranks.first(there or {})
    images = _images(path, settings, autoencoder)
    features = None if settings.features is None else load_features(settings.features, ranks.device)
    made = reconstruct(
        autoencoder,
        images,
        perceptual=build_perceptual(settings.perceptual),
        features=features,
        batch_size=settings.batch_size,
        ranks=ranks,
        on_progress=on_progress,
    )
    what: dict[str, Any] = {"request": settings.request, "note": note, "real": images.path, "images": images.facts}
    what |= {"count": made.measured, "exact": made.exact}
    results = framed(what, _entries(made, settings, features), left_out_note("real", made.skipped), ranks, started)
    if ranks.is_first:
        _write(results, made.pictures, out)
    ranks.wait()
    return ranks.first(results)


def _entries(
    made: Reconstructed, settings: ReconstructionSettings, features: FeatureExtractor | None
) -> list[dict[str, Any]]:
    by = {
        "frechet": None if features is None else features.name,
        "perceptual": None if settings.perceptual is None else settings.perceptual.name,
    }
    found = []
    for name, value in made.metrics.items():
        title, better = RECONSTRUCTION_METRICS[name]
        entry = {"key": name, "metric": name, "title": title, "better": better, "value": value}
        found.append(entry if by.get(name) is None else entry | {"by": by[name]})
    return found


def _write(results: dict[str, Any], pictures: Tensor, out: Path) -> None:
    mosaic = torch.from_numpy(image_mosaic(pictures, columns=4)).permute(2, 0, 1)
    save_image(from_uint8(mosaic), out / "reconstructions.png")
    # Last: it says that all is there.
    write_file(out / "results.json", (json.dumps(finite(results), indent=1) + "\n").encode())


def _images(path: Path, settings: ReconstructionSettings, autoencoder: Autoencoder) -> RealImages:
    """The images of the settings, or those that the recipe (or the recipe of the latents) holds out."""
    data = _data(path)
    if settings.real is None:
        if data is None:
            raise RecipeError(f"{str(path)!r} has no recipe that names its data: give images with --real")
        return held_out_images(data, settings.limit)
    resolution = settings.resolution or getattr(data, "resolution", None)
    if resolution is None:
        raise RecipeError(f"{str(path)!r} has no recipe that says at which size to read the images: give --resolution")
    crop = getattr(data, "crop", "center")
    folder = ImageFolder(
        settings.real, resolution, crop=crop, channels=autoencoder.image_channels, limit=settings.limit
    )
    facts = {"resolution": resolution, "crop": crop, "channels": autoencoder.image_channels}
    return RealImages(folder, str(settings.real), facts, settings.limit)


def _data(path: Path) -> AnyData | None:
    if (path / "recipe.yaml").is_file():
        recipe = RunFolder(path).recipe()
        assert isinstance(recipe, AutoencoderRecipe)
        return recipe.data
    return recorded_data(path / LATENTS) if (path / LATENTS).is_file() else None
