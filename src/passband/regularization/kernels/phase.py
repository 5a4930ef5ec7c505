r"""Amplitude and phase together, with the gradient in the spectrum written down.

Per frequency, X of the estimate, Y of the clean sample: $a = |X|$, $A = |Y|$, $p = a^2$, $q = A^2$, e the sample's
floor (of the clean sample alone), $Z = X \bar Y$, $\theta = \text{atan2}(|\text{Im} Z|, \text{Re} Z)$, and the fade

$$c = p K, \quad K = \frac{q}{(p + e^2)(q + e^2)}.$$

Moving X along itself changes a by $dX/a$ and c by $2 a e^2 K / (p + e^2)$; turning it changes $\theta$ alone, by
$\sigma = \text{sign}(\text{Im} Z)$ per radian, that is along $iX/p$, and the 1/p is in c. With $s = \text{sign}(a - A)$
the gradient $G = \partial/\partial \text{Re} X + i\, \partial/\partial \text{Im} X$ of what each coupling sums is

$$G = X \Big( \frac{s\, m}{a} + k K \Big( \frac{2 e^2 \theta}{p + e^2} + i \sigma \Big) \Big)$$

| coupling | summed | m | k |
|---|---|---|---|
| `frequency` | $|A - a|\, (1 + c \theta)$ | $1 + c \theta$ | $|A - a|$ |
| `energy` | $|A - a| + A c \theta$ | 1 | A |
| `norm` | $|A - a|$ and $c \theta$, apart | $1 + \text{mean}\, c \theta$ | $\text{mean}\, |A - a|$ |

G is 0 where $a = 0$; s and $\sigma$ are 0 where their argument is 0, as autograd's of `abs`. Only $X/a$ is singular,
and bounded: K and $a K$ are bounded by $1/e^2$ and $1/e$. G is Hermitian, so that the orthonormal `irfftn(G)` over the
number of values is the gradient of the mean in the field, without half-spectrum weights: only the sums need them.

Squares limit amplitudes in float32 to some 1e19 above, and to 1e-19 below, where the gradient fades to 0.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from passband._backend import by_triton
from passband.regularization._gradient import Gradient
from passband.regularization.kernels.half import chunks, spectrum, whole_sum_

SILENCE = 1e-12
"""Smallest squared amplitude at which a phase counts fully, where a clean sample has no power at all."""


def amplitude_phase(
    estimate: Tensor, clean: Tensor, wanted: bool, coupling: str, rel: float
) -> tuple[Tensor, Gradient | None]:
    """Values and gradient of the loss of amplitude and phase, see `with_gradient`."""
    size, axes = tuple(clean.shape[2:]), tuple(range(2, clean.ndim))
    shape, batch = clean.shape, len(clean)
    count = math.prod(clean.shape[1:])
    # By Parseval's theorem, the root of the spectrum's mean power.
    rms = torch.linalg.vector_norm(clean, dim=(1, *axes)).div_(math.sqrt(count))
    floor = rms.mul_(rel).clamp_(min=math.sqrt(SILENCE))
    if coupling != "norm":  # each channel on its own, so that less is in work at a time
        floor = floor.repeat_interleave(clean.shape[1])
        estimate, clean = (field.reshape(-1, 1, *size) for field in (estimate, clean))
    kept = torch.empty(clean.shape, dtype=clean.dtype, device=clean.device) if wanted else None
    sums = []
    for part in chunks(clean):
        x, y = (spectrum(field[part]) for field in (estimate, clean))
        sums.append(amplitude_phase_(x, y, size[-1], floor[part], coupling, wanted))
        if kept is not None:
            torch.fft.irfftn(x, s=size, dim=axes, norm="ortho", out=kept[part])
    means = (sums[0] if len(sums) == 1 else torch.cat(sums)) / count
    if coupling == "norm":
        values = means[:, 0] * (1 + means[:, 1])
    else:
        values = means.reshape(batch, -1).sum(1)
    return values, None if kept is None else Gradient(kept.reshape(shape), 1 / count)


def amplitude_phase_(x: Tensor, y: Tensor, width: int, floor: Tensor, coupling: str, gradient: bool) -> Tensor:
    r"""Sums over channels and the whole spectrum; where asked for, x is overwritten by the gradient G.

    Args:
        x: half spectrum of the estimate, (batch, channels, \*half), orthonormal; any dense strides.
        y: that of the clean sample; it stays.
        width: length of the field's last axis: columns 0 and, of an even width, Nyquist count once, others twice.
        floor: e of each sample, (batch,), max(rel^2 mean |Y|^2, 1e-12)^(1/2).
        coupling: `frequency`, `energy` or `norm`.
        gradient: whether x becomes G.

    Returns:
        (batch,); for `norm` (batch, 2), the sums of |A - a| and c theta. The means in its G are these over the
        count of one sample's values, channels x (frequencies along all but the last axis) x width.

    """
    if by_triton(x):
        from passband.regularization.kernels import triton_spectrum

        return triton_spectrum.amplitude_phase_(x, y, width, floor, coupling, gradient)
    e2 = floor.square().reshape(-1, *(1,) * (x.ndim - 1))
    c = _compare(x, y, e2)
    radial = c.gap.sign().div_(c.amplitude) if gradient else None
    c.gap.abs_()
    factor = c.clean if coupling == "energy" else c.gap
    m: Tensor | None = None
    if coupling == "norm":
        sums = torch.stack((whole_sum_(c.gap, width), whole_sum_(c.turn, width)), 1)
        factor, m = (sums / (x[0, ..., 0].numel() * width)).T.reshape(2, *e2.shape)
    else:
        sums = whole_sum_(torch.addcmul(c.gap, factor, c.turn), width)
        m = c.turn if coupling == "frequency" else None
    if radial is not None:
        if m is not None:
            radial.addcmul_(radial, m)
        share = c.share.mul_(factor)
        radial.addcmul_(c.angle.mul_(share), torch.div(e2, c.above, out=c.above), value=2)
        x.mul_(torch.complex(radial, share.mul_(c.side)))
    return sums


class _Comparison(NamedTuple):
    gap: Tensor  # a - A
    amplitude: Tensor  # a
    clean: Tensor  # A
    angle: Tensor  # theta
    side: Tensor  # sigma
    above: Tensor  # p + e^2
    share: Tensor  # K
    turn: Tensor  # c theta


def _compare(x: Tensor, y: Tensor, e2: Tensor) -> _Comparison:
    """What both the sums and their gradient are made of; few passes over memory, most of them in place."""
    xr, xi = _parts(x)
    yr, yi = _parts(y)
    p = xr.square().addcmul_(xi, xi)
    q = yr.square().addcmul_(yi, yi)
    re = (xr * yr).addcmul_(xi, yi)
    im = xi.mul_(yr).sub_(xr.mul_(yi))  # two products, so that it is exactly 0 where X = Y or X = -Y
    side = torch.sign(im, out=xr)
    angle = torch.atan2(im.abs_(), re, out=im)
    amplitude, clean = torch.sqrt(p, out=re), torch.sqrt(q, out=yr)
    gap = torch.sub(amplitude, clean, out=yi)
    above = q + e2
    share = q.div_(above).div_(torch.add(p, e2, out=above))
    turn = p.mul_(share).mul_(angle)
    # From here on a divisor of X alone: no smaller than X even where the square of a tiny X is 0.
    amplitude.add_(torch.finfo(p.dtype).tiny ** 0.5)
    return _Comparison(gap, amplitude, clean, angle, side, above, share, turn)


def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary parts, copied apart: what follows is several times as fast on them."""
    return x.real.clone(memory_format=torch.contiguous_format), x.imag.clone(memory_format=torch.contiguous_format)
