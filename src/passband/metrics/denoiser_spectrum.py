r"""What a denoiser leaves per noise level and frequency band, beside a Wiener filter on the same noisy samples."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_batch, check_floating, check_integer, check_number, check_same_shape
from passband.metrics.bootstrap import BootstrapMeans
from passband.metrics.denoiser_families import (
    KINDS,
    LEAST_DECIBELS,
    Sums,
    calibration_family,
    decide_decibels,
    excess_family,
    split_sums,
)
from passband.metrics.denoiser_result import DenoiserSpectrum, GradientShare
from passband.metrics.noise_levels import level_name
from passband.metrics.pixel_bands import PixelBands
from passband.metrics.wiener import WienerFilter
from passband.transforms import dct

#: An error that exceeds the filter's by less than this share of the data's power in the band is not called: nobody
#: would see it.
LEAST_SHARE = 1e-3
#: Of the largest power of a coefficient; bands below are empty: they hold what rounding leaves.
_NO_POWER = 1e-10
#: Of the data's mean power per coefficient: what empty bands are taken to hold, so that what a model adds there shows.
_FLOOR = 0.1


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
        families = [
            excess_family(sums, drawn, self._labels(), self._least_excess),
            calibration_family(sums, drawn, self._labels(), self._floor > 0),
        ]
        excess, calibration = decide_decibels(families, self.means.effective_groups)
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
        """What one level adds to the vectors of the samples, see `Sums`."""
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
                    f"{self.ratios[i // KINDS]:.3g}, the first that of {keys[bad[0]]}: it was loaded in too low a "
                    "precision, or its training has diverged"
                )

    def _split(self, means: Float64[Tensor, "*lead values"]) -> Sums:
        return split_sums(means, len(self.ratios), self._floor)

    @property
    def _floor(self) -> Tensor:
        """What is added to the power and the errors of empty bands, 0 for others."""
        psd, coefficients = self.wiener.psd, self.bands.counts * self.wiener.channels
        power = self.bands.sums(psd.sum(0)) / coefficients
        floor: Tensor = torch.where(power <= _NO_POWER * psd.max(), _FLOOR * psd.mean() * coefficients, 0)
        return floor

    def _labels(self) -> tuple[tuple[str, ...], ...]:
        return tuple(level_name(ratio) for ratio in self.ratios), self.bands.labels()

    @property
    def _least_excess(self) -> float:
        """The smallest excess worth calling, dB.

        The filter is made of these very samples, so it suits them better than one that knows the true power P: of n
        Gaussian samples its error is smaller by the share 2 P r² / (n (P + r²)²), which is 1 / 2n at most.
        """
        return LEAST_DECIBELS + 10 * math.log10(1 + 0.5 / self.means.effective_groups)

    def _gradient(self, name: str) -> GradientShare:
        sums, counts = self._gradients[name]
        total = sums.sum(1)
        return GradientShare(name, sums / total[:, None], (total / counts).sqrt())
