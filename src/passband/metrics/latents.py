"""Is a latent space easy to learn? All measures of an autoencoder's latents and decoder, streamed and merged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from passband._checks import check_batch
from passband._seeds import seed_for
from passband.matching import anti_aliased, esm_divergence, rms_spatial_contrast
from passband.metrics.band_map import BandMap, BandMapResult
from passband.metrics.channel_spectrum import ChannelSpectrum, ChannelSpectrumResult, check_finite
from passband.metrics.channels import ChannelResult, ChannelStatistics
from passband.metrics.decoder_probes import (
    CORNERS,
    TRANSFORMS,
    Probed,
    cut_probe,
    decoded_like,
    equivariance_probe,
    low_pass_probe,
)
from passband.metrics.reconstruction import psnr, ssim
from passband.metrics.sample_means import Estimate, SampleMeans

Code = Callable[[Tensor], Tensor]

DELTAS = (0.0, 1.0)
_SSIM_SIDE = 11


@dataclass(frozen=True)
class LatentResult:
    """What [`LatentMeasures`][passband.metrics.LatentMeasures] computes.

    Attributes:
        image: spectrum of the images.
        small_image: spectrum of the images at the latent's size
            ([`anti_aliased`][passband.matching.anti_aliased]).
        latent: spectrum of the latents.
        channels: moments, covariance and principal components of the latent's channels.
        bands: where the latent's bands land in the image; None before a probed image.
        means: means over images by name: `psnr` (of images that are not reconstructed exactly, NaN without any) and
            `ssim` of the reconstruction; `esm.DELTA` with `.white` and `.image`
            (white noise and the small image in the latent's place); `rmsc`, also with `.white` and `.image`; and
            the numbers of [`low_pass_probe`][passband.metrics.low_pass_probe],
            [`cut_probe`][passband.metrics.cut_probe] and
            [`equivariance_probe`][passband.metrics.equivariance_probe].
        notes: what could not be measured, and why.
        image_shape: (channels, height, width) of an image.
        latent_shape: the same of a latent.
        count: number of images.
        probed: how many of them the decoder was probed with.

    """

    image: ChannelSpectrumResult
    small_image: ChannelSpectrumResult
    latent: ChannelSpectrumResult
    channels: ChannelResult
    bands: BandMapResult | None
    means: dict[str, Estimate]
    image_shape: tuple[int, ...]
    latent_shape: tuple[int, ...]
    count: int
    probed: int
    notes: tuple[str, ...] = field(default=())


class LatentMeasures:
    """All measures of an autoencoder in one stream of images; constant memory.

    Args:
        encode: turns images (batch, channels, height, width) in [-1, 1] into latents (batch, channels, height, width);
            of a variational autoencoder, the mean.
        decode: turns latents into images.
        bands: radial bands of the latent, at most, see [`BandMap`][passband.metrics.BandMap].
        corners: of the low-pass, see [`low_pass_probe`][passband.metrics.low_pass_probe].
        transforms: (scale, quarter turns) pairs, see [`equivariance_probe`][passband.metrics.equivariance_probe];
            none for a decoder that takes latents of one size only.
        seed: of the white noise that latents are compared with.

    Example:
        >>> import torch
        >>> from passband.metrics import LatentMeasures
        >>> measures = LatentMeasures(
        ...     lambda x: torch.nn.functional.avg_pool2d(x, 2),
        ...     lambda z: torch.nn.functional.interpolate(z, scale_factor=2.0),
        ... )
        >>> measures.update(torch.rand(4, 3, 32, 32) * 2 - 1)
        >>> result = measures.compute()
        >>> result.latent_shape, result.means["psnr"].samples, result.bands.octave > 0.5
        ((3, 16, 16), 4, True)

    """

    def __init__(
        self,
        encode: Code,
        decode: Code,
        *,
        bands: int = 8,
        corners: Sequence[int] = CORNERS,
        transforms: Sequence[tuple[float, int]] = TRANSFORMS,
        seed: int = 0,
    ) -> None:
        self.encode = encode
        self.decode = decode
        self.corners = tuple(corners)
        self.transforms = tuple(transforms)
        self.seed = seed
        self.image = ChannelSpectrum("images")
        self.small_image = ChannelSpectrum("images at the latents' size")
        self.latent = ChannelSpectrum("latents")
        self.channels = ChannelStatistics("latents")
        self.bands = BandMap(bands)
        self.means = SampleMeans()
        self.notes: list[str] = []

    @property
    def count(self) -> int:
        """Number of images seen."""
        return self.image.count

    @torch.no_grad()
    def update(
        self,
        images: Float[Tensor, "batch channels height width"],
        *,
        indices: Int[Tensor, " batch"] | Sequence[int] | None = None,
        probe: bool = True,
    ) -> None:
        """Add a batch: encode and decode it, and measure.

        Args:
            images: in [-1, 1], of one size in all batches.
            indices: their numbers, which seed the noise that they are compared with; default: counted on.
            probe: whether to probe the decoder too, which decodes each image some twenty times.

        Raises:
            TypeError: if the images are not floating, or a callable returns no tensor.
            ValueError: if a latent is not finite or not of the shape that was described, or the decoder's images are of
                another size.

        """
        check_batch("images", images, dims=(2,))
        if len(images) == 0:
            return
        check_finite("images", images)
        latents = _latents_of(images, self.encode(images))
        check_finite("latents", latents)
        decoded = decoded_like(images, self.decode(latents))
        check_finite("decoded images", decoded)
        numbers = range(self.count, self.count + len(images)) if indices is None else [int(i) for i in indices]
        size = tuple(latents.shape[2:])
        small = anti_aliased(images, size)
        noise = torch.stack([_noise(self.seed, number, tuple(latents.shape[1:])) for number in numbers]).to(images)
        self.latent.update(latents)
        self.image.update(images)
        self.small_image.update(small)
        self.channels.update(latents)
        self._reconstruction(images, decoded.float())
        self.means.update(_of_latents(images, latents, small, noise))
        if probe:
            self._probe(images, latents, decoded)

    def merge(self, other: "LatentMeasures") -> "LatentMeasures":
        """Add what another one has seen of the same autoencoder, and return self."""
        self.image.merge(other.image)
        self.small_image.merge(other.small_image)
        self.latent.merge(other.latent)
        self.channels.merge(other.channels)
        self.bands.merge(other.bands)
        self.means.merge(other.means)
        self.notes += [note for note in other.notes if note not in self.notes]
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as a flat dictionary of tensors."""
        return {
            f"{name}.{key}": value for name, part in self._parts().items() for key, value in part.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.LatentMeasures.state_dict]."""
        for name, part in self._parts().items():
            prefix = f"{name}."
            part.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    def compute(self) -> LatentResult:
        """Everything that was measured.

        Raises:
            ValueError: before the first image.

        """
        if self.image.shape is None or self.latent.shape is None:
            raise ValueError("there are no images yet; call update with at least one batch first")
        return LatentResult(
            image=self.image.compute(),
            small_image=self.small_image.compute(),
            latent=self.latent.compute(),
            channels=self.channels.compute(),
            bands=self.bands.compute() if self.bands.count else None,
            means=self.means.compute(),
            image_shape=self.image.shape,
            latent_shape=self.latent.shape,
            count=self.count,
            probed=self.bands.count,
            notes=tuple(self.notes),
        )

    def _parts(self) -> dict[str, ChannelSpectrum | ChannelStatistics | BandMap | SampleMeans]:
        return {
            "image": self.image,
            "small_image": self.small_image,
            "latent": self.latent,
            "channels": self.channels,
            "bands": self.bands,
            "means": self.means,
        }

    def _probe(self, images: Tensor, latents: Tensor, decoded: Tensor) -> None:
        self.bands.update(latents, self.decode, decoded)
        self._add(low_pass_probe(images, latents, self.decode, decoded=decoded, corners=self.corners))
        self._add(cut_probe(images, latents, self.decode, decoded=decoded))
        try:
            found = equivariance_probe(images, latents, self.decode, decoded=decoded, transforms=self.transforms)
        except (RuntimeError, ValueError, AssertionError) as error:  # what networks of one size raise
            self.transforms = ()
            self.notes.append(
                f"Scaled and turned latents were not measured: the decoder refused one ({_first_line(error)})."
            )
            return
        self._add(found)

    def _reconstruction(self, images: Tensor, decoded: Tensor) -> None:
        ratio = psnr(images, decoded)
        inexact = ratio.isfinite().to(ratio)
        self.means.update_ratios({"psnr": (ratio.nan_to_num(posinf=0), inexact)})
        if min(images.shape[2:]) >= _SSIM_SIDE:
            self.means.update({"ssim": ssim(images, decoded)})

    def _add(self, probed: Probed) -> None:
        self.means.update(probed.values)
        self.means.update_ratios(probed.ratios)


def _latents_of(images: Tensor, latents: object) -> Tensor:
    if not isinstance(latents, Tensor):
        raise TypeError(
            f"encode must return a tensor of latents, got {type(latents).__name__}; wrap it, as in "
            "lambda x: network.encode(x).latent_dist.mean"
        )
    if latents.ndim != 4 or len(latents) != len(images) or not latents.is_floating_point():
        raise ValueError(
            f"encode must return floating latents (batch, channels, height, width), got {latents.dtype} of shape "
            f"{tuple(latents.shape)} for images {tuple(images.shape)}; put tokens back on their grid first"
        )
    if any(small > large for small, large in zip(latents.shape[2:], images.shape[2:], strict=True)):
        raise ValueError(
            f"the latent must not be larger than the image, got {tuple(latents.shape[2:])} for "
            f"{tuple(images.shape[2:])}: are encode and decode in each other's place?"
        )
    return latents


def _of_latents(images: Tensor, latents: Tensor, small: Tensor, noise: Tensor) -> dict[str, Tensor]:
    found = {}
    for name, value in (("", latents), (".white", noise), (".image", small)):
        for delta in DELTAS:
            found[f"esm.{delta:g}{name}"] = esm_divergence(images, value, delta=delta)
        found[f"rmsc{name}"] = rms_spatial_contrast(value)
    return found


def _noise(seed: int, number: int, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(seed_for(seed, number, "white latent"))
    return torch.randn(shape, generator=generator)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
