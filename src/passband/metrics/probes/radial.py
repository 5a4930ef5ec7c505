"""Radially averaged power of every plane."""

from jaxtyping import Float
from torch import Tensor

from passband.metrics.planes import Planes, SampleKind, plane_names
from passband.transforms import band_pool, half_weights, radial_bins


class RadialPower:
    r"""Mean power of every plane in rings of the radius, (planes, bins).

    $P(k) = \operatorname{mean}_{\lfloor \rho + 1/2 \rfloor = k} |F y|^2$ of the tapered samples $y$, $\rho$ in cycles
    per shortest side, k = 0 ... N / 2; corners beyond are left out. Octaves, the power law and the log-spectral
    distance follow from it.

    Args:
        kind: of the samples: only images have luma and chroma.

    Example:
        >>> import torch
        >>> from passband.metrics import Planes
        >>> from passband.metrics.probes import RadialPower
        >>> power = RadialPower()(Planes(torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))))
        >>> tuple(power.shape), round(float(power[..., 4:].mean()), 1)  # white noise: 1
        ((64, 1, 17), 1.0)

    """

    name, unit, least = "radial", "dB", 0.1
    axes: tuple[str, ...] = ("plane", "bin")
    compared = False  # octaves are: neighbouring bins are tied by the taper, and there are hundreds of them

    def __init__(self, kind: SampleKind = "images") -> None:
        self.kind = kind

    def check(self, shape: tuple[int, ...]) -> bool:
        """All sizes can be measured."""
        return True

    def __call__(self, planes: Planes) -> Float[Tensor, "batch planes bins"]:
        """Power of each sample."""
        size, power = planes.size, planes.power
        weights = half_weights(size, dtype=power.dtype, device=power.device)
        return band_pool(power, radial_bins(size, device=power.device), min(size) // 2 + 1, weights)

    def derive(self, block: Tensor) -> Tensor:
        """The mean power itself."""
        return block

    def labels(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """The planes, and the bins' numbers."""
        return plane_names(shape[0], self.kind), tuple(str(k) for k in range(min(shape[1:]) // 2 + 1))
