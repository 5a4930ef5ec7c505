"""Extractors in TorchScript files, the form in which the Inception networks of published scores are passed around."""

import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from passband._checks import check_choice
from passband._numerics import no_autocast
from passband.metrics.features import FeatureExtractor, check_rows, full_float32, rgb

_SCHEMES = ("http", "https", "file")


class TorchScriptFeatures(FeatureExtractor):
    """Features of a TorchScript network that takes uint8 pixels and does its own resizing and normalisation.

    Made for StyleGAN's `inception-2015-12-05.pt` (2048 features, resized by the script to 299 as TensorFlow did it):
    where the script's forward has the argument `return_features`, it is called with it; without, its output is the
    features. A script with `return_features` also gives the class distribution, with `no_output_bias` where it knows
    that, as the Inception Score's first implementation had it.

    **A TorchScript file is a program**, which runs in torch's own interpreter: it cannot import Python modules, but it
    runs whatever operators it holds. Use files whose source you trust, and pass their SHA-256.

    Args:
        path: the file.
        sha256: hex digest that the file must have; None takes any.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has another digest, or is no TorchScript.

    Source:
        Szegedy et al., arXiv:1512.00567 (the network); Heusel et al., arXiv:1706.08500 (its use).

    """

    def __init__(self, path: str | Path, sha256: str | None = None) -> None:
        path = Path(path)
        digest = checked_digest(path, sha256)
        try:
            self.script = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
            arguments = {argument.name for argument in self.script.forward.schema.arguments}
        except (RuntimeError, AttributeError) as error:
            reason = str(error).partition("\n")[0].partition(". ")[0][:200]
            raise ValueError(
                f"{path} is no TorchScript file that torch can load ({reason}); a pickle or a state dict is not one: "
                "build its module and use ModuleFeatures"
            ) from error
        self.has_logits = "return_features" in arguments
        self._feature_options = {"return_features": True} if self.has_logits else {}
        self._logit_options = {"no_output_bias": True} if "no_output_bias" in arguments else {}
        layer = "features" if self.has_logits else "output"
        self._name = f"{path.stem} {layer}, weights {digest[:8]}, resize its own"
        self._dim: int | None = None
        self._device = torch.device("cpu")

    @property
    def name(self) -> str:
        """File name, layer, and the first digits of the file's SHA-256."""
        return self._name

    @property
    def dim(self) -> int:
        """Number of features of an image."""
        if self._dim is None:
            self(torch.zeros(1, 3, 299, 299, dtype=torch.uint8))
        assert self._dim is not None
        return self._dim

    def to(self, device: torch.device | str) -> "TorchScriptFeatures":
        """Move the network to a device, and return self."""
        self._device = torch.device(device)
        self.script.to(self._device)
        return self

    def __call__(self, pixels: UInt8[Tensor, "batch channels height width"]) -> Float32[Tensor, "batch dim"]:
        """Features of a batch of pixels 0 … 255, on the network's device."""
        pixels = rgb(pixels)
        if len(pixels) == 0:
            return torch.zeros(0, self.dim, device=self._device)
        features = self._run(pixels, self._feature_options)
        self._dim = check_rows(f"the features of {self.name!r}", features, len(pixels), self._dim)
        return features

    def logits(self, pixels: UInt8[Tensor, "batch channels height width"]) -> Float32[Tensor, "batch classes"]:
        """Logits of the classes; the logarithm of the output where that is a distribution already.

        Raises:
            ValueError: if the script has no `return_features`, so that its only output is the features.

        """
        if not self.has_logits:
            return super().logits(pixels)
        output = self._run(rgb(pixels), self._logit_options)
        check_rows(f"the logits of {self.name!r}", output, len(pixels))
        # Logits that happen to be positive and sum to 1 in every row do not occur.
        is_distribution = (output >= 0).all() and (output.sum(1) - 1).abs().max() < 1e-3
        return output.clamp_min(torch.finfo(output.dtype).tiny).log() if is_distribution else output

    def _run(self, pixels: Tensor, options: dict[str, bool]) -> Tensor:
        x = pixels.to(self._device).contiguous()
        with torch.no_grad(), no_autocast(x), full_float32(x):
            output = self.script(x, **options)
        if not isinstance(output, Tensor):
            raise TypeError(f"the script of {self.name!r} must return a tensor, got {type(output).__name__}")
        return output.float()


def fetch(url: str, sha256: str | None = None) -> Path:
    """Download a file once, into the folder `checkpoints` of `torch.hub.get_dir()`.

    Args:
        url: http, https or file. Each has its own folder there, so that equal file names of two sites do not clash.
        sha256: hex digest that the file must have, checked each time; None takes any.

    Returns:
        The file's path.

    Raises:
        OSError: if the download fails.
        ValueError: if the scheme is another one, or the digest differs (the file is removed then).

    """
    parts = urlsplit(url)
    check_choice("URL scheme", parts.scheme, _SCHEMES)
    source = Path(parts.path)
    tag = hashlib.sha256(url.encode()).hexdigest()[:8]
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"passband-{tag}" / source.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Goes through a temporary file, so a broken download leaves nothing behind.
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, HTTPException) as error:
            # An HTTPError's reason lacks its number.
            reason = error if hasattr(error, "code") else getattr(error, "reason", None) or error
            raise OSError(f"cannot download {url!r} ({reason}): check the address and the connection") from error
    try:
        checked_digest(path, sha256)
    except ValueError:
        path.unlink()
        raise
    return path


def checked_digest(path: Path, sha256: str | None) -> str:
    """SHA-256 of a file in hex; ValueError unless it is the one expected."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise ValueError(f"{path} has the SHA-256 {digest}, expected {sha256}; the file is damaged or another one")
    return digest
