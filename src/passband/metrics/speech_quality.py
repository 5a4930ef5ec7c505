"""How good speech sounds: PESQ and ESTOI against a reference, predicted opinion scores without one.

All work at 16 kHz (clips of other rates are resampled) on the CPU, and give NaN for what they cannot score.
"""

import importlib
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from passband._checks import MissingExtraError, import_extra
from passband.metrics._clips import centred_power, resampled
from passband.metrics.audio_embeddings import load_script, run_script
from passband.metrics.signal_quality import is_silent
from passband.transforms import mel_filterbank

RATE = 16000
_SHORTEST = RATE // 10
_ESTOI_SAMPLES = 31 * 128 * RATE // 10_000  # 30 frames of 256 samples, half overlapping, at its own 10 kHz
_DNSMOS_SAMPLES = int(9.01 * RATE)


def pesq(generated: Float32[Tensor, " samples"], reference: Float32[Tensor, " samples"], sample_rate: int) -> float:
    """PESQ of wide-band speech (P.862.2), about 1 to 4.64; NaN where it finds no utterance or under a quarter second.

    Source:
        ITU-T P.862 and P.862.2, by the package pesq.

    """
    package = import_extra("pesq", "speech")
    if is_silent(generated) or is_silent(reference):
        return math.nan
    clip, other = (resampled(x, sample_rate, RATE).numpy() for x in (generated, reference))
    try:
        return float(package.pesq(RATE, other, clip, "wb"))
    except (package.NoUtterancesError, package.BufferTooShortError):
        return math.nan


def estoi(generated: Float32[Tensor, " samples"], reference: Float32[Tensor, " samples"], sample_rate: int) -> float:
    """Extended short-time objective intelligibility, at most 1; NaN with less than 0.4 s of sound in the reference.

    Source:
        Jensen & Taal, IEEE/ACM Transactions on Audio, Speech, and Language Processing 24 (2016), by the package pystoi.

    """
    package = import_extra("pystoi", "speech")
    if is_silent(generated) or is_silent(reference):
        return math.nan
    clip, other = (resampled(x, sample_rate, RATE).double().numpy() for x in (generated, reference))
    if len(clip) < _ESTOI_SAMPLES:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(package.stoi(other, clip, RATE, extended=True))
        except RuntimeWarning:  # too few frames
            return math.nan


def distillmos(clip: Float32[Tensor, " samples"], sample_rate: int) -> float:
    """Opinion score, 1 to 5, predicted by DistillMOS; NaN for silence and under 0.1 s.

    Its weights come within its package, and are read without unpickling code. The clip's level does not count: it is
    scaled to its peak.

    Source:
        Stahl & Gamper, arXiv:2502.05356.

    """
    network = _distillmos_network()
    clip = resampled(clip, sample_rate, RATE)
    if is_silent(clip) or len(clip) < _SHORTEST:
        return math.nan
    with torch.no_grad():
        return float(network(clip[None]))


def dnsmos(clip: Float32[Tensor, " samples"], sample_rate: int) -> float:
    """Opinion score, 1 to 5, predicted by DNSMOS P.808; NaN for silence and under 0.1 s.

    The mean over stretches of 9.01 s, a second apart; a shorter clip is repeated. The network is that of the package
    speechmos; its three other scores are left out, since they do not hear that high frequencies are missing.

    Source:
        Reddy et al., arXiv:2010.15258.

    """
    session = _dnsmos_session()
    clip = resampled(clip, sample_rate, RATE)
    if is_silent(clip) or len(clip) < _SHORTEST:
        return math.nan
    while len(clip) < _DNSMOS_SAMPLES:
        clip = torch.cat([clip, clip])
    stretches = int(len(clip) // RATE - 9.01) + 1
    scores = []
    for start in range(0, stretches * RATE, RATE):
        part = clip[start : start + _DNSMOS_SAMPLES]
        if len(part) == _DNSMOS_SAMPLES:
            levels = _dnsmos_levels(part[:-160])
            scores.append(float(session.run(None, {"input_1": levels.numpy()[None]})[0].squeeze()))
    return sum(scores) / len(scores)


def scripted_mos(path: Path) -> Callable[[Tensor, int], float]:
    """The opinion scores of a TorchScript network: (1, samples) at 16 kHz in, their mean out; NaN for silence."""
    script, digest = load_script(path)
    name = f"{path.stem}, weights {digest[:8]}"
    takes_rate = len(script.forward.schema.arguments) > 2  # type: ignore[attr-defined]

    def score(clip: Tensor, sample_rate: int) -> float:
        clip = resampled(clip, sample_rate, RATE)
        if is_silent(clip) or len(clip) < _SHORTEST:
            return math.nan
        arguments: tuple[Tensor | int, ...] = (clip[None], RATE) if takes_rate else (clip[None],)
        return float(run_script(name, script, *arguments).mean())

    return score


@lru_cache(maxsize=1)
def _distillmos_network() -> nn.Module:
    sqa = _import_without_torchaudio("distillmos.sqa")
    network: nn.Module = sqa.ConvTransformerSQAModel(load_weights=False)
    weights = torch.load(sqa.DEFAULT_WEIGHTS_CHKPT, map_location="cpu", weights_only=True)
    network.load_state_dict(weights["model"])
    return network.eval()


def _import_without_torchaudio(module: str) -> ModuleType:
    """Import a module that imports torchaudio but computes without it: an empty one stands in where it is missing."""
    if "torchaudio" in sys.modules or importlib.util.find_spec("torchaudio") is not None:
        return _import_distillmos(module)
    stand_in = ModuleType("torchaudio")
    stand_in.__spec__ = ModuleSpec("torchaudio", None)  # others may ask for it meanwhile
    sys.modules["torchaudio"] = stand_in
    try:
        return _import_distillmos(module)
    finally:
        del sys.modules["torchaudio"]


def _import_distillmos(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this needs the package {error.name!r}, which is not installed; install it with: "
            "pip install --no-deps distillmos xls-r-sqa (they name torchaudio, which is not needed)"
        ) from error


@lru_cache(maxsize=1)
def _dnsmos_session() -> Any:
    runtime = import_extra("onnxruntime", "speech")
    package = import_extra("speechmos", "speech")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(str(package.__file__)).parent / "dnsmos_models" / "model_v8.onnx"
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _dnsmos_levels(clip: Tensor) -> Tensor:
    """Mel spectrogram (frames, 120) in dB below its maximum, over 80 dB, scaled to -1 … 1."""
    power = centred_power(clip, 321, 160).T @ _dnsmos_bank()
    decibels = 10 * torch.log10(power.clamp(min=1e-10))
    decibels = decibels - 10 * torch.log10(power.max().clamp(min=1e-10))
    return (decibels.clamp(min=float(decibels.max()) - 80) + 40) / 40


@lru_cache(maxsize=1)
def _dnsmos_bank() -> Tensor:
    """120 bands of area 1 on Slaney's scale."""
    return mel_filterbank(RATE, 321, 120, f_min=0.0, scale="slaney", area_norm=True).float()
