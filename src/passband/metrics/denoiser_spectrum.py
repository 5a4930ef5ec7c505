r"""What a denoiser leaves per noise level and frequency band, beside a Wiener filter on the same noisy samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_batch, check_floating, check_integer, check_number, check_same_shape
from passband.metrics.bootstrap import BootstrapMeans
from passband.metrics.contrast import Contrast, Family, decide
from passband.metrics.noise_levels import level_name
from passband.metrics.pixel_bands import PixelBands
from passband.metrics.wiener import WienerFilter
from passband.transforms import dct

#: Differences below this are not called, dB; nor is an error that exceeds the filter's by less than this share of the
#: data's power in the band, which nobody would see.
LEAST_DECIBELS = 0.1
LEAST_SHARE = 1e-3
#: The power of an estimate is judged where it is at least this share of the data's: below, there is next to none.
LEAST_ESTIMATE = 0.01
#: The least that an estimate is taken to share with the data, of its own power: one that is all invented has 20 dB.
LEAST_COMMON = 0.01
#: Of the largest power of a coefficient; bands below are empty: they hold what rounding leaves.
_NO_POWER = 1e-10
#: Of the data's mean power per coefficient: what empty bands are taken to hold, so that what a model adds there shows.
_FLOOR = 0.1

EXCESS, CALIBRATION, AGAINST = "excess over Wiener", "power of the estimate", "error against"
_AXES = ("noise ratio", "band")
_KINDS = 5  # of sums per level: error, the filter's, power, power in common, and the control


@dataclass(frozen=True)
class GradientShare:
    """Where a loss pulls: its gradient with respect to the network's output, by noise level and band.

    Attributes:
        name: of the loss; `base` for the loss that is trained without a spectral term.
        share: share of the squared gradient in each band, rows sum to 1, (levels, bands); NaN where there is none.
        norm: root mean square over samples of the gradient's norm, for the weight 1 and without a gate, (levels,).

    """

    name: str
    share: Tensor
    norm: Tensor


@dataclass(frozen=True)
class DenoiserSpectrum:
    """What [`DenoiserMeasure`][passband.metrics.DenoiserMeasure] computes.

    Tensors are float64 on the CPU: rows are noise levels, rising, columns are bands, the mean and the lowest
    frequencies first. In bands where the data have no power, errors are taken against a tenth of their mean power per
    coefficient, which is added to the network's error and to the filter's.

    Attributes:
        ratios: noise ratio sigma / alpha of each level.
        times: the same in the process's own time.
        bands: (low, high) of each band in cycles per pixel; (0, 0) is the mean, the one beyond 0.5 holds the corners.
        size: spatial shape of the samples.
        channels: of a sample.
        count: number of samples.
        power: the data's mean power per coefficient, (bands,).
        relative: error of the clean estimate over the data's power; 1 for an estimate of zero.
        wiener: the same of the Wiener filter on the same noisy samples.
        held: power of the estimate over the data's.
        excess: error over the Wiener filter's, dB: above 0, a linear filter would do better.
        calibration: 10·log10(E|X̂|² / E[X̂·X]), dB: 0 for the best estimate (of whatever data), negative for one that
            is too smooth, positive for one with power that is not the data's, at most 20. NaN where the estimate holds
            next to nothing.
        under: cells where the model does worse than the Wiener filter, (levels, bands).
        smooth: cells whose estimate has too little power.
        rough: cells whose estimate has too much.
        floor: what was added to the power and the errors of empty bands, (bands,); 0 in others.
        gradients: what each loss pulls at, by its name; `base` first.
        means: the measured means with their bootstrap, from which two models are compared.

    """

    ratios: tuple[float, ...]
    times: tuple[float, ...]
    bands: tuple[tuple[float, float], ...]
    size: tuple[int, ...]
    channels: int
    count: int
    power: Tensor
    relative: Tensor
    wiener: Tensor
    held: Tensor
    excess: Contrast
    calibration: Contrast
    under: Tensor
    smooth: Tensor
    rough: Tensor
    floor: Tensor
    gradients: dict[str, GradientShare] = field(default_factory=dict)
    means: BootstrapMeans | None = field(default=None, repr=False, compare=False)

    @property
    def wrong(self) -> Tensor:
        """Cells where anything is called, (levels, bands)."""
        return self.under | self.smooth | self.rough

    @property
    def same(self) -> bool:
        """Whether nothing is called."""
        return not bool(self.wrong.any())


class _Sums(NamedTuple):
    """Mean sums per band: power (..., bands), the others (..., levels, bands)."""

    power: Tensor
    error: Tensor
    wiener: Tensor
    estimate: Tensor
    common: Tensor
    control: Tensor  # what the noise does to the surplus of the filter's estimate over what it shares; 0 on average


class DenoiserMeasure:
    r"""Measures clean estimates per noise level and band, streamed over batches and merged; constant memory.

    Per sample, level and band, with X the orthonormal DCT of the clean sample and X̂ of its estimate, summed over the
    band's coefficients and the channels: $|\hat X - X|^2$, $|\hat X|^2$, $\hat X \cdot X$, $|X|^2$, and the error
    $|W Y - X|^2$ of the Wiener filter on the same noisy sample $Y = X + r N$. What is shown are ratios of their means.

    An estimate that is the mean of all clean samples the noisy one may have come from has
    $E|\hat X|^2 = E[\hat X \cdot X]$ in every band, whatever the data are; multiplied by c, their ratio is c. So the
    calibration needs no reference, and the Wiener filter is what a network should beat on photographs and can only
    reach on Gaussian fields. What the noise does to the calibration by chance is reduced by what it does to the
    filter's, of which the mean is known (a control variate).

    Args:
        ratios: noise ratios sigma / alpha of the levels, rising.
        times: the same in the process's own time, for people to read; default: the ratios.
        wiener: the filter of the data.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        TypeError: if a number is none.
        ValueError: if the ratios do not rise, or times are not as many.

    Example:
        >>> import torch
        >>> from passband.metrics import DenoiserMeasure, measure_wiener
        >>> generator = torch.Generator().manual_seed(0)
        >>> clean, noise = torch.randn(2, 64, 1, 16, 16, generator=generator)
        >>> measure = DenoiserMeasure([0.5, 1.0], wiener=measure_wiener(clean))
        >>> estimates = [0.8 * (clean + 0.5 * noise), 0.25 * (clean + noise)]  # right for 0.5, half of it for 1
        >>> measure.update(clean, noise, estimates, [str(i) for i in range(64)])
        >>> result = measure.compute()
        >>> result.smooth.all(1).tolist(), round(float(result.calibration.difference[1].median()))
        ([False, True], -3)

    """

    def __init__(
        self,
        ratios: Sequence[float],
        times: Sequence[float] | None = None,
        *,
        wiener: WienerFilter,
        replicates: int = 200,
        seed: int = 0,
    ) -> None:
        for ratio in ratios:
            check_number("each noise ratio", ratio)
        self.ratios = tuple(float(ratio) for ratio in ratios)
        self.times = self.ratios if times is None else tuple(float(time) for time in times)
        if not self.ratios or self.ratios[0] <= 0 or list(self.ratios) != sorted(set(self.ratios)):
            raise ValueError(f"noise ratios must rise and be above 0, got {list(ratios)}")
        if len(self.times) != len(self.ratios):
            raise ValueError(f"expected one time for each of {len(self.ratios)} ratios, got {len(self.times)}")
        self.wiener = wiener
        self.bands = PixelBands(wiener.size)
        self.means = BootstrapMeans(replicates, seed)
        self._gradients: dict[str, tuple[Tensor, Tensor]] = {}

    def update(
        self,
        clean: Float[Tensor, "batch channels *spatial"],
        noise: Float[Tensor, "batch channels *spatial"],
        estimates: Sequence[Tensor],
        keys: Sequence[str],
    ) -> None:
        r"""Add a batch.

        Args:
            clean: $x_0$, (batch, channels, \*spatial).
            noise: $\varepsilon$, of the same shape: the noisy samples were $\alpha x_0 + \sigma \varepsilon$.
            estimates: the clean estimates at each level, of the same shape.
            keys: what each sample is called; samples of one key (tiles of one photograph) are not independent.

        Raises:
            TypeError: if a tensor is not floating.
            ValueError: if shapes or counts do not fit, or an estimate is not finite; nothing is added then.

        """
        check_batch("clean", clean)
        check_floating("noise", noise)
        check_same_shape("noise", noise, "clean", clean)
        if tuple(clean.shape[1:]) != (self.wiener.channels, *self.wiener.size):
            raise ValueError(
                f"the Wiener filter is of samples {(self.wiener.channels, *self.wiener.size)}, got "
                f"{tuple(clean.shape[1:])}: measure it from the same data"
            )
        if len(estimates) != len(self.ratios):
            raise ValueError(f"expected one batch of estimates for each of {len(self.ratios)} levels: {len(estimates)}")
        clean_dct, noise_dct = dct(clean.detach().float()), dct(noise.detach().float())
        columns = [self._summed(clean_dct.square())]
        for ratio, estimate in zip(self.ratios, estimates, strict=True):
            check_floating("estimates", estimate)
            check_same_shape("estimate", estimate, "clean", clean)
            columns += self._level(clean, clean_dct, noise_dct, estimate.detach().float(), ratio)
        self._check_finite(columns, keys)
        self.means.update(torch.cat(columns, 1), keys)

    def update_gradient(
        self, name: str, level: int, gradient: Float[Tensor, "batch channels *spatial"], output_scale: float = 1.0
    ) -> None:
        r"""Add the gradient of a loss at some samples of a level.

        Args:
            name: of the loss.
            level: its place among the ratios.
            gradient: of each sample's own loss with respect to the network's output, (batch, channels, \*spatial).
            output_scale: what the gradient is multiplied by.

        Raises:
            ValueError: if there is no such level, or the size is another.

        """
        check_integer("level", level)
        if not 0 <= level < len(self.ratios):
            raise ValueError(f"level must be from 0 to {len(self.ratios) - 1}, got {level}")
        power = self._summed(dct(output_scale * gradient.detach().float()).square())
        if name not in self._gradients:
            shape = (len(self.ratios), len(self.bands))
            self._gradients[name] = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[:1], dtype=torch.float64)
        sums, counts = self._gradients[name]
        sums[level] += power.sum(0)
        counts[level] += len(power)

    def merge(self, other: "DenoiserMeasure") -> "DenoiserMeasure":
        """Add what another one has seen, and return self.

        Raises:
            ValueError: if its levels, bootstrap or samples are others.

        """
        if other.ratios != self.ratios:
            raise ValueError(f"both must have the same noise ratios, got {self.ratios} and {other.ratios}")
        self.means.merge(other.means)
        for name, (sums, counts) in other._gradients.items():  # noqa: SLF001
            own = self._gradients.get(name, (torch.zeros_like(sums), torch.zeros_like(counts)))
            self._gradients[name] = own[0] + sums, own[1] + counts
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors, to save or to send to another process."""
        state = {f"means.{name}": value for name, value in self.means.state_dict().items()}
        for name, (sums, counts) in self._gradients.items():
            state |= {f"gradient.{name}.sums": sums.clone(), f"gradient.{name}.counts": counts.clone()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.DenoiserMeasure.state_dict]."""
        self.means.load_state_dict({n.removeprefix("means."): v for n, v in state.items() if n.startswith("means.")})
        names = [n.removeprefix("gradient.").removesuffix(".sums") for n in state if n.endswith(".sums")]
        self._gradients = {
            n: (state[f"gradient.{n}.sums"].clone(), state[f"gradient.{n}.counts"].clone())
            for n in names
            if f"gradient.{n}.counts" in state
        }

    def compute(self) -> DenoiserSpectrum:
        """Errors, calibration, and what of them is called.

        Raises:
            ValueError: before the first sample.

        """
        if self.means.count == 0:
            raise ValueError("there are no samples yet: call update(clean, noise, estimates, keys) first")
        sums, drawn = self._split(self.means.mean), self._split(self.means.replicate_means)
        families = [self._excess(sums, drawn), self._calibration(sums, drawn)]
        excess, calibration = decide(families, groups=self.means.effective_groups).contrasts.values()
        relative, wiener = excess.value, excess.reference
        return DenoiserSpectrum(
            ratios=self.ratios,
            times=self.times,
            bands=self.bands.edges,
            size=self.wiener.size,
            channels=self.wiener.channels,
            count=self.means.count,
            power=(sums.power - self._floor) / (self.bands.counts * self.wiener.channels),
            relative=relative,
            wiener=wiener,
            held=calibration.value,
            excess=excess,
            calibration=calibration,
            under=excess.different & (relative - wiener >= LEAST_SHARE),
            smooth=calibration.different & (calibration.difference < 0),
            rough=calibration.different & (calibration.difference > 0),
            floor=self._floor,
            gradients={name: self._gradient(name) for name in self._gradients},
            means=self.means,
        )

    def _level(
        self, clean: Tensor, clean_dct: Tensor, noise_dct: Tensor, estimate: Tensor, ratio: float
    ) -> list[Tensor]:
        """What one level adds to the vectors of the samples, see `_Sums`."""
        held, gain = dct(estimate), self.wiener.gain(ratio).to(clean_dct)
        # Sums over channels are the same in the basis in which they are uncorrelated.
        x, n = self.wiener.rotated(clean_dct), ratio * self.wiener.rotated(noise_dct)
        # What the noise alone adds to the surplus of the filter's estimate, (g (x + n)) (g (x + n) - x).
        control = gain.square() * (2 * x * n + n.square() - ratio**2) - gain * x * n
        # The difference is taken before the transform, which would round two large numbers.
        error = dct(estimate - clean.detach().float())
        products = (error.square(), (gain * (x + n) - x).square(), held.square(), held * clean_dct, control)
        return [self._summed(product) for product in products]

    def _summed(self, power: Tensor) -> Tensor:
        return self.bands.sums(power.sum(1))

    def _check_finite(self, columns: list[Tensor], keys: Sequence[str]) -> None:
        for i, column in enumerate(columns[1:]):
            bad = (~column.isfinite()).any(1).nonzero().flatten().tolist()
            if bad:
                raise ValueError(
                    f"the network's estimates must be finite, and {len(bad)} of this batch are not at noise ratio "
                    f"{self.ratios[i // _KINDS]:.3g}, the first that of {keys[bad[0]]}: it was loaded in too low a "
                    "precision, or its training has diverged"
                )

    def _split(self, means: Float64[Tensor, "*lead values"]) -> _Sums:
        return _split(means, len(self.ratios), len(self.bands), self._floor)

    @property
    def _floor(self) -> Tensor:
        """What is added to the power and the errors of empty bands, 0 for others."""
        psd, coefficients = self.wiener.psd, self.bands.counts * self.wiener.channels
        power = self.bands.sums(psd.sum(0)) / coefficients
        floor: Tensor = torch.where(power <= _NO_POWER * psd.max(), _FLOOR * psd.mean() * coefficients, 0)
        return floor

    def _labels(self) -> tuple[tuple[str, ...], ...]:
        return tuple(level_name(ratio) for ratio in self.ratios), self.bands.labels()

    def _excess(self, sums: _Sums, drawn: _Sums) -> Family:
        difference, replicates = (_decibels(x.error, x.wiener) for x in (sums, drawn))
        reference, value = sums.wiener / sums.power, sums.error / sums.power
        return Family(EXCESS, "dB", _AXES, self._labels(), reference, value, difference, replicates, self._least_excess)

    @property
    def _least_excess(self) -> float:
        """The smallest excess worth calling, dB.

        The filter is made of these very samples, so it suits them better than one that knows the true power P: of n
        Gaussian samples its error is smaller by the share 2 P r² / (n (P + r²)²), which is 1 / 2n at most.
        """
        return LEAST_DECIBELS + 10 * math.log10(1 + 0.5 / self.means.effective_groups)

    def _calibration(self, sums: _Sums, drawn: _Sums) -> Family:
        linear = 1 - sums.wiener / sums.power  # what the Wiener filter's estimate holds
        hardly = torch.maximum(sums.estimate / sums.power, linear) < LEAST_ESTIMATE
        unclear = hardly | (self._floor > 0)
        common = _controlled(sums, drawn)
        difference, replicates = (
            _decibels(x.estimate, torch.maximum(shared, LEAST_COMMON * x.estimate)).masked_fill(unclear, torch.nan)
            for x, shared in zip((sums, drawn), common, strict=True)
        )
        reference, value = common[0] / sums.power, sums.estimate / sums.power
        return Family(
            CALIBRATION, "dB", _AXES, self._labels(), reference, value, difference, replicates, LEAST_DECIBELS
        )

    def _gradient(self, name: str) -> GradientShare:
        sums, counts = self._gradients[name]
        total = sums.sum(1)
        return GradientShare(name, sums / total[:, None], (total / counts).sqrt())


def compare_denoisers(first: DenoiserSpectrum, second: DenoiserSpectrum) -> Contrast:
    """The error of a second model against a first one's, dB per noise level and band, on the same noisy samples.

    Both were measured with the same samples, noise and levels, so the difference is paired: what both find hard takes
    no part in its error.

    Args:
        first: the reference, such as a model before it was trained with a spectral term.
        second: the model that is compared to it.

    Returns:
        Contrast with axes (noise ratio, band); negative where the second errs less.

    Raises:
        ValueError: if they were measured on other samples, levels or noise.

    """
    if first.means is None or second.means is None:
        raise ValueError("both must come from DenoiserMeasure.compute, with the means they were computed from")
    if (first.bands, first.size, first.channels) != (second.bands, second.size, second.channels):
        raise ValueError(
            f"both models must take samples of one shape, got {(first.channels, *first.size)} and "
            f"{(second.channels, *second.size)}"
        )
    ratios = torch.tensor(first.ratios), torch.tensor(second.ratios)
    if len(first.ratios) != len(second.ratios) or not torch.allclose(*ratios, rtol=1e-3):
        raise ValueError(f"both must be measured at the same noise ratios, got {first.ratios} and {second.ratios}")
    states = first.means.state_dict(), second.means.state_dict()
    if states[0]["weights"].shape != states[1]["weights"].shape or not torch.equal(
        states[0]["weights"], states[1]["weights"]
    ):
        raise ValueError("both must be measured on the same samples, with the same names and bootstrap seed")
    if not torch.allclose(first.power, second.power, rtol=1e-4):
        raise ValueError("both must be measured on the same samples, and their power differs")
    shape = len(first.ratios), len(first.bands)
    pairs = zip(_drawn(first.means), _drawn(second.means), strict=True)
    errors = [[_split(drawn, *shape, first.floor).error for drawn in pair] for pair in pairs]
    difference, replicates = (_decibels(after, before) for before, after in errors)
    family = Family(
        AGAINST,
        "dB",
        _AXES,
        first.excess.labels,
        first.relative,
        second.relative,
        difference,
        replicates,
        LEAST_DECIBELS,
    )
    return decide([family], groups=first.means.effective_groups).contrasts[AGAINST]


def without_means(result: DenoiserSpectrum) -> DenoiserSpectrum:
    """The same without the bootstrap's sums, for what keeps many results."""
    return replace(result, means=None)


def _drawn(means: BootstrapMeans) -> tuple[Tensor, Tensor]:
    """The means over all samples, and those of the bootstrap's replicates."""
    return means.mean, means.replicate_means


def _split(means: Float64[Tensor, "*lead values"], levels: int, bands: int, floor: Tensor) -> _Sums:
    power = means[..., :bands] + floor
    error, wiener, *others = torch.unflatten(means[..., bands:], -1, (levels, _KINDS, bands)).unbind(-2)
    return _Sums(power, error + floor, wiener + floor, *others)


def _controlled(sums: _Sums, drawn: _Sums) -> tuple[Tensor, Tensor]:
    """What the estimates share with the data, and its replicates, less the work of chance that can be told.

    The control variate is what the noise adds to the filter's own surplus, of which the mean is known to be 0.
    """
    surplus, control = (drawn.estimate - drawn.common).nan_to_num(0), drawn.control.nan_to_num(0)
    spread = control - control.mean(0)
    beta = ((surplus - surplus.mean(0)) * spread).sum(0) / spread.square().sum(0).clamp_min(1e-300)
    return sums.common + beta * sums.control, drawn.common + beta * drawn.control


def _decibels(value: Tensor, reference: Tensor) -> Tensor:
    """10·log10 of the ratio; NaN where either is not above 0."""
    ratio = value / reference
    return torch.where((value > 0) & (reference > 0), 10 * ratio.log10(), torch.nan)
