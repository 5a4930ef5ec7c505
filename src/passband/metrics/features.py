"""What turns images into feature vectors; the metrics see nothing else of an image."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from passband._checks import check_integer, check_number
from passband._numerics import no_autocast

_PROBE_SIZE = 32


class FeatureExtractor(ABC):
    """Base of all extractors: uint8 pixels in, one float vector per image out.

    A subclass gives `name`, `dim` and `__call__`. The name must tell apart whatever changes the numbers (network,
    layer, weights, resize): metrics refuse to compare features of different names.

    Example:
        >>> import torch
        >>> from passband.metrics import FeatureExtractor
        >>> class MeanColour(FeatureExtractor):
        ...     name = "mean colour, resize none"
        ...     dim = 3
        ...     def __call__(self, pixels):
        ...         return pixels.float().mean((2, 3))
        >>> MeanColour()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape
        torch.Size([2, 3])

    """

    has_logits: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """Network, layer, weights and resize, in words."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of features of an image."""

    @abstractmethod
    def __call__(self, pixels: UInt8[Tensor, "batch channels height width"]) -> Float32[Tensor, "batch dim"]:
        """Features of a batch of pixels 0 … 255."""

    def logits(self, pixels: UInt8[Tensor, "batch channels height width"]) -> Float32[Tensor, "batch classes"]:
        """Logits of the network's classifier, where it has one (`has_logits`), for the Inception Score."""
        raise ValueError(f"the features {self.name!r} come without a classifier; use an extractor that has logits")

    def to(self, device: torch.device | str) -> "FeatureExtractor":
        """Move the network to a device, and return self."""
        return self


class ModuleFeatures(FeatureExtractor):
    r"""Features of any `nn.Module`, in float32, without gradients.

    The module gets $(x - \text{mean}) / \text{std}$, x the pixels 0 … 255 in float32, (batch, 3, height, width), gray
    images repeated to three channels. It returns (batch, dim), or feature maps (batch, dim, \*spatial), which are
    averaged over space. It is put into evaluation mode and moved to the device of `to`.

    Images go in at their own size unless `resize` is given. An image with a side under `min_size` is enlarged until its
    shorter side has it. Both by bilinear interpolation with an antialiasing filter, before the normalisation, without
    rounding. The name says which.

    Args:
        module: the network.
        name: network and layer, in words; the weights' hash, the normalisation and the resize are added.
        mean: of the pixels, one number or one per channel, in 0 … 255.
        std: likewise, positive.
        resize: side of the square that every image is resized to; None keeps its size.
        min_size: smallest side that the network takes.
        classifier: a module that gets the same input and returns logits (batch, classes), if there is one.
        dim: number of features; None asks the module with one black image when it is needed.
        weights: what to call the weights in the name; None: the first 8 hex digits of the SHA-256 over the state dict.

    Raises:
        TypeError: if an option is of the wrong type; when called, if the pixels are not uint8.
        ValueError: if an option is out of range; when called, if the pixels are not images of 1 or 3 channels, or the
            module does not return one vector (or map) per image.

    Example:
        >>> import torch
        >>> from passband.metrics import ModuleFeatures
        >>> features = ModuleFeatures(torch.nn.Conv2d(3, 8, 3), "random convolution")
        >>> features(torch.zeros(2, 1, 16, 16, dtype=torch.uint8)).shape, features.dim
        (torch.Size([2, 8]), 8)
        >>> features.name
        'random convolution, weights ..., input (x - 127.5) / 127.5, resize none'

    """

    def __init__(
        self,
        module: nn.Module,
        name: str,
        *,
        mean: float | Sequence[float] = 127.5,
        std: float | Sequence[float] = 127.5,
        resize: int | None = None,
        min_size: int = 1,
        classifier: nn.Module | None = None,
        dim: int | None = None,
        weights: str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be an nn.Module, got {type(module).__name__}")
        for option, size in (("resize", resize), ("min_size", min_size), ("dim", dim)):
            _check_size(option, size)
        self._mean, self._std = _per_channel("mean", mean), _per_channel("std", std)
        if not (self._std > 0).all():
            raise ValueError(f"std must be positive, got {std}")
        self.module = module.eval()
        self.classifier = None if classifier is None else classifier.eval()
        self.has_logits = classifier is not None
        self._resize, self._min_size, self._dim = resize, min_size, dim
        weights = state_hash(module) if weights is None else weights
        normalisation = f"input (x - {_words(self._mean)}) / {_words(self._std)}"
        self._name = f"{name}, weights {weights}, {normalisation}, resize {_resize_words(resize, min_size)}"
        self._device = next((p.device for p in module.parameters()), torch.device("cpu"))

    @property
    def name(self) -> str:
        """Network, layer, weights, normalisation and resize."""
        return self._name

    @property
    def dim(self) -> int:
        """Number of features of an image."""
        if self._dim is None:
            side = max(self._resize or _PROBE_SIZE, self._min_size)
            self(torch.zeros(1, 3, side, side, dtype=torch.uint8))
        assert self._dim is not None
        return self._dim

    def to(self, device: torch.device | str) -> "ModuleFeatures":
        """Move the network to a device, and return self."""
        self._device = torch.device(device)
        self.module.to(self._device)
        if self.classifier is not None:
            self.classifier.to(self._device)
        return self

    def __call__(self, pixels: UInt8[Tensor, "batch channels height width"]) -> Float32[Tensor, "batch dim"]:
        """Features of a batch of pixels 0 … 255, on the network's device."""
        pixels = rgb(pixels)
        if len(pixels) == 0:
            return torch.zeros(0, self.dim, device=self._device)
        features = self._run(self.module, pixels)
        if features.ndim > 2:
            features = features.flatten(2).mean(2)
        self._dim = check_rows(f"the features of {self.name!r}", features, len(pixels), self._dim)
        return features

    def logits(self, pixels: UInt8[Tensor, "batch channels height width"]) -> Float32[Tensor, "batch classes"]:
        """Logits of the classifier.

        Raises:
            ValueError: if there is no classifier.

        """
        if self.classifier is None:
            return super().logits(pixels)
        logits = self._run(self.classifier, rgb(pixels))
        check_rows(f"the logits of {self.name!r}", logits, len(pixels))
        return logits

    def _run(self, module: nn.Module, pixels: Tensor) -> Tensor:
        x = pixels.to(self._device).float()
        with torch.no_grad(), no_autocast(x), full_float32(x):
            x = _resized(x, self._resize, self._min_size)
            x = (x - self._mean.to(x).view(1, -1, 1, 1)) / self._std.to(x).view(1, -1, 1, 1)
            output = module(x)
        if not isinstance(output, Tensor):
            raise TypeError(f"the module of {self.name!r} must return a tensor, got {type(output).__name__}; wrap it")
        return output.float()


def rgb(pixels: UInt8[Tensor, "batch channels height width"]) -> UInt8[Tensor, "batch 3 height width"]:
    """Check a batch of pixels, and repeat a gray one to three channels.

    Raises:
        TypeError: if pixels is not a uint8 tensor.
        ValueError: unless it has shape (batch, 1 or 3, height, width).

    """
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        got = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
        raise TypeError(f"pixels must be a uint8 tensor, got {got}; floats in [-1, 1] become pixels by data.to_uint8")
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape[2:]:
        raise ValueError(f"pixels must have shape (batch, 1 or 3, height, width), got {tuple(pixels.shape)}")
    return pixels.expand(-1, 3, -1, -1)


def check_rows(name: str, x: Tensor, count: int, dim: int | None = None) -> int:
    """Raise ValueError unless x has shape (count, dim), and return dim."""
    if x.ndim != 2 or len(x) != count or x.shape[1] == 0 or (dim is not None and x.shape[1] != dim):
        raise ValueError(f"{name} must have shape ({count}, {dim or 'dim'}), got {tuple(x.shape)}")
    return x.shape[1]


def state_hash(module: nn.Module) -> str:
    """First 8 hex digits of the SHA-256 over a module's state dict: names, dtypes, shapes and bytes.

    Example:
        >>> import torch
        >>> from passband.metrics.features import state_hash
        >>> len(state_hash(torch.nn.Linear(2, 1)))
        8

    """
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]


@contextmanager
def full_float32(x: Tensor) -> Iterator[None]:
    """No TF32 in CUDA's convolutions inside (where it is the default), so that features agree with the CPU's."""
    if x.device.type != "cuda":
        yield
        return
    convolution = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolution.fp32_precision
    convolution.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolution.fp32_precision = before


def _resized(x: Tensor, resize: int | None, min_size: int) -> Tensor:
    height, width = x.shape[2:]
    if resize is None and min(height, width) >= min_size:
        return x
    if resize is not None:
        size = (resize, resize)
    else:
        short = min(height, width)
        size = (round(height * min_size / short), round(width * min_size / short))
    return nn.functional.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)


def _resize_words(resize: int | None, min_size: int) -> str:
    if resize is not None:
        return f"bilinear to {resize}x{resize}, antialiased"
    if min_size == 1:
        return "none"
    return f"none (sides under {min_size}: bilinear to {min_size}, antialiased)"


def _per_channel(name: str, value: float | Sequence[float]) -> Tensor:
    values = list(value) if isinstance(value, Sequence) else [value]
    for number in values:
        check_number(name, number)
    if len(values) not in (1, 3):
        raise ValueError(f"{name} must be one number or three, one per channel; got {len(values)}")
    return torch.tensor(values, dtype=torch.float64)


def _words(values: Tensor) -> str:
    numbers = [f"{v:.6g}" for v in values.tolist()]
    return numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]"


def _check_size(name: str, value: int | None) -> None:
    if value is None:
        return
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
