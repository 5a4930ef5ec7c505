"""Where in the image each radial band of a latent lands: the response of a decoder, streamed and merged."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch, check_integer
from passband.metrics.channel_spectrum import check_finite, check_state
from passband.metrics.power_law import _GROUPS, _jackknife
from passband.transforms import band_pool, dct, idct, radial_bins

Decode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BandMapResult:
    r"""What [`BandMap`][passband.metrics.BandMap] computes; tensors are float64 on the CPU.

    Radii are rounded DCT radii, half-cycles along the shortest side: the same for an image and its latent.

    Attributes:
        edges: radii at which the latent's bands begin, and the first one above them, (bands + 1); the corners belong to
            the last band.
        image_edges: the same of the image's bands: the latent's, and octaves above them.
        matrix: share of each latent band's response in each image band, rows sum to 1, (bands, image bands); NaN where
            there was no response.
        response: mean power per pixel and channel by which the image changes without each band, (bands,).
        on: mean over bands of the share of the response in the same band.
        octave: mean over bands of the share of the response from half the band's lowest to twice its highest frequency.
        on_error: standard error of `on` over samples.
        octave_error: the same of `octave`.
        relative_error: the same of `relative`.
        band_octave: the share within an octave of each band, (bands,).
        band_relative: the share around the same share of the Nyquist frequency, (bands,).
        relative: the same as `octave` around the same share of the Nyquist frequency: the latent's frequency times the
            ratio of the sides. It is where [`dsm_mask`][passband.matching.dsm_mask] wants the response.
        blind: what `octave` would be if every band had the mean response of all: a decoder that cannot tell them apart.
        blind_relative: the same for `relative`.
        centre: geometric mean of the frequencies of each band's response, cycles per shortest side, (bands,).
        above: mean over bands of the share of the response above all frequencies of the latent.
        count: number of samples.

    """

    edges: tuple[int, ...]
    image_edges: tuple[int, ...]
    matrix: Tensor
    response: Tensor
    on: float
    octave: float
    on_error: float
    octave_error: float
    band_octave: Tensor
    relative: float
    relative_error: float
    band_relative: Tensor
    blind: float
    blind_relative: float
    centre: Tensor
    above: float
    count: int


class BandMap:
    r"""Which frequencies of the image depend on which frequencies of the latent.

    Each radial band $j$ of the latent is removed in turn (in the DCT of the whole latent), and what that changes in the
    decoded image is measured per radius: $R_j(k) = \sum_{|q| = k} |\mathrm{DCT}(D(z) - D(z - z_j))(q)|^2$, summed
    over channels and samples. A decoder that keeps frequency to frequency answers where the band lies. The mean of the
    latent is never removed.

    Args:
        bands: number of bands of equal width, at most; small latents have fewer.

    Raises:
        TypeError: if bands is no integer.
        ValueError: if bands is below 1.

    Example:
        >>> import torch
        >>> from passband.metrics import BandMap
        >>> bands = BandMap(bands=4)
        >>> bands.update(torch.randn(4, 3, 16, 16), lambda latents: latents)
        >>> result = bands.compute()
        >>> torch.allclose(result.matrix, torch.eye(4, dtype=torch.float64)), round(result.octave, 3)
        (True, 1.0)

    """

    def __init__(self, bands: int = 8) -> None:
        check_integer("bands", bands)
        if bands < 1:
            raise ValueError(f"bands must be at least 1, got {bands}")
        self.bands = bands
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.size: tuple[int, ...] | None = None  # of the latent, and then of the image
        self._sums = torch.zeros((), dtype=torch.float64)  # (groups, bands, image radii)
        self._counts = torch.zeros(_GROUPS, dtype=torch.int64)
        self._pixels = 0

    @property
    def count(self) -> int:
        """Number of samples seen."""
        return int(self._counts.sum())

    def update(
        self,
        latents: Float[Tensor, "batch channels height width"],
        decode: Decode,
        decoded: Float[Tensor, "batch image_channels image_height image_width"] | None = None,
    ) -> None:
        """Add a batch; decodes it once per band (and once more without `decoded`).

        Args:
            latents: latents of images.
            decode: turns latents into images.
            decoded: `decode(latents)`, if it is there already.

        Raises:
            TypeError: if the latents are not floating.
            ValueError: if a latent or an image is not finite, a side is below 2, or sizes differ from those before.

        """
        check_batch("latents", latents, dims=(2,))
        check_finite("latents", latents)
        if len(latents) == 0:
            return
        whole = decode(latents) if decoded is None else decoded
        size = tuple(latents.shape[2:]), tuple(whole.shape[2:])
        if min(size[0]) < 2:
            raise ValueError(f"latents of size {size[0]} have no frequencies to tell apart; take larger images")
        self._check_size(size[0] + size[1])
        curves = torch.stack([curve(whole - decode(part), size[1]) for part in without_bands(latents, self.bands)], 1)
        check_finite("decoded images", curves)
        groups = (self.count + torch.arange(len(curves))) % _GROUPS
        sums = curves.new_zeros(_GROUPS, *curves.shape[1:]).index_add(0, groups, curves)
        self._add(size[0] + size[1], sums, torch.bincount(groups, minlength=_GROUPS), whole[0].numel())

    def merge(self, other: "BandMap") -> "BandMap":
        """Add what another one has seen, and return self."""
        if other.bands != self.bands:
            raise ValueError(f"both must have as many bands, got {self.bands} and {other.bands}")
        if other.size is not None:
            self._check_size(other.size)
            state = other.state_dict()
            self._add(other.size, state["sums"], state["counts"], int(state["pixels"]))
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample)."""
        if self.size is None:
            return {}
        return {
            "bands": torch.tensor(self.bands),
            "size": torch.tensor(self.size),
            "sums": self._sums.clone(),
            "counts": self._counts.clone(),
            "pixels": torch.tensor(self._pixels),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.BandMap.state_dict]."""
        check_state("the band map", state, {"bands", "size", "sums", "counts", "pixels"})
        self.reset()
        if state:
            self.bands = int(state["bands"])
            size = tuple(int(n) for n in state["size"])
            self._add(size, state["sums"].cpu().double(), state["counts"].cpu().long(), int(state["pixels"]))

    def compute(self) -> BandMapResult:
        """The map of what was seen.

        Raises:
            ValueError: before the first sample.

        """
        if self.size is None:
            raise ValueError("there are no latents yet; call update with at least one batch first")
        edges = band_edges(self.size[:2], self.bands)
        ratio = min(self.size[2:]) / min(self.size[:2])
        mean = self._sums.sum(0) / self.count
        image_edges = _image_edges(edges, mean.shape[1])
        shares = _shares(mean)
        matrix = torch.stack([shares[:, _start(low) : high].sum(1) for low, high in pairwise(image_edges)], 1)
        on, octave, relative = _scores(mean, edges, ratio).tolist()
        errors = _jackknife(self._sums, self._counts, lambda curves: _scores(curves, edges, ratio)).tolist()
        blind = shares.nanmean(0).expand_as(shares)
        return BandMapResult(
            edges=edges,
            image_edges=image_edges,
            matrix=matrix,
            response=mean.sum(1) / self._pixels,
            on=on,
            octave=octave,
            on_error=errors[0],
            octave_error=errors[1],
            band_octave=_around(shares, edges),
            relative=relative,
            relative_error=errors[2],
            band_relative=_around(shares, edges, ratio),
            blind=float(_around(blind, edges).mean()),
            blind_relative=float(_around(blind, edges, ratio).mean()),
            centre=_centre(shares),
            above=float(shares[:, edges[-1] :].sum(1).nanmean()),
            count=self.count,
        )

    def _check_size(self, size: tuple[int, ...]) -> None:
        if self.size is not None and size != self.size:
            raise ValueError(
                f"latents and decoded images must all have one size, got {size[:2]} and {size[2:]} after "
                f"{self.size[:2]} and {self.size[2:]}; crop the images to one size first"
            )

    def _add(self, size: tuple[int, ...], sums: Tensor, counts: Tensor, pixels: int) -> None:
        self.size = size
        self._sums = self._sums + sums
        self._counts = self._counts + counts
        self._pixels = pixels


def band_edges(size: tuple[int, ...], bands: int) -> tuple[int, ...]:
    """Radii at which the bands of a latent of this size begin, and the first one above them all.

    The radii 1 ... shortest side - 1 are split into equal parts; those of the corners go with the last.
    """
    side = min(size)
    edges = sorted({round(1 + i * (side - 1) / bands) for i in range(bands + 1)})
    return (*edges[:-1], int(radial_bins(size, "dct").max()) + 1)


def without_bands(latents: Float[Tensor, "batch channels height width"], bands: int) -> list[Tensor]:
    """The latents without each of their bands, lowest first."""
    coefficients = dct(latents)
    radius = radial_bins(tuple(latents.shape[2:]), "dct", device=latents.device)
    return [
        idct(torch.where((radius >= low) & (radius < high), 0, coefficients)).to(latents.dtype)
        for low, high in pairwise(band_edges(tuple(latents.shape[2:]), bands))
    ]


def curve(change: Tensor, size: tuple[int, ...]) -> Tensor:
    """Power of a change per radius, summed over channels and frequencies, (batch, radii), float64 on the CPU."""
    bins = radial_bins(size, "dct", device=change.device)
    count = int(bins.max()) + 1
    held = torch.bincount(bins.flatten().cpu(), minlength=count)
    return band_pool(dct(change.detach()).square().sum(1), bins, count).cpu().double() * held


def _start(edge: int) -> int:
    """A change of the image's mean counts for the lowest band."""
    return 0 if edge == 1 else edge


def _image_edges(edges: tuple[int, ...], radii: int) -> tuple[int, ...]:
    """The latent's bands, then octaves up to the image's highest radius; a last octave of corners alone is joined."""
    found = list(edges)
    while found[-1] < radii:
        found.append(min(2 * found[-1], radii))
    if len(found) > len(edges) + 1 and found[-1] < 1.5 * found[-2]:
        del found[-2]
    return tuple(found)


def _shares(curves: Tensor) -> Tensor:
    """Rows that sum to 1; NaN where there is nothing."""
    return curves / curves.sum(1, keepdim=True)


def _around(shares: Tensor, edges: tuple[int, ...], ratio: float = 1.0) -> Tensor:
    """Share from half the lowest to twice the highest radius of each band, times a ratio."""
    rows = [
        row[0 if low == 1 and ratio == 1 else math.ceil(ratio * low / 2) : math.floor(2 * ratio * (high - 1)) + 1].sum()
        for row, (low, high) in zip(shares, pairwise(edges), strict=True)
    ]
    return torch.stack(rows)


def _centre(shares: Tensor) -> Tensor:
    """Geometric mean frequency of each response, in cycles: half the radius; a change of the mean has none."""
    cycles = torch.arange(1, shares.shape[1], dtype=torch.float64) / 2
    held = shares[:, 1:]
    return ((held * cycles.log()).sum(1) / held.sum(1)).exp()


def _scores(curves: Tensor, edges: tuple[int, ...], ratio: float) -> Tensor:
    """Mean share in the same band, within an octave of it, and around the same share of the Nyquist frequency."""
    shares = _shares(curves)
    on = torch.stack([row[_start(low) : high].sum() for row, (low, high) in zip(shares, pairwise(edges), strict=True)])
    return torch.stack([on.nanmean(), _around(shares, edges).nanmean(), _around(shares, edges, ratio).nanmean()])
