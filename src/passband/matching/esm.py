"""Encoding Spectrum Matching: the divergence of a latent's spectrum from the flattened spectrum of its image."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_batch, check_number
from passband._numerics import no_autocast, upcast
from passband.matching._forms import FLOOR, REPAIRED, Form, reference_form
from passband.matching.spectrum import check_bins, checked_size

Image = Float[Tensor, "batch channels *spatial"]
Latent = Float[Tensor, "batch latent_channels *latent_spatial"]


def esm_divergence(
    image: Image,
    latent: Latent,
    *,
    delta: int | float = 1.0,
    bins: int = 16,
    reference: bool = False,
    center: bool = False,
    keep_dc: bool = False,
) -> Float[Tensor, " batch"]:
    r"""Kullback-Leibler divergence of a latent's spectrum from the flattened spectrum of its image, per sample.

    $D = \sum_b s_x(b)\, (\log s_x(b) - \log s_z(b))$ over radial bins b; each $s$ is $\log(1 + P)$ over its sum, P the
    power of the orthonormal DCT-II, averaged over channels and each bin. The image's is taken at the latent's size and
    multiplied by $(b + 1)^\delta$ before the logarithm.

    By default P is in units of its own mean, the mean (DC) is left out, the image is band-limited by the ratio of the
    sizes ([`anti_aliased`][passband.matching.anti_aliased]), and bins are rings in cycles per pixel
    ([`spectrum_rings`][passband.matching.spectrum_rings]). So the divergence does not depend on the scale or the mean
    of either, and at $\delta = 0$ it is 0 for any multiple of the anti-aliased image.

    The reference form gives the published implementation's numbers: P in the units of the data, clamped at 1e-8; a 7 x
    7 Gaussian blur ($\sigma$ 1.2) unless the latent is 32 high, then bicubic resizing; bins by the index radius over
    its maximum.

    Args:
        image: (batch, channels, \*spatial), 1 to 3 spatial axes (reference: 2).
        latent: its latent, (batch, channels, \*spatial), not larger than the image; the gradient reaches both.
        delta: how strongly the image's power law is flattened, at least 0.
        bins: number of radial bins, at least 1.
        reference: the published implementation's numbers.
        center: with `reference` only: subtract the spatial mean first.
        keep_dc: with `reference` only: keep the power of the mean in bin 0.

    Returns:
        The divergences, (batch,), in float32 (float64 where an input is).

    Raises:
        TypeError: if an input is not floating, or an option of another kind than above.
        ValueError: if shapes do not fit, the latent is larger than the image, an option is out of range, or `center` or
            `keep_dc` is given without `reference`.

    Example:
        >>> import torch
        >>> from passband.matching import anti_aliased, esm_divergence
        >>> image = torch.randn(2, 3, 64, 64)
        >>> small = anti_aliased(image, (31, 31))
        >>> bool((esm_divergence(image, 5 * small, delta=0.0).abs() < 1e-5).all())
        True

    Source: Spectrum Matching (arXiv:2603.14645), Encoding Spectrum Matching.
    """
    _check_options(delta, bins, reference, center, keep_dc)
    form = reference_form(center, keep_dc) if reference else REPAIRED
    _check_pair(image, latent, form)
    image, latent = upcast(image, latent)
    size = checked_size(tuple(latent.shape[2:]))
    with no_autocast(latent):
        flattening = torch.arange(1, bins + 1, dtype=latent.dtype, device=latent.device) ** float(delta)
        target = form.pool(form.image_power(image, size), bins) * flattening
        own = form.pool(form.latent_power(latent), bins)
        return _divergence(_distribution(target, size, form), _distribution(own, size, form))


def esm_loss(
    image: Image,
    latent: Latent,
    *,
    delta: int | float = 1.0,
    bins: int = 16,
    reference: bool = False,
    center: bool = False,
    keep_dc: bool = False,
) -> Float[Tensor, ""]:
    r"""Encoding Spectrum Matching: the mean of [`esm_divergence`][passband.matching.esm_divergence] over the batch.

    Added to an autoencoder's loss (the paper: times 0.01, in place of the KL term), it makes the latent's spectrum a
    flattened copy of the image's.

    Args:
        image: (batch, channels, \*spatial).
        latent: its latent, (batch, channels, \*spatial), with gradients.
        delta: how strongly the image's power law is flattened, at least 0.
        bins: number of radial bins, at least 1.
        reference: the published implementation's numbers.
        center: with `reference` only: subtract the spatial mean first.
        keep_dc: with `reference` only: keep the power of the mean in bin 0.

    Returns:
        A scalar.

    Raises:
        TypeError, ValueError: as `esm_divergence` does.

    Example:
        >>> import torch
        >>> from passband import esm_loss
        >>> image = torch.randn(2, 3, 64, 64)
        >>> latent = torch.randn(2, 4, 8, 8, requires_grad=True)
        >>> loss = 0.01 * esm_loss(image, latent)
        >>> loss.backward()

    Source: Spectrum Matching (arXiv:2603.14645), Encoding Spectrum Matching.
    """
    return esm_divergence(
        image, latent, delta=delta, bins=bins, reference=reference, center=center, keep_dc=keep_dc
    ).mean()


class ESM(nn.Module):
    """[`esm_loss`][passband.matching.esm_loss] as a module.

    Args:
        delta: how strongly the image's power law is flattened, at least 0.
        bins: number of radial bins, at least 1.
        reference: the published implementation's numbers.
        center: with `reference` only: subtract the spatial mean first.
        keep_dc: with `reference` only: keep the power of the mean in bin 0.

    Raises:
        TypeError: if an option is of another kind than above.
        ValueError: if an option is out of range, or `center` or `keep_dc` is given without `reference`.

    Example:
        >>> import torch
        >>> from passband.matching import ESM
        >>> ESM(delta=0.4)(torch.randn(2, 3, 48, 64), torch.randn(2, 4, 6, 8)).shape
        torch.Size([])

    """

    def __init__(
        self,
        delta: int | float = 1.0,
        bins: int = 16,
        reference: bool = False,
        center: bool = False,
        keep_dc: bool = False,
    ) -> None:
        super().__init__()
        _check_options(delta, bins, reference, center, keep_dc)
        self.delta, self.bins, self.reference = delta, bins, reference
        self.center, self.keep_dc = center, keep_dc

    def forward(self, image: Image, latent: Latent) -> Float[Tensor, ""]:
        """Return [`esm_loss`][passband.matching.esm_loss]."""
        return esm_loss(
            image,
            latent,
            delta=self.delta,
            bins=self.bins,
            reference=self.reference,
            center=self.center,
            keep_dc=self.keep_dc,
        )

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        text = f"delta={self.delta}, bins={self.bins}, reference={self.reference}"
        return f"{text}, center={self.center}, keep_dc={self.keep_dc}" if self.reference else text


def _distribution(power: Tensor, size: tuple[int, ...], form: Form) -> Tensor:
    density = (power / form.unit(power, size)).log1p()
    return density / (density.sum(1, keepdim=True) + FLOOR)


def _divergence(target: Tensor, own: Tensor) -> Tensor:
    return (target * ((target + FLOOR).log() - (own + FLOOR).log())).sum(1)


def _check_options(delta: float, bins: int, reference: bool, center: bool, keep_dc: bool) -> None:
    check_number("delta", delta)
    if not 0 <= delta < math.inf:
        raise ValueError(f"delta must be a finite number of at least 0, got {delta}; the paper uses 1")
    check_bins(bins)
    for name, option in (("reference", reference), ("center", center), ("keep_dc", keep_dc)):
        if not isinstance(option, bool):
            raise TypeError(f"{name} must be True or False, got {option!r}")
    if (center or keep_dc) and not reference:
        raise ValueError(
            "center and keep_dc belong to the reference form, got them without reference=True; "
            "the default form leaves the mean out in any case"
        )


def _check_pair(image: Tensor, latent: Tensor, form: Form) -> None:
    check_batch("image", image, form.dims)
    check_batch("latent", latent, form.dims)
    if image.ndim != latent.ndim or image.shape[0] != latent.shape[0]:
        raise ValueError(
            "image and latent must have the same batch and number of axes, "
            f"got {tuple(image.shape)} and {tuple(latent.shape)}"
        )
    if any(small > large for small, large in zip(latent.shape[2:], image.shape[2:], strict=True)):
        raise ValueError(
            f"the latent must not be larger than the image, got an image of size {tuple(image.shape[2:])} and a latent "
            f"of size {tuple(latent.shape[2:])}; the image comes first, the latent second"
        )
