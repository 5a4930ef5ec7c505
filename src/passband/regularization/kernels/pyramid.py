"""Weighted L1 of wavelet coefficients of a difference, and its gradient, in buffers that are allocated once.

Only signs of coefficients enter the gradient, so that a transform may leave out its scale: weights then hold it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import product
from typing import NamedTuple

from torch import Tensor

from passband.regularization.kernels.stages import Butterfly, Copy, Filter, Lift, LiftPairs, Pad, Stage, Turn
from passband.transforms._filters import filter_bank

Weights = Mapping[tuple[int, str], float]
"""The weight of a coefficient by level and sub-band."""

MOST_HAAR_LEVELS = 6
"""Of a Triton kernel: a block of 64 x 64 samples still fits into one program's registers."""


class Pyramid:
    """Buffers and steps of the transform of some fields of one size; a subclass adds the levels.

    Args:
        residual: (count, *size), to be filled before each use; it stays as it is.
        levels: number of levels.
        weights: of a coefficient by level and sub-band.

    """

    def __init__(self, residual: Tensor, levels: int, weights: Weights) -> None:
        dims = residual.ndim - 1
        self.residual, self.weights = residual, weights
        self.units = units = _units(levels, dims, weights)
        self.stages: list[list[Stage]] = []
        self.bands: list[Tensor] = []
        self.buffers: list[Tensor] = []
        self.margins: list[Tensor] = []
        self.approximations: list[Tensor] = []
        for level in range(1, levels + 1):
            gain = units[level] / units[level - 1] if units[level] else 0.0
            residual = self.add_level(level, residual, gain)
            self.approximations.append(residual)
        self.factors = [
            (self.band(level, name), weight / units[level] if weight else 0.0)
            for (level, name), weight in weights.items()
            if weight != units[level]
        ]

    def add_level(self, level: int, source: Tensor, gain: float) -> Tensor:
        """Add a level's stages, bands, buffers and margins, its adjoint times a gain; return its approximation."""
        raise NotImplementedError

    def band(self, level: int, name: str) -> Tensor:
        """A sub-band, as a view."""
        raise NotImplementedError

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all buffers, the residual's and the stages' own among them."""
        storages = (x.untyped_storage() for x in _tensors(vars(self)))
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def values(self) -> Tensor:
        """Weighted sums of absolute coefficients, (count,)."""
        self._analyse()
        for buffer in self.buffers:
            buffer.abs_()
        for rest in (*self.margins, *self.approximations[:-1]):
            rest.zero_()
        self._weight()
        dims = self.residual.ndim - 1
        sums = []
        for buffer, unit in zip(self.buffers, self.units[1:], strict=True):
            fields = buffer.ndim - dims - 1  # the axis of fields; those in front are of sub-bands
            sums.append(unit * buffer.sum([axis for axis in range(buffer.ndim) if axis != fields]))
        return sum(sums[1:], start=sums[0])

    def gradient(self, out: Tensor) -> None:
        """Write the gradient of `values` in the residual."""
        self._analyse()
        for buffer in self.buffers:
            buffer.sign_()
        for margin in self.margins:
            margin.zero_()
        self._weight()
        first, *others = [stage for level in self.stages for stage in level]
        for stage in reversed(others):
            stage.adjoint()
        first.adjoint(out)

    def _weight(self) -> None:
        for band, factor in self.factors:
            band.mul_(factor)

    def _analyse(self) -> None:
        for level in self.stages:
            for stage in level:
                stage.forward()


class Filtered(Pyramid):
    """Any wavelet, by its filters; decimated, or with a step of 1 and holes in the filters.

    Args:
        residual: (count, *size).
        levels: number of levels.
        weights: of a coefficient by level and sub-band.
        wavelet: name of the wavelet.
        mode: boundary mode of PyWavelets; None for the stationary transform.

    """

    def __init__(self, residual: Tensor, levels: int, weights: Weights, wavelet: str, mode: str | None) -> None:
        self.bank, self.mode = filter_bank(wavelet).analysis, mode
        super().__init__(residual, levels, weights)

    def add_level(self, level: int, source: Tensor, gain: float) -> Tensor:
        """Pad and filter each axis."""
        dims, stages = source.ndim - 1, list[Stage]()
        dilation = 2 ** (level - 1) if self.mode is None else 1
        buffer, middle, pads = self._room(source.shape, 1, source, dilation)
        stages.append(Copy(source, middle))
        for place in range(dims):
            axis = buffer.ndim - dims + place
            stages += pads
            size, shape = buffer.shape[axis], [2, *buffer.shape]
            stride = 1 if self.mode is None else 2
            shape[axis + 1] = (size - dilation * (len(self.bank[0]) - 1) - 1) // stride + 1
            if place < dims - 1:
                following, target, pads = self._room(shape, axis + 2, source, dilation)
            else:
                following = target = source.new_empty(shape)
            stages.append(Filter(buffer, axis, self.bank, stride, dilation, target, 1.0 if place else gain))
            buffer = following
        self.stages.append(stages)
        self.bands.append(buffer)
        self.buffers.append(buffer)
        return buffer[(0,) * dims]

    def band(self, level: int, name: str) -> Tensor:
        """The axis filtered last lies first."""
        return self.bands[level - 1][tuple("ad".index(letter) for letter in reversed(name))]

    def _room(self, shape: Sequence[int], axis: int, like: Tensor, dilation: int) -> tuple[Tensor, Tensor, list[Stage]]:
        """A buffer with room for what an axis is padded with, its middle, and the stages that pad it."""
        plan = paddings(shape[axis], len(self.bank[0]), self.mode, dilation)
        start, length = sum(before for before, _, _ in plan), shape[axis]
        padded = start + length + sum(after for _, after, _ in plan)
        buffer = like.new_empty((*shape[:axis], padded, *shape[axis + 1 :]))
        return buffer, buffer.narrow(axis, start, length), pad_stages(buffer, axis, start, length, plan)


class Steps(NamedTuple):
    """Haar's wavelet and what a lifting step adds to its sums or to its differences.

    Attributes:
        factors: how much of the difference of the two pairs that lie 1, 2, ... pairs away is added; Haar: none.
        lifted: "a" where differences are added to sums (bior1.3), "d" where sums are added to differences (rbio1.3).

    """

    factors: tuple[float, ...] = ()
    lifted: str = "a"

    @property
    def taps(self) -> int:
        """Length of the wavelet's filters."""
        return 2 + 4 * len(self.factors)


@lru_cache(maxsize=256)
def steps_of(wavelet: str) -> Steps | None:
    """A wavelet's steps, if its low-pass or its high-pass is Haar's and the other filter differs by one lifting."""
    analysis = filter_bank(wavelet).analysis
    pairs = len(analysis[0]) // 2
    if pairs % 2 == 0:
        return None
    center, sums, differences = pairs - 1, (1.0, 1.0), (1.0, -1.0)
    for lifted, (target, other) in (("a", analysis), ("d", analysis[::-1])):
        own, added = (sums, differences) if lifted == "a" else (differences, sums)
        factors = tuple(target[center - 2 * m] / target[center] for m in range(1, pairs // 2 + 1))
        front = [factor * tap for factor in reversed(factors) for tap in added]
        behind = [-factor * tap for factor in factors for tap in added]
        zeros = [0.0] * len(front)
        if _has_form(target, [*front, *own, *behind]) and _has_form(other, [*zeros, *added, *zeros]):
            return Steps(factors, lifted)
    return None


def _has_form(taps: Sequence[float], form: Sequence[float]) -> bool:
    """Whether a filter is a form times Haar's scale, up to its sign."""
    gain = taps[len(taps) // 2 - 1]
    scaled = all(abs(tap - gain * expected) < 1e-12 for tap, expected in zip(taps, form, strict=True))
    return scaled and abs(abs(gain) - 0.5**0.5) < 1e-12


class Lifted(Pyramid):
    """Wavelets of a few steps: butterflies, and one lifting for other than Haar's. Nothing is scaled.

    Args:
        residual: (count, *size).
        levels: number of levels.
        weights: of a coefficient by level and sub-band.
        steps: the wavelet.
        mode: boundary mode of PyWavelets.

    """

    def __init__(self, residual: Tensor, levels: int, weights: Weights, steps: Steps, mode: str) -> None:
        self.steps, self.mode, dims = steps, mode, residual.ndim - 1
        scaled = {(level, name): 0.5 ** (dims * level / 2) * weight for (level, name), weight in weights.items()}
        super().__init__(residual, levels, scaled)

    def add_level(self, level: int, source: Tensor, gain: float) -> Tensor:
        """Pad where needed, and split the last axis within pairs of neighbours."""
        dims, margin, stages = source.ndim - 1, len(self.steps.factors), list[Stage]()
        x = self._padded(source, stages)
        for place in range(dims - 1):
            axis, shape = x.ndim - dims + place, [2, *x.shape]
            shape[axis + 1] //= 2
            halves = x.new_empty(shape)
            stages.append(Butterfly(x, axis, halves))
            x = halves
        turned = x if x is not source else source.new_empty(source.shape)
        if x.stride(-1) != 1:
            stages.append(Copy(x, turned))
            x = turned
        stages.append(Turn(x, turned, gain))
        self.stages.append(stages)
        self.buffers.append(turned)
        if margin:
            self._lift(turned, stages)
            self._add_margins(turned, margin)
            for axis in range(dims, 2 * dims):
                cut = margin if axis < 2 * dims - 1 else 2 * margin
                turned = turned.narrow(axis, cut, turned.shape[axis] - 2 * cut)
        self.bands.append(turned)
        return turned[(0,) * (dims - 1)][..., ::2]

    def band(self, level: int, name: str) -> Tensor:
        """The outer axis split last lies first; the last axis alternates in memory."""
        last, *outer = ("ad".index(letter) for letter in reversed(name))
        return self.bands[level - 1][tuple(outer)][..., last::2]

    def _lift(self, x: Tensor, stages: list[Stage]) -> None:
        factors, lifted = self.steps
        dims = x.ndim // 2
        for place in range(dims - 1):
            low, high = x.unbind(dims - 2 - place)
            source, target = (low, high) if lifted == "d" else (high, low)
            stages.append(Lift(source, target, dims - 1 + place, factors))
        stages.append(LiftPairs(x, factors, lifted))

    def _add_margins(self, x: Tensor, margin: int) -> None:
        """What a lifting step does not reach is no coefficient."""
        dims = x.ndim // 2
        for axis in range(dims, 2 * dims - 1):
            self.margins += [x.narrow(axis, start, margin) for start in (0, x.shape[axis] - margin)]
        self.margins += [x[..., : 2 * margin], x[..., -2 * margin :]]

    def _padded(self, source: Tensor, stages: list[Stage]) -> Tensor:
        """The source with the samples that the boundary mode adds, an even number along each axis."""
        plans = [paddings(n, self.steps.taps, self.mode) for n in source.shape[1:]]
        if not any(before or after for plan in plans for before, after, _ in plan):
            return source
        starts = [sum(before for before, _, _ in plan) for plan in plans]
        behind = [sum(after for _, after, _ in plan) for plan in plans]
        shape = [start + n + after for start, n, after in zip(starts, source.shape[1:], behind, strict=True)]
        buffer = source.new_empty((len(source), *shape))
        views = [buffer]
        for axis in range(source.ndim - 1, 0, -1):
            views.insert(0, views[0].narrow(axis, starts[axis - 1], source.shape[axis]))
        stages.append(Copy(source, views[0]))
        # Each axis over the full length of those before it.
        for axis, plan in enumerate(plans, 1):
            stages += pad_stages(views[axis], axis, starts[axis - 1], source.shape[axis], plan)
        return buffer


def pad_stages(buffer: Tensor, axis: int, start: int, length: int, plan: Sequence[tuple[int, int, str]]) -> list[Stage]:
    """The stages that pad what lies in the middle of a buffer, step by step."""
    stages = list[Stage]()
    for before, after, mode in plan:
        if before or after:
            stages.append(Pad(buffer, axis, start, length, before, after, mode))
        start, length = start - before, before + length + after
    return stages


def paddings(size: int, taps: int, mode: str | None, dilation: int = 1) -> list[tuple[int, int, str]]:
    """Samples in front and behind, and how they continue the signal, one step after the other."""
    edge = taps // 2 - 1
    if mode is None:
        return [(dilation * edge, dilation * (edge + 1), "periodic")]
    if mode == "periodization":
        return [(0, size % 2, "constant"), (edge, edge, "periodic")]
    return [(taps - 2, 2 * ((size + taps - 1) // 2) - size, mode)]


def _tensors(found: object) -> Iterator[Tensor]:
    """All tensors in dictionaries, sequences and stages."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Stage):
        yield from _tensors(vars(found))
    elif isinstance(found, dict | list | tuple):
        for part in found.values() if isinstance(found, dict) else found:
            yield from _tensors(part)


def _units(levels: int, dims: int, weights: Weights) -> list[float]:
    """Per level, what its signs are in units of, so that sub-bands of equal weights need no product; in front, 1."""
    units = [abs(weights[levels, "a" * dims])]
    details = ["".join(letters) for letters in product("ad", repeat=dims)][1:]
    for level in range(levels, 0, -1):
        units.insert(0, max(abs(weights[level, name]) for name in details) or units[0])
    return [1.0, *units[:-1]]
