"""Phase coherence between scales: whether the details of three octaves meet at common edges."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from passband.metrics.frequency_words import octave_name
from passband.metrics.plane_map import whole_spectrum
from passband.metrics.planes import Planes
from passband.metrics.probes._octaves import LOWEST_HEARD, OCTAVE_TOP

_DEGREES = (0, 45, 90, 135)
_BINS = 2  # of the lowest octave of a triple, at least
_FLAT = 1e-11  # of a sample's power: less is what rounding leaves of an octave without content
_NOTHING = 1e-30
_STEP = 4  # positions between the points at which the finest triple is looked at


class _Octave(NamedTuple):
    """The filters of one octave, folded onto a coarse grid: decimating a signal folds its spectrum.

    Attributes:
        source: which frequencies of the flattened spectrum add up at each frequency of the grid, (orientations, terms,
            points).
        gain: of the filter at each of them; 0 where there are fewer terms.
        grid: points along each axis.

    """

    source: Tensor
    gain: Tensor
    grid: tuple[int, ...]


class PhaseCoherence:
    r"""Local phase coherence across three consecutive octaves, (triples, orientations): 0 for Gaussian fields.

    At an edge, the phases of band-pass responses $z_1, z_2, z_3$ at the frequencies 4ω, 2ω and ω agree, and away from
    it they advance in proportion to the frequency: $\phi_1 - 3 \phi_2 + 2 \phi_3$ stays what it is there, 0 for steps
    and lines. With weights $m = |z_1 z_2 z_3|$,

    $$C = \frac{\sum m \cos(\phi_1 - 3 \phi_2 + 2 \phi_3)}{\sum m},$$

    sums over positions and samples of the gray plane, each response relative to its root mean square in the sample.
    The filters pass one octave each and a quarter turn of wave vectors on one side ($\cos(\pi \log_2(f / f_0))$ times
    $\cos^2(2 \Delta\theta)$), so the octaves of a Gaussian field are independent and its C is 0. A spectrum does not
    see phases: noise of the right colour in the place of detail lowers C, and so does texture that does not line up
    with the edges. Orientations are those of the wave vector: 0° for waves that run horizontally (vertical edges), 45°
    for those that run from the lower left to the upper right.

    Args:
        sample_rate: of audio, Hz: triples that reach below 20 Hz are left out then.

    Example:
        >>> import torch
        >>> from passband.metrics import Planes
        >>> from passband.metrics.probes.coherence import PhaseCoherence
        >>> probe = PhaseCoherence()
        >>> edge = (torch.arange(64) >= 29).float().expand(1, 1, 64, 64)
        >>> block = probe(Planes(edge))
        >>> round(float(probe.derive(block.mean(0))[0, 0]), 1)  # the finest triple, at 0 degrees
        1.0

    Source: Z. Wang and E. P. Simoncelli, Local Phase Coherence and the Perception of Blur (2003); the weights 1, -3, 2
    are those of R. Hassen, Z. Wang and M. Salama, Image Sharpness Assessment Based on Local Phase Coherence (2013).
    """

    name, unit, least = "coherence", "", 0.02
    axes: tuple[str, ...] = ("octaves", "orientation")
    compared = True

    def __init__(self, sample_rate: int | None = None) -> None:
        self.sample_rate = sample_rate

    def check(self, shape: tuple[int, ...]) -> bool:
        """One or two axes, large enough for three octaves."""
        return len(shape) in (2, 3) and len(self._ranges(shape[1:])) > 0

    def __call__(self, planes: Planes) -> Float[Tensor, "batch triples orientations 2"]:
        """Numerator and denominator of each sample."""
        full = whole_spectrum(planes.gray_spectrum, planes.size[-1]).flatten(1)
        least = _FLAT * (full.real.square() + full.imag.square()).sum(1)
        responses = [_responses(full, octave, least) for octave in _filters(planes.size)]
        triples = list(zip(responses, responses[1:], responses[2:], strict=False))[: len(self._ranges(planes.size))]
        return torch.stack([_coherence(*triple) for triple in triples], 1)

    def derive(self, block: Float[Tensor, "*lead triples orientations 2"]) -> Float[Tensor, "..."]:
        """The coherence; 0 where there is no power at all."""
        return block[..., 0] / block[..., 1].clamp_min(torch.finfo(block.dtype).tiny)

    def labels(self, shape: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
        """The range of each triple in cycles per pixel or in Hz, and the angles in degrees."""
        ranges = tuple(octave_name(ends, self.sample_rate) for ends in self._ranges(shape[1:]))
        return ranges, tuple(f"{degrees}°" for degrees in _DEGREES) if len(shape) == 3 else ("along",)

    def _ranges(self, size: tuple[int, ...]) -> list[tuple[float, float]]:
        """Both ends of each triple, cycles per position, finest first."""
        least = 0.0 if self.sample_rate is None else LOWEST_HEARD / self.sample_rate
        tops = (OCTAVE_TOP / 2**triple for triple in range(_triples(size)))
        return [(top / 8, top) for top in tops if top / 8 >= least]


def _triples(size: tuple[int, ...]) -> int:
    """How many triples of octaves fit: from (1/16 ... 1/2] on downwards."""
    return max(int(math.log2(min(size) / _BINS)) - 3, 0)


def _responses(full: Tensor, octave: _Octave, least: Tensor) -> Complex[Tensor, "batch orientations *grid"]:
    """The filters' responses at the points of the octave's grid, relative to their root mean square over it."""
    source, gain = octave.source.to(full.device), octave.gain.to(full.device)
    terms = full.index_select(1, source.flatten()).reshape(-1, *source.shape)
    folded = (terms * gain).sum(2).reshape(len(full), len(source), *octave.grid)
    axes = tuple(range(2, folded.ndim))
    response: Tensor = torch.fft.ifftn(folded, dim=axes, norm="forward")
    power = (response.real.square() + response.imag.square()).mean(axes, keepdim=True)
    # Where there is nothing but what rounding leaves, there is no phase either.
    held = power > least.reshape(-1, *[1] * (power.ndim - 1))
    return response / torch.where(held, power.sqrt(), torch.inf)


def _coherence(fine: Tensor, middle: Tensor, coarse: Tensor) -> Float[Tensor, "batch orientations 2"]:
    """Means over the points of the coarsest of the three grids."""
    fine, middle, coarse = (_every(z, coarse.shape[2:]) for z in (fine, middle, coarse))
    sizes = fine.abs(), middle.abs(), coarse.abs()
    turned = middle.conj()
    # |z1| |z2|^3 |z3|^2 times the cosine, where the weight has each size once.
    product = fine * turned * (turned * coarse).square()
    weight = sizes[0] * sizes[1] * sizes[2]
    cosine = product.real / (weight * sizes[1].square() * sizes[2]).clamp_min(_NOTHING)
    return torch.stack([(weight * cosine).flatten(2).mean(2), weight.flatten(2).mean(2)], -1)


def _every(z: Tensor, grid: torch.Size) -> Tensor:
    for axis, points in enumerate(grid, start=2):
        z = z[(slice(None),) * axis + (slice(None, None, z.shape[axis] // points),)]
    return z


@lru_cache(maxsize=8)
def _filters(size: tuple[int, ...]) -> tuple[_Octave, ...]:
    """The filters of every octave, finest first, on nested grids: each triple is looked at on that of its coarsest."""
    triples = _triples(size)
    coarsest = [math.ceil(side / _STEP / 2 ** (triples - 1)) for side in size]
    index = [torch.fft.fftfreq(side, 1 / side, dtype=torch.float64).round().long() for side in size]
    frequency = torch.meshgrid(*(k / side for k, side in zip(index, size, strict=True)), indexing="ij")
    angular, octaves = _angular(frequency), []
    for number in range(triples + 2):
        grid = tuple(points << (triples - 1 - max(number - 2, 0)) for points in coarsest)
        folded = torch.zeros(size, dtype=torch.long)
        for axis, (k, points) in enumerate(zip(index, grid, strict=True)):
            folded = folded * points + (k % points).reshape([-1 if i == axis else 1 for i in range(len(size))])
        source, gain = _folding(_radial(frequency, number) * angular, folded, math.prod(grid))
        octaves.append(_Octave(source, gain.float(), grid))
    return tuple(octaves)


def _folding(gains: Tensor, folded: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """For each orientation and point of the grid, the frequencies that fall on it and their gains."""
    held = [gain.flatten().nonzero()[:, 0] for gain in gains]
    onto = [folded.flatten()[source] for source in held]
    terms = max(int(torch.bincount(target).max()) for target in onto)
    shape = len(gains), terms, points
    table, values = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=gains.dtype)
    for number, (source, target) in enumerate(zip(held, onto, strict=True)):
        order = target.argsort(stable=True)
        source, target = source[order], target[order]
        first = torch.searchsorted(target, target)  # where the run of equal targets starts
        term = torch.arange(len(target)) - first
        table[number, term, target] = source
        values[number, term, target] = gains[number].flatten()[source]
    return table, values


def _radial(frequency: tuple[Tensor, ...], number: int) -> Tensor:
    """Gain of one octave, counted from the top: 0 at its edges and beyond."""
    radius = torch.stack(frequency).square().sum(0).sqrt()
    octave = torch.log2((radius * 2.0 ** (number + 1.5)).clamp_min(1e-9))
    return torch.where(octave.abs() < 0.5, torch.cos(math.pi * octave), 0.0)


def _angular(frequency: tuple[Tensor, ...]) -> Tensor:
    """Gain of each orientation, on one side of the spectrum only."""
    if len(frequency) == 1:
        return (frequency[0] > 0)[None].double()
    # Rows are numbered downwards, so the vertical frequency is turned.
    angle = torch.atan2(-frequency[0], frequency[1])
    centres = torch.tensor(_DEGREES, dtype=torch.float64).deg2rad()[:, None, None]
    off = torch.remainder(angle - centres + math.pi, 2 * math.pi) - math.pi
    return torch.where(off.abs() < math.pi / 4, torch.cos(2 * off).square(), 0.0)
