"""The mean of every plane, which all other probes take away: brightness and tint of images, offsets of signals."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband._numerics import no_autocast
from passband.metrics.planes import POOLED, Planes, SampleKind, plane_names

_VANISHING = 1e-11  # share of the mean square that is added to a variance, so that rounding is no difference


class Level:
    r"""The mean of every plane, its square, and the mean square of the sample's values, (planes, 3).

    The means $m_i$ are those of the samples before any taper, in units of the data: [-1, 1] for images. Their mean
    over samples is the set's level, and their variance $\overline{m^2} - \bar m^2$ is
    the power at frequency zero. Two families of quantities are made of them, so the probe itself is not compared.

    Args:
        kind: of the samples: only images have luma and chroma.

    Example:
        >>> import torch
        >>> from passband.metrics import Planes
        >>> from passband.metrics.probes import Level, level_variance
        >>> flat = torch.tensor([0.2, 0.4]).reshape(2, 1, 1, 1).expand(2, 1, 8, 8)
        >>> block = Level()(Planes(flat)).mean(0)
        >>> round(float(Level().derive(block)), 3), round(float(level_variance(block)), 3)
        (0.3, 0.01)

    """

    name, unit, least = "level", "", 0.02
    axes: tuple[str, ...] = ("plane",)
    compared = False

    def __init__(self, kind: SampleKind = "images") -> None:
        self.kind = kind

    def check(self, shape: tuple[int, ...]) -> bool:
        """All sizes can be measured."""
        return True

    def __call__(self, planes: Planes) -> Float64[Tensor, "batch planes 3"]:
        """The statistics of each sample, in float64: a variance is a small difference of large numbers."""
        mean = planes.mean.double()
        values = planes.samples.flatten(1)
        with no_autocast(values):
            square = torch.linalg.vecdot(values, values).double() / values.shape[1]
        return torch.stack([mean, mean.square(), square[:, None].expand_as(mean)], -1)

    def derive(self, block: Float[Tensor, "*lead planes 3"]) -> Float[Tensor, "*lead planes"]:
        """The mean."""
        return block[..., 0]

    def labels(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """The planes."""
        return (level_planes(plane_names(shape[0], self.kind)),)


def level_planes(planes: Sequence[str]) -> tuple[str, ...]:
    """The planes that have a mean: all but the power pooled over the channels.

    Example:
        >>> from passband.metrics.probes import level_planes
        >>> level_planes(("1", "2", "all"))
        ('1', '2')

    """
    return tuple(name for name in planes if name != POOLED)


def level_variance(block: Float[Tensor, "*lead planes 3"]) -> Float[Tensor, "*lead planes"]:
    """Variance of the means over the samples."""
    return (block[..., 1] - block[..., 0].square()).clamp_min(0)


def vanishing_variance(*blocks: Float[Tensor, "planes 3"]) -> Float[Tensor, " planes"]:
    """A share of the largest set's mean square, far above what rounding leaves of equal means.

    Added to the variances of all sets alike, it makes the chroma of gray images no difference.

    Example:
        >>> import torch
        >>> from passband.metrics.probes import vanishing_variance
        >>> vanishing_variance(torch.tensor([[0.0, 0.0, 4.0]]), torch.tensor([[0.0, 0.0, 1.0]])).tolist()
        [4e-11]

    """
    return _VANISHING * torch.stack([block[..., 2] for block in blocks]).double().amax(0)


def value_scale(block: Float[Tensor, "planes 3"]) -> Float[Tensor, ""]:
    """Standard deviation of the values about the mean of their channel."""
    return (block[0, 2] - block[:, 0].square().mean()).clamp_min(0).sqrt()
