"""Power spectra of the channels of fields over DCT radii, with the power law of their mean: streamed and merged."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch
from passband.metrics.power_law import _GROUPS, _bin_radii, _jackknife, fit_power_law
from passband.transforms import band_pool, dct, radial_bins


@dataclass(frozen=True)
class ChannelSpectrumResult:
    r"""What [`ChannelSpectrum`][passband.metrics.ChannelSpectrum] computes; tensors are float64 on the CPU.

    Attributes:
        power: mean power per bin over samples, channels and frequencies, (bins,); bin 0 is the mean.
        power_error: its standard error over samples, (bins,); NaN for one sample.
        channels: the same of each channel, (channels, bins).
        radius: the DCT radius that each bin stands for, (bins,), half-cycles along the shortest side.
        beta: exponent of the power law $P(k) \propto k^{-\beta}$ fitted to bins low ... high of `power`; NaN where
            there are fewer than 3 bins to fit.
        beta_error: its standard error over samples.
        channel_beta: the exponent of each channel, (channels,).
        low: first bin of the fit.
        high: last bin of the fit, included.
        size: spatial shape of a sample.
        count: number of samples.

    """

    power: Tensor
    power_error: Tensor
    channels: Tensor
    radius: Tensor
    beta: float
    beta_error: float
    channel_beta: Tensor
    low: int
    high: int
    size: tuple[int, ...]
    count: int

    @property
    def frequency(self) -> Tensor:
        """Cycles per position (per pixel, per latent pixel) of each bin, (bins,)."""
        return self.radius / (2 * min(self.size))

    @property
    def cycles(self) -> Tensor:
        """Cycles per shortest side of each bin, (bins,): the same for an image and its latent."""
        return self.radius / 2

    @property
    def varying(self) -> float:
        """Mean power over all frequencies but the mean: the variance within a sample, over channels."""
        return float(_without_mean(self.power[None], self.size)[0])

    @property
    def channel_varying(self) -> Tensor:
        """The same of each channel, (channels,)."""
        return _without_mean(self.channels, self.size)


class ChannelSpectrum:
    r"""Power per channel and DCT radius of a stream of samples: any number of them, constant memory.

    The power of the orthonormal DCT-II is pooled (mean) over rings of the radius
    $k = n_{min} \sqrt{\sum_i (k_i / n_i)^2}$ rounded to an integer: half-cycles along the shortest side, so that
    $k / 2 n_{min}$ is in cycles per position. White noise of unit variance has power 1 in every bin.

    The law is fitted to the mean over channels, by [`fit_power_law`][passband.metrics.fit_power_law] over bins
    2 ... 3/4 of the shortest side (from bin 1 on sides below 8). Standard errors are those of a jackknife over 32
    groups, into which samples go in turn.

    Args:
        name: what the samples are called in errors.

    Example:
        >>> import torch
        >>> from passband.metrics import ChannelSpectrum
        >>> spectrum = ChannelSpectrum("latents")
        >>> spectrum.update(torch.randn(300, 4, 16, 16, generator=torch.Generator().manual_seed(0)))
        >>> result = spectrum.compute()
        >>> abs(result.beta) < 0.05, tuple(result.channels.shape), round(float(result.frequency[8]), 1)
        (True, (4, 22), 0.3)

    """

    def __init__(self, name: str = "samples") -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.shape: tuple[int, ...] | None = None
        self._sums = torch.zeros((), dtype=torch.float64)
        self._counts = torch.zeros(_GROUPS, dtype=torch.int64)

    @property
    def count(self) -> int:
        """Number of samples seen."""
        return int(self._counts.sum())

    def update(self, samples: Float[Tensor, "batch channels *spatial"]) -> None:
        r"""Add a batch.

        Args:
            samples: (batch, channels, \*spatial), 1 to 3 spatial axes, of one shape in all batches.

        Raises:
            TypeError: if the samples are not floating.
            ValueError: if their shape differs from what came before, or a value is not finite; nothing is added then.

        """
        check_batch(self.name, samples)
        shape = tuple(samples.shape[1:])
        self._check_shape(shape)
        if len(samples) == 0:
            return
        power = dct(samples.detach()).square()
        bins = radial_bins(shape[1:], "dct", device=power.device)
        curves = band_pool(power, bins, int(bins.max()) + 1).cpu().double()
        check_finite(self.name, curves)
        groups = (self.count + torch.arange(len(curves))) % _GROUPS
        sums = curves.new_zeros(_GROUPS, *curves.shape[1:]).index_add(0, groups, curves)
        self._add(shape, sums, torch.bincount(groups, minlength=_GROUPS))

    def merge(self, other: "ChannelSpectrum") -> "ChannelSpectrum":
        """Add what another one has seen (another rank's, or another part's), and return self."""
        if other.shape is not None:
            self._check_shape(other.shape)
            state = other.state_dict()
            self._add(other.shape, state["sums"], state["counts"])
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample), to save or to send to another rank."""
        if self.shape is None:
            return {}
        return {"sums": self._sums.clone(), "counts": self._counts.clone(), "shape": torch.tensor(self.shape)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.ChannelSpectrum.state_dict]."""
        check_state(self.name, state, {"sums", "counts", "shape"})
        self.reset()
        if state:
            shape = tuple(int(n) for n in state["shape"])
            self._add(shape, state["sums"].cpu().double(), state["counts"].cpu().long())

    def compute(self) -> ChannelSpectrumResult:
        """The mean spectra and the power law of what was seen.

        Raises:
            ValueError: before the first sample.

        """
        if self.shape is None:
            raise ValueError(f"there are no {self.name} yet; call update with at least one batch first")
        size = self.shape[1:]
        low, high = (2 if min(size) >= 8 else 1), max(1, 3 * min(size) // 4)
        radius = _bin_radii(size)

        def beta(power: Tensor) -> float:
            try:
                return fit_power_law(power, low=low, high=high, radius=radius).beta
            except ValueError:  # too few bins, or too few with power
                return math.nan

        channels = self._sums.sum(0) / self.count
        means = self._sums.mean(1)
        error = _jackknife(means, self._counts, lambda mean: torch.tensor([beta(mean)], dtype=torch.float64))
        return ChannelSpectrumResult(
            power=channels.mean(0),
            power_error=_jackknife(means, self._counts, lambda mean: mean),
            channels=channels,
            radius=radius,
            beta=beta(channels.mean(0)),
            beta_error=float(error[0]),
            channel_beta=torch.tensor([beta(channel) for channel in channels], dtype=torch.float64),
            low=low,
            high=high,
            size=size,
            count=self.count,
        )

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if self.shape is not None and shape != self.shape:
            raise ValueError(
                f"{self.name} must all have one shape (channels, *spatial), got {shape} after {self.shape}; "
                "crop or resize the images to one size first"
            )

    def _add(self, shape: tuple[int, ...], sums: Tensor, counts: Tensor) -> None:
        self.shape = shape
        self._sums = self._sums + sums
        self._counts = self._counts + counts


def check_finite(name: str, values: Tensor) -> None:
    """Raise ValueError, naming the first, if a sample of the batch holds a value that is not finite."""
    bad = (~values.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"{name} must be finite; {len(bad)} of this batch are not, the first at index {bad[0]}; "
            "look for an overflow (half precision?) in the network, or for broken images"
        )


def check_state(name: str, state: Mapping[str, Tensor], wanted: set[str]) -> None:
    """Raise ValueError if a state that is not empty lacks an entry."""
    missing = wanted - set(state) if state else set()
    if missing:
        raise ValueError(f"the state of {name} lacks {sorted(missing)}, it holds {sorted(state)}")


def _without_mean(curves: Tensor, size: tuple[int, ...]) -> Tensor:
    """Mean over all frequencies but the first of curves that are means over rings, (curves,)."""
    bins = radial_bins(size, "dct").flatten()
    held = torch.bincount(bins, minlength=curves.shape[1]).double()
    held[0] = 0  # on squares bin 0 holds the mean alone
    return (curves * held).sum(1) / held.sum().clamp_min(1)
