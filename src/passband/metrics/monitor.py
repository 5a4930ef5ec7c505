"""Where a denoiser's spectrum is wrong, watched while it is trained: a few samples, every so many steps."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_batch, check_integer
from passband._numerics import no_autocast
from passband._seeds import seed_for
from passband.forcing import Attachment
from passband.metrics.contrast import Contrast
from passband.metrics.denoiser_families import calibrated
from passband.metrics.denoiser_result import DenoiserSpectrum
from passband.metrics.denoiser_spectrum import DenoiserMeasure
from passband.metrics.noise_levels import level_name, noise_levels, noise_range
from passband.metrics.pixel_bands import PixelBands
from passband.metrics.wiener import WienerFilter, measure_wiener
from passband.process import Process
from passband.sampling import SampleNoise, predict
from passband.transforms import band_pool, radial_bins

#: Noise levels that are watched by default, as sigma / alpha: below 0.3 the details of photographs are decided.
RATIOS = (0.03, 0.1, 0.3, 1.0)
#: Frequencies between which the logged numbers are pooled, in cycles per pixel: octaves, and all below them.
EDGES = (0.0, 0.0625, 0.125, 0.25, 0.5)


class SpectrumMonitor:
    r"""The error of clean estimates per noise level and frequency band, every so many steps of a training.

    At each noise ratio r the same noise is added to the same samples, and
    [`DenoiserMeasure`][passband.metrics.DenoiserMeasure] looks at the network's clean estimates: their error over that
    of the Wiener filter for the samples' own power spectrum, in dB, and their calibration
    $10 \log_{10}(E|\hat X|^2 / E[\hat X X])$, which is negative where an estimate is too smooth. Samples and noise
    never change, so what changes between two measurements is the network.

    Between measurements nothing is computed. A measurement calls the network once for each level, in evaluation mode
    and without gradients. Modes and random state are as before afterwards, so a training is the same with it and
    without.

    Args:
        process: the process that the network is trained with.
        clean: a few samples (16, say), (batch, channels, \*spatial). They follow a network that is a module to its
            device; for any other callable they lie where it takes them.
        every: steps between measurements.
        ratios: sigma / alpha of the noise levels; default: 0.03, 0.1, 0.3 and 1, as far as the process reaches them.
        conditioning: further keyword arguments of the network, for these samples.
        wiener: the filter to compare with; default: that of the samples' power, averaged over rings of frequency.
        seed: of the noise.
        batch_size: samples in one call of the network; default: all.

    Attributes:
        latest: what was measured last, None before: noise levels by bands of half an octave, for a picture.

    Raises:
        TypeError: if the samples are not floating, or a number is none.
        ValueError: if there are no samples, one is not finite, `every` or the batch size is below 1, or the process
            does not reach a level.

    Example:
        >>> import torch
        >>> from passband import Flow
        >>> from passband.metrics import SpectrumMonitor
        >>> images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).cumsum(-1).cumsum(-2) / 64
        >>> monitor = SpectrumMonitor(Flow(data_at=1, prediction="sample"), images, every=100, ratios=[0.1])
        >>> print(monitor(99, lambda x, t: 0.9 * x))
        None
        >>> list(monitor(100, lambda x, t: 0.9 * x))[3]
        'spectrum/excess/noise-0.1/0.25-0.5'

    """

    def __init__(
        self,
        process: Process,
        clean: Float[Tensor, "batch channels *spatial"],
        every: int = 500,
        *,
        ratios: Sequence[float] | None = None,
        conditioning: Mapping[str, Tensor] | None = None,
        wiener: WienerFilter | None = None,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        _check_least("every", every, "the number of steps between measurements")
        _check_samples(clean)
        self.process, self.every = process, every
        self._levels = noise_levels(process, _usual(process) if ratios is None else ratios)
        self._clean = clean.detach().float()
        self._seeds = [seed_for(seed, index, "monitor") for index in range(len(clean))]
        self._noise = SampleNoise(self._seeds).normal(clean.shape[1:]).to(clean.device)
        self._conditioning = dict(conditioning or {})
        self._batch_size = len(clean) if batch_size is None else batch_size
        _check_least("batch_size", self._batch_size, "the number of samples in one call of the network")
        self._wiener = _ring_filter(self._clean) if wiener is None else wiener
        self.latest: DenoiserSpectrum | None = None

    def due(self, step: int) -> bool:
        """Whether a step is one that is measured."""
        check_integer("step", step)
        return step % self.every == 0

    def __call__(self, step: int, model: Callable[..., Any]) -> dict[str, float] | None:
        """Measure the model if the step is due.

        Args:
            step: the training's.
            model: what `passband.sampling.predict` calls: a network of (input, times).

        Returns:
            The numbers of [`spectrum_scalars`][passband.metrics.spectrum_scalars]; None in other steps.

        Raises:
            TypeError: if the step is no integer: a number on an accelerator would be waited for in every step.
            ValueError: if the model's output does not fit the samples, or is not finite.

        """
        return spectrum_scalars(self.measure(model)) if self.due(step) else None

    @torch.no_grad()
    def measure(self, model: Callable[..., Any]) -> DenoiserSpectrum:
        """Measure the model now, and keep the result as `latest`.

        Raises:
            ValueError: if the model's output does not fit the samples, or is not finite.

        """
        self.to(_device_of(model, self._clean.device))
        ratios, times = [level.ratio for level in self._levels], [level.time for level in self._levels]
        measure = DenoiserMeasure(ratios, times, wiener=self._wiener)
        with _undisturbed(model, self._clean.device):
            for start in range(0, len(self._clean), self._batch_size):
                part = slice(start, start + self._batch_size)
                estimates = [self._estimate(model, part, level.t(self._clean.device)) for level in self._levels]
                with no_autocast(self._clean):
                    keys = [str(seed) for seed in self._seeds[part]]
                    measure.update(self._clean[part], self._noise[part], estimates, keys)
        self.latest = measure.compute()
        return self.latest

    def to(self, device: torch.device | str) -> "SpectrumMonitor":
        """Move the samples, their noise and conditions to a device, and return self."""
        self._clean, self._noise = self._clean.to(device), self._noise.to(device)
        self._conditioning = {name: value.to(device) for name, value in self._conditioning.items()}
        return self

    def _estimate(self, model: Callable[..., Any], part: slice, t: Tensor) -> Tensor:
        noisy = self.process.add_noise(self._clean[part], self._noise[part], t)
        conditioning = {name: _of(part, value, len(self._clean)) for name, value in self._conditioning.items()}
        pred = predict(model, self.process, noisy, t, conditioning)
        return self.process.clean_estimate(noisy, pred.float(), t)


def spectrum_scalars(
    result: DenoiserSpectrum, *, edges: Sequence[float] = EDGES, prefix: str = "spectrum"
) -> dict[str, float]:
    """What trackers show of a measured denoiser: excess and calibration in dB, pooled over a few wide bands.

    Named like `spectrum/excess/noise-0.1/0.25-0.5`: noise ratio, and frequencies in cycles per pixel. Bands that hold
    nothing are left out.

    Args:
        result: what was measured.
        edges: ends of the pooled bands, rising, in cycles per pixel.
        prefix: what stands before the names.

    """
    pooled = {"excess": _pooled_excess(result, edges), "calibration": _pooled_calibration(result, edges)}
    names = [f"{low:.3g}-{high:.3g}" for low, high in pairwise(edges)]
    return {
        f"{prefix}/{kind}/noise-{level_name(ratio)}/{name}": value
        for kind, rows in pooled.items()
        for ratio, row in zip(result.ratios, rows.tolist(), strict=True)
        for name, value in zip(names, row, strict=True)
        if math.isfinite(value)
    }


def _pooled_excess(result: DenoiserSpectrum, edges: Sequence[float]) -> Tensor:
    return _decibels(*_pooled(result, edges, result.excess, result.relative, result.wiener))


def _pooled_calibration(result: DenoiserSpectrum, edges: Sequence[float]) -> Tensor:
    found = result.calibration
    return _decibels(*calibrated(*_pooled(result, edges, found, found.value, found.reference, 1 - result.wiener)))


def _pooled(result: DenoiserSpectrum, edges: Sequence[float], shown: Contrast, *shares: Tensor) -> list[Tensor]:
    """Shares of the data's power, summed over the wide bands where there is a number, (levels, wide bands) each."""
    energy = result.power * PixelBands(result.size).counts * result.channels + result.floor
    middle = torch.tensor([(low * high) ** 0.5 for low, high in result.bands])
    inside = torch.stack([(middle > low) & (middle < high) for low, high in pairwise(edges)], 1).double()
    there = ~shown.difference.isnan()
    return [torch.where(there, share * energy, 0) @ inside for share in shares]


def _decibels(value: Tensor, reference: Tensor) -> Tensor:
    """10·log10 of the ratio; not finite where a band holds nothing."""
    return 10 * (value / reference).log10()


def _device_of(model: object, default: torch.device) -> torch.device:
    """Where a module's parameters lie; the default for any other callable."""
    network = _network_of(model)
    return default if network is None else next((one.device for one in network.parameters()), default)


def _network_of(model: object) -> nn.Module | None:
    network = model.model if isinstance(model, Attachment) else model
    return network if isinstance(network, nn.Module) else None


def _usual(process: Process) -> list[float]:
    lowest, highest = noise_range(process)
    return [ratio for ratio in RATIOS if lowest <= ratio <= highest] or [math.sqrt(lowest * highest)]


def _ring_filter(clean: Tensor) -> WienerFilter:
    """The filter of a few samples: their power per coefficient is too rough, that of whole rings is not."""
    with no_autocast(clean):
        found = measure_wiener(clean)
    bins = radial_bins(found.size, "dct")
    return WienerFilter(band_pool(found.psd, bins, int(bins.max()) + 1)[:, bins], found.basis)


@contextmanager
def _undisturbed(model: object, device: torch.device) -> Iterator[None]:
    """Evaluation mode; modes and random state as before afterwards.

    Modules' own `eval` is not called: some fold weights together there, and unfolding rounds.
    """
    network = _network_of(model)
    training = [] if network is None else [part for part in network.modules() if part.training]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            for part in training:
                part.training = False
            yield
        finally:
            for part in training:
                part.training = True


def _of(part: slice, value: Tensor, count: int) -> Tensor:
    """Some samples' share of a condition; one that all samples have in common is passed on whole."""
    return value[part] if value.ndim and len(value) == count else value


def _check_least(name: str, value: int, what: str) -> None:
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name} is {what}, at least 1; got {value}")


def _check_samples(clean: Tensor) -> None:
    check_batch("clean", clean)
    if len(clean) == 0:
        raise ValueError("clean must hold at least one sample, got none; 16 are enough for a picture")
    bad = (~clean.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"clean must be finite, and the samples at {bad} are not: leave them out")
