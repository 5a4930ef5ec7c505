"""Figures of an autoencoder's latents: spectra, where bands land, low-passed latents, and pictures."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import import_extra
from passband.metrics import BandMapResult, ChannelSpectrumResult, LatentResult
from passband.reports.figures import COLOURS, INK, WIDTH, _style, image_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TWO = 1.5  # a figure of two panels is this much wider
_GRAY = "#8a8a8a"
_DECADES = 7
_RINGS = 16  # of the ESM divergence, whose target is drawn


def latent_spectrum_figure(results: Mapping[str, LatentResult]) -> "Figure":
    """Power over frequency of images and of their latents, one panel per autoencoder, in units of the mean power.

    Args:
        results: name of the autoencoder to what was measured, one or two.

    Returns:
        The figure: the image black, the latent coloured with its channels as thin lines, white noise and the image's
        flattened spectrum (the target of ESM with delta 1) for comparison.

    """
    with _style():
        figure, panels = _panels(len(results), 4.4)
        for number, (axes, (name, result)) in enumerate(zip(panels, results.items(), strict=True)):
            _spectrum_panel(axes, result, COLOURS[number])
            axes.set_title(name)
            axes.set_xlabel("cycles per image")
        panels[0].set_ylabel("power per frequency\nover its mean")
        bottom = max(
            min(axes.get_ylim()[0] for axes in panels), max(axes.get_ylim()[1] for axes in panels) * 10**-_DECADES
        )
        for axes in panels:
            axes.set_ylim(bottom=bottom)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2 if len(results) == 1 else 3)
    return figure


def band_map_figure(results: Mapping[str, LatentResult]) -> "Figure":
    """Heat maps of where each latent band lands in the image, one panel per autoencoder that has one.

    Args:
        results: name of the autoencoder to what was measured, one or two.

    Returns:
        The figure: rows are latent bands, columns image bands, cells shares of the row in percent; the framed cells are
        those of the same frequency.

    Raises:
        ValueError: if no autoencoder was probed.

    """
    maps = {name: result.bands for name, result in results.items() if result.bands is not None}
    if not maps:
        raise ValueError("no autoencoder was probed; measure some images with probe=True")
    rows = max(len(bands.matrix) for bands in maps.values())
    with _style():
        figure, panels = _panels(len(maps), 1.9 + 0.38 * rows, sharey=False)
        for axes, (name, bands) in zip(panels, maps.items(), strict=True):
            _heat_map(axes, bands)
            axes.set_title(name)
            axes.set_xlabel("image band that changes\n(cycles per image)")
        panels[0].set_ylabel("latent band that is removed\n(cycles per image)")
    return figure


def low_pass_figure(results: Mapping[str, LatentResult]) -> "Figure":
    """Decoded low-passed latents against low-passed images, over the corner of DSM's low-pass.

    Args:
        results: name of the autoencoder to what was measured.

    Returns:
        The figure: on the left PSNR (dotted: the decoded image, low-passed afterwards), on the right the agreement.

    """
    figure_class = import_extra("matplotlib.figure", "train").Figure
    with _style():
        figure: Figure = figure_class(figsize=(_TWO * WIDTH, 3.4))
        left, right = figure.subplots(1, 2)
        for number, (name, result) in enumerate(results.items()):
            style: dict[str, Any] = {"color": COLOURS[number], "marker": "osD"[number], "ms": 5}
            ks = measured_corners(result, "low_pass")
            for kind, label, look in (
                ("error", f"{name}: D(M z)", {"linestyle": "-"}),
                ("ideal", f"{name}: M D(z)", {"linestyle": (0, (1.5, 1.2)), "marker": None}),
            ):
                errors = [result.means[f"low_pass.{k}.{kind}"].mean for k in ks]
                values = [10 * math.log10(4 / max(error, 1e-12)) for error in errors]
                left.plot([float(k) for k in ks], values, label=label, **(style | look))
            agreement = [result.means[f"low_pass.{k}.agreement"] for k in ks]
            right.errorbar(
                [float(k) for k in ks], [a.mean for a in agreement], yerr=[a.error for a in agreement],
                capsize=3, elinewidth=1.2, **style,
            )  # fmt: skip
        for axes in (left, right):
            axes.set_xlabel("corner k of the low-pass M\n(larger: less passes)")
        left.set_ylabel("PSNR against M x (dB)")
        right.set_ylabel("agreement of the change")
        right.set_ylim(min(-0.05, right.get_ylim()[0]), 1.05)
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def measured_corners(result: LatentResult, kind: str) -> list[str]:
    """The corners (`low_pass`) or cuts (`cut`) that were measured, as they are in the numbers' names, in order."""
    tail = ".agreement"
    found = [name for name in result.means if name.startswith(f"{kind}.") and name.endswith(tail)]
    return sorted((name.removeprefix(f"{kind}.").removesuffix(tail) for name in found), key=float)


def latent_pictures(
    images: Float[Tensor, "batch channels height width"],
    reconstructions: Mapping[str, Float[Tensor, "batch channels height width"]],
    pictures: Mapping[str, Float[Tensor, "batch 3 latent_height latent_width"]],
) -> "Figure":
    """A grid: the images, and of each autoencoder the reconstructions and the pictures of the latents.

    Args:
        images: in [-1, 1].
        reconstructions: by name of the autoencoder.
        pictures: principal components as colours, enlarged to the images' size without smoothing.

    """
    size = tuple(images.shape[2:])
    rows = [_rgb(images)]
    for name, reconstruction in reconstructions.items():
        enlarged = torch.nn.functional.interpolate(pictures[name].float(), size=size, mode="nearest-exact")
        rows += [_rgb(reconstruction), enlarged]
    return image_grid(torch.cat(rows), columns=len(images))


def _rgb(images: Tensor) -> Tensor:
    """Three channels, whatever the data have: gray for one, the first three of more, blue gray for two."""
    images = images.float().cpu()
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    missing = max(0, 3 - images.shape[1])
    return torch.cat([images[:, :3], images.new_zeros(len(images), missing, *images.shape[2:])], 1)


def _panels(count: int, height: float, sharey: bool = True) -> "tuple[Figure, list[Axes]]":
    width = WIDTH if count == 1 else _TWO * WIDTH
    figure: Figure = import_extra("matplotlib.figure", "train").Figure(figsize=(width, height))
    return figure, list(figure.subplots(1, count, sharey=sharey, squeeze=False)[0])


def _spectrum_panel(axes: "Axes", result: LatentResult, colour: str) -> None:
    image, small, latent = result.image, result.small_image, result.latent
    # The orthonormal DCT's power grows with the number of pixels: the image goes on where the small one ends.
    scale = small.varying * math.prod(image.size) / math.prod(small.size)
    for curve in (latent.channels / latent.channel_varying[:, None]).numpy():
        axes.plot(latent.cycles[1:], _positive(curve[1:]), color=colour, lw=0.7, alpha=0.45)
    _line(axes, image.cycles, image.power / scale, color=INK, lw=2.0, label="image")
    target = _target(small)
    _line(axes, small.cycles, target, color=_GRAY, ls=(0, (4, 2)), lw=1.6, label="image, flattened (δ = 1)")
    _line(axes, latent.cycles, latent.power / latent.varying, color=colour, lw=2.6, label="latent, and its channels")
    axes.axhline(1, color=_GRAY, lw=1.2, ls=(0, (1.5, 1.5)), label="white noise")
    axes.axvline(min(latent.size) / 2, color=_GRAY, lw=0.9)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [2**n for n in range(int(math.log2(max(2, min(image.size)))))]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()


def _target(small: ChannelSpectrumResult) -> Tensor:
    share = small.radius / (min(small.size) * math.sqrt(len(small.size)))
    flattened = small.power * ((_RINGS * share).floor().clamp_max(_RINGS - 1) + 1)
    return flattened / _mean(flattened, small)


def _mean(curve: Tensor, spectrum: ChannelSpectrumResult) -> float:
    """Mean over frequencies: rings of larger radius hold more of them."""
    weight = spectrum.radius[1:]
    return float((curve[1:] * weight).sum() / weight.sum())


def _line(axes: "Axes", x: Tensor, y: Tensor, **style: Any) -> None:
    axes.plot(x[1:].numpy(), _positive(y[1:].numpy()), **style)


def _positive(values: Any) -> Any:
    """Rings without power have no logarithm."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _heat_map(axes: "Axes", bands: BandMapResult) -> None:
    matrix = bands.matrix.numpy()
    axes.imshow(np.nan_to_num(matrix), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            share = matrix[row, column]
            if math.isfinite(share) and share >= 0.005:
                axes.text(
                    column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=9,
                    color="white" if share > 0.55 else "black",
                )  # fmt: skip
        patch = import_extra("matplotlib.patches", "train").Rectangle(
            (row - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=COLOURS[0], lw=1.6
        )
        axes.add_patch(patch)
    axes.set_yticks(range(matrix.shape[0]), band_names(bands.edges))
    axes.set_xticks(range(matrix.shape[1]), band_names(bands.image_edges), rotation=60, ha="right")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def band_names(edges: tuple[int, ...]) -> list[str]:
    """The bands in cycles per shortest side: half the DCT radius."""
    return [f"{low / 2:g}" if high == low + 1 else f"{low / 2:g}–{(high - 1) / 2:g}" for low, high in pairwise(edges)]
