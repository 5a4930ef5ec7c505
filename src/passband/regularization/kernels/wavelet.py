"""Weighted L1 of a wavelet transform of a difference, with its gradient."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from passband._backend import by_triton
from passband.regularization._gradient import Gradient
from passband.regularization.kernels.pyramid import (
    MOST_HAAR_LEVELS,
    Filtered,
    Lifted,
    Pyramid,
    Steps,
    Weights,
    steps_of,
)
from passband.transforms import WaveletCoefficients, dwt, swt
from passband.transforms._subbands import subband_names

_CHUNK = 2**20
"""Bytes of a residual to work on at a time, per thread of a CPU: small for its caches, large for Python."""


_Kernel = Callable[[Tensor, Tensor, int, list[list[float]], bool], tuple[Tensor, Tensor | None]]


class _Workers(NamedTuple):
    unit: tuple[int, ...]
    """The shape of a field, or of the part of one that can be transformed by itself."""
    of: Callable[[int], Pyramid]
    """What computes for so many of them."""


class WaveletL1(NamedTuple):
    """A weighted sum of absolute wavelet coefficients.

    Attributes:
        wavelet: name of the wavelet.
        levels: number of levels.
        mode: boundary mode.
        stationary: whether the transform is the undecimated one.
        weights: the weight of a coefficient by level and sub-band, the approximation's first.

    """

    wavelet: str
    levels: int
    mode: str
    stationary: bool
    weights: Weights

    def plain(self, x: Tensor, y: Tensor) -> Tensor:
        """Values for a difference x - y, (batch,)."""
        found = self.transform(x - y).subbands()
        sums = [self.weights[level, name] * band.abs().flatten(1).sum(1) for level, name, band in found]
        return sum(sums[1:], start=sums[0])

    def transform(self, x: Tensor) -> WaveletCoefficients:
        """Transform a field."""
        if self.stationary:
            return swt(x, self.wavelet, self.levels)
        return dwt(x, self.wavelet, self.levels, self.mode)

    def by_hand(self, x: Tensor, y: Tensor, wanted: bool) -> tuple[Tensor, Gradient | None]:
        """Values and gradient for a difference x - y, see `with_gradient`."""
        scale = max(0.5 ** ((x.ndim - 2) * level / 2) * abs(weight) for (level, _), weight in self.weights.items())
        if not scale:
            return x.new_zeros(len(x)), Gradient(torch.zeros_like(x)) if wanted else None
        loss = self._replace(weights={key: weight / scale for key, weight in self.weights.items()})
        kernel = loss.kernel(x)
        if kernel is None:
            values, gradient = _in_chunks(x, y, loss, wanted)
        else:
            values, gradient = kernel(x, y, self.levels, loss.lists(x.ndim - 2), wanted)
        return values * scale, None if gradient is None else Gradient(gradient, scale)

    def workers(self, like: Tensor) -> _Workers:
        """What computes it for fields of one shape."""
        unit, steps = tuple(like.shape[2:]), None if self.stationary else steps_of(self.wavelet)
        if steps == Steps():
            unit = _block(unit, 2**self.levels)

        def make(count: int) -> Pyramid:
            residual = like.new_empty((count, *unit))
            if steps is not None:
                return Lifted(residual, self.levels, self.weights, steps, self.mode)
            return Filtered(residual, self.levels, self.weights, self.wavelet, None if self.stationary else self.mode)

        # Under a mode such as FakeTensorMode, buffers may hold nothing.
        plain = like.device.type == "cpu" and type(like) is Tensor and not torch._C._len_torch_dispatch_stack()  # noqa: SLF001
        if not plain:
            return _Workers(unit, make)
        key = *self[:4], *self.weights.items(), unit, like.dtype
        return _Workers(unit, lambda count: _kept.worker((count, *key), partial(make, count)))

    def kernel(self, x: Tensor) -> _Kernel | None:
        """The Triton kernel that computes it, if there is one and it is to run."""
        if self.stationary or x.ndim > 4:
            return None
        whole_blocks = not any(n % 2**self.levels for n in x.shape[2:])
        if steps_of(self.wavelet) == Steps() and whole_blocks and self.levels <= MOST_HAAR_LEVELS and by_triton(x):
            from passband.regularization.kernels.triton_wavelet import haar_l1

            return haar_l1
        if self.wavelet == "bior1.3" and self.mode == "symmetric" and by_triton(x):
            from passband.regularization.kernels.triton_lifted import bior13_l1

            return bior13_l1
        return None

    def lists(self, dims: int) -> list[list[float]]:
        """Weights as kernels take them: the details of each level, finest first, and the approximation's."""
        names = subband_names(dims)
        details = [[self.weights[level, name] for name in names[1:]] for level in range(1, self.levels + 1)]
        return [*details, [self.weights[self.levels, names[0]]]]


def _block(size: tuple[int, ...], rows: int) -> tuple[int, ...]:
    """Part of a field that can be transformed by itself: rows of its first axis, as many as a block of Haar has."""
    if size[0] % rows:
        return size
    # A block of a signal is small, so take several.
    while len(size) == 1 and rows < 2**14 and size[0] % (2 * rows) == 0:
        rows *= 2
    return rows, *size[1:]


class _Kept(threading.local):
    """Workers of the latest shapes and options, whose buffers a next step of a training can use again at once."""

    def __init__(self) -> None:
        self.workers: OrderedDict[Hashable, Pyramid] = OrderedDict()

    def worker(self, key: Hashable, make: Callable[[], Pyramid]) -> Pyramid:
        """The worker of a key, made if it is not there."""
        found = self.workers.pop(key, None)
        if found is not None:
            self.workers[key] = found
            return found
        with torch.inference_mode(False):
            found = make()
        most = _KEPT_BYTES * torch.get_num_threads()
        if found.nbytes <= most:
            self.workers[key] = found
            while len(self.workers) > _KEPT or sum(worker.nbytes for worker in self.workers.values()) > most:
                self.workers.popitem(last=False)
        return found


_KEPT = 16
_KEPT_BYTES = 2**26
"""Of all buffers that a thread keeps, per thread that PyTorch computes with: a worker takes 2 to 17 times the bytes of
a chunk, and with a stationary transform about 3 (signal), 7 (image) or 16 times (volume) per level."""
_kept = _Kept()


def _in_chunks(x: Tensor, y: Tensor, loss: WaveletL1, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """Sums of absolute coefficients, (batch,), and their gradient."""
    workers = loss.workers(x)
    each = prod(x.shape[1:]) // prod(workers.unit)
    fields, others = (z.reshape(each * len(x), *workers.unit) for z in (x, y))
    sums = x.new_empty(len(fields))
    gradient = torch.empty_like(fields, memory_format=torch.contiguous_format) if wanted else None
    for part in _parts(fields):
        worker = workers.of(part.stop - part.start)
        torch.sub(fields[part], others[part], out=worker.residual)
        if gradient is None:
            sums[part] = worker.values()
            continue
        worker.gradient(gradient[part])
        # The loss is homogeneous: it is the product of its argument and its gradient.
        product = torch.mul(worker.residual, gradient[part], out=worker.residual)
        torch.sum(product.flatten(1), 1, out=sums[part])
    values = sums.reshape(len(x), each).sum(1)
    return values, None if gradient is None else gradient.reshape(x.shape)


def _parts(fields: Tensor) -> Iterator[slice]:
    """Parts to work on at a time: everything at once on a GPU."""
    count, step = len(fields), len(fields)
    if fields.device.type == "cpu" and count:
        most = _CHUNK * torch.get_num_threads() // (fields.element_size() * max(1, prod(fields.shape[1:])))
        step = -(-count // -(-count // max(1, most)))
    for start in range(0, count, max(1, step)):
        yield slice(start, min(start + step, count))
