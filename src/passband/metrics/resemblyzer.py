"""The speaker network of the package resemblyzer as an audio embedding."""

import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from passband._checks import MissingExtraError
from passband.metrics._clips import centred_power, clip_of
from passband.metrics.audio_embeddings import AudioEmbedding
from passband.metrics.torchscript import checked_digest
from passband.transforms import mel_filterbank

_RATE, _N_FFT, _HOP, _MELS = 16000, 400, 160, 40
_FRAMES, _STEP = 160, 77  # 1.6 s, and 1.3 windows a second
_COVERAGE = 0.75
_DIM = 256


class ResemblyzerEmbedding(AudioEmbedding):
    """Speaker vectors of windows of 1.6 s, 0.77 s apart: 256 values, not negative, of length 1, at 16 kHz.

    Equal to the partial embeddings of the package's `VoiceEncoder.embed_utterance`, without its preprocessing (no voice
    detection, no change of level). Only the weights are taken from the package, and read without unpickling code, so
    librosa and webrtcvad are not imported. A shorter clip is filled up with zeros, and a last window of which three
    quarters are there too.

    The network tells speakers apart: it hears the timbre of a voice, and little of noise or missing high frequencies.

    Args:
        weights: the file `pretrained.pt`; None: that of the installed package.

    Raises:
        FileNotFoundError: if there is no such file.
        MissingExtraError: if the package is not installed.

    Example:
        >>> import torch
        >>> from passband.metrics import ResemblyzerEmbedding
        >>> ResemblyzerEmbedding()(torch.randn(48000)).shape
        torch.Size([3, 256])

    Source:
        Wan et al., arXiv:1710.10467; the package resemblyzer.

    """

    def __init__(self, weights: str | Path | None = None) -> None:
        path = _package_weights() if weights is None else Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"no weights of resemblyzer's network at {path}")
        self._name = f"resemblyzer, weights {checked_digest(path, None)[:8]}, windows of 1.6 s every 0.77 s"
        self._lstm = nn.LSTM(_MELS, _DIM, 3, batch_first=True)
        self._linear = nn.Linear(_DIM, _DIM)
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        for prefix, module in (("lstm.", self._lstm), ("linear.", self._linear)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self._bank = mel_filterbank(_RATE, _N_FFT, _MELS, f_min=0.0, scale="slaney", area_norm=True).float()

    @property
    def name(self) -> str:
        """Network, the first digits of the weights' SHA-256, and the windows."""
        return self._name

    @property
    def dim(self) -> int:
        """Number of values of a vector."""
        return _DIM

    @property
    def sample_rate(self) -> int:
        """Samples per second that a clip must have."""
        return _RATE

    def __call__(self, audio: Float[Tensor, "*channel samples"]) -> Float32[Tensor, "windows dim"]:
        """Vectors of a clip, on the CPU."""
        clip = clip_of("audio", audio)
        starts = _window_starts(len(clip))
        clip = nn.functional.pad(clip, (0, max(0, (starts[-1] + _FRAMES) * _HOP - len(clip))))
        mel = centred_power(clip, _N_FFT, _HOP).T @ self._bank
        with torch.no_grad():
            _, (hidden, _) = self._lstm(torch.stack([mel[s : s + _FRAMES] for s in starts]))
            rows: Tensor = self._linear(hidden[-1]).relu()
            lengths: Tensor = rows.norm(dim=1, keepdim=True)
        return rows / lengths.clamp_min(torch.finfo(rows.dtype).tiny)


def _window_starts(samples: int) -> list[int]:
    """First frames of the windows; the last one stays if enough of it is there, the first always."""
    frames = -(-(samples + 1) // _HOP)
    starts = list(range(0, max(1, frames - _FRAMES + _STEP + 1), _STEP))
    covered = (samples - starts[-1] * _HOP) / (_FRAMES * _HOP)
    return starts[:-1] if covered < _COVERAGE and len(starts) > 1 else starts


def _package_weights() -> Path:
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "this needs the package 'resemblyzer', which is not installed; "
            "install it with: pip install 'passband[speech]'"
        )
    return Path(spec.origin).parent / "pretrained.pt"
