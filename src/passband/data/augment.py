"""Non-leaking geometric augmentation: random flips and warps, with labels that tell the network what was done."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import NamedTuple

import pywt
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.nn.functional import grid_sample

from passband._checks import check_batch, check_integer, check_number
from passband._numerics import no_autocast, upcast

LABELS = (
    "x-flip",
    "y-flip",
    "scale",
    "rotation cos - 1",
    "rotation sin",
    "anisotropy cos",
    "anisotropy sin",
    "x-translation",
    "y-translation",
)
"""What the nine labels say, in their order; all are 0 for an image that was left as it is."""


@dataclass(frozen=True)
class Augment:
    r"""EDM's augmentation, which cannot leak into the samples: the network is told what was done, and asked for none.

    Each transformation is enabled with probability min(1, strength · probability), for each image by itself. In order:

    | transformation | drawn, once enabled | labels |
    |---|---|---|
    | x-flip | with probability 1/2 | 0 or 1 |
    | y-flip | with probability 1/2 | 0 or 1 |
    | scaling by $2^{\sigma w}$ | $w \sim N(0, 1)$ | $w$ |
    | rotation by $\theta$ | $\theta \sim U(-\pi, \pi)$ | $\cos\theta - 1, \sin\theta$ |
    | stretch by $2^{\sigma w}$ along angle $r$, by $2^{-\sigma w}$ across | $w \sim N(0, 1)$, $r$ 0 or $U(-\pi, \pi)$ | $w \cos r, w \sin r$ |
    | translation by $\sigma (w_x W, w_y H)$ | $w_x, w_y \sim N(0, 1)$ | $w_x, w_y$ |

    Flips move whole pixels and lose nothing. The others are one warp (`warp`), which
    images that none of them touches do not go through. A transformation of strength 0 keeps its label, at 0, so there
    are always nine: networks with `augment_dim=9` take them. In training they go in as `augment_labels`, in
    sampling none do, which stands for zeros. (Of a stretch the labels leave one thing open: w along r and -w along
    r + π share them. Published networks were trained with these.)

    Args:
        probability: EDM's A_prob, 0 to 1; EDM trains with 0.12 (CIFAR-10) and 0.15 (FFHQ, AFHQv2).
        xflip: strength of the x-flip. The default is large enough to enable it always, so half of all images flip.
        yflip: strength of the y-flip.
        scale: strength of the isotropic scaling.
        rotate: strength of the rotation.
        anisotropy: strength of the anisotropic scaling.
        translate: strength of the translation.
        scale_std: standard deviation σ of the scaling, in octaves.
        anisotropy_std: standard deviation σ of the stretch, in octaves.
        translate_std: standard deviation σ of the translation, as a share of width and height.

    Raises:
        TypeError: if an option is not a number.
        ValueError: if probability lies outside 0 to 1, or another option is negative or not finite.

    Example:
        >>> import torch
        >>> from passband.data.augment import Augment
        >>> images, labels = Augment(probability=0.15)(torch.rand(4, 3, 32, 32), seeds=range(4))
        >>> images.shape, labels.shape
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 9]))

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, arXiv:2206.00364,
    Appendix F.2, Table 6; after Karras et al., Training Generative Adversarial Networks with Limited Data,
    arXiv:2006.06676, Appendix B.

    """  # noqa: E501  (a table's row is one line)

    probability: float = 0.12
    xflip: float = 1e8
    yflip: float = 1.0
    scale: float = 1.0
    rotate: float = 1.0
    anisotropy: float = 1.0
    translate: float = 1.0
    scale_std: float = 0.2
    anisotropy_std: float = 0.2
    translate_std: float = 0.125

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            check_number(field.name, value)
            if not 0 <= value < math.inf:
                raise ValueError(f"{field.name} must be a finite number of at least 0, got {value}")
        if self.probability > 1:
            raise ValueError(f"probability must lie between 0 and 1, got {self.probability}")

    @property
    def label_dim(self) -> int:
        """Number of labels for each image: the network's `augment_dim`."""
        return len(LABELS)

    def __call__(
        self, images: Float[Tensor, "batch channels height width"], seeds: Sequence[int]
    ) -> tuple[Float[Tensor, "batch channels height width"], Float32[Tensor, "batch 9"]]:
        """Augment a batch; see `augment`."""
        return augment(images, seeds, **asdict(self))


def augment(
    images: Float[Tensor, "batch channels height width"],
    seeds: Sequence[int],
    probability: float = 0.12,
    *,
    xflip: float = 1e8,
    yflip: float = 1.0,
    scale: float = 1.0,
    rotate: float = 1.0,
    anisotropy: float = 1.0,
    translate: float = 1.0,
    scale_std: float = 0.2,
    anisotropy_std: float = 0.2,
    translate_std: float = 0.125,
) -> tuple[Float[Tensor, "batch channels height width"], Float32[Tensor, "batch 9"]]:
    """Augment each image by its own seed, and say what was done.

    What happens to an image depends on its seed alone: not on the batch, the process or the device. The warp runs on
    the images' device, in at least float32. No gradient flows through.

    Args:
        images: clean images in [-1, 1], (batch, channels, height, width). Warped ones may overshoot a little.
        seeds: one integer for each image.
        probability: as for `Augment`, like all that follow.
        xflip: strength of the x-flip.
        yflip: strength of the y-flip.
        scale: strength of the isotropic scaling.
        rotate: strength of the rotation.
        anisotropy: strength of the anisotropic scaling.
        translate: strength of the translation.
        scale_std: in octaves.
        anisotropy_std: in octaves.
        translate_std: as a share of width and height.

    Returns:
        The augmented images, of the same shape, dtype and device, and their labels, in the order of
        `LABELS`.

    Raises:
        TypeError: if images is not floating, or a seed not an integer.
        ValueError: if images is no batch of images, the seeds are not as many, or an option is out of its range.

    Example:
        >>> import torch
        >>> from passband.data.augment import augment
        >>> images = torch.rand(2, 1, 8, 8)
        >>> same, labels = augment(images, seeds=[3, 4], probability=0)
        >>> torch.equal(same, images), labels.abs().sum().item()
        (True, 0.0)

    """
    options = Augment(
        probability, xflip, yflip, scale, rotate, anisotropy, translate, scale_std, anisotropy_std, translate_std
    )
    check_batch("images", images, dims=(2,))
    height, width = images.shape[2:]
    draws = _draw(_checked_seeds(seeds, len(images)), options)
    with torch.no_grad():
        out = _flipped(_flipped(images, draws.xflip, 3), draws.yflip, 2)
        rows = draws.warped.nonzero().flatten()
        if len(rows):
            chosen = _sent(rows, images.device)
            size = torch.tensor([width, height], dtype=torch.float64)
            shift = draws.translate[rows] * translate_std * size
            out[chosen] = warp(out[chosen], _linear(draws, options)[rows], shift)
    return out, _sent(_labels(draws), images.device)


def warp(
    images: Float[Tensor, "batch channels height width"],
    linear: Float[Tensor, "batch 2 2"],
    shift: Float[Tensor, "batch 2"],
) -> Float[Tensor, "batch channels height width"]:
    r"""Warp each image by an affine map, without aliasing.

    The output at position $p$ is the input at $A (p - s)$, positions being (x to the right, y down) in pixels from the
    image's centre: $s$ moves the content right and down, $A = I/2$ doubles its size, and $A$ = [[0, -1], [1, 0]] turns
    it by 90° counter-clockwise, as `torch.rot90(images, 1, (2, 3))` does. Beyond its borders the image continues by
    reflection about its outermost pixels. It is upsampled twofold with the low-pass of the sym6 wavelet, sampled
    bilinearly at half-pixel steps, and downsampled with the same filter, so that the identity changes nothing.

    Takes about 16 times the images' memory. No gradient flows through.

    Args:
        images: (batch, channels, height, width), of any size.
        linear: the matrices $A$, in (x, y) order: from output to input positions.
        shift: the vectors $s$, (x, y), in pixels.

    Returns:
        The warped images, of the same shape, dtype and device.

    Raises:
        TypeError: if images is not floating.
        ValueError: if images is no batch of images, or linear or shift does not fit it.

    Example:
        >>> import torch
        >>> from passband.data.augment import warp
        >>> images = torch.rand(1, 3, 16, 16)
        >>> torch.allclose(warp(images, torch.eye(2)[None], torch.zeros(1, 2)), images, atol=1e-4)
        True

    Source: Karras et al., arXiv:2006.06676, Appendix B.2.

    """
    check_batch("images", images, dims=(2,))
    if linear.shape != (len(images), 2, 2) or shift.shape != (len(images), 2):
        raise ValueError(
            f"{len(images)} images need linear of shape {(len(images), 2, 2)} and shift of shape {(len(images), 2)}, "
            f"got {tuple(linear.shape)} and {tuple(shift.shape)}"
        )
    (x,) = upcast(images)
    size = x.shape[2], x.shape[3]
    with torch.no_grad(), no_autocast(x):
        linear, shift = (_sent(part, x.device, x.dtype) for part in (linear, shift))
        grid = _sampling_grid(size, linear, shift)
        fine = _along_both(_upsampling, size, x)
        sampled = grid_sample(fine, grid, mode="bilinear", padding_mode="border", align_corners=True)
        out = _along_both(_downsampling, size, sampled)
    return out.to(images.dtype)


class _Draws(NamedTuple):
    """The random numbers of a batch; 0 where a transformation is not enabled. float64, on the CPU."""

    xflip: Tensor
    yflip: Tensor
    scale: Tensor
    rotate: Tensor  # angle
    anisotropy: Tensor
    direction: Tensor  # of the anisotropy, angle
    translate: Tensor  # (batch, 2)

    @property
    def warped(self) -> Tensor:
        """Which images more happens to than flips."""
        return (self.scale != 0) | (self.rotate != 0) | (self.anisotropy != 0) | (self.translate != 0).any(1)


def _checked_seeds(seeds: Sequence[int], count: int) -> list[int]:
    if len(seeds) != count:
        raise ValueError(f"each image needs its own seed, got {len(seeds)} seeds for {count} images")
    if count == 0:
        raise ValueError("images holds no samples; leave empty batches out")
    for seed in seeds:
        check_integer("each seed", seed)
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"a seed must fit into 64 bits, got {seed}")
    return [int(seed) for seed in seeds]


def _draw(seeds: Sequence[int], options: Augment) -> _Draws:
    """All numbers are drawn whatever the options, so that one option never changes another's draws."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    uniform = torch.stack([torch.rand(11, generator=g, dtype=torch.float64) for g in generators]).T
    normal = torch.stack([torch.randn(4, generator=g, dtype=torch.float64) for g in generators]).T
    xflip, yflip, angle, direction, rotated, *enabled = uniform

    def drawn(value: Tensor, which: int, strength: float) -> Tensor:
        return torch.where(enabled[which] < strength * options.probability, value, 0.0)

    turned = torch.where(rotated < 0.5, (2 * direction - 1) * math.pi, 0.0)
    return _Draws(
        xflip=drawn((xflip < 0.5).double(), 0, options.xflip),
        yflip=drawn((yflip < 0.5).double(), 1, options.yflip),
        scale=drawn(normal[0], 2, options.scale),
        rotate=drawn((2 * angle - 1) * math.pi, 3, options.rotate),
        anisotropy=drawn(normal[1], 4, options.anisotropy),
        direction=turned,
        translate=drawn(normal[2:], 5, options.translate).T,
    )


def _labels(draws: _Draws) -> Float32[Tensor, "batch 9"]:
    rotation = draws.rotate.cos() - 1, draws.rotate.sin()
    stretch = draws.anisotropy * draws.direction.cos(), draws.anisotropy * draws.direction.sin()
    columns = [draws.xflip, draws.yflip, draws.scale, *rotation, *stretch, *draws.translate.T]
    return torch.stack(columns, dim=1).to(torch.float32)


def _linear(draws: _Draws, options: Augment) -> Float64[Tensor, "batch 2 2"]:
    """From output to input positions: the inverses of scaling, rotation and stretch, in the order these are done."""
    smaller = torch.exp2(-options.scale_std * draws.scale)[:, None, None]
    stretch = torch.exp2(options.anisotropy_std * draws.anisotropy)
    squeeze = torch.diag_embed(torch.stack([1 / stretch, stretch], dim=1))
    direction = _turn(draws.direction)
    return smaller * _turn(draws.rotate) @ direction.mT @ squeeze @ direction


def _turn(angle: Float64[Tensor, " batch"]) -> Float64[Tensor, "batch 2 2"]:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)


def _flipped(images: Tensor, flips: Tensor, axis: int) -> Tensor:
    chosen = _sent(flips != 0, images.device)[:, None, None, None]
    return torch.where(chosen, images.flip(axis), images)


def _sent(x: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """To the device, from the CPU without waiting for it."""
    return x.to(device, dtype or x.dtype, non_blocking=x.device.type == "cpu")


# The warp. Upsampled sample j stands at pixel j / 2. A signal that continues by reflection about its first and last
# sample has period 2 (n - 1), so one period is all there is to keep, for maps that reach any distance.


def _period(size: int) -> int:
    return max(2 * (size - 1), 1)


@lru_cache(maxsize=1)
def _low_pass() -> tuple[tuple[int, float], ...]:
    """Taps of sym6's low-pass filter with their offsets from the largest, which counts as the centre."""
    return tuple((index - 5, tap) for index, tap in enumerate(pywt.Wavelet("sym6").dec_lo))


@lru_cache(maxsize=64)
def _upsampling(size: int) -> Float64[Tensor, "fine size"]:
    """From one line of an image to one period of it, twofold upsampled, and the first sample again."""
    period = _period(size)
    matrix = torch.zeros(2 * period + 1, size, dtype=torch.float64)
    for pixel in range(-3, period + 4):
        source = size - 1 - abs(size - 1 - pixel % period)
        for offset, tap in _low_pass():
            if 0 <= 2 * pixel + offset <= 2 * period:
                matrix[2 * pixel + offset, source] += tap
    return matrix


@lru_cache(maxsize=64)
def _downsampling(size: int) -> Float64[Tensor, "size fine"]:
    """From samples at -5/2, -4/2 … size + 2 pixels to pixels 0 … size - 1."""
    matrix = torch.zeros(size, 2 * size + 10, dtype=torch.float64)
    for pixel in range(size):
        for offset, tap in _low_pass():
            matrix[pixel, 2 * pixel + offset + 5] = tap
    return matrix


def _along_both(matrix: Callable[[int], Tensor], size: tuple[int, int], x: Tensor) -> Tensor:
    rows, columns = (_sent(matrix(n), x.device, x.dtype) for n in size)
    return rows @ x @ columns.mT


def _sampling_grid(size: tuple[int, int], linear: Tensor, shift: Tensor) -> Tensor:
    """Where the output's half-pixel steps lie in the upsampled input, from -1 to 1 over its period, (x, y) last."""
    height, width = size
    steps = (torch.arange(2 * n + 10, dtype=shift.dtype, device=shift.device) / 2 - 2.5 for n in (height, width))
    centre = _sent(torch.tensor([(width - 1) / 2, (height - 1) / 2]), shift.device, shift.dtype)
    y, x = torch.meshgrid(*steps, indexing="ij")
    position = torch.stack([x, y], dim=-1) - centre - shift[:, None, None, :]
    source = position @ linear.mT[:, None] + centre
    period = _sent(torch.tensor([_period(width), _period(height)]), shift.device, shift.dtype)
    return source.remainder(period) * (2 / period) - 1
