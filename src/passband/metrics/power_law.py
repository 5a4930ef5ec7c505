r"""The power law of data, $P(k) = (k / k_1)^{-\beta}$, measured over DCT radii, streamed over batches and merged."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_batch, check_floating
from passband.transforms import band_pool, block_dct, dct, radial_bins, radial_grid

SMALLEST_SIDE = 8
_GROUPS = 32  # of samples, for the standard errors
_LOWEST_K1 = 1e-2  # the lowest frequency has index 1
_NO_POWER = 1e-13  # of the largest power, the mean's included: what rounding leaves where there is none


class PowerLawFit(NamedTuple):
    r"""A fit $P(k) = (k / k_1)^{-\beta}$, made by [`fit_power_law`][passband.metrics.fit_power_law].

    Attributes:
        beta: the exponent $\beta$, positive where power falls with the radius.
        k1: the radius at which the law's power is 1, that of unit noise; NaN where beta is not positive. It may lie
            outside the fitted range, or beyond all radii.
        residual: root mean square of the difference between data and law over the fitted bins, dB.
        used: number of bins that were fitted.

    """

    beta: float
    k1: float
    residual: float
    used: int


@dataclass(frozen=True)
class PowerLawResult:
    r"""What [`PowerLawMeasure`][passband.metrics.PowerLawMeasure] computes; radii are indices along the shortest side.

    Attributes:
        beta: the exponent of the law fitted to bins low ... high.
        k1: the radius at which the fitted law meets the power of unit noise, 1; NaN where beta is not positive.
        beta_error: standard error of beta over samples (which are taken as independent).
        k1_error: the same of k1.
        residual: root mean square of data over law within the range, dB.
        crossing: the radius at which the measured power falls through 1 for good, interpolated; 0 where it is below
            at all radii (the mean aside), infinite where it is above at all.
        low: first bin of the fit.
        high: last bin of the fit, included.
        power: mean power per bin over samples, channels and frequencies, (bins,), float64; bin 0 is the mean.
        power_error: its standard error over samples, (bins,).
        radius: the radius that each bin stands for, (bins,): the geometric mean of those within.
        size: shape of what was transformed: the samples, or the windows.
        count: number of samples.

    """

    beta: float
    k1: float
    beta_error: float
    k1_error: float
    residual: float
    crossing: float
    low: int
    high: int
    power: Tensor
    power_error: Tensor
    radius: Tensor
    size: tuple[int, ...]
    count: int

    @property
    def k_max(self) -> float:
        """The largest radius, that of the corner."""
        return float(radial_grid(self.size, "dct").max())

    @property
    def front(self) -> dict[str, str | float | list[int]] | None:
        """The data-to-noise contour as a recipe's `forcing.front` names it; None where there is no falling law.

        A spectrum that hardly falls meets unit noise far below the lowest frequency: no contour either.
        """
        if not _LOWEST_K1 <= self.k1 < math.inf:
            return None
        return {"name": "contour", "beta": self.beta, "k1": self.k1, "size": list(self.size)}


def fit_power_law(
    power: Float[Tensor, " bins"],
    *,
    low: int = 2,
    high: int | None = None,
    radius: Float[Tensor, " bins"] | None = None,
) -> PowerLawFit:
    r"""Fit $P(k) = (k / k_1)^{-\beta}$ to bins low ... high by least squares on the logarithms of both.

    With $\ln P = a - \beta \ln k$ it follows that $k_1 = e^{a / \beta}$. Every bin counts once; bins without power
    (below 1e-13 of the largest, which is what rounding leaves) are left out.

    Args:
        power: mean power per bin over many samples, (bins,), bin 0 (the mean) first.
        low: first bin of the fit, at least 1.
        high: last bin, included; None: the last one there is.
        radius: the radius that each bin stands for, (bins,); None: its number.

    Returns:
        The exponent, k1, the residual and the number of bins used.

    Raises:
        TypeError: if power or radius is not floating.
        ValueError: if the range is not inside the bins, or fewer than 3 of its bins hold power.

    Example:
        >>> import torch
        >>> from passband.metrics import fit_power_law
        >>> k = torch.arange(33, dtype=torch.float64)
        >>> fit = fit_power_law((k.clamp_min(1) / 4) ** -2.7)
        >>> round(fit.beta, 6), round(fit.k1, 6), fit.used
        (2.7, 4.0, 31)

    """
    check_floating("power", power)
    last = len(power) - 1
    high = last if high is None else high
    if not 1 <= low < high <= last:
        raise ValueError(f"the fit needs bins within 1 ... {last} (bin 0 is the mean), got low={low}, high={high}")
    if radius is None:
        radius = torch.arange(last + 1, dtype=torch.float64)
    check_floating("radius", radius)
    p, k = power[low : high + 1].detach().double().cpu(), radius[low : high + 1].double().cpu()
    held = (p > _NO_POWER * float(power.nan_to_num(0).max())) & p.isfinite() & (k > 0)
    used = int(held.sum())
    if used < 3:
        raise ValueError(
            f"a power law needs at least 3 bins with power, got {used} within {low} ... {high}: the samples are "
            "constant, or vary at a few frequencies only"
        )
    log_k, log_p = k[held].log(), p[held].log()
    centred = log_k - log_k.mean()
    slope = float((log_p * centred).sum() / centred.square().sum())
    intercept = float(log_p.mean()) - slope * float(log_k.mean())
    residual = float((log_p - intercept - slope * log_k).square().mean().sqrt()) * 10 / math.log(10)
    return PowerLawFit(-slope, _unit_radius(intercept, -slope), residual, used)


class PowerLawMeasure:
    r"""The power law of a stream of samples: any number of them, constant memory.

    Measured is the sample mean of the orthonormal DCT-II's power, per channel and then averaged, pooled (mean) over
    rings of the DCT radius $k = n_{min} \sqrt{\sum_i (k_i / n_i)^2}$ rounded to an integer, $n_{min}$ the shortest
    side. That is the index along the shortest side, in half-cycles over it: $k / 2 n_{min}$ cycles per sample, and unit
    white noise has power 1 at every k. The law is fitted by [`fit_power_law`][passband.metrics.fit_power_law].

    Standard errors are those of a jackknife over 32 groups, into which samples go in turn; merging adds group to group.
    All else that is computed does not depend on how samples were split and merged, but for rounding.

    Args:
        low: first bin of the fit, at least 1.
        high: last bin of the fit; None: three quarters of the shortest side, which leaves out the corners and what
            resizing and camera filters take away.
        window: measure non-overlapping windows of this side (or these, one per axis) as samples of their own, for
            forcing in windows; None: whole samples.
        name: what the samples are called in errors.

    Example:
        >>> import torch
        >>> from passband.metrics import PowerLawMeasure
        >>> measure = PowerLawMeasure()
        >>> measure.update(torch.randn(500, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
        >>> abs(measure.compute().beta) < 0.02  # white noise
        True

    """

    def __init__(
        self,
        low: int = 2,
        high: int | None = None,
        *,
        window: int | Sequence[int] | None = None,
        name: str = "samples",
    ) -> None:
        if low < 1 or (high is not None and high < low + 2):
            raise ValueError(f"expected 1 <= low and high >= low + 2 (bins to fit), got low={low} and high={high}")
        self.low = low
        self.high = high
        self.window = window
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.size: tuple[int, ...] | None = None
        self._sums = torch.zeros((), dtype=torch.float64)
        self._counts = torch.zeros(_GROUPS, dtype=torch.int64)

    @property
    def count(self) -> int:
        """Number of samples seen."""
        return int(self._counts.sum())

    def update(self, samples: Float[Tensor, "batch channels *spatial"]) -> None:
        r"""Add a batch.

        Args:
            samples: (batch, channels, \*spatial), 1 to 3 spatial axes, in the unit that the noise is added in (images
                in [-1, 1]); of one size in all batches.

        Raises:
            TypeError: if the samples are not floating.
            ValueError: if their size differs from what came before, the window does not divide it, or a value is not
                finite; nothing is added then.

        """
        check_batch(self.name, samples)
        coefficients = dct(samples.detach()) if self.window is None else block_dct(samples.detach(), self.window)
        dims = samples.ndim - 2
        size = tuple(coefficients.shape[-dims:])
        self._check_size(size)
        if len(samples) == 0:
            return
        bins = radial_bins(size, "dct", device=coefficients.device)
        # Channels, and positions of windows, are averaged first: pooling is linear.
        power = coefficients.square().flatten(1, coefficients.ndim - dims - 1).mean(1)
        curves = band_pool(power, bins, int(bins.max()) + 1).cpu().double()
        bad = (~curves.isfinite()).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"{self.name} must be finite; {len(bad)} of this batch are not, the first at index {bad[0]}; "
                "leave them out, or find out where they come from"
            )
        groups = (self.count + torch.arange(len(curves))) % _GROUPS
        sums = curves.new_zeros(_GROUPS, curves.shape[1]).index_add(0, groups, curves)
        self._add(size, sums, torch.bincount(groups, minlength=_GROUPS))

    def merge(self, other: "PowerLawMeasure") -> "PowerLawMeasure":
        """Add what another one has seen (another rank's, or another part's), and return self."""
        if other.size is not None:
            self._check_size(other.size)
            state = other.state_dict()
            self._add(other.size, state["sums"], state["counts"])
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample), to save or to send to another rank."""
        if self.size is None:
            return {}
        return {"sums": self._sums.clone(), "counts": self._counts.clone(), "size": torch.tensor(self.size)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.PowerLawMeasure.state_dict]."""
        missing = {"sums", "counts", "size"} - set(state) if state else set()
        if missing:
            raise ValueError(f"the state of {self.name} lacks {sorted(missing)}, it holds {sorted(state)}")
        self.reset()
        if state:
            size = tuple(int(n) for n in state["size"])
            self._add(size, state["sums"].cpu().double(), state["counts"].cpu().long())

    def compute(self) -> PowerLawResult:
        """Fit the law to what was seen.

        Raises:
            ValueError: if there are fewer than 2 samples, a side is below 8, the samples have no power at 3 bins of
                the range at least, or the range is outside of the bins.

        """
        if self.size is None or self.count < 2:
            raise ValueError(f"a power law needs at least 2 {self.name}, got {self.count}; one alone has no mean power")
        if min(self.size) < SMALLEST_SIDE:
            raise ValueError(
                f"a power law needs at least {SMALLEST_SIDE} frequencies along each axis, got "
                f"{'windows' if self.window is not None else self.name} of size {self.size}; take larger ones"
            )
        radius = _bin_radii(self.size)
        high = 3 * min(self.size) // 4 if self.high is None else self.high

        def curve_fit(power: Tensor) -> PowerLawFit:
            return fit_power_law(power, low=self.low, high=high, radius=radius)

        power = self._sums.sum(0) / self.count
        fit = curve_fit(power)
        beta_error, log_k1_error = self._errors(curve_fit)
        return PowerLawResult(
            beta=fit.beta,
            k1=fit.k1,
            beta_error=beta_error,
            k1_error=fit.k1 * log_k1_error,
            residual=fit.residual,
            crossing=_crossing(power[1:], radius[1:]),
            low=self.low,
            high=high,
            power=power,
            power_error=_jackknife(self._sums, self._counts, lambda mean: mean),
            radius=radius,
            size=self.size,
            count=self.count,
        )

    def _errors(self, fit: Callable[[Tensor], PowerLawFit]) -> tuple[float, float]:
        """Standard errors of beta and of the logarithm of k1."""

        def numbers(power: Tensor) -> Tensor:
            law = fit(power)
            return torch.tensor([law.beta, math.log(law.k1) if 0 < law.k1 < math.inf else math.nan]).double()

        try:
            beta, log_k1 = _jackknife(self._sums, self._counts, numbers).tolist()
        except ValueError:  # without one of the groups nothing is left to fit
            return math.nan, math.nan
        return beta, log_k1

    def _check_size(self, size: tuple[int, ...]) -> None:
        if self.size is not None and size != self.size:
            raise ValueError(f"{self.name} must all have one size, got {size} after {self.size}; crop or resize them")

    def _add(self, size: tuple[int, ...], sums: Tensor, counts: Tensor) -> None:
        self.size = size
        self._sums = self._sums + sums
        self._counts = self._counts + counts


def measure_power_law(
    samples: Float[Tensor, "batch channels *spatial"] | Iterable[Tensor],
    *,
    low: int = 2,
    high: int | None = None,
    window: int | Sequence[int] | None = None,
) -> PowerLawResult:
    r"""The power law of some data in one call, see [`PowerLawMeasure`][passband.metrics.PowerLawMeasure].

    Args:
        samples: (batch, channels, \*spatial), or an iterable of such batches (a `DataLoader`, say); images in [-1, 1].
        low: first bin of the fit, at least 1.
        high: last bin of the fit; None: three quarters of the shortest side.
        window: side of the windows to measure instead of whole samples; None: whole samples.

    Returns:
        The exponent, k1, their errors, and the power at each radius.

    Raises:
        TypeError: if the samples are not floating.
        ValueError: as [`PowerLawMeasure.compute`][passband.metrics.PowerLawMeasure.compute].

    Example:
        >>> import torch
        >>> from passband.metrics import measure_power_law
        >>> from passband.transforms import idct, radial_grid
        >>> k = radial_grid((32, 32), "dct").float().clamp_min(1)
        >>> noise = torch.randn(200, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> law = measure_power_law(idct(noise * (k / 4) ** (-2.5 / 2)))
        >>> round(law.beta, 1), round(law.k1, 1), law.size
        (2.5, 4.0, (32, 32))

    """
    measure = PowerLawMeasure(low, high, window=window)
    for batch in (samples,) if isinstance(samples, Tensor) else samples:
        measure.update(batch)
    return measure.compute()


def _unit_radius(intercept: float, beta: float) -> float:
    if beta <= 0:
        return math.nan
    exponent = intercept / beta
    return math.exp(exponent) if exponent < 700 else math.inf


def _bin_radii(size: tuple[int, ...]) -> Float64[Tensor, " bins"]:
    """Geometric mean of the radii in each bin; the bin's number where it is empty, and 0 in bin 0."""
    bins = radial_bins(size, "dct")
    count = int(bins.max()) + 1
    radius = band_pool(radial_grid(size, "dct").clamp_min(1e-3).log(), bins, count).exp()
    filled = torch.bincount(bins.flatten(), minlength=count) > 0
    radius = torch.where(filled, radius, torch.arange(count, dtype=torch.float64))
    radius[0] = 0
    return radius


def _crossing(power: Tensor, radius: Tensor) -> float:
    """Where the power falls through 1 for good, linear in the logarithms."""
    above = (power >= 1).nonzero().flatten()
    if not len(above):
        return 0.0
    last = int(above[-1])
    if last == len(power) - 1:
        return math.inf
    high, low = (float(p) for p in power[last : last + 2])
    if low <= 0:
        return float(radius[last])
    share = math.log(high) / (math.log(high) - math.log(low))
    return float(radius[last] ** (1 - share) * radius[last + 1] ** share)


def _jackknife(sums: Tensor, counts: Tensor, estimate: Callable[[Tensor], Tensor]) -> Tensor:
    """Standard error of an estimate from the mean curve, leaving out one group of samples after the other.

    Source: Busing, Meijer and van der Leeden 1999 (Statistics and Computing 9), for groups of unequal size.
    """
    filled = counts > 0
    sums, counts = sums[filled], counts[filled].double()
    total, n = sums.sum(0), counts.sum()
    if len(counts) < 2:
        return torch.full_like(estimate(total / n), math.nan)
    whole = estimate(total / n)
    without = torch.stack([estimate((total - part) / (n - m)) for part, m in zip(sums, counts, strict=True)])
    h = (n / counts)[:, None]
    centre = len(counts) * whole - ((1 - 1 / h) * without).sum(0)
    pseudo = h * whole - (h - 1) * without
    return ((pseudo - centre).square() / (h - 1)).mean(0).sqrt()
