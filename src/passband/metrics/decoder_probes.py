"""Does a decoder turn a low-passed, scaled or turned latent into the low-passed, scaled or turned image?"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from passband.matching import dsm_mask, eq_transform
from passband.transforms import dct, idct, radial_grid

Decode = Callable[[Tensor], Tensor]

CORNERS: tuple[int, ...] = (4, 8, 10, 12, 14)
CUTS: tuple[float, ...] = (0.25, 0.5, 0.75)
TRANSFORMS: tuple[tuple[float, int], ...] = ((0.5, 0), (0.75, 0), (1.0, 1))


class Probed(NamedTuple):
    """What a probe finds in a batch, to be streamed by [`SampleMeans`][passband.metrics.SampleMeans].

    Attributes:
        values: name to one number per sample.
        ratios: name to a numerator and a denominator per sample.

    """

    values: dict[str, Tensor]
    ratios: dict[str, tuple[Tensor, Tensor]]

    def ratio(self, name: str) -> float:
        """The ratio over this batch."""
        above, below = self.ratios[name]
        return float(above.sum() / below.sum())


def low_pass_probe(
    images: Float[Tensor, "batch image_channels image_height image_width"],
    latents: Float[Tensor, "batch channels height width"],
    decode: Decode,
    *,
    decoded: Float[Tensor, "batch image_channels image_height image_width"] | None = None,
    corners: Sequence[int] = CORNERS,
) -> Probed:
    r"""How well $D(M z)$ gives $M x$, $M$ the block-DCT low-pass of [`dsm_mask`][passband.matching.dsm_mask].

    The change that is made, $a = D(z) - D(M z)$, is compared with the one that is asked for, $b = D(z) - M D(z)$:
    `agreement` $= 2 \langle a, b \rangle / (\lVert a \rVert^2 + \lVert b \rVert^2)$ is 1 where both are the same, 0
    where they have nothing in common or one of them is nothing, -1 where they are opposite. It does not depend on how
    good the reconstruction is; over samples it is a ratio of sums.

    Args:
        images: in [-1, 1].
        latents: theirs.
        decode: turns latents into images.
        decoded: `decode(latents)`, if it is there already.
        corners: corners k of the low-pass, 1 (hardly any) to 14 (the mean of each block alone).

    Returns:
        For each corner k: `low_pass.K.agreement`, and the mean squared errors against $M x$: `low_pass.K.error` of
        $D(M z)$ and `low_pass.K.ideal` of $M D(z)$.

    Raises:
        ValueError: if the decoded images are of another shape than the images.

    Example:
        >>> import torch
        >>> from passband.metrics import low_pass_probe
        >>> x = torch.rand(2, 3, 16, 16) * 2 - 1
        >>> found = low_pass_probe(x, x, lambda latents: latents, corners=(8,))
        >>> sorted(found.values), round(found.ratio("low_pass.8.agreement"), 4)
        (['low_pass.8.error', 'low_pass.8.ideal'], 1.0)

    Source:
        arXiv:2603.14645 (decoding spectrum matching).

    """
    plain = decoded_like(images, decode(latents) if decoded is None else decoded)
    found = Probed({}, {})
    for corner in corners:
        low_images, low_latents = dsm_mask(images, latents, corner)
        low_plain, _ = dsm_mask(plain, latents, corner)
        other = decoded_like(low_images, decode(low_latents))
        _compare(found, f"low_pass.{corner}", plain, low_images, low_plain, other)
    return found


def cut_probe(
    images: Float[Tensor, "batch image_channels image_height image_width"],
    latents: Float[Tensor, "batch channels height width"],
    decode: Decode,
    *,
    decoded: Float[Tensor, "batch image_channels image_height image_width"] | None = None,
    cuts: Sequence[float] = CUTS,
) -> Probed:
    r"""How well $D(L z)$ gives $L x$, $L$ an ideal low-pass of the whole field at one frequency in cycles per image.

    Where `dsm_mask` keeps the same share of both bands, this keeps the same waves: an autoencoder that is nothing but
    resampling passes it.

    Args:
        images: in [-1, 1].
        latents: theirs.
        decode: turns latents into images.
        decoded: `decode(latents)`, if it is there already.
        cuts: cutoffs as shares of the latent's Nyquist frequency along its shortest side, in (0, 1).

    Returns:
        For each cutoff: `cut.SHARE.agreement`, `.error` and `.ideal`, as in
        [`low_pass_probe`][passband.metrics.low_pass_probe].

    Raises:
        ValueError: if the decoded images are of another shape than the images.

    Example:
        >>> import torch
        >>> from passband.matching import anti_aliased
        >>> from passband.metrics import cut_probe
        >>> x = anti_aliased(torch.rand(2, 3, 16, 16), (8, 8))
        >>> found = cut_probe(x, x, lambda latents: latents, cuts=[0.5])
        >>> round(found.ratio("cut.0.5.agreement"), 4)
        1.0

    """
    plain = decoded_like(images, decode(latents) if decoded is None else decoded)
    found = Probed({}, {})
    for cut in cuts:
        radius = cut * min(latents.shape[2:])
        low = _cut(images, radius)
        other = decoded_like(low, decode(_cut(latents, radius).to(latents.dtype)))
        _compare(found, f"cut.{cut:g}", plain, low, _cut(plain, radius), other)
    return found


def equivariance_probe(
    images: Float[Tensor, "batch image_channels image_height image_width"],
    latents: Float[Tensor, "batch channels height width"],
    decode: Decode,
    *,
    decoded: Float[Tensor, "batch image_channels image_height image_width"] | None = None,
    transforms: Sequence[tuple[float, int]] = TRANSFORMS,
) -> Probed:
    r"""How well $D(\tau z)$ gives $\tau x$, $\tau$ a scaling and quarter turns.

    The transform is that of [`eq_transform`][passband.matching.eq_transform]. `missed` is the share of the variance of
    $\tau D(z)$, decoded first and transformed then, that $D(\tau z)$ misses: 0 for an equivariant decoder, 1 for one
    that gives the mean, however good the reconstruction.

    Args:
        images: in [-1, 1].
        latents: theirs.
        decode: turns latents into images, of other sizes too.
        decoded: `decode(latents)`, if it is there already.
        transforms: pairs (scale, quarter turns).

    Returns:
        For each pair: `equivariance.SCALE.TURNS.missed`, and the mean squared errors against $\tau x$: `.error` of
        $D(\tau z)$ and `.ideal` of $\tau D(z)$.

    Raises:
        ValueError: if the decoded images are of another shape than the images.

    Example:
        >>> import torch
        >>> from passband.metrics import equivariance_probe
        >>> x = torch.rand(2, 3, 16, 16) * 2 - 1
        >>> found = equivariance_probe(x, x, lambda latents: latents, transforms=[(0.5, 0), (1.0, 1)])
        >>> [round(found.ratio(name), 6) for name in found.ratios]
        [0.0, 0.0]

    Source:
        Kouzelis et al., EQ-VAE, arXiv:2502.09509.

    """
    plain = decoded_like(images, decode(latents) if decoded is None else decoded)
    found = Probed({}, {})
    for scale, turns in transforms:
        new_images, new_latents = eq_transform(images, latents, scale, turns)
        new_plain, _ = eq_transform(plain, latents, scale, turns)
        other = decoded_like(new_images, decode(new_latents))
        name = f"equivariance.{scale:g}.{turns}"
        found.values[f"{name}.error"] = _squared(other - new_images)
        found.values[f"{name}.ideal"] = _squared(new_plain - new_images)
        found.ratios[f"{name}.missed"] = _missed(other, new_plain)
    return found


def decoded_like(images: Tensor, decoded: object) -> Tensor:
    """What a decoder returned, if it is of the images' shape.

    Raises:
        TypeError: if it is no tensor.
        ValueError: if it has another shape.

    """
    if not isinstance(decoded, Tensor):
        raise TypeError(
            f"decode must return a tensor of images, got {type(decoded).__name__}; wrap it, as in "
            "lambda z: network.decode(z).sample"
        )
    if decoded.shape != images.shape:
        raise ValueError(
            f"decode must return images of the shape that went in, got {tuple(decoded.shape)} for images "
            f"{tuple(images.shape)}; choose a resolution that the autoencoder's factor divides, or crop its output"
        )
    return decoded


def _cut(field: Tensor, radius: float) -> Tensor:
    """Without the frequencies above a DCT radius, half-cycles along the shortest side."""
    kept = radial_grid(tuple(field.shape[2:]), "dct", device=field.device) <= radius
    return idct(dct(field) * kept)


def _compare(found: Probed, name: str, plain: Tensor, wanted: Tensor, ideal: Tensor, got: Tensor) -> None:
    """Add how good the images of a low-passed latent are, and whether they change as low-passing the image does."""
    asked, made = (plain - ideal).float().flatten(1), (plain - got).float().flatten(1)
    found.values[f"{name}.error"] = _squared(got - wanted)
    found.values[f"{name}.ideal"] = _squared(ideal - wanted)
    found.ratios[f"{name}.agreement"] = 2 * (asked * made).mean(1), asked.square().mean(1) + made.square().mean(1)


def _missed(got: Tensor, ideal: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error and variance within the image."""
    p, q = got.float().flatten(2), ideal.float().flatten(2)
    return (p - q).square().mean((1, 2)), (q - q.mean(2, keepdim=True)).square().mean((1, 2))


def _squared(difference: Tensor) -> Tensor:
    return difference.float().square().flatten(1).mean(1)
