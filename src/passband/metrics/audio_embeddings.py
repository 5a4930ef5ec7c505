"""What turns audio into vectors, one for each window of a clip; the Fréchet audio distance sees nothing else of it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from passband._checks import check_integer, check_number
from passband._numerics import no_autocast
from passband.metrics._clips import check_rate, clip_of, resampled
from passband.metrics.torchscript import checked_digest
from passband.transforms import MelSpectrogram

_FLOOR = 1e-4
_FRAME_SECONDS = 0.032  # the power of two nearest to it


class AudioEmbedding(ABC):
    """Base of all audio embeddings: one clip in, one float vector for each of its windows out.

    A subclass gives `name`, `dim`, `sample_rate` and `__call__`. The name must tell apart whatever changes the numbers
    (network, weights, windows): metrics refuse to compare vectors of different names.

    Example:
        >>> import torch
        >>> from passband.metrics import AudioEmbedding
        >>> class Loudness(AudioEmbedding):
        ...     name, dim, sample_rate = "power, windows of 1 s", 1, 16000
        ...     def __call__(self, audio):
        ...         return audio.unfold(0, 16000, 16000).square().mean(1, keepdim=True)
        >>> Loudness()(torch.zeros(48000)).shape
        torch.Size([3, 1])

    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Network, weights and windows, in words."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of values of a vector."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Samples per second that a clip must have."""

    @abstractmethod
    def __call__(self, audio: Float[Tensor, "*channel samples"]) -> Float32[Tensor, "windows dim"]:
        """Vectors of a clip in [-1, 1], at the embedding's sample rate."""

    def of_clip(
        self, audio: Float[Tensor, "*channel samples"], sample_rate: int, name: str = "audio"
    ) -> Float32[Tensor, "windows dim"]:
        """Vectors of a clip of any sample rate, resampled (soxr, VHQ) where it is another than the embedding's.

        Args:
            audio: (samples,) or (1, samples), in [-1, 1].
            sample_rate: of the clip.
            name: what the clip is called in errors.

        Raises:
            MissingExtraError: if it must be resampled and soxr is not installed.
            TypeError: if it is not floating, or the rate no integer.
            ValueError: if it is not one clip, not finite, or too short for the embedding.

        """
        check_rate("sample_rate", sample_rate)
        return self(resampled(clip_of(name, audio), sample_rate, self.sample_rate))


class MelStatistics(AudioEmbedding):
    r"""Statistics of the mel spectrogram over windows of about a second; needs torch alone, no network, no download.

    Of each band's level $20 \log_{10} \max(m, 10^{-4})$ in dB (m as
    [`MelSpectrogram`][passband.transforms.MelSpectrogram] gives it): the mean and the standard deviation over the
    window's frames, and the standard deviation of its differences from frame to frame (zero mean assumed). A gain
    of g dB moves the means by g and nothing else, so the Fréchet distance is in dB².

    A clip shorter than one window has one vector, of the frames it has; a last part shorter than a window is left out.

    Args:
        sample_rate: samples per second.
        n_mels: number of bands; the dimension is three times this.
        window: length of a window, seconds.
        step: from window to window, seconds.

    Raises:
        TypeError: if an option is of the wrong type.
        ValueError: if an option is out of range; when called, if the clip is shorter than half a frame (16 ms), or not
            finite.

    Example:
        >>> import torch
        >>> from passband.metrics import MelStatistics
        >>> embedding = MelStatistics()
        >>> audio = 0.1 * torch.randn(32000, generator=torch.Generator().manual_seed(0))
        >>> vectors = embedding(audio)
        >>> vectors.shape
        torch.Size([3, 96])
        >>> round(float((embedding(2 * audio) - vectors)[:, :32].mean()), 2)  # twice the amplitude
        6.02

    """

    def __init__(self, sample_rate: int = 16000, n_mels: int = 32, window: float = 1.0, step: float = 0.5) -> None:
        check_rate("sample_rate", sample_rate)
        check_integer("n_mels", n_mels)
        for option, value in (("window", window), ("step", step)):
            check_number(option, value)
            if not value > 0:
                raise ValueError(f"{option} must be a length in seconds, over 0; got {value}")
        n_fft = 2 ** round(math.log2(_FRAME_SECONDS * sample_rate))
        self._mel = MelSpectrogram(sample_rate, n_fft, hop_length=n_fft // 2, n_mels=n_mels)
        rate = sample_rate / self._mel.hop_length
        self._frames, self._step = max(1, round(window * rate)), max(1, round(step * rate))
        self._sample_rate = sample_rate
        self._name = (
            f"mel statistics, {n_mels} bands to {sample_rate / 2:g} Hz, n_fft {n_fft}, "
            f"windows of {self._frames} frames every {self._step}"
        )

    @property
    def name(self) -> str:
        """Bands and windows."""
        return self._name

    @property
    def dim(self) -> int:
        """Three for each band."""
        return 3 * self._mel.n_mels

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self._sample_rate

    def __call__(self, audio: Float[Tensor, "*channel samples"]) -> Float32[Tensor, "windows dim"]:
        """Vectors of a clip, on the CPU."""
        levels = 20.0 * torch.log10(self._mel(clip_of("audio", audio)).clamp(min=_FLOOR))
        length = min(self._frames, levels.shape[1])
        windows = levels.unfold(1, length, self._step).transpose(0, 1)  # (windows, bands, frames)
        changes = windows.diff(dim=2).square().mean(2).sqrt() if length > 1 else torch.zeros_like(windows[:, :, 0])
        return torch.cat([windows.mean(2), windows.std(2, correction=0), changes], dim=1)


class TorchScriptEmbedding(AudioEmbedding):
    """Vectors of a network in a TorchScript file, such as VGGish.

    The script gets the waveform (samples,) in float32, or what `front_end` makes of it, and returns (windows, dim), or
    (dim,) for one vector.

    **A TorchScript file is a program**: use files whose source you trust, and pass their SHA-256.

    Args:
        path: the file.
        sample_rate: that the script expects.
        sha256: hex digest that the file must have; None takes any.
        front_end: from a clip to the script's argument, [`vggish_examples`][passband.metrics.vggish_examples] for
            instance; None: the clip itself.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has another digest, or is no TorchScript; when called, if what it returns is no such
            tensor, or the script fails on the clip (one that is too short for it, for instance).

    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int = 16000,
        sha256: str | None = None,
        front_end: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        check_rate("sample_rate", sample_rate)
        path = Path(path)
        self._script, digest = load_script(path, sha256)
        self._sample_rate, self._front_end = sample_rate, front_end
        taken = "" if front_end is None else f", on {getattr(front_end, '__name__', 'a front end of its own')}"
        self._name = f"{path.stem}, weights {digest[:8]}, {sample_rate} Hz{taken}"
        self._dim: int | None = None

    @property
    def name(self) -> str:
        """File name, the first digits of the file's SHA-256, and the sample rate."""
        return self._name

    @property
    def dim(self) -> int:
        """Number of values of a vector; two seconds of silence are tried when it is not known yet."""
        if self._dim is None:
            self(torch.zeros(2 * self._sample_rate))
        assert self._dim is not None
        return self._dim

    @property
    def sample_rate(self) -> int:
        """Samples per second that the script expects."""
        return self._sample_rate

    def __call__(self, audio: Float[Tensor, "*channel samples"]) -> Float32[Tensor, "windows dim"]:
        """Vectors of a clip, on the CPU."""
        clip = clip_of("audio", audio)
        rows = run_script(self._name, self._script, clip if self._front_end is None else self._front_end(clip))
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or rows.numel() == 0 or (self._dim is not None and rows.shape[1] != self._dim):
            raise ValueError(
                f"the script of {self._name!r} must return (windows, {self._dim or 'dim'}) with at least one window, "
                f"got {tuple(rows.shape)} for {audio.numel()} samples"
            )
        self._dim = rows.shape[1]
        return rows


def load_script(path: Path, sha256: str | None = None) -> tuple[torch.jit.ScriptModule, str]:
    """A TorchScript file, in evaluation mode on the CPU, and its SHA-256."""
    if not path.is_file():
        raise FileNotFoundError(f"no TorchScript file at {path}: check the path")
    digest = checked_digest(path, sha256)
    try:
        return torch.jit.load(str(path), map_location="cpu").eval(), digest  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].partition(". ")[0][:200]
        raise ValueError(
            f"{path} is no TorchScript file that torch can load ({reason}): give one that torch.jit.save wrote"
        ) from error


def run_script(name: str, script: torch.jit.ScriptModule, *arguments: Tensor | int) -> Tensor:
    """A script's one tensor in float32, without gradients; its failure as a ValueError."""
    with torch.no_grad(), no_autocast(torch.zeros(())):
        try:
            output = script(*arguments)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            shape = [tuple(a.shape) for a in arguments if isinstance(a, Tensor)]
            raise ValueError(f"the script of {name!r} failed on audio of shape {shape[0]}: {reason}") from error
    if not isinstance(output, Tensor):
        raise ValueError(f"the script of {name!r} must return a tensor, got {type(output).__name__}")
    return output.float()
