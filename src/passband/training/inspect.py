"""Inspecting autoencoders: is the latent space easy to learn? Measures over images, and the page."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_integer
from passband.data import ImageSamples
from passband.integrations.autoencoder import Autoencoder
from passband.metrics import LatentMeasures, pca_picture
from passband.metrics.decoder_probes import TRANSFORMS
from passband.reports import Inspected, inspection_report
from passband.reports.compare import image_notes

#: Called with (images measured, images in all).
OnMeasured = Callable[[int, int], None]

SHOWN = 8


@runtime_checkable
class Images(Protocol):
    """A data set of images: a length, and tensors (channels, height, width) in [-1, 1] by number."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, index: int) -> Tensor:
        """One image."""


@dataclass(frozen=True)
class InspectionSettings:
    """How autoencoders are inspected.

    Args:
        count: images to measure, at most, spread evenly over the data.
        probes: of them, how many the decoder is probed with: each is decoded some twenty times.
        batch_size: images at once.
        bands: radial bands of the latent, at most.
        transforms: (scale, quarter turns) pairs of the equivariance; none for a decoder of one size only.
        seed: of the white noise that latents are compared with.

    Raises:
        TypeError: if a number is no integer.
        ValueError: if one is out of range.

    """

    count: int = 512
    probes: int = 128
    batch_size: int = 16
    bands: int = 8
    transforms: Sequence[tuple[float, int]] = TRANSFORMS
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("count", self.count, 1),
            ("probes", self.probes, 0),
            ("batch_size", self.batch_size, 1),
            ("bands", self.bands, 1),
        ):
            check_integer(name, value)
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")


def inspect_autoencoder(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    dataset: Images,
    *,
    name: str = "autoencoder",
    settings: InspectionSettings | None = None,
    device: torch.device | str = "cpu",
    facts: Mapping[str, str] | None = None,
    on_measured: OnMeasured | None = None,
) -> Inspected:
    """Measure any autoencoder's latents, decoder and reconstruction; the same images and numbers for the same settings.

    Args:
        encode: turns images (batch, channels, height, width) in [-1, 1] into latents (batch, channels, height, width);
            of a variational autoencoder, the mean.
        decode: turns latents into images.
        dataset: the images, all of one size; broken files of an `ImageFolder` are left out.
        name: what to call it on the page.
        settings: how to inspect; default: 512 images, 128 of them for the decoder.
        device: where the images are put for both callables.
        facts: more to show of it on the page.
        on_measured: called after each batch.

    Returns:
        What [`inspection_report`][passband.reports.inspection_report] makes a page of; the numbers are in `.result`.

    Raises:
        TypeError: if a callable returns no tensor.
        ValueError: if there is no image, or the shapes or the values of latents or images make no sense.

    Example:
        >>> import torch
        >>> from passband.training.inspect import inspect_autoencoder
        >>> images = torch.rand(6, 3, 32, 32) * 2 - 1
        >>> found = inspect_autoencoder(
        ...     lambda x: torch.nn.functional.avg_pool2d(x, 2),
        ...     lambda z: torch.nn.functional.interpolate(z, scale_factor=2.0, mode="bilinear"),
        ...     images,
        ... )
        >>> found.result.latent_shape, found.result.probed
        ((3, 16, 16), 6)

    """
    settings = settings or InspectionSettings()
    indices = chosen(dataset, settings.count)
    measures = LatentMeasures(encode, decode, bands=settings.bands, transforms=settings.transforms, seed=settings.seed)
    probed = {indices[i] for i in _spread(len(indices), settings.probes)}
    if on_measured is not None:
        on_measured(0, len(indices))
    done = 0
    # Probed images first: a decoder that cannot be probed shows soon.
    for probe in (True, False):
        part = [i for i in indices if (i in probed) == probe]
        for numbers, images in _batches(dataset, part, settings.batch_size):
            measures.update(images.to(device), indices=numbers, probe=probe)
            done += len(numbers)
            if on_measured is not None:
                on_measured(done, len(indices))
    result = measures.compute()
    shown = torch.stack([dataset[indices[i]] for i in _spread(len(indices), SHOWN)])
    with torch.no_grad():
        latents = encode(shown.to(device))
        reconstructions = decode(latents)
    return Inspected(
        name=name,
        result=result,
        images=shown,
        reconstructions=reconstructions.float().cpu(),
        pictures=pca_picture(latents.float(), result.channels),
        facts=dict(facts or {}),
    )


def inspect_autoencoders(
    autoencoders: Sequence[Autoencoder],
    dataset: Images,
    out: str | os.PathLike[str],
    *,
    settings: InspectionSettings | None = None,
    device: torch.device | str = "cpu",
    shown: Mapping[str, str] | None = None,
    on_measured: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Inspect one autoencoder, or two on the same images, and write the page.

    Args:
        autoencoders: one or two.
        dataset: the images.
        out: folder for index.html, results.json and figures/.
        settings: how to inspect.
        device: where to compute.
        shown: what was inspected and how, for the page.
        on_measured: called with the autoencoder's name, images measured and images in all.

    Returns:
        The path of index.html.

    Raises:
        ValueError: if an autoencoder takes images of another number of channels, or as `inspect_autoencoder`.

    """
    settings = settings or InspectionSettings()
    found = []
    for name, autoencoder in zip(_names(autoencoders), autoencoders, strict=True):
        network: Any = autoencoder.to(device).network
        if hasattr(network, "eval"):
            network.eval()
        found.append(
            inspect_autoencoder(
                lambda images, autoencoder=autoencoder: autoencoder.encode(images).mean,  # type: ignore[misc]
                autoencoder.decode,
                dataset,
                name=name,
                settings=settings,
                device=device,
                facts=_facts(autoencoder),
                on_measured=None
                if on_measured is None
                else lambda done, total, name=name: on_measured(name, done, total),  # type: ignore[misc]
            )
        )
    notes = image_notes("inspected", dataset) if isinstance(dataset, ImageSamples) else []
    return inspection_report(found, out, settings=shown, notes=notes)


def chosen(dataset: Images, count: int) -> list[int]:
    """The numbers of the images to measure, spread evenly; those of broken files are left out.

    Raises:
        ValueError: if there is none.

    """
    if not len(dataset):
        raise ValueError("there is no image to inspect: the data set is empty")
    indices = _spread(len(dataset), count)
    if not isinstance(dataset, ImageSamples):
        return indices
    for index in indices:  # decodes, so that what is broken is known
        dataset.pixels(index)
    broken = {skipped.name for skipped in dataset.skipped}
    return [index for index in indices if dataset.origin(index)[0] not in broken]


def _spread(length: int, count: int) -> list[int]:
    """At most count numbers below length, in order, evenly spaced."""
    count = min(length, count)
    return [i * length // count for i in range(count)]


def _batches(
    dataset: Images, indices: Sequence[int], size: int
) -> Iterator[tuple[list[int], Float[Tensor, "batch channels height width"]]]:
    for start in range(0, len(indices), size):
        numbers = list(indices[start : start + size])
        images = [dataset[number] for number in numbers]
        shapes = {tuple(image.shape) for image in images}
        if len(shapes) > 1:
            raise ValueError(f"all images must have one size, got {sorted(shapes)}; crop or resize them first")
        yield numbers, torch.stack(images)


def _names(autoencoders: Sequence[Autoencoder]) -> list[str]:
    """Their names, numbered where both have one."""
    names = [autoencoder.name for autoencoder in autoencoders]
    return names if len(set(names)) == len(names) else [f"{name} ({i})" for i, name in enumerate(names, 1)]


def _facts(autoencoder: Autoencoder) -> dict[str, str]:
    parameters = sum(p.numel() for p in autoencoder.network.parameters())
    return {
        "parameters": f"{parameters:,}",
        "pixels per latent position": f"{autoencoder.factor} × {autoencoder.factor}",
    }
