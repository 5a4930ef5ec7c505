"""The low-pass of large windows on a CPU: by real FFTs, whose pairs of coefficients are masked where they lie.

Along the last axis the DCT is one real FFT of the even samples followed by the odd ones reversed (Makhoul, 1980):
turned by exp(-i pi k / 2n), entry k holds DCT(k) - i DCT(n - k). Along the first axis it is a complex FFT of these.
With U the spectrum turned along both axes, the DCT is S(k) = (U(k) + i U(n - k)) / 2, and the way back U(k) = S(k) -
i S(n - k). Nothing is unpacked in between: with m the gains of the two parts of S(k), and m' those of S(n - k),
exchanged, the masked U(k) is, part by part, ((m + m') U(k) + (m - m') i U(n - k)) / 2.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from passband._tables import Table, precise
from passband.forcing._gains import Options, gains_at, relative_radius

Size = tuple[int, ...]


class Mask(NamedTuple):
    """Gains of some samples, (batch, 1, columns, 2 * rows): of the spectrum, and of the reversed one."""

    straight: Tensor
    reversed: Tensor | None


def make_mask(cutoffs: Tensor, options: Options) -> Mask:
    """The gains of a window at each cutoff, in the order in which the spectrum lies."""
    size = _two_axes(options.window)
    straight_radii, reversed_radii = _RADII(size, cutoffs.dtype, cutoffs.device)
    c = cutoffs.reshape(-1, 1, 1, 1)
    straight = gains_at(c, straight_radii, options)
    if size[0] == 1:
        return Mask(straight.mul_(2), None)
    mirrored = gains_at(c, reversed_radii, options)
    difference = straight - mirrored
    # Reversed as real numbers, the parts come exchanged; for i U the real one changes its sign too.
    difference[..., ::2].neg_()
    return Mask(straight.add_(mirrored), difference)


def low_pass(x: Tensor, mask: Mask, options: Options, out: Tensor) -> None:
    """Filter windows, (batch, windows, *window), both tensors contiguous; the mask holds a sample, or each of them."""
    rows, columns = size = _two_axes(options.window)
    planes = x.shape[0] * x.shape[1]
    shuffled = x.new_empty(planes, rows, columns)
    _reorder(x, _ORDER, size, shuffled)
    if rows == 1:
        spectrum = torch.fft.rfft(shuffled).mT
    else:
        spectrum = torch.fft.fft(torch.fft.rfft(shuffled).mT)
    spectrum = _masked(spectrum.unflatten(0, x.shape[:2]), mask, size).flatten(0, 1)
    if rows > 1:
        spectrum = torch.fft.ifft(spectrum)
    _reorder(torch.fft.irfft(_transposed(spectrum), n=columns), _ORDER_BACK, size, out)


def _masked(spectrum: Tensor, mask: Mask, size: Size) -> Tensor:
    """Turn, mask and turn back a spectrum, (batch, windows, columns, rows)."""
    rows = size[0]
    turns = _TURNS(size, spectrum.dtype, spectrum.device)
    # One column more, U(n) = -i U(0), makes U(n - k) the reversed of what lies there.
    wide = spectrum.new_empty(*spectrum.shape[:-1], rows + 1)
    turned = wide[..., :rows]
    torch.mul(spectrum, turns[0], out=turned)
    parts = torch.view_as_real(wide).flatten(-2)
    masked = parts[..., : 2 * rows]
    if mask.reversed is None:
        masked.mul_(mask.straight)
    else:
        torch.mul(turned[..., 0], -1j, out=wide[..., rows])
        reversed_parts = parts[..., 2:].flip(-1)
        masked.mul_(mask.straight).addcmul_(reversed_parts, mask.reversed)
    return torch.mul(turned, turns[1], out=spectrum)


def _transposed(x: Tensor) -> Tensor:
    """The transposes of matrices, laid out as such: one by one where each is large, which is the faster copy."""
    result = x.new_empty(x.shape[0], x.shape[2], x.shape[1])
    if x[0].numel() < _LARGE_MATRIX:
        return result.copy_(x.mT)
    for target, matrix in zip(result, x, strict=True):
        target.copy_(matrix.T)
    return result


_LARGE_MATRIX = 2**14


def _reorder(x: Tensor, order: "Table[int]", size: Size, out: Tensor) -> None:
    """Put rows and columns of planes into another order."""
    rows, columns = size
    x = x.view(-1, rows, columns)
    if rows > 1:
        x = x.index_select(1, order(rows, torch.int64, x.device))
    torch.gather(x, 2, order(columns, torch.int64, x.device).expand(x.shape), out=out.view(x.shape))


def _two_axes(window: Size) -> Size:
    return (1, *window) if len(window) == 1 else window


def _evens_then_odds(n: int, device: torch.device) -> Tensor:
    """Where each entry comes from when the even ones stand before the odd ones reversed."""
    i = torch.arange(n, device=device)
    return torch.cat([i[::2], i[1::2].flip(0)])


def _back(n: int, device: torch.device) -> Tensor:
    return _evens_then_odds(n, device).argsort()


def _turns(size: Size, device: torch.device) -> Tensor:
    """W of a plane and half its conjugate, (2, columns // 2 + 1, rows)."""
    rows, columns = (torch.arange(n, device=device).to(precise(device)) / n for n in size)
    angle = (rows + columns[: size[1] // 2 + 1, None]) * (-math.pi / 2)
    return torch.polar(angle.new_tensor([1.0, 0.5]).reshape(2, 1, 1), torch.stack([angle, -angle]))


def _radii(size: Size, device: torch.device) -> Tensor:
    """Relative radii at the parts of each entry, and at the exchanged parts of entry n - k: (2, columns, 2 * rows)."""
    rho = relative_radius(size, precise(device), device)
    k, n = torch.arange(size[1] // 2 + 1, device=device), size[1]
    pairs = torch.stack([rho[:, k], rho[:, (n - k) % n]], dim=-1)
    opposite = pairs[-torch.arange(size[0], device=device) % size[0]].flip(-1)
    return torch.stack([pairs, opposite]).transpose(1, 2).flatten(-2).contiguous()


_ORDER, _ORDER_BACK = Table(_evens_then_odds), Table(_back)
_TURNS, _RADII = Table(_turns, largest=8), Table(_radii, largest=8)
