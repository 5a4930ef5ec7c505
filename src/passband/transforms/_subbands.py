"""The sub-bands of a wavelet transform: their container, their names, and the order of the axes."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

Pair = tuple[Tensor, ...]
"""(Low-pass, high-pass) half of a field along one axis."""


class WaveletCoefficients(NamedTuple):
    r"""Sub-bands of a wavelet transform, with what its inverse needs to know.

    Attributes:
        approximation: the coarsest approximation, (batch, channels, \*coefficients).
        details: one dict of sub-bands per level, **coarsest first**, keyed as in PyWavelets: one letter per spatial
            axis, `a` for low-pass and `d` for high-pass along it, so `d` in 1-d and `ad`, `da`, `dd` in 2-d.
        wavelet: name of the wavelet.
        mode: boundary mode (the stationary transform is always periodic).
        size: spatial shape of the transformed field.
        stationary: whether the transform was the stationary one ([`swt`][passband.transforms.swt]).
        norm: whether the stationary transform was scaled to keep the energy.

    """

    approximation: Tensor
    details: tuple[dict[str, Tensor], ...]
    wavelet: str
    mode: str
    size: tuple[int, ...]
    stationary: bool = False
    norm: bool = False

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.details)

    def subbands(self) -> Iterator[tuple[int, str, Tensor]]:
        """Yield (level, name, coefficients) of each sub-band, coarsest first; level 1 is the finest.

        The approximation comes first, at the coarsest level, named `a`, `aa` or `aaa`.
        """
        yield self.levels, "a" * len(self.size), self.approximation
        for level, bands in zip(range(self.levels, 0, -1), self.details, strict=True):
            for name, band in bands.items():
                yield level, name, band


def check_subbands(coefficients: WaveletCoefficients, sizes: Sequence[tuple[int, ...]]) -> None:
    """Raise unless each level, coarsest first, has all its sub-bands, each of the spatial shape in sizes."""
    approximation, *names = subband_names(len(coefficients.size))
    if not coefficients.details:
        raise ValueError("coefficients have no details; a transform has at least one level")
    lead = tuple(coefficients.approximation.shape[:2])
    bands = [(coefficients.levels, approximation, coefficients.approximation, sizes[0])]
    for level, details, size in zip(range(coefficients.levels, 0, -1), coefficients.details, sizes, strict=True):
        if set(details) != set(names):
            raise ValueError(f"details of level {level} must have the sub-bands {names}, got {sorted(details)}")
        bands += [(level, name, details[name], size) for name in names]
    for level, name, band, size in bands:
        if tuple(band.shape) != (*lead, *size):
            raise ValueError(
                f"sub-band {name!r} of level {level} must have shape {(*lead, *size)} for a field of size "
                f"{coefficients.size}, got {tuple(band.shape)}"
            )


def subband_names(dims: int) -> tuple[str, ...]:
    """Names of one level's sub-bands, the approximation first: for two axes aa, ad, da, dd."""
    names = [""]
    for _ in range(dims):
        names = [name + letter for name in names for letter in "ad"]
    return tuple(names)


def split_axes(x: Tensor, split: Callable[[Tensor, int], Pair]) -> tuple[Tensor, dict[str, Tensor]]:
    """Split every spatial axis in turn by split(field, axis); return the approximation and the details."""
    bands = {"": x}
    for axis in range(2, x.ndim):
        pairs = {name: split(band, axis) for name, band in bands.items()}
        bands = {name + letter: part for name, pair in pairs.items() for letter, part in zip("ad", pair, strict=True)}
    return bands.pop("a" * (x.ndim - 2)), bands


def merge_axes(approximation: Tensor, details: dict[str, Tensor], merge: Callable[[Pair, int], Tensor]) -> Tensor:
    """Undo split_axes by merge(pair, axis), the last axis first."""
    dims = approximation.ndim - 2
    bands = {"a" * dims: approximation, **details}
    for left in reversed(range(dims)):
        bands = {name: merge((bands[name + "a"], bands[name + "d"]), left + 2) for name in subband_names(left)}
    return bands[""]
