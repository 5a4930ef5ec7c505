"""Periodic patterns that follow the pixel grid of a decoder or a codec, wherever the picture was cut."""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from passband.metrics.planes import Planes, SampleKind, scanned_planes

_MULTIPLE = 48  # frequencies m/2, m/3, m/4, m/8 and m/16 fall on multiples of 1/48
_SIDE = 7  # neighbours on each side that a peak is measured against
_LONGEST = 480  # profiles are cut into segments of this length at most, whose periodograms are averaged
_FLAT = 1e-5  # mean difference below which a field has no texture to measure; 8 bits of [-1, 1] have steps of 8e-3
_EVEN = 1e-20
_SMALLEST_SIDE = 24


class PeriodicityProfile:
    r"""Periodogram of where a plane is rough, along each axis: peaks at m/p show a pattern of period p.

    Upsampling makes some pixels smoother than others, a block codec leaves steps at the edges of its blocks, both at
    fixed distances. With $d_2$ and $d_3$ the second and third difference along an axis and
    $r_j(n) = \operatorname{mean} |d_j|$ over the other axis,

    $$R(f) = \tfrac12 \sum_{j=2,3} \frac{|\sum_n w(n) (r_j(n) / \bar r_j - 1) e^{-2\pi i f n}|^2}{\sum_n w(n)^2},$$

    w a Hann window over segments as long as the shortest axis (480 at most). Differences of odd and of even order are
    both needed: patterns that are symmetric about pixels (a transposed convolution's) are invisible to one, those
    symmetric about the gaps between pixels (nearest and bilinear upsampling by 2) to the other. Each sample is
    normalised by its own roughness, both terms are taken over their mean power so that all samples weigh alike, and
    powers are averaged, not profiles: where a sample was cut out of its picture does not matter. Flat samples are left
    out.

    What is derived is the height of R over its surroundings: R(f) over the geometric mean of the medians of its
    neighbours on both sides. Planes are luma and both chroma planes of colour images, which codecs keep at half the
    resolution; the gray plane of all else.

    Args:
        kind: of the samples: only images have luma and chroma.

    Example:
        >>> import torch
        >>> from passband.metrics import Planes
        >>> from passband.metrics.probes.periodicity import PeriodicityProfile, height_frequencies
        >>> probe, noise = PeriodicityProfile(), torch.randn(50, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> doubled = noise.repeat_interleave(2, -1).repeat_interleave(2, -2)  # nearest upsampling by 2
        >>> heights = probe.derive(probe(Planes(doubled)).mean(0))
        >>> float(height_frequencies((1, 64, 64))[heights[0, 0].argmax()])
        0.5

    Source: the second difference of interpolated signals, A. C. Gallagher, Detection of Linear and Cubic Interpolation
    in JPEG Compressed Images (2005).
    """

    name, unit, least = "periodicity", "dB", 2.0
    axes: tuple[str, ...] = ("plane", "axis", "frequency")
    compared = False

    def __init__(self, kind: SampleKind = "images") -> None:
        self.kind = kind

    def check(self, shape: tuple[int, ...]) -> bool:
        """One or two axes, of at least 24 positions."""
        return len(shape) in (2, 3) and min(shape[1:]) >= _SMALLEST_SIDE

    def __call__(self, planes: Planes) -> Float[Tensor, "batch planes axes bins"]:
        """Periodogram along each axis, followed by 1; zeros throughout for a plane that is flat along the axis."""
        fields, segment = planes.scanned.flatten(0, 1), _segment(planes.size)
        found = torch.stack([_periodogram(fields, axis, segment) for axis in range(1, fields.ndim)], 1)
        return found.reshape(*planes.scanned.shape[:2], *found.shape[1:])

    def derive(
        self, block: Float[Tensor, "*lead planes axes bins"]
    ) -> Float64[Tensor, "*lead planes axes frequencies"]:
        """Height over the surroundings, a ratio of powers; NaN where all samples are flat."""
        return profile_heights(mean_periodogram(block))

    def labels(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """The planes, the axes, and the frequencies in cycles per position."""
        frequencies = tuple(f"{float(f):.4f}" for f in height_frequencies(shape))
        return scanned_planes(shape[0], self.kind), axis_names(shape), frequencies


def axis_names(shape: tuple[int, ...]) -> tuple[str, ...]:
    """What the spatial axes of samples of this shape (channels first) are called."""
    return ("vertical", "horizontal") if len(shape) == 3 else ("along",)


def profile_frequencies(shape: tuple[int, ...]) -> Float64[Tensor, " bins"]:
    """Cycles per position of the periodogram's bins, for samples of this shape (channels first)."""
    length = _padded(_segment(shape[1:]))
    return torch.arange(length // 2 + 1, dtype=torch.float64) / length


def height_frequencies(shape: tuple[int, ...]) -> Float64[Tensor, " frequencies"]:
    """Those of them at which heights are derived: without the lowest, which have too few neighbours below."""
    frequencies = profile_frequencies(shape)
    return frequencies[_first(len(frequencies)) :]


def mean_periodogram(block: Float[Tensor, "*lead columns"]) -> Float64[Tensor, "*lead bins"]:
    """Mean over the samples that are not flat, of means of the probe's statistics; NaN without any."""
    return block[..., :-1].double() / block[..., -1:]


def profile_heights(power: Float64[Tensor, "*lead bins"], *, strict: bool = False) -> Float64[Tensor, "*lead heights"]:
    """Power over the medians of the neighbours on both sides: their geometric mean, or strictly the higher one."""
    guard, first = _guard(power.shape[-1]), _first(power.shape[-1])
    mirrored = torch.cat([power, power[..., :-1].flip(-1)], -1)
    place = torch.arange(first, power.shape[-1])[:, None]
    away = torch.arange(guard + 1, guard + 1 + _SIDE)
    below, above = (mirrored[..., place + side * away].median(-1).values for side in (-1, 1))
    return power[..., first:] / (torch.maximum(below, above) if strict else (below * above).sqrt())


def _segment(size: tuple[int, ...]) -> int:
    return min(min(size) - 3, _LONGEST)


def _padded(segment: int) -> int:
    return _MULTIPLE * math.ceil(segment / _MULTIPLE)


def _guard(bins: int) -> int:
    """Neighbours on each side that a peak reaches into: half the width of the padded window's main lobe."""
    return 4 if bins <= _MULTIPLE // 2 + 1 else 3


def _first(bins: int) -> int:
    return _guard(bins) + _SIDE + 1


def _periodogram(fields: Tensor, axis: int, segment: int) -> Tensor:
    second = fields.diff(n=2, dim=axis)
    profiles = [_roughness(difference, axis) for difference in (second, second.diff(dim=axis))]
    powers = [_even(_power(_relative(profile, segment)).mean(1)) for profile in profiles]
    textured = torch.stack([profile.mean(1) > _FLAT for profile in profiles]).all(0)[:, None]
    return torch.where(textured, torch.cat([(powers[0] + powers[1]) / 2, torch.ones_like(powers[0][:, :1])], 1), 0)


def _even(power: Tensor) -> Tensor:
    """Over its mean without the lowest frequencies, so that all samples weigh alike."""
    return power / power[:, _first(power.shape[1]) :].mean(1, keepdim=True).clamp_min(_EVEN)


def _roughness(difference: Tensor, axis: int) -> Tensor:
    """Mean absolute difference at each position along an axis."""
    return difference.abs() if difference.ndim == 2 else difference.abs().mean(3 - axis)


def _relative(profile: Tensor, segment: int) -> Tensor:
    """The profile over its mean, less 1, in segments."""
    mean = profile.mean(1, keepdim=True).clamp_min(_FLAT)
    count = profile.shape[1] // segment
    return (profile[:, : count * segment] / mean - 1).reshape(-1, count, segment)


def _power(segments: Tensor) -> Tensor:
    length = segments.shape[-1]
    window = torch.hann_window(length + 2, periodic=False, dtype=segments.dtype, device=segments.device)[1:-1]
    spectrum: Tensor = torch.fft.rfft(segments * (window / window.square().sum().sqrt()), n=_padded(length))
    return spectrum.real.square() + spectrum.imag.square()
