"""Steps of a wavelet transform between buffers that are allocated once, each with its adjoint."""

from collections.abc import Sequence

import torch
from torch import Tensor

from passband.transforms._extend import edges, retract_


class Stage:
    """A linear step from a source buffer to a target buffer, which may be one and the same."""

    def forward(self) -> None:
        """Write the target."""
        raise NotImplementedError

    def adjoint(self, into: Tensor | None = None) -> None:
        """Write the source, or another tensor of its shape, from the target; it may overwrite the target."""
        raise NotImplementedError


class Copy(Stage):
    """The source, put elsewhere."""

    def __init__(self, source: Tensor, target: Tensor) -> None:
        self.source, self.target = source, target

    def forward(self) -> None:
        """Write the target."""
        self.target.copy_(self.source)

    def adjoint(self, into: Tensor | None = None) -> None:
        """Write the source."""
        (self.source if into is None else into).copy_(self.target)


class Pad(Stage):
    """Samples added in front and behind along one axis, around what is in the middle of a buffer."""

    def __init__(self, buffer: Tensor, axis: int, start: int, length: int, before: int, after: int, mode: str) -> None:
        """Extend `length` samples from `start` on, as a boundary mode says."""
        self.axis, self.before, self.after, self.mode = axis, before, after, mode
        self.middle = buffer.narrow(axis, start, length)
        self.front = buffer.narrow(axis, start - before, before) if before else None
        self.behind = buffer.narrow(axis, start + length, after) if after else None

    def forward(self) -> None:
        """Write the edges."""
        made = edges(self.middle, self.axis, self.before, self.after, self.mode)
        for place, edge in zip((self.front, self.behind), made, strict=True):
            if place is not None and edge is not None:
                place.copy_(edge)

    def adjoint(self, into: Tensor | None = None) -> None:
        """Add the edges to the middle."""
        assert into is None
        retract_(self.middle, self.axis, self.front, self.behind, self.mode)


class Filter(Stage):
    """Correlation with two filters along one axis."""

    def __init__(
        self,
        source: Tensor,
        axis: int,
        bank: Sequence[Sequence[float]],
        stride: int,
        dilation: int,
        target: Tensor,
        gain: float,
    ) -> None:
        """Take the target as two buffers in one, low-pass and high-pass; multiply the adjoint by a gain."""
        count, self.gain, self.phases = target.shape[axis + 1], gain, list[tuple[Tensor, Tensor]]()
        if stride == 2 and axis == source.ndim - 1:
            # Every other number is slow to reach, so they are put apart once.
            apart = source.new_empty((2, *source.shape[:-1], source.shape[-1] // 2))
            self.phases = [(apart[phase], source[..., phase::2]) for phase in (0, 1)]
            self.sources = [apart]
            views = [apart[k % 2].narrow(axis, k // 2, count) for k in range(len(bank[0]))]
        else:
            self.sources = [source]
            span = stride * (count - 1) + 1
            views = [_every(source.narrow(axis, dilation * k, span), axis, stride) for k in range(len(bank[0]))]
        self.outputs = [
            (out, [(view, tap) for view, tap in zip(views, taps, strict=True) if tap != 0])
            for out, taps in zip(target, bank, strict=True)
        ]

    def forward(self) -> None:
        """Write the target."""
        for apart, source in self.phases:
            apart.copy_(source)
        for out, ((first, tap), *others) in self.outputs:
            torch.mul(first, tap, out=out)
            for view, other in others:
                out.add_(view, alpha=other)

    def adjoint(self, into: Tensor | None = None) -> None:
        """Write the source."""
        assert into is None
        for source in self.sources:
            source.zero_()
        for out, terms in self.outputs:
            for view, tap in terms:
                view.add_(out, alpha=tap * self.gain)
        for apart, source in self.phases:
            source.copy_(apart)


class Butterfly(Stage):
    """Sums and differences of neighbouring rows, even - odd."""

    def __init__(self, source: Tensor, axis: int, target: Tensor) -> None:
        """Take the target as two buffers in one, of sums and of differences."""
        self.axis = axis
        self.even, self.odd = _halves(source, axis)
        self.low, self.high = target[0], target[1]

    def forward(self) -> None:
        """Write the target."""
        torch.add(self.even, self.odd, out=self.low)
        torch.sub(self.even, self.odd, out=self.high)

    def adjoint(self, into: Tensor | None = None) -> None:
        """Write the source."""
        even, odd = (self.even, self.odd) if into is None else _halves(into, self.axis)
        torch.add(self.low, self.high, out=even)
        torch.sub(self.low, self.high, out=odd)


class Turn(Stage):
    """Sums and differences of neighbours in memory, odd - even, in the neighbours' places.

    With a pair (even, odd) as a complex number this is the product with 1 - i, and the adjoint the product with 1 + i:
    vectorized, where access to every other number is not.
    """

    def __init__(self, source: Tensor, target: Tensor, gain: float) -> None:
        """Multiply the adjoint by a gain."""
        self.source, self.target, self.factor = _pairs(source), _pairs(target), gain * (1 + 1j)

    def forward(self) -> None:
        """Write the target."""
        torch.mul(self.source, 1 - 1j, out=self.target)

    def adjoint(self, into: Tensor | None = None) -> None:
        """Write the source."""
        torch.mul(self.target, self.factor, out=self.source if into is None else _pairs(into))


class Lift(Stage):
    r"""Add to a target differences of its neighbours in a source, $y_j + \sum_{m \ge 1} r_m (x_{j-m} - x_{j+m})$."""

    def __init__(self, source: Tensor, target: Tensor, axis: int, factors: Sequence[float]) -> None:
        """Lift all but the first and last positions, where a neighbour is missing."""
        margin = len(factors)
        count = target.shape[axis] - 2 * margin
        self.target = target.narrow(axis, margin, count)
        shifts = [(margin + sign * m, -sign * factor) for m, factor in enumerate(factors, 1) for sign in (-1, 1)]
        self.terms = [(source.narrow(axis, shift, count), factor) for shift, factor in shifts]

    def forward(self) -> None:
        """Write the target."""
        for source, factor in self.terms:
            self.target.add_(source, alpha=factor)

    def adjoint(self, into: Tensor | None = None) -> None:
        """Add to the source."""
        assert into is None
        for source, factor in self.terms:
            source.add_(self.target, alpha=factor)


class LiftPairs(Stage):
    """`Lift` along an axis that `Turn` has worked on, where sums and differences alternate in memory.

    It computes for both and masks one of them, in vectors, which takes half the time of every other number.
    """

    def __init__(self, x: Tensor, factors: Sequence[float], lifted: str) -> None:
        """Lift the sums, "a", or the differences, "d", of a buffer (..., 2 x pairs)."""
        margin, rows = len(factors), x.view(-1, x.shape[-1])
        first, length = 2 * margin + (lifted == "d"), x.shape[-1] - 4 * margin - 1
        self.target = rows.narrow(1, first, length)
        self.mask = x.new_zeros(length)
        self.mask[::2] = 1
        self.scratch = x.new_empty(self.target.shape)
        near = 1 if lifted == "a" else -1
        shifts = [(first + near - 2 * m, first + near + 2 * m) for m in range(1, margin + 1)]
        # In pairs differences have the other sign.
        self.terms = [
            (rows.narrow(1, before, length), rows.narrow(1, behind, length), -factor)
            for (before, behind), factor in zip(shifts, factors, strict=True)
        ]

    def forward(self) -> None:
        """Write the target."""
        for before, behind, factor in self.terms:
            torch.sub(before, behind, out=self.scratch)
            self.target.addcmul_(self.scratch, self.mask, value=factor)

    def adjoint(self, into: Tensor | None = None) -> None:
        """Add to the source."""
        assert into is None
        torch.mul(self.target, self.mask, out=self.scratch)
        for before, behind, factor in self.terms:
            before.add_(self.scratch, alpha=factor)
            behind.sub_(self.scratch, alpha=factor)


def _halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    return _every(x, axis, 2), _every(x.narrow(axis, 1, x.shape[axis] - 1), axis, 2)


def _every(x: Tensor, axis: int, step: int) -> Tensor:
    return x[(slice(None),) * axis + (slice(None, None, step),)]


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.view(*x.shape[:-1], x.shape[-1] // 2, 2))
