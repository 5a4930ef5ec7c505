"""The log-mel examples that VGGish takes."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from passband.metrics._clips import clip_of
from passband.transforms import hz_to_mel

RATE = 16000
_WINDOW, _HOP, _N_FFT = 400, 160, 512
_MELS, _LOW, _HIGH = 64, 125.0, 7500.0
_FRAMES = 96
_OFFSET = 0.01


def vggish_examples(audio: Float[Tensor, "*channel samples"]) -> Float32[Tensor, "windows 1 96 64"]:
    r"""Log-mel examples of 0.96 s, one after the other, as VGGish was trained on.

    $\log(m + 0.01)$ of magnitudes under a periodic Hann window of 25 ms, 10 ms apart, without padding, in 64 triangles
    between 125 and 7,500 Hz, evenly spaced and straight-sided on HTK's mel scale. A last part shorter than an example
    is left out; a clip shorter than one (0.975 s) is filled up with zeros.

    Args:
        audio: (samples,), in [-1, 1], at 16 kHz.

    Raises:
        TypeError: if it is not floating.
        ValueError: if it is not one clip, or not finite.

    Example:
        >>> import torch
        >>> from passband.metrics import vggish_examples
        >>> vggish_examples(torch.zeros(40000)).shape
        torch.Size([2, 1, 96, 64])

    Source:
        Hershey et al., arXiv:1609.09430, and the parameters published with its weights.

    """
    clip = clip_of("audio", audio)
    shortest = _WINDOW + (_FRAMES - 1) * _HOP
    clip = nn.functional.pad(clip, (0, max(0, shortest - len(clip))))
    frames = clip.unfold(0, _WINDOW, _HOP) * torch.hann_window(_WINDOW)
    levels = torch.log(torch.fft.rfft(frames, _N_FFT).abs() @ _bank() + _OFFSET)
    return levels.unfold(0, _FRAMES, _FRAMES).transpose(1, 2)[:, None]


def _bank() -> Tensor:
    ends = hz_to_mel(torch.tensor([_LOW, _HIGH], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), _MELS + 2, dtype=torch.float64)
    bins = hz_to_mel(torch.linspace(0, RATE / 2, _N_FFT // 2 + 1, dtype=torch.float64))[:, None]
    width = float(edges[1] - edges[0])
    bank = torch.minimum((bins - edges[:-2]) / width, (edges[2:] - bins) / width).clamp(min=0)
    bank[0] = 0
    return bank.float()
