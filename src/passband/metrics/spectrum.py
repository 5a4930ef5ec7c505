"""Log-spectral distance between two sets of samples, streamed over batches and merged over ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_floating, check_same_shape
from passband.transforms import power_law_exponent, radial_psd

DEFAULT_FLOOR = 1e-4


def octave_bands(last: int) -> list[tuple[int, int]]:
    """Octaves of the radial bins 1 ... last as (first bin, last bin), both included.

    [1, 2), [2, 4), [4, 8), ...; the last octave holds bin `last` too, so a power of two does not stand alone.

    Args:
        last: the last bin, N // 2 for images of side N.

    Raises:
        ValueError: if last is below 1.

    Example:
        >>> from passband.metrics import octave_bands
        >>> octave_bands(16)
        [(1, 1), (2, 3), (4, 7), (8, 16)]

    """
    if last < 1:
        raise ValueError(f"octaves start at bin 1, got a last bin of {last}; samples must be at least 2 wide")
    starts = [1]
    while 2 * starts[-1] < last:
        starts.append(2 * starts[-1])
    return list(zip(starts, [start - 1 for start in starts[1:]] + [last], strict=True))


def log_spectral_ratio(
    fake_psd: Float[Tensor, "*batch bins"], real_psd: Float[Tensor, "*batch bins"], floor: float = DEFAULT_FLOOR
) -> Float64[Tensor, "*batch radii"]:
    r"""Difference of two radially averaged PSDs in decibels, per radius.

    $d(k) = 10 \log_{10} \frac{P_{fake}(k) + \phi}{P_{real}(k) + \phi}$ for $k = 1 \ldots N/2$, $\phi$ = floor times the mean
    of $P_{real}$ over the same radii. Positive: too much power.

    Args:
        fake_psd: sample-mean PSD of the generated set, (\*batch, bins), bin 0 first, as
            [`radial_psd`][passband.transforms.radial_psd] returns it.
        real_psd: the same of the reference set.
        floor: $\phi$ as a share of the reference's mean power, at least 0. Radii with (nearly) no power in the reference
            would decide everything without it.

    Returns:
        Decibels in float64, (\*batch, bins - 1): bin 0, the mean, is left out.

    Raises:
        ValueError: if the shapes differ, there are fewer than 2 bins, or floor is negative.

    Example:
        >>> import torch
        >>> from passband.metrics import log_spectral_ratio
        >>> real = torch.ones(5)
        >>> log_spectral_ratio(10 * real, real, floor=0.0).tolist()
        [10.0, 10.0, 10.0, 10.0]

    """
    for name, psd in (("fake_psd", fake_psd), ("real_psd", real_psd)):
        check_floating(name, psd)
    check_same_shape("fake_psd", fake_psd, "real_psd", real_psd)
    if real_psd.ndim == 0 or real_psd.shape[-1] < 2:
        raise ValueError(f"a PSD needs bin 0 and at least one more, got shape {tuple(real_psd.shape)}")
    if not floor >= 0:
        raise ValueError(f"floor is a share of the mean power of real_psd, at least 0; got {floor}")
    fake, real = fake_psd[..., 1:].double(), real_psd[..., 1:].double()
    phi = floor * real.mean(-1, keepdim=True)
    return 10 * torch.log10((fake + phi) / (real + phi))


def log_spectral_distance(
    fake_psd: Float[Tensor, "*batch bins"], real_psd: Float[Tensor, "*batch bins"], floor: float = DEFAULT_FLOOR
) -> Float64[Tensor, "*batch"]:
    r"""Log-spectral distance (LSD): root mean square over the radii of [`log_spectral_ratio`][passband.metrics.log_spectral_ratio].

    $\mathrm{LSD} = \sqrt{\operatorname{mean}_{k=1}^{N/2} d(k)^2}$ in decibels. Every integer radius counts once.

    Args:
        fake_psd: sample-mean PSD of the generated set, (\*batch, bins), bin 0 first.
        real_psd: the same of the reference set.
        floor: share of the reference's mean power (radii 1 ... N/2) that is added to both.

    Returns:
        Decibels in float64, (\*batch,).

    Raises:
        ValueError: if the shapes differ, there are fewer than 2 bins, or floor is negative.

    Example:
        >>> import torch
        >>> from passband.metrics import log_spectral_distance
        >>> real = torch.tensor([7.0, 1.0, 1.0])
        >>> round(float(log_spectral_distance(torch.tensor([0.0, 1.0, 100.0]), real, floor=0.0)), 4)  # 0 dB and 20 dB
        14.1421

    """
    return log_spectral_ratio(fake_psd, real_psd, floor).square().mean(-1).sqrt()


@dataclass(frozen=True)
class OctaveDistance:
    """The distance within one octave of radii."""

    low: int
    """First radius, in cycles per shortest side."""
    high: int
    """Last radius, included."""
    lsd: float
    """Root mean square of the difference, dB."""
    bias: float
    """Mean of the difference, dB: positive where the generated samples have too much power."""


@dataclass(frozen=True)
class SpectrumResult:
    """What [`SpectrumDistance`][passband.metrics.SpectrumDistance] computes; tensors are float64 on the CPU."""

    lsd: float
    """Log-spectral distance over all radii, dB, of the PSDs averaged over channels."""
    octaves: tuple[OctaveDistance, ...]
    ratio: Tensor
    """Difference per radius 1 ... N/2, dB, (bins - 1,)."""
    real_exponent: float
    """Power-law exponent of the reference, least squares over radii 1 ... N/2."""
    fake_exponent: float
    real_psd: Tensor
    """Mean over samples and channels, (bins,), bin 0 first."""
    fake_psd: Tensor
    real_error: Tensor
    """Standard error of real_psd over samples, (bins,); NaN for one sample."""
    fake_error: Tensor
    real_channels: Tensor
    """PSD per channel, (channels, bins)."""
    fake_channels: Tensor
    channel_lsd: Tensor
    """Log-spectral distance of every channel by itself, dB, (channels,)."""
    real_count: int
    fake_count: int
    size: tuple[int, ...]
    floor: float


class MeanPSD:
    """Running mean of the radially averaged PSD of a stream of samples, in float64.

    Args:
        name: what the samples are called in errors.

    Example:
        >>> import torch
        >>> from passband.metrics import MeanPSD
        >>> mean = MeanPSD()
        >>> for _ in range(3):
        ...     mean.update(torch.randn(8, 1, 16, 16))
        >>> mean.count, tuple(mean.psd.shape)
        (24, (9,))

    """

    def __init__(self, name: str = "samples") -> None:
        self.name = name
        self.count = 0
        self.size: tuple[int, ...] | None = None
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None

    def update(self, samples: Float[Tensor, "batch channels *spatial"]) -> None:
        """Add a batch.

        Args:
            samples: (batch, channels, \\*spatial), 1 to 3 spatial axes, one size and number of channels for all batches.

        Raises:
            TypeError: if the samples are not floating.
            ValueError: if their size or channels differ from what came before, or a value is not finite.

        """
        psd = radial_psd(samples.detach()).double().cpu()
        size = tuple(samples.shape[2:])
        self._check_shape(size, psd.shape[1])
        bad = (~psd.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"{self.name} must be finite; {len(bad)} of this batch are not, the first at index {bad[0]}; "
                "leave them out, or find out why they were generated"
            )
        if len(psd) == 0:
            return
        self._add(size, psd.sum(0), psd.mean(1).square().sum(0), len(psd))

    def merge(self, other: "MeanPSD") -> Self:
        """Add what another one has seen (another rank's, or another part's), and return self."""
        if other.size is not None and other._sum is not None and other._squares is not None:  # noqa: SLF001
            self._check_shape(other.size, other._sum.shape[0])  # noqa: SLF001
            self._add(other.size, other._sum, other._squares, other.count)  # noqa: SLF001
        return self

    @property
    def channels(self) -> Float64[Tensor, "channels bins"]:
        """Mean PSD of every channel."""
        return self._filled()[0] / self.count

    @property
    def psd(self) -> Float64[Tensor, " bins"]:
        """Mean PSD over samples and channels."""
        return self.channels.mean(0)

    @property
    def error(self) -> Float64[Tensor, " bins"]:
        """Standard error of the mean over samples; NaN for one sample."""
        squares = self._filled()[1]
        variance = (squares - self.count * self.psd.square()).clamp_min(0) / max(self.count - 1, 0)
        return (variance / self.count).sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample), to save or to send to another rank."""
        if self.size is None or self._sum is None or self._squares is None:
            return {}
        return {
            "sum": self._sum.clone(),
            "squares": self._squares.clone(),
            "count": torch.tensor(self.count),
            "size": torch.tensor(self.size),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.MeanPSD.state_dict]."""
        if not state:
            self.__init__(self.name)  # type: ignore[misc]
            return
        missing = {"sum", "squares", "count", "size"} - set(state)
        if missing:
            raise ValueError(f"the state of {self.name} lacks {sorted(missing)}; it holds {sorted(state)}")
        self.size = tuple(int(n) for n in state["size"])
        self.count = int(state["count"])
        self._sum = state["sum"].double().cpu().clone()
        self._squares = state["squares"].double().cpu().clone()

    def _add(self, size: tuple[int, ...], total: Tensor, squares: Tensor, count: int) -> None:
        self.size = size
        self._sum = total.clone() if self._sum is None else self._sum + total
        self._squares = squares.clone() if self._squares is None else self._squares + squares
        self.count += count

    def _check_shape(self, size: tuple[int, ...], channels: int) -> None:
        if self.size is None or self._sum is None:
            return
        if (channels, *size) != (self._sum.shape[0], *self.size):
            raise ValueError(
                f"all {self.name} must have one shape, got {(channels, *size)} after {(self._sum.shape[0], *self.size)} "
                "(channels, *spatial); crop or resize them to one size first"
            )

    def _filled(self) -> tuple[Tensor, Tensor]:
        if self._sum is None or self._squares is None:
            raise ValueError(f"no {self.name} yet; call update with at least one batch first")
        return self._sum, self._squares


class SpectrumDistance:
    """Log-spectral distance of generated from real samples, streamed: any number of samples, constant memory.

    Sums are kept in float64 on the CPU, so the split into batches and ranks does not show in the result beyond rounding.

    Args:
        floor: share of the real samples' mean power that is added to both PSDs, see
            [`log_spectral_ratio`][passband.metrics.log_spectral_ratio].

    Example:
        >>> import torch
        >>> from passband.metrics import SpectrumDistance
        >>> distance = SpectrumDistance()
        >>> real = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> distance.update(real=real, fake=real / 2)
        >>> round(distance.compute().lsd, 2)  # half the amplitude: 6 dB less power
        6.02

    """

    def __init__(self, floor: float = DEFAULT_FLOOR) -> None:
        if not floor >= 0:
            raise ValueError(f"floor is a share of the real samples' mean power, at least 0; got {floor}")
        self.floor = floor
        self.real = MeanPSD("real samples")
        self.fake = MeanPSD("fake samples")

    def update(
        self,
        *,
        real: Float[Tensor, "batch channels *spatial"] | None = None,
        fake: Float[Tensor, "other channels *spatial"] | None = None,
    ) -> None:
        """Add a batch of real samples, of generated ones, or of both (their numbers may differ).

        Raises:
            ValueError: if the sizes differ, or a value is not finite.

        """
        if real is not None:
            self.real.update(real)
        if fake is not None:
            self.fake.update(fake)
        self._check_sizes()

    def merge(self, other: "SpectrumDistance") -> Self:
        """Add what another one has seen (another rank's, for instance), and return self."""
        if other.floor != self.floor:
            raise ValueError(f"both must have one floor, got {self.floor} and {other.floor}")
        self.real.merge(other.real)
        self.fake.merge(other.fake)
        self._check_sizes()
        return self

    def reset(self) -> None:
        """Forget all samples."""
        self.real, self.fake = MeanPSD(self.real.name), MeanPSD(self.fake.name)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as a flat dictionary of tensors."""
        parts = {"real": self.real, "fake": self.fake}
        state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
        return {"floor": torch.tensor(self.floor, dtype=torch.float64), **state}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.SpectrumDistance.state_dict]."""
        if "floor" not in state:
            raise ValueError(f"not a state of SpectrumDistance: it lacks 'floor', it holds {sorted(state)}")
        self.floor = float(state["floor"])
        for name, part in (("real", self.real), ("fake", self.fake)):
            prefix = f"{name}."
            part.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    def compute(self) -> SpectrumResult:
        """The distance between all real and all generated samples seen so far.

        Raises:
            ValueError: before there is a real and a generated sample.

        """
        real, fake = self.real.psd, self.fake.psd
        ratio = log_spectral_ratio(fake, real, self.floor)
        return SpectrumResult(
            lsd=float(ratio.square().mean().sqrt()),
            octaves=tuple(_octave(ratio, low, high) for low, high in octave_bands(len(ratio))),
            ratio=ratio,
            real_exponent=_exponent(real),
            fake_exponent=_exponent(fake),
            real_psd=real,
            fake_psd=fake,
            real_error=self.real.error,
            fake_error=self.fake.error,
            real_channels=self.real.channels,
            fake_channels=self.fake.channels,
            channel_lsd=log_spectral_distance(self.fake.channels, self.real.channels, self.floor),
            real_count=self.real.count,
            fake_count=self.fake.count,
            size=self.real.size or (),
            floor=self.floor,
        )

    def _check_sizes(self) -> None:
        shapes = [
            (part.channels.shape[0], *part.size)
            for part in (self.real, self.fake)
            if part.size is not None and part.count
        ]
        if len(set(shapes)) > 1:
            raise ValueError(
                f"real and fake samples must have one shape, got {shapes[0]} and {shapes[1]} (channels, *spatial); "
                "crop or resize them to one size first"
            )


def _octave(ratio: Tensor, low: int, high: int) -> OctaveDistance:
    part = ratio[low - 1 : high]
    return OctaveDistance(low, high, lsd=float(part.square().mean().sqrt()), bias=float(part.mean()))


def _exponent(psd: Tensor) -> float:
    return float(power_law_exponent(psd)) if len(psd) > 2 else float("nan")
