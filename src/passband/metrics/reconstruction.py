"""How well images are reconstructed: PSNR, SSIM, a perceptual distance and the Fréchet distance of features."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_floating, check_same_shape
from passband.metrics.features import FeatureExtractor
from passband.metrics.frechet import frechet_distance
from passband.metrics.sides import join_states, part_of
from passband.metrics.statistics import FeatureStatistics
from passband.metrics.store import check_enough, decode_text, encode_text, take_state
from passband.transforms import gaussian_blur

_PEAK = 255.0
_SIGMA, _RADIUS = 1.5, 5  # an 11 x 11 window
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


@dataclass(frozen=True)
class ReconstructionResult:
    """What [`ReconstructionQuality`][passband.metrics.ReconstructionQuality] computes.

    Attributes:
        psnr: mean over the images of the peak signal-to-noise ratio, dB; exact ones are left out, of which it is
            infinite (infinite where all are exact).
        ssim: mean structural similarity.
        mse: mean squared error over all images, in squared steps of 8 bits: 10 log10(255² / mse) is the ratio of all
            images together.
        perceptual: mean perceptual distance; None without one.
        frechet: Fréchet distance between the features of the reconstructions and of the images (rFD; rFID where these
            are Inception's); None without features.
        count: number of images.
        exact: how many of them are reconstructed to the bit.
        perceptual_name: the perceptual distance, in words.
        features: name of the features: network, layer, weights, resize.

    """

    psnr: float
    ssim: float
    mse: float
    perceptual: float | None
    frechet: float | None
    count: int
    exact: int
    perceptual_name: str
    features: str


def psnr(
    x: Float[Tensor, "batch channels height width"], y: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, " batch"]:
    r"""Peak signal-to-noise ratio of 8-bit images: $10 \log_{10} \left( 255^2 / \overline{(x - y)^2} \right)$, in dB.

    Both images are rounded and clipped to 0 … 255 first, as they would be saved; so there is no gradient.

    Args:
        x: images in [-1, 1], (batch, channels, height, width).
        y: their reconstructions.

    Returns:
        One value per image, infinite where both are equal, NaN where one holds NaN; float64 (float32 on a device
        without).

    Raises:
        TypeError: if an image is not floating.
        ValueError: if the shapes differ or are no images.

    Example:
        >>> import torch
        >>> from passband.metrics import psnr
        >>> x = -torch.ones(1, 3, 8, 8)
        >>> psnr(x, x + 2 / 255)  # one step of 8 bits: 20 log10(255)
        tensor([48.1308], dtype=torch.float64)

    """
    return _decibel(_squared_error(*_both_as_saved(x, y)))


def ssim(
    x: Float[Tensor, "batch channels height width"], y: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, " batch"]:
    r"""Structural similarity of 8-bit images.

    $\overline{\frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
    {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}}$ with local moments
    under a Gaussian window of 11 x 11 pixels with a standard deviation of 1.5, wherever it fits into the image;
    $C_1 = (0.01 \cdot 255)^2$, $C_2 = (0.03 \cdot 255)^2$; the mean over positions and channels. Both images are
    rounded and clipped to 0 … 255 first, as they would be saved; so there is no gradient.

    Args:
        x: images in [-1, 1], (batch, channels, height, width), sides of 11 or more.
        y: their reconstructions.

    Returns:
        One value per image, 1 where both are equal, NaN where one holds NaN; float64 (float32 on a device without).

    Raises:
        TypeError: if an image is not floating.
        ValueError: if the shapes differ or are no images, or a side is below 11.

    Example:
        >>> import torch
        >>> from passband.metrics import ssim
        >>> x = torch.rand(2, 3, 16, 16)
        >>> ssim(x, x)
        tensor([1., 1.], dtype=torch.float64)

    Source:
        Wang et al., IEEE Transactions on Image Processing 13(4), 2004, Eq. 13.

    """
    return _similarity(*_both_as_saved(x, y))


class ReconstructionQuality:
    """PSNR, SSIM, perceptual and Fréchet distance of reconstructions, streamed: any number of images, constant memory.

    All are measured on what would be saved: both images are rounded and clipped to 8 bits first. Give it whole
    held-out images that are neither compressed nor augmented.

    Args:
        perceptual: a distance of two batches of images in [-1, 1] that returns one value per pair, such as
            [`LPIPS`][passband.models.LPIPS]; None leaves it out.
        features: the extractor whose features the Fréchet distance compares; None leaves it out. Its device is where
            the images are best.
        name: what the perceptual distance is called; None is its class's name.

    Example:
        >>> import torch
        >>> from passband.metrics import ReconstructionQuality
        >>> quality = ReconstructionQuality()
        >>> x = -torch.ones(4, 3, 16, 16)
        >>> quality.update(x, x + 2 / 255)
        >>> round(quality.compute().psnr, 2), quality.compute().count
        (48.13, 4)

    """

    def __init__(
        self,
        perceptual: nn.Module | None = None,
        features: FeatureExtractor | None = None,
        *,
        name: str | None = None,
    ) -> None:
        self.perceptual, self.features = perceptual, features
        self.perceptual_name = "" if perceptual is None else (name or type(perceptual).__name__)
        self.real = FeatureStatistics(features or "", name="features of the images")
        self.fake = FeatureStatistics(features or "", name="features of the reconstructions")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.real.reset()
        self.fake.reset()
        self.count = self.exact = self._batches = 0
        self._sums = dict.fromkeys(("psnr", "ssim", "mse", "perceptual"), 0.0)

    @torch.no_grad()
    def update(
        self,
        real: Float[Tensor, "batch channels height width"],
        reconstruction: Float[Tensor, "batch channels height width"],
    ) -> None:
        """Add a batch of images in [-1, 1] and their reconstructions.

        Raises:
            TypeError: if they are not floating.
            ValueError: if the shapes differ or are no images, a side is below 11, or a value is not finite (the message
                names the batch); nothing is added then.

        """
        x, y = _both_as_saved(real, reconstruction)
        for name, image in (("the images", real), ("the reconstructions", reconstruction)):
            if not image.isfinite().all():
                raise ValueError(
                    f"{name} must be finite; batch {self._batches} (images {self.count} to {self.count + len(x) - 1}) "
                    "is not; look at what made it"
                )
        self._batches += 1
        if len(x) == 0:
            return
        error = _squared_error(x, y)
        values = {"psnr": _decibel(error)[error > 0], "ssim": _similarity(x, y), "mse": error}
        if self.perceptual is not None:
            a, b = ((pixels / 127.5 - 1).float() for pixels in (x, y))
            values["perceptual"] = _one_each(self.perceptual(a, b), len(x), self.perceptual_name)
        if self.features is not None:
            found = [self.features(pixels.to(torch.uint8)) for pixels in (x, y)]
            self.real.update(found[0])
            self.fake.update(found[1])
        for key, value in values.items():
            self._sums[key] += float(value.double().sum())
        self.count += len(x)
        self.exact += int((error == 0).sum())

    def compute(self) -> ReconstructionResult:
        """The measures of all images seen so far.

        Raises:
            ValueError: if there are none, or fewer than 2 for the Fréchet distance.

        """
        check_enough("the quality of reconstructions", "images", self.count, 1)
        inexact = self.count - self.exact
        return ReconstructionResult(
            psnr=self._sums["psnr"] / inexact if inexact else float("inf"),
            ssim=self._sums["ssim"] / self.count,
            mse=self._sums["mse"] / self.count,
            perceptual=self._sums["perceptual"] / self.count if self.perceptual_name else None,
            frechet=frechet_distance(self.real, self.fake) if self.real.count else None,
            count=self.count,
            exact=self.exact,
            perceptual_name=self.perceptual_name,
            features=self.real.features,
        )

    def merge(self, other: "ReconstructionQuality") -> "ReconstructionQuality":
        """Add what another one has seen (another rank's, for instance), and return self.

        Raises:
            ValueError: if its perceptual distance or its features are others.

        """
        self._check_same_distance(other.perceptual_name)
        self.real.merge(other.real)
        self.fake.merge(other.fake)
        self.count += other.count
        self.exact += other.exact
        added = other.state_dict()["sums"].tolist()
        self._sums = {key: self._sums[key] + more for key, more in zip(self._sums, added, strict=True)}
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The state as tensors, to save or to send to another rank."""
        return {
            "counts": torch.tensor([self.count, self.exact]),
            "sums": torch.tensor(list(self._sums.values()), dtype=torch.float64),
            "perceptual": encode_text(self.perceptual_name),
            **join_states(real=self.real.state_dict(), fake=self.fake.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the state by one of [`state_dict`][passband.metrics.ReconstructionQuality.state_dict]."""
        take_state("ReconstructionQuality", state, {"counts", "sums", "perceptual"})
        self._check_same_distance(decode_text(state["perceptual"]))
        self.reset()
        self.real.load_state_dict(part_of(state, "real"))
        self.fake.load_state_dict(part_of(state, "fake"))
        self.count, self.exact = state["counts"].tolist()
        self._sums = dict(zip(self._sums, state["sums"].tolist(), strict=True))

    def _check_same_distance(self, name: str) -> None:
        if name != self.perceptual_name:
            raise ValueError(
                f"these are different perceptual distances: {self.perceptual_name or 'none'!r} and {name or 'none'!r}; "
                "measure both with one"
            )


def _both_as_saved(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    check_floating("x", x)
    check_floating("y", y)
    check_same_shape("x", x, "y", y)
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"images must have shape (batch, channels, height, width), got {tuple(x.shape)}")
    return _as_saved(x), _as_saved(y)


def _as_saved(x: Tensor) -> Tensor:
    """The pixels 0 … 255 that an image in [-1, 1] is saved as; NaN stays."""
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    pixels = ((x + 1.0) * 127.5).round().clamp(0, 255)
    return pixels if x.device.type == "mps" else pixels.double()  # that device has no float64


def _squared_error(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean((1, 2, 3))


def _decibel(squared_error: Tensor) -> Tensor:
    return 10 * torch.log10(_PEAK**2 / squared_error)


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    if min(x.shape[2:]) < 2 * _RADIUS + 1:
        raise ValueError(f"SSIM needs sides of {2 * _RADIUS + 1} pixels or more, got {x.shape[2]}x{x.shape[3]}")
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    spread = (_local_mean(x * x) - mean_x**2) + (_local_mean(y * y) - mean_y**2)
    shared = _local_mean(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + _C1) * (2 * shared + _C2)
    return (likeness / ((mean_x**2 + mean_y**2 + _C1) * (spread + _C2))).mean((1, 2, 3))


def _local_mean(x: Tensor) -> Tensor:
    """Under the window, wherever it fits."""
    blurred = gaussian_blur(x, _SIGMA, truncate=_RADIUS / _SIGMA)
    return blurred[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _one_each(values: Tensor, count: int, name: str) -> Tensor:
    values = values.flatten(1).mean(1) if values.ndim > 1 else values
    if values.shape != (count,):
        raise ValueError(f"the perceptual distance {name!r} must return one value per image, got {tuple(values.shape)}")
    return values
