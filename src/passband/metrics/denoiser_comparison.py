"""Two denoisers on the same noisy samples."""

import torch

from passband.metrics.bootstrap import BootstrapMeans
from passband.metrics.contrast import Contrast
from passband.metrics.denoiser_families import Sums, against_family, decide_decibels, split_sums
from passband.metrics.denoiser_result import DenoiserSpectrum

_SAME_RATIO, _SAME_POWER = 1e-3, 1e-4
_SAME_NOISE = 1e-2  # in the filter's error, which ratios that are the same within their tolerance change by less


def compare_denoisers(first: DenoiserSpectrum, second: DenoiserSpectrum) -> Contrast:
    """The error of a second model against a first one's, dB per noise level and band, on the same noisy samples.

    Both were measured with the same samples, noise and levels, so the difference is paired: what both find hard takes
    no part in its error.

    Args:
        first: the reference, such as a model before it was trained with a spectral term.
        second: the model that is compared to it.

    Returns:
        Contrast with axes (noise ratio, band); negative where the second errs less.

    Raises:
        ValueError: if they were measured on other samples, levels or noise.

    """
    _check_same(first, second)
    family = against_family(_sums(first), _sums(second), first.excess.labels)
    (contrast,) = decide_decibels([family], _means(first).effective_groups)
    return contrast


def _check_same(first: DenoiserSpectrum, second: DenoiserSpectrum) -> None:
    if (first.bands, first.size, first.channels) != (second.bands, second.size, second.channels):
        raise ValueError(
            f"both models must take samples of one shape, got {(first.channels, *first.size)} and "
            f"{(second.channels, *second.size)}"
        )
    ratios = torch.tensor(first.ratios), torch.tensor(second.ratios)
    if len(first.ratios) != len(second.ratios) or not torch.allclose(*ratios, rtol=_SAME_RATIO):
        raise ValueError(f"both must be measured at the same noise ratios, got {first.ratios} and {second.ratios}")
    weights = [_means(one).state_dict()["weights"] for one in (first, second)]
    if weights[0].shape != weights[1].shape or not torch.equal(*weights):
        raise ValueError("both must be measured on the same samples, with the same names and bootstrap seed")
    if not torch.allclose(first.power, second.power, rtol=_SAME_POWER):
        raise ValueError(
            "both must be measured on the same samples, and their power differs (latents of two autoencoders are not "
            "the same samples)"
        )
    if not torch.allclose(first.wiener, second.wiener, rtol=_SAME_NOISE):
        raise ValueError("both must be measured on the same noise, and the Wiener filter's errors differ")


def _sums(result: DenoiserSpectrum) -> tuple[Sums, Sums]:
    """Those of all samples, and those of the bootstrap's replicates."""
    means, levels = _means(result), len(result.ratios)
    return split_sums(means.mean, levels, result.floor), split_sums(means.replicate_means, levels, result.floor)


def _means(result: DenoiserSpectrum) -> BootstrapMeans:
    if result.means is None:
        raise ValueError("both must come from DenoiserMeasure.compute, with the means they were computed from")
    return result.means
