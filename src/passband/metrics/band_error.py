r"""The error of clean estimates per radial band, over the data's power there, streamed over batches and merged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_batch, check_floating, check_number, check_same_shape, is_integer
from passband.metrics.spectrum import octave_bands
from passband.transforms import band_pool, dct, radial_bins

Bands = str | int | Sequence[tuple[int, int]]


@dataclass(frozen=True)
class BandErrorResult:
    """What [`BandError`][passband.metrics.BandError] computes, one value per band in float64.

    Attributes:
        bands: first and last radius of each band, both included: DCT indices along the shortest side.
        error: mean squared error per coefficient, (bands,).
        power: mean power of the clean samples per coefficient, (bands,).
        size: shape of the samples.
        count: number of samples.

    """

    bands: tuple[tuple[int, int], ...]
    error: Tensor
    power: Tensor
    size: tuple[int, ...]
    count: int

    @property
    def relative(self) -> Tensor:
        """Error over power: 0 for a perfect estimate, 1 for an estimate of zero; NaN where there is no power."""
        ratio: Tensor = self.error / self.power
        return ratio

    @property
    def decibels(self) -> Tensor:
        """The relative error in decibels: 0 for an estimate of zero."""
        return 10 * self.relative.log10()


def radial_bands(size: Sequence[int], bands: Bands = "octaves") -> tuple[tuple[int, int], ...]:
    """Bands of the DCT radii of some size, as (first, last), both included; without radius 0, the mean.

    Args:
        size: spatial shape of the samples.
        bands: `"octaves"`: 1, 2 ... 3, 4 ... 7 and so on to the corners; a number: so many of (nearly) equal width;
            or the bands themselves.

    Raises:
        ValueError: if there are more bands than radii, a band is empty or begins below 1, or the name is unknown.

    Example:
        >>> from passband.metrics import radial_bands
        >>> radial_bands((16, 16))
        ((1, 1), (2, 3), (4, 7), (8, 15), (16, 21))
        >>> radial_bands((16, 16), 3)
        ((1, 7), (8, 14), (15, 21))

    """
    last = int(radial_bins(size, "dct").max())
    if isinstance(bands, str):
        if bands != "octaves":
            raise ValueError(f"unknown bands: got {bands!r}; expected 'octaves', their number, or (first, last) pairs")
        return tuple(octave_bands(last))
    if is_integer(bands):
        count = int(bands)  # type: ignore[arg-type]
        if not 1 <= count <= last:
            raise ValueError(f"samples of size {tuple(size)} have the radii 1 ... {last}, got {count} bands of them")
        edges = [round(last * band / count) for band in range(count + 1)]
        return tuple((low + 1, high) for low, high in pairwise(edges))
    found = tuple((low, high) for low, high in bands)  # type: ignore[union-attr]
    if not found or any(not 1 <= low <= high <= last for low, high in found):
        raise ValueError(f"bands are pairs 1 <= first <= last <= {last} for size {tuple(size)}, got {found}")
    return found


class BandError:
    r"""Error of estimates of clean samples per radial band: any number of samples, constant memory.

    $e_b = \sum_{k \in b} |\hat X_k - X_k|^2 / \sum_{k \in b} |X_k|^2$ over all samples, channels and coefficients of a
    band, X the orthonormal DCT-II and the radius that of [`PowerLawMeasure`][passband.metrics.PowerLawMeasure], rounded
    to an integer. What a denoiser can reach at best is never 0:
    [`wiener_band_error`][passband.metrics.wiener_band_error].

    Args:
        bands: as [`radial_bands`][passband.metrics.radial_bands] takes them.

    Raises:
        ValueError: with the first batch, if the bands do not fit the samples.

    Example:
        >>> import torch
        >>> from passband.metrics import BandError
        >>> errors, clean = BandError(), torch.randn(8, 1, 16, 16)
        >>> errors.update(clean, 0.9 * clean)
        >>> errors.compute().relative.round(decimals=6).tolist()
        [0.01, 0.01, 0.01, 0.01, 0.01]

    """

    def __init__(self, bands: Bands = "octaves") -> None:
        self.bands = bands
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.size: tuple[int, ...] | None = None
        self.count = 0
        self._error = torch.zeros(0, dtype=torch.float64)
        self._power = torch.zeros(0, dtype=torch.float64)

    def update(
        self, clean: Float[Tensor, "batch channels *spatial"], estimate: Float[Tensor, "batch channels *spatial"]
    ) -> None:
        r"""Add a batch.

        Args:
            clean: (batch, channels, \*spatial), 1 to 3 spatial axes, of one size in all batches.
            estimate: estimates of them, of the same shape.

        Raises:
            TypeError: if they are not floating.
            ValueError: if their shapes differ, the size differs from what came before, or a value is not finite;
                nothing is added then.

        """
        check_batch("clean", clean)
        check_floating("estimate", estimate)
        check_same_shape("clean", clean, "estimate", estimate)
        size = tuple(clean.shape[2:])
        self._check_size(size)
        if len(clean) == 0:
            return
        clean, estimate = clean.detach().double(), estimate.detach().double()
        error, power = _per_radius(estimate - clean), _per_radius(clean)
        if not bool((error.isfinite() & power.isfinite()).all()):
            raise ValueError("clean samples and estimates must be finite, and some of this batch are not")
        self._add(size, error, power, len(clean))

    def merge(self, other: "BandError") -> "BandError":
        """Add what another one has seen (another rank's, for instance), and return self."""
        if other.size is not None:
            self._check_size(other.size)
            state = other.state_dict()
            self._add(other.size, state["error"], state["power"], other.count)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample), to save or to send to another rank."""
        if self.size is None:
            return {}
        facts = {"count": torch.tensor(self.count), "size": torch.tensor(self.size)}
        return {"error": self._error.clone(), "power": self._power.clone()} | facts

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.BandError.state_dict]."""
        missing = {"error", "power", "count", "size"} - set(state) if state else set()
        if missing:
            raise ValueError(f"the state of a band error lacks {sorted(missing)}, it holds {sorted(state)}")
        self.reset()
        if state:
            size = tuple(int(n) for n in state["size"])
            self._check_size(size)
            self._add(size, state["error"].cpu().double(), state["power"].cpu().double(), int(state["count"]))

    def compute(self) -> BandErrorResult:
        """The error and the power of each band.

        Raises:
            ValueError: before the first sample.

        """
        if self.size is None:
            raise ValueError("there are no samples yet: call update(clean, estimate) first")
        bands = radial_bands(self.size, self.bands)
        error, power = (_mean_in(bands, sums / self.count, self.size) for sums in (self._error, self._power))
        return BandErrorResult(bands, error, power, self.size, self.count)

    def _check_size(self, size: tuple[int, ...]) -> None:
        if self.size is None:
            radial_bands(size, self.bands)
        elif size != self.size:
            raise ValueError(f"samples must all have one size, got {size} after {self.size}; crop or resize them")

    def _add(self, size: tuple[int, ...], error: Tensor, power: Tensor, count: int) -> None:
        first = self.size is None
        self.size, self.count = size, self.count + count
        self._error = error.clone() if first else self._error + error
        self._power = power.clone() if first else self._power + power


def wiener_band_error(
    psd: Float[Tensor, "*frequencies"], noise_ratio: float, bands: Bands = "octaves"
) -> Float64[Tensor, " bands"]:
    r"""The relative error per band of the best linear estimate of x from x + r·ε.

    Per coefficient $P r^2 / (P + r^2)$, by the Wiener filter $\hat X_k = P_k / (P_k + r^2) \cdot Y_k$; pooled over the
    band and divided by its power. For Gaussian fields with independent DCT coefficients
    ([`power_law_fields`][passband.data.power_law_fields]) no estimate has a smaller expected error; for photographs a
    network can.

    Args:
        psd: mean power of each DCT coefficient, (\*frequencies), 1 to 3 axes.
        noise_ratio: r, the noise's standard deviation over the signal's factor, at least 0.
        bands: as [`radial_bands`][passband.metrics.radial_bands] takes them.

    Returns:
        One value in [0, 1] per band; NaN where there is no power.

    Raises:
        TypeError: if psd is not floating.
        ValueError: if the noise ratio is negative, or the bands do not fit.

    Example:
        >>> import torch
        >>> from passband.metrics import wiener_band_error
        >>> white = torch.ones(8, 8)
        >>> wiener_band_error(white, 1.0, bands=2).tolist()  # half the power is noise
        [0.5, 0.5]

    """
    check_floating("psd", psd)
    check_number("noise_ratio", noise_ratio)
    if not noise_ratio >= 0:
        raise ValueError(f"noise_ratio must be at least 0, got {noise_ratio}")
    size = tuple(psd.shape)
    found = radial_bands(size, bands)
    power = psd.detach().double().cpu()
    left = power * noise_ratio**2 / (power + noise_ratio**2).clamp_min(torch.finfo(torch.float64).tiny)
    bins = radial_bins(size, "dct")
    error, total = (_mean_in(found, _pooled(values, bins), size) for values in (left, power))
    ratio: Tensor = error / total
    return ratio


def _per_radius(x: Float64[Tensor, "batch channels *spatial"]) -> Float64[Tensor, " radii"]:
    """Mean power per coefficient and channel at each integer radius, summed over the batch."""
    power = dct(x).square().mean(1).sum(0)
    return _pooled(power, radial_bins(tuple(x.shape[2:]), "dct", device=x.device)).cpu()


def _pooled(power: Tensor, bins: Tensor) -> Tensor:
    return band_pool(power, bins, int(bins.max()) + 1)


def _mean_in(bands: tuple[tuple[int, int], ...], power: Tensor, size: tuple[int, ...]) -> Tensor:
    """Mean over the coefficients of each band, of means per radius."""
    coefficients = torch.bincount(radial_bins(size, "dct").flatten()).double()
    sums = power * coefficients
    return torch.stack([sums[low : high + 1].sum() / coefficients[low : high + 1].sum() for low, high in bands])
