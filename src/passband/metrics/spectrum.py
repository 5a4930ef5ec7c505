"""Log-spectral distance between two sets of samples, streamed over batches and merged over ranks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._checks import check_batch, check_floating, check_number, check_same_shape
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

    $d(k) = 10 \log_{10} \frac{P_{fake}(k) + \phi}{P_{real}(k) + \phi}$ for $k = 1 \ldots N/2$, $\phi$ = floor times the
    mean of $P_{real}$ over the same radii. Positive: too much power.

    Args:
        fake_psd: sample-mean PSD of the generated set, (\*batch, bins), bin 0 first, as
            [`radial_psd`][passband.transforms.radial_psd] returns it.
        real_psd: the same of the reference set.
        floor: $\phi$ as a share of the reference's mean power, at least 0. Without it, radii with (nearly) no power in
            the reference would decide everything.

    Returns:
        Decibels in float64, (\*batch, bins - 1): bin 0, the mean, is left out.

    Raises:
        TypeError: if a PSD is not floating, or floor no number.
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
    check_number("floor", floor)
    if not floor >= 0:
        raise ValueError(f"floor is a share of the mean power of real_psd, at least 0; got {floor}")
    fake, real = fake_psd[..., 1:].double(), real_psd[..., 1:].double()
    phi = floor * real.mean(-1, keepdim=True)
    return 10 * torch.log10((fake + phi) / (real + phi))


def log_spectral_distance(
    fake_psd: Float[Tensor, "*batch bins"], real_psd: Float[Tensor, "*batch bins"], floor: float = DEFAULT_FLOOR
) -> Float64[Tensor, "*batch"]:
    r"""Log-spectral distance (LSD): the root mean square over the radii of the difference in decibels.

    $\mathrm{LSD} = \sqrt{\operatorname{mean}_{k=1}^{N/2} d(k)^2}$, $d$ as in
    [`log_spectral_ratio`][passband.metrics.log_spectral_ratio]. Every integer radius counts once.

    Args:
        fake_psd: sample-mean PSD of the generated set, (\*batch, bins), bin 0 first.
        real_psd: the same of the reference set.
        floor: share of the reference's mean power (radii 1 ... N/2) that is added to both.

    Returns:
        Decibels in float64, (\*batch,).

    Raises:
        TypeError: if a PSD is not floating, or floor no number.
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
    """The distance within one octave of radii; the difference is that of `log_spectral_ratio`.

    Attributes:
        low: first radius, in cycles per shortest side.
        high: last radius, included.
        lsd: root mean square of the difference over the octave's radii, dB, at least 0.
        bias: mean of the difference, dB: positive where the generated samples have too much power.

    """

    low: int
    high: int
    lsd: float
    bias: float


@dataclass(frozen=True)
class SpectrumResult:
    """What [`SpectrumDistance`][passband.metrics.SpectrumDistance] computes; tensors are float64 on the CPU.

    Attributes:
        lsd: log-spectral distance over all radii, dB, of the PSDs averaged over channels.
        octaves: the distance within each octave of radii, lowest first.
        ratio: difference per radius 1 ... N/2, dB, (bins - 1,): positive where the generated samples have too much
            power.
        real_exponent: power-law exponent of the reference, least squares over radii 1 ... N/2; NaN with one radius.
        fake_exponent: the same of the generated samples.
        real_psd: PSD of the reference, mean over samples and channels, (bins,), bin 0 first.
        fake_psd: the same of the generated samples.
        real_error: standard error of real_psd over samples, (bins,); NaN for one sample.
        fake_error: the same of fake_psd.
        real_channels: PSD of the reference per channel, (channels, bins).
        fake_channels: the same of the generated samples.
        channel_lsd: log-spectral distance of every channel by itself, dB, (channels,).
        real_count: number of real samples.
        fake_count: number of generated samples.
        size: spatial shape of a sample.
        floor: share of the reference's mean power that was added to both PSDs.

    """

    lsd: float
    octaves: tuple[OctaveDistance, ...]
    ratio: Tensor
    real_exponent: float
    fake_exponent: float
    real_psd: Tensor
    fake_psd: Tensor
    real_error: Tensor
    fake_error: Tensor
    real_channels: Tensor
    fake_channels: Tensor
    channel_lsd: Tensor
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
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.count = 0
        self.shape: tuple[int, ...] | None = None
        self._sum = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)

    def update(self, samples: Float[Tensor, "batch channels *spatial"]) -> None:
        r"""Add a batch.

        Args:
            samples: (batch, channels, \*spatial), 1 to 3 spatial axes, of one shape in all batches.

        Raises:
            TypeError: if the samples are not floating.
            ValueError: if their shape differs from what came before, or a value is not finite; nothing is added then.

        """
        check_batch(self.name, samples)
        self.check_shape(tuple(samples.shape[1:]))
        if len(samples) == 0:
            return
        psd = radial_psd(samples.detach()).cpu().double()
        bad = (~psd.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"{self.name} must be finite; {len(bad)} of this batch are not, the first at index {bad[0]}; "
                "leave them out, or find out why they were generated"
            )
        self._add(tuple(samples.shape[1:]), psd.sum(0), psd.mean(1).square().sum(0), len(psd))

    def merge(self, other: "MeanPSD") -> "MeanPSD":
        """Add what another one has seen (another rank's, or another part's), and return self."""
        if other.shape is not None:
            self.check_shape(other.shape)
            state = other.state_dict()
            self._add(other.shape, state["sum"], state["squares"], other.count)
        return self

    def check_shape(self, shape: tuple[int, ...], name: str = "") -> None:
        """Raise ValueError unless samples of this shape, channels first, can be added."""
        if self.shape is not None and shape != self.shape:
            raise ValueError(
                f"{name or self.name} must all have one shape (channels, *spatial), got {shape} after {self.shape}; "
                "crop or resize them to one size first"
            )

    @property
    def channels(self) -> Float64[Tensor, "channels bins"]:
        """Mean PSD of every channel."""
        if not self.count:
            raise ValueError(f"there are no {self.name} yet; call update with at least one batch first")
        return self._sum / self.count

    @property
    def psd(self) -> Float64[Tensor, " bins"]:
        """Mean PSD over samples and channels."""
        return self.channels.mean(0)

    @property
    def error(self) -> Float64[Tensor, " bins"]:
        """Standard error of the mean over samples; NaN for one sample."""
        variance = (self._squares - self.count * self.psd.square()).clamp_min(0) / (self.count - 1)
        return (variance / self.count).sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample), to save or to send to another rank."""
        if self.shape is None:
            return {}
        return {
            "sum": self._sum.clone(),
            "squares": self._squares.clone(),
            "count": torch.tensor(self.count),
            "shape": torch.tensor(self.shape),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.MeanPSD.state_dict]."""
        missing = {"sum", "squares", "count", "shape"} - set(state) if state else set()
        if missing:
            raise ValueError(f"the state of {self.name} lacks {sorted(missing)}, it holds {sorted(state)}")
        self.reset()
        if state:
            shape = tuple(int(n) for n in state["shape"])
            self._add(shape, state["sum"].cpu().double(), state["squares"].cpu().double(), int(state["count"]))

    def _add(self, shape: tuple[int, ...], total: Tensor, squares: Tensor, count: int) -> None:
        self.shape = shape
        self._sum = self._sum + total
        self._squares = self._squares + squares
        self.count += count


class SpectrumDistance:
    """Log-spectral distance of generated from real samples, streamed: any number of samples, constant memory.

    Sums are kept in float64 on the CPU: how the samples were split into batches and ranks changes nothing but rounding.

    Args:
        floor: share of the real samples' mean power that is added to both PSDs, see
            [`log_spectral_ratio`][passband.metrics.log_spectral_ratio]; at least 0.

    Raises:
        TypeError: if floor is no number.
        ValueError: if floor is negative.

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
        check_number("floor", floor)
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
        shapes = [tuple(x.shape[1:]) for x in (real, fake) if x is not None]
        for shape in shapes:
            self.real.check_shape(shape, "real and fake samples")
            self.fake.check_shape(shape, "real and fake samples")
        if len(set(shapes)) > 1:
            raise ValueError(
                f"real and fake samples must all have one shape (channels, *spatial), got {shapes[0]} and {shapes[1]}; "
                "crop or resize them to one size first"
            )
        if real is not None:
            self.real.update(real)
        if fake is not None:
            self.fake.update(fake)

    def merge(self, other: "SpectrumDistance") -> "SpectrumDistance":
        """Add what another one has seen (another rank's, for instance), and return self."""
        if other.floor != self.floor:
            raise ValueError(f"both must have one floor, got {self.floor} and {other.floor}")
        for shape in (other.real.shape, other.fake.shape):
            if shape is not None:
                self.real.check_shape(shape, "real and fake samples")
                self.fake.check_shape(shape, "real and fake samples")
        self.real.merge(other.real)
        self.fake.merge(other.fake)
        return self

    def reset(self) -> None:
        """Forget all samples."""
        self.real.reset()
        self.fake.reset()

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
            size=(self.real.shape or ())[1:],
            floor=self.floor,
        )


def _octave(ratio: Tensor, low: int, high: int) -> OctaveDistance:
    part = ratio[low - 1 : high]
    return OctaveDistance(low, high, lsd=float(part.square().mean().sqrt()), bias=float(part.mean()))


def _exponent(psd: Tensor) -> float:
    return float(power_law_exponent(psd)) if len(psd) > 2 else float("nan")
