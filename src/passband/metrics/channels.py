"""How the channels of latents are used: their moments, covariance and principal components, streamed and merged."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from passband._checks import check_batch
from passband.metrics.channel_spectrum import check_finite, check_state

UNUSED = 0.01  # of the root mean square deviation over channels


@dataclass(frozen=True)
class ChannelResult:
    r"""What [`ChannelStatistics`][passband.metrics.ChannelStatistics] computes; tensors are float64 on the CPU.

    Attributes:
        mean: mean of each channel over samples and positions, (channels,).
        std: its standard deviation, (channels,).
        kurtosis: its excess kurtosis, 0 for a normal distribution, (channels,); NaN for a constant channel.
        covariance: covariance of the channels, (channels, channels).
        shares: shares of the variance along the principal components, largest first, (channels,).
        components: the components, one per row, largest first, (channels, channels); the largest entry of each is
            positive, so that pictures of them can be compared.
        count: number of samples.

    """

    mean: Tensor
    std: Tensor
    kurtosis: Tensor
    covariance: Tensor
    shares: Tensor
    components: Tensor
    count: int

    @property
    def effective(self) -> float:
        r"""Effective number of channels $(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2$.

        $\lambda$ are the variances along the principal components: it is the number of channels where all are
        uncorrelated and equally strong, 1 where one holds everything, and does not change when channels are rotated.
        """
        squares = float(self.shares.square().sum())
        return 1 / squares if squares > 0 else 0.0

    @property
    def unused(self) -> int:
        """Channels whose deviation is below 1 % of the root mean square over channels."""
        return int((self.std <= UNUSED * self.std.square().mean().sqrt()).sum())


class ChannelStatistics:
    """Moments and covariance of the channels over samples and positions: any number of samples, constant memory.

    Args:
        name: what the samples are called in errors.

    Example:
        >>> import torch
        >>> from passband.metrics import ChannelStatistics
        >>> statistics = ChannelStatistics()
        >>> noise = torch.randn(50, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> statistics.update(noise * torch.tensor([1.0, 1.0, 1e-4, 1e-4]).reshape(4, 1, 1))
        >>> result = statistics.compute()
        >>> round(result.effective, 1), result.unused
        (2.0, 2)

    """

    def __init__(self, name: str = "latents") -> None:
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self.count = 0
        self.positions = 0
        self._powers = torch.zeros((), dtype=torch.float64)  # sums of x, x^2, x^3, x^4, (4, channels)
        self._products = torch.zeros((), dtype=torch.float64)  # (channels, channels)

    def update(self, samples: Float[Tensor, "batch channels *spatial"]) -> None:
        r"""Add a batch of shape (batch, channels, \*spatial).

        Raises:
            TypeError: if the samples are not floating.
            ValueError: if the number of channels changes, or a value is not finite; nothing is added then.

        """
        check_batch(self.name, samples)
        self._check_channels(samples.shape[1])
        if len(samples) == 0:
            return
        values = samples.detach().flatten(2).cpu().double()
        check_finite(self.name, values)
        x = values.transpose(0, 1).flatten(1)
        self._add(len(samples), x.shape[1], torch.stack([x.pow(n).sum(1) for n in (1, 2, 3, 4)]), x @ x.T)

    def merge(self, other: "ChannelStatistics") -> "ChannelStatistics":
        """Add what another one has seen, and return self."""
        if other.count:
            state = other.state_dict()
            self._check_channels(len(state["products"]))
            self._add(other.count, other.positions, state["powers"], state["products"])
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors (empty before the first sample)."""
        if not self.count:
            return {}
        return {
            "count": torch.tensor(self.count),
            "positions": torch.tensor(self.positions),
            "powers": self._powers.clone(),
            "products": self._products.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.ChannelStatistics.state_dict]."""
        check_state(self.name, state, {"count", "positions", "powers", "products"})
        self.reset()
        if state:
            powers, products = (state[key].cpu().double() for key in ("powers", "products"))
            self._add(int(state["count"]), int(state["positions"]), powers, products)

    def compute(self) -> ChannelResult:
        """The moments of what was seen.

        Raises:
            ValueError: before the first sample.

        """
        if not self.count:
            raise ValueError(f"there are no {self.name} yet; call update with at least one batch first")
        m1, m2, m3, m4 = self._powers / self.positions
        covariance = self._products / self.positions - m1[:, None] * m1
        variance = covariance.diagonal().clamp_min(0)
        fourth = m4 - 4 * m1 * m3 + 6 * m1.square() * m2 - 3 * m1**4
        constant = variance <= 1e-13 * m2  # what rounding leaves
        values, vectors = torch.linalg.eigh(covariance)
        values, components = values.flip(0).clamp_min(0), vectors.T.flip(0)
        largest = components.gather(1, components.abs().argmax(1, keepdim=True))
        total = values.sum()
        return ChannelResult(
            mean=m1,
            std=variance.sqrt(),
            kurtosis=torch.where(constant, torch.nan, fourth / variance.square() - 3),
            covariance=covariance,
            shares=values / total if float(total) > 0 else torch.zeros_like(values),
            components=components * torch.where(largest < 0, -1.0, 1.0),
            count=self.count,
        )

    def _check_channels(self, channels: int) -> None:
        if self.count and channels != len(self._products):
            raise ValueError(
                f"{self.name} must all have as many channels, got {channels} after {len(self._products)}; "
                "pass those of one autoencoder"
            )

    def _add(self, count: int, positions: int, powers: Tensor, products: Tensor) -> None:
        self.count += count
        self.positions += positions
        self._powers = self._powers + powers
        self._products = self._products + products


def pca_picture(
    latents: Float[Tensor, "batch channels height width"], statistics: ChannelResult, deviations: float = 2.5
) -> Float[Tensor, "batch 3 height width"]:
    """The first three principal components of latents as red, green and blue.

    A component at 0 is gray, at plus or minus `deviations` standard deviations full or dark. Two channels leave blue at
    gray; one gives a gray picture.

    Args:
        latents: of the channels that the statistics are of.
        statistics: from [`ChannelStatistics`][passband.metrics.ChannelStatistics].
        deviations: half the range shown, above 0.

    Returns:
        Pictures in [-1, 1].

    Raises:
        ValueError: if the numbers of channels differ.

    Example:
        >>> import torch
        >>> from passband.metrics import ChannelStatistics, pca_picture
        >>> latents = torch.randn(8, 4, 8, 8)
        >>> statistics = ChannelStatistics()
        >>> statistics.update(latents)
        >>> tuple(pca_picture(latents, statistics.compute()).shape)
        (8, 3, 8, 8)

    """
    check_batch("latents", latents, dims=(2,))
    channels = len(statistics.mean)
    if latents.shape[1] != channels:
        raise ValueError(f"the statistics are of {channels} channels, got latents with {latents.shape[1]}")
    shown = statistics.components[:3]
    total = statistics.covariance.diagonal().sum()
    scale = deviations * (statistics.shares[:3] * total).clamp_min(1e-24).sqrt()
    centred = latents.detach().cpu().double() - statistics.mean.reshape(-1, 1, 1)
    picture = torch.einsum("kc,bchw->bkhw", shown / scale[:, None], centred).clamp(-1, 1).float()
    if channels == 1:
        return picture.expand(-1, 3, -1, -1)
    missing = picture.new_zeros(len(picture), 3 - picture.shape[1], *picture.shape[2:])
    return torch.cat([picture, missing], 1)
