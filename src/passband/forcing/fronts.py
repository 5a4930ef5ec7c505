"""Fronts: the cutoff of Spectral Forcing as a function of the flow time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from passband._checks import check_choice, check_number, is_integer
from passband.transforms import radial_grid

#: From flow times (0 noise, 1 data; any shape) to cutoffs (0 nothing, 1 the whole spectrum; the same shape).
Front = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Named:
    """A front that a configuration can name."""

    name: ClassVar[str]

    @property
    def config(self) -> dict[str, Any]:
        """The name and the arguments, as JSON keeps them."""
        arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {"name": self.name, **arguments}


@dataclass(frozen=True)
class LinearFront(_Named):
    r"""The published front, $c = c_{min} + (c_{max} - c_{min})\, \tau$.

    Args:
        c_min: cutoff at pure noise, 0 to 1.
        c_max: cutoff at clean data, c_min to 1.

    Raises:
        TypeError: if a cutoff is no number.
        ValueError: unless 0 <= c_min <= c_max <= 1.

    Example:
        >>> import torch
        >>> from passband.forcing import LinearFront
        >>> LinearFront(0.2, 0.8)(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [0.20000000298023224, 0.5, 0.800000011920929]

    Source: Spectral Forcing (arXiv:2606.15236).
    """

    c_min: float = 0.05
    c_max: float = 1.0
    name: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        check_number("c_min", self.c_min)
        check_number("c_max", self.c_max)
        if not 0 <= self.c_min <= self.c_max <= 1:
            raise ValueError(f"expected cutoffs 0 <= c_min <= c_max <= 1, got {self.c_min} and {self.c_max}")

    def __call__(self, tau: Tensor) -> Tensor:
        """The cutoff at each flow time."""
        return self.c_min + (self.c_max - self.c_min) * tau


@dataclass(frozen=True)
class ConstantFront(_Named):
    """One cutoff at all times.

    Args:
        cutoff: share of the largest frequency, 0 to 1.

    Raises:
        TypeError: if the cutoff is no number.
        ValueError: if it lies outside 0 to 1.

    Example:
        >>> import torch
        >>> from passband.forcing import ConstantFront
        >>> ConstantFront(0.5)(torch.tensor([0.0, 1.0])).tolist()
        [0.5, 0.5]

    """

    cutoff: float
    name: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        check_number("cutoff", self.cutoff)
        if not 0 <= self.cutoff <= 1:
            raise ValueError(f"cutoff is a share of the largest frequency, 0 to 1; got {self.cutoff}")

    def __call__(self, tau: Tensor) -> Tensor:
        """The cutoff, at each flow time."""
        return torch.full_like(tau, self.cutoff)


@dataclass(frozen=True)
class ContourFront(_Named):
    r"""The data-to-noise contour: the frequency at which data of a power law has the power of its noise.

    $c = \min(1, k^* / k_{max})$ with $k^* = k_1 (1 - \tau)^{-2/\beta}$; without the approximation that the signal is
    whole, $k^* = k_1 (\tau / (1 - \tau))^{2/\beta}$.

    Args:
        beta: exponent of the data's power law $P(k) = (k / k_1)^{-\beta}$, positive; photographs: about 2.7.
        k1: DCT radius at which the data's power meets that of unit noise, positive, in the unit of
            [`radial_grid`][passband.transforms.radial_grid] (indices, on a square); photographs at 64 x 64: about 4.
            For a flow with a noise_scale s, that of noise of variance s^2: $k_1 s^{-2/\beta}$.
        size: side of a square image, or one side per axis ((n,) for signals), at which k1 holds.
        approximate: leave the fading of the signal out, as the paper does.
        c_min: smallest cutoff, 0 to 1.

    Raises:
        TypeError: if a number is none, or size is neither an int nor one per axis.
        ValueError: if a number is out of its range.

    Example:
        >>> import torch
        >>> from passband.forcing import ContourFront
        >>> front = ContourFront(beta=2.0, k1=4.0, size=(33,))  # frequencies 0 ... 32
        >>> front(torch.tensor([0.0, 0.5, 0.75, 1.0])).tolist()
        [0.125, 0.25, 0.5, 1.0]

    Source: Spectral Forcing (arXiv:2606.15236).
    """

    beta: float
    k1: float
    size: int | list[int] | tuple[int, ...]
    approximate: bool = True
    c_min: float = 0.0
    name: ClassVar[str] = "contour"

    def __post_init__(self) -> None:
        for name, value in {"beta": self.beta, "k1": self.k1, "c_min": self.c_min}.items():
            check_number(name, value)
        for name, value in {"beta": self.beta, "k1": self.k1}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if not 0 <= self.c_min <= 1:
            raise ValueError(f"c_min is a cutoff, 0 to 1; got {self.c_min}")
        size = self.size if isinstance(self.size, list | tuple) else (self.size, self.size)
        if not all(map(is_integer, size)):
            raise TypeError(f"size must be an int, or one int per axis, got {self.size!r}")
        sides = tuple(map(int, size))
        if len(sides) not in (1, 2) or min(sides) < 1 or max(sides) < 2:
            raise ValueError(f"size must hold 1 or 2 sides with a frequency above 0 among them, got {self.size!r}")
        object.__setattr__(self, "size", sides if isinstance(self.size, list | tuple) else sides[0])
        object.__setattr__(self, "_largest", radial_grid(sides, kind="dct").max().item())

    def __call__(self, tau: Tensor) -> Tensor:
        """The cutoff at each flow time."""
        tau = tau.clamp(0, 1)  # which rounding may overstep, where the power is not real
        noise = 1 - tau
        ratio = noise.reciprocal() if self.approximate else tau / noise
        cutoff = self.k1 / self._largest * ratio ** (2 / self.beta)
        return cutoff.clamp(self.c_min, 1)

    #: The largest radius of `size`, derived from it.
    _largest: ClassVar[float]


FRONTS: dict[str, type[LinearFront] | type[ConstantFront] | type[ContourFront]] = {
    front.name: front for front in (LinearFront, ConstantFront, ContourFront)
}


def front_from_config(config: Mapping[str, Any]) -> Front:
    """The front that a configuration names.

    Args:
        config: `{"name": "linear" | "constant" | "contour", **arguments}`, a front's own `config`.

    Returns:
        The front.

    Raises:
        TypeError: if it is no mapping, or an argument is missing, unknown or of the wrong kind.
        ValueError: if the name is unknown, an argument is out of its range, or the front was a function of the user's.

    Example:
        >>> from passband.forcing import front_from_config
        >>> front_from_config({"name": "linear", "c_min": 0.2})
        LinearFront(c_min=0.2, c_max=1.0)

    """
    if not isinstance(config, Mapping):
        raise TypeError(f"a front's configuration is a mapping with its name, got {config!r}")
    arguments = dict(config)
    name = arguments.pop("name", None)
    if name == "custom":
        raise ValueError(
            f"the front was a function of the user's ({arguments.get('function', 'unknown')}), which a configuration "
            "does not hold; pass it: SpectralForcing.from_config(config, process, front=...)"
        )
    check_choice("front", name, FRONTS)
    try:
        return FRONTS[name](**arguments)
    except TypeError as error:
        raise TypeError(f"the front {name!r} does not take {arguments}: {error}") from error


def front_config(front: Front) -> dict[str, Any]:
    """What a configuration holds of a front; of one that is not in FRONTS, only its name for the reader."""
    if isinstance(front, LinearFront | ConstantFront | ContourFront):
        return front.config
    name = getattr(front, "__qualname__", type(front).__qualname__)
    return {"name": "custom", "function": name}


def as_front(front: str | Front) -> Front:
    """A front as an argument: the name of one that needs no arguments, or a callable."""
    if isinstance(front, str):
        check_choice("front", front, FRONTS)
        if front != LinearFront.name:
            raise ValueError(f"the front {front!r} needs arguments: pass {FRONTS[front].__name__}(...)")
        return LinearFront()
    if isinstance(front, type) or not callable(front):
        raise TypeError(
            f"front must be one such as LinearFront(), or a function from flow time to cutoff, got {front!r}"
        )
    return front
