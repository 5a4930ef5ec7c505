"""Averages of a network's weights: tracked during training, or put together afterwards from stored snapshots."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from passband._checks import check_number
from passband.training.shards import local

Network = TypeVar("Network", bound=nn.Module)

#: From (images seen before the step, images in the step), the share of the old average that is kept, 0 to 1.
Profile = Callable[[int, int], float]


# Profiles.


@dataclass(frozen=True)
class HalfLife:
    r"""EDM's average: old weights fade by half with every so many images.

    $\beta = 2^{-B / \min(h,\, r n)}$ for a step of $B$ images after $n$ have been seen: early on the half-life $h$ is
    cut to the share $r$ of them, so that the first weights do not linger.

    Args:
        images: half-life $h$ in images; EDM's published networks have 500,000 (50,000,000 on ImageNet).
        ramp_up_ratio: share $r$; None for the full half-life from the start.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if an argument is not above 0.

    Example:
        >>> from passband.training.ema import HalfLife
        >>> HalfLife(images=1000)(images_seen=100_000, batch_size=1000)
        0.5

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, arXiv:2206.00364,
    Appendix F.2.

    """

    images: float
    ramp_up_ratio: float | None = 0.05

    def __post_init__(self) -> None:
        _check_positive("images", self.images)
        if self.ramp_up_ratio is not None:
            _check_positive("ramp_up_ratio", self.ramp_up_ratio)

    def __call__(self, images_seen: int, batch_size: int) -> float:
        """The share of the old average that a step keeps."""
        half_life = self.images
        if self.ramp_up_ratio is not None:
            half_life = min(half_life, images_seen * self.ramp_up_ratio)
        return float(0.5 ** (batch_size / half_life)) if half_life > 0 else 0.0


@dataclass(frozen=True)
class PowerAverage:
    r"""EDM2's average: weights count by a power of the time when they were reached, however long the training.

    After $t$ images those of time $\tau$ count $p(\tau) = (\gamma + 1)\, \tau^\gamma / t^{\gamma + 1}$, which a step of
    $B$ images keeps up by $\beta = (1 - B / t)^{\gamma + 1}$. Averages of two widths, stored now and then, are enough
    to put together any other afterwards ([`reconstruct`][passband.training.ema.reconstruct]).

    Args:
        std: width of $p$, its standard deviation over $t$, up to 0.288 (the plain mean); EDM2 tracks 0.05 and 0.1.

    Raises:
        TypeError: if std is not a number.
        ValueError: if std lies outside 0 to 0.288.

    Example:
        >>> from passband.training.ema import PowerAverage
        >>> profile = PowerAverage(std=0.1)
        >>> round(profile.gamma, 2), round(profile(images_seen=900, batch_size=100), 3)
        (6.94, 0.433)

    Source: Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models, arXiv:2312.02696,
    Section 3.1.

    """

    std: float

    def __post_init__(self) -> None:
        power_of(self.std)

    @property
    def gamma(self) -> float:
        """The power γ."""
        return power_of(self.std)

    def __call__(self, images_seen: int, batch_size: int) -> float:
        """The share of the old average that a step keeps."""
        return float((images_seen / (images_seen + batch_size)) ** (self.gamma + 1))


@dataclass(frozen=True)
class ConstantDecay:
    """The same decay at every step but the first, which takes the weights as they are.

    Args:
        decay: share of the old average that each step keeps, 0 to 1.

    Raises:
        TypeError: if decay is not a number.
        ValueError: if decay lies outside 0 to 1.

    Example:
        >>> from passband.training.ema import ConstantDecay
        >>> ConstantDecay(0.999)(images_seen=0, batch_size=64), ConstantDecay(0.999)(images_seen=64, batch_size=64)
        (0.0, 0.999)

    """

    decay: float

    def __post_init__(self) -> None:
        check_number("decay", self.decay)
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must lie between 0 and 1, got {self.decay}; usual values are 0.99 to 0.9999")

    def __call__(self, images_seen: int, batch_size: int) -> float:
        """The share of the old average that a step keeps."""
        return self.decay if images_seen > 0 else 0.0


_WIDEST = 12**-0.5  # of the uniform profile, gamma = 0


def width_of(gamma: float) -> float:
    r"""Standard deviation of a power profile, over the time: $\sqrt{(\gamma+1) / ((\gamma+2)^2 (\gamma+3))}$.

    Args:
        gamma: power, at least 0.

    Raises:
        TypeError: if gamma is not a number.
        ValueError: if gamma is negative or not finite.

    Source: Karras et al., arXiv:2312.02696, Appendix C.

    """
    check_number("gamma", gamma)
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma must be a finite number of at least 0, got {gamma}")
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


def power_of(std: float) -> float:
    r"""The power γ of a profile of a given width: the inverse of [`width_of`][passband.training.ema.width_of].

    The one root $\gamma \ge 0$ of $(\gamma+2)^2 (\gamma+3) = (\gamma+1) / \mathrm{std}^2$.

    Args:
        std: standard deviation over the time, above 0 and at most 0.288.

    Raises:
        TypeError: if std is not a number.
        ValueError: if std lies outside 0 to 0.288.

    Example:
        >>> from passband.training.ema import power_of, width_of
        >>> round(width_of(power_of(0.05)), 12)
        0.05

    Source: Karras et al., arXiv:2312.02696, Appendix C.

    """
    check_number("std", std)
    if not 1e-6 <= std <= _WIDEST * (1 + 1e-9):
        raise ValueError(
            f"std must lie above 0 and be at most {_WIDEST:.3f} (the plain mean), got {std}; it is the width of the "
            "average as a share of the training so far, and usual values are 0.05 to 0.15"
        )
    inverse = std**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return max(float(roots.real.max()), 0.0)


# Tracking.


class WeightAverage(Generic[Network]):
    """A copy of a network that holds the average of its weights over the training.

    Parameters are averaged in at least float32, which is what the copy keeps them in; buffers are copied. Nothing waits
    for the device. It keeps no state but the copy's: how many images have been seen is the caller's to say.

    Args:
        network: the network that is trained, without the wrapping of a launcher.
        profile: how fast old weights fade: [`HalfLife`][passband.training.ema.HalfLife],
            [`PowerAverage`][passband.training.ema.PowerAverage] or
            [`ConstantDecay`][passband.training.ema.ConstantDecay]; or a function of (images seen before the step,
            images in the step).
        copy: how the network is copied, where it is divided among processes.

    Example:
        >>> import torch
        >>> from passband.training.ema import HalfLife, WeightAverage
        >>> network = torch.nn.Linear(2, 2)
        >>> average = WeightAverage(network, HalfLife(images=500_000))
        >>> average.update(network, images_seen=0, batch_size=64)  # after each optimizer step
        >>> torch.equal(average.module.weight, network.weight)
        True

    """

    def __init__(self, network: Network, profile: Profile, copy: Callable[[Network], Network] = deepcopy) -> None:
        self.profile = profile
        self.module: Network = copy(network).requires_grad_(False)
        for parameter in self.module.parameters():
            parameter.grad = None
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))

    def update(self, network: nn.Module, images_seen: int, batch_size: int) -> None:
        """Take in the weights that an optimizer step has reached.

        Args:
            network: the network that is trained.
            images_seen: images of the training before this step, over all processes.
            batch_size: images of this step, over all processes, at least 1.

        Raises:
            ValueError: if the network is not of the same parts, or a number is out of its range.

        """
        if images_seen < 0 or batch_size < 1:
            raise ValueError(
                f"images_seen must be at least 0 and batch_size at least 1, got {images_seen} and {batch_size}; "
                "images_seen is the count before the step"
            )
        lerp_weights(self.module, network, self.profile(images_seen, batch_size))

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged network's state dict."""
        return dict(self.module.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a stored average.

        Raises:
            RuntimeError: if the state is not this network's.

        """
        self.module.load_state_dict(state)


@torch.no_grad()
def lerp_weights(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average's parameters towards the network's, keeping a share of the old; copy its buffers.

    Args:
        average: the module that is changed.
        network: a module of the same parts, on the same devices.
        decay: share of the old average that is kept: 1 changes no parameter, 0 copies them all.

    Raises:
        ValueError: if the modules' parameters or buffers differ in number or shape, or decay lies outside 0 to 1.

    """
    if not 0 <= decay <= 1:
        raise ValueError(f"the share of the old average that is kept must lie between 0 and 1, got {decay}")
    old, new = _held(average.parameters()), _held(network.parameters())
    old_buffers, new_buffers = list(average.buffers()), list(network.buffers())
    if _shapes(old) != _shapes(new) or _shapes(old_buffers) != _shapes(new_buffers):
        raise ValueError(
            "the network and its average differ in the number or the shapes of their parameters or buffers; "
            "pass the network that the average was made of, without the wrapping of a launcher"
        )
    pairs = list(zip(old, new, strict=True))
    averaged = [(a, b.to(a.dtype)) for a, b in pairs if a.is_floating_point()]
    copied = [(a, b) for a, b in pairs if not a.is_floating_point()] + list(zip(old_buffers, new_buffers, strict=True))
    if averaged and decay == 0:
        torch._foreach_copy_([a for a, _ in averaged], [b for _, b in averaged])
    elif averaged:
        torch._foreach_lerp_([a for a, _ in averaged], [b for _, b in averaged], 1 - decay)
    for target, source in copied:
        target.copy_(source)


def _held(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The tensors, or what this process holds of each where they are divided among processes."""
    return [local(x) for x in tensors]


def _shapes(tensors: Iterable[Tensor]) -> list[torch.Size]:
    return [x.shape for x in tensors]


# After the training.

Weights = Mapping[str, Tensor] | str | Path | Callable[[], Mapping[str, Tensor]]


class Snapshot(NamedTuple):
    """A stored power average.

    Attributes:
        std: its width, as [`PowerAverage`][passband.training.ema.PowerAverage] takes it.
        images: images of the training when it was stored, its last step's among them.
        weights: its state dict; or the path of a safetensors file of it, or a function that loads it, so that only one
            is in memory at a time.

    """

    std: float
    images: float
    weights: Weights


class Mix(NamedTuple):
    """Which mix of snapshots comes nearest to an average.

    Attributes:
        coefficients: one for each snapshot, of sum 1; float64.
        error: distance of the mix's profile from the wanted one, as a share of that one's norm: 0 is exact.

    """

    coefficients: NDArray[np.float64]
    error: float


def snapshot_mix(stds: Sequence[float], images: Sequence[float], std: float, at: float) -> Mix:
    r"""Find the mix of stored power averages that is nearest to one of another width or time.

    Least squares over the profiles: $A x = b$, with the inner products
    $\langle p_i, p_j \rangle = \frac{(\gamma_i+1)(\gamma_j+1)}{\gamma_i+\gamma_j+1} \cdot
    \frac{1}{t_j} (t_i / t_j)^{\gamma_j}$ for $t_i \le t_j$; then scaled to the sum 1, so that weights that never
    changed stay as they are.

    Args:
        stds: the stored averages' widths.
        images: the images seen when each was stored.
        std: the wanted width.
        at: the wanted time in images, not after the last snapshot's.

    Raises:
        TypeError: if a number is none.
        ValueError: if there are no snapshots, their numbers do not match, a width or time is out of its range, or `at`
            lies after the last snapshot.

    Example:
        >>> from passband.training.ema import snapshot_mix
        >>> times = [1000.0 * k for k in range(1, 17)]
        >>> mix = snapshot_mix([0.05] * 16 + [0.1] * 16, times * 2, std=0.15, at=16_000)
        >>> float(mix.coefficients.sum().round(9)), mix.error < 0.01
        (1.0, True)

    Source: Karras et al., arXiv:2312.02696, Section 3.2 and Appendix C.

    """
    if len(stds) != len(images) or len(stds) == 0:
        raise ValueError(f"each snapshot has a width and a time, got {len(stds)} widths and {len(images)} times")
    for time in (*images, at):
        _check_positive("a time in images", time)
    if at > max(images):
        raise ValueError(
            f"the average at {at:g} images cannot be put together from snapshots up to {max(images):g}: nothing is "
            "known of the weights after the last one"
        )
    gammas, times = np.array([power_of(value) for value in stds]), np.array(images, dtype=np.float64)
    # Scaled to unit norm, and by pseudo-inverse: snapshots close to each other make the system nearly singular.
    wanted = np.array([power_of(std)]), np.array([at], dtype=np.float64)
    norms = np.sqrt(_inner(gammas, times, gammas, times))
    norm = np.sqrt(_inner(*wanted, *wanted))
    gram = _inner(gammas[:, None], times[:, None], gammas, times) / (norms[:, None] * norms)
    target = _inner(gammas, times, *wanted) / (norms * norm)
    scaled = np.linalg.lstsq(gram, target, rcond=1e-13)[0]
    coefficients = scaled / norms
    coefficients = coefficients / coefficients.sum()
    scaled = coefficients * norms / norm
    squared = 1 - 2 * scaled @ target + scaled @ gram @ scaled
    return Mix(coefficients, math.sqrt(max(float(squared), 0.0)))


def reconstruct(snapshots: Iterable[Snapshot], std: float, at: float | None = None) -> dict[str, Tensor]:
    """Put together the average of another width or time from stored power averages, after the training.

    From 16 evenly spaced snapshots of std 0.05 and 0.1 any profile from 0.05 to 0.15 comes out within 1 % at their
    times, and worse between two of them; [`snapshot_mix`][passband.training.ema.snapshot_mix] tells it beforehand. Sums
    run in float64 on the CPU, with one snapshot in memory at a time (one tensor, for a path). What is no float comes
    from the snapshot nearest in time.

    Args:
        snapshots: stored averages, of at least two widths for a good result, from the start to `at` or later.
        std: the wanted width.
        at: the wanted time in images; by default the last snapshot's.

    Returns:
        The state dict, on the CPU, in float32 (float64 where the snapshots are).

    Raises:
        TypeError: if a number is none.
        ValueError: as [`snapshot_mix`][passband.training.ema.snapshot_mix]; or if the snapshots' tensors differ in name
            or shape, or a file is no safetensors file.
        FileNotFoundError: if a file is missing.

    Example:
        >>> import torch
        >>> from passband.training.ema import Snapshot, reconstruct
        >>> weights = {"w": torch.ones(3)}  # a network that never changed
        >>> stored = [Snapshot(std, images, weights) for std in (0.05, 0.1) for images in (500, 1000)]
        >>> reconstruct(stored, std=0.08)["w"]
        tensor([1., 1., 1.])

    Source: Karras et al., arXiv:2312.02696, Section 3.2.

    """
    stored = list(snapshots)
    if not stored:
        raise ValueError("there are no snapshots to put an average together from")
    at = max(snapshot.images for snapshot in stored) if at is None else at
    mix = snapshot_mix([s.std for s in stored], [s.images for s in stored], std, at)
    nearest = min(range(len(stored)), key=lambda i: abs(stored[i].images - at))
    sums: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for index, (snapshot, coefficient) in enumerate(zip(stored, mix.coefficients.tolist(), strict=True)):
        names = set()
        for name, value in _tensors(snapshot.weights):
            names.add(name)
            if index == 0:
                sums[name], dtypes[name] = _started(value)
            elif name not in sums or sums[name].shape != value.shape:
                raise _differs(snapshot, f"{name!r} of shape {tuple(value.shape)} is not in the first")
            if value.is_floating_point():
                sums[name].add_(value.detach().to("cpu", torch.float64), alpha=coefficient)
            elif index == nearest:
                sums[name].copy_(value)
        if names != sums.keys():
            raise _differs(snapshot, f"it lacks {min(sums.keys() - names)!r}")
    return {name: total.to(dtypes[name]) for name, total in sums.items()}


def _inner(
    gamma: NDArray[np.float64], time: NDArray[np.float64], other_gamma: NDArray[np.float64], other: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integral of the product of two power profiles, elementwise."""
    later_gamma = np.where(time <= other, other_gamma, gamma)
    earlier, later = np.minimum(time, other), np.maximum(time, other)
    share = (gamma + 1) * (other_gamma + 1) / (gamma + other_gamma + 1)
    return np.asarray(share * (earlier / later) ** later_gamma / later)


def _started(value: Tensor) -> tuple[Tensor, torch.dtype]:
    """An empty sum for a tensor, and the dtype of the result."""
    if not value.is_floating_point():
        return torch.zeros(value.shape, dtype=value.dtype), value.dtype
    return torch.zeros(value.shape, dtype=torch.float64), torch.promote_types(value.dtype, torch.float32)


def _tensors(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    if isinstance(weights, str | Path):
        if not Path(weights).is_file():
            raise FileNotFoundError(f"there is no snapshot {str(weights)!r}")
        try:
            with safe_open(weights, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (not iterable itself)
                    yield name, file.get_tensor(name)
        except SafetensorError as error:
            raise ValueError(f"the snapshot {str(weights)!r} is no whole safetensors file ({error})") from error
    else:
        yield from (weights() if callable(weights) else weights).items()


def _differs(snapshot: Snapshot, how: str) -> ValueError:
    return ValueError(
        f"the snapshot of {snapshot.images:g} images (std {snapshot.std:g}) is not of the same network as the first: "
        f"{how}"
    )


def _check_positive(name: str, value: float) -> None:
    check_number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value}")
