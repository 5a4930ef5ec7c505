"""Measures of clips: the packages called directly, closed forms, and what must go down on damaged speech."""

import importlib
import importlib.util
import math
import sys

import numpy as np
import pytest
import scipy.signal
import torch

from passband._checks import MissingExtraError
from passband.metrics import AUDIO_MEASURES, load_audio_measure
from passband.metrics import speech_quality as speech

RATE = 16000
NEEDS = {name: measure.unavailable() for name, measure in AUDIO_MEASURES.items()}


def needs(*names):
    reasons = [NEEDS[name] for name in names if NEEDS[name]]
    return pytest.mark.skipif(bool(reasons), reason=reasons[0] if reasons else "")


def noise(seed, samples, scale=0.1):
    return scale * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def low_passed(clip, hertz=2000):
    sos = scipy.signal.butter(8, hertz, fs=RATE, output="sos")
    return torch.from_numpy(scipy.signal.sosfiltfilt(sos, clip.numpy()).astype(np.float32).copy())


@pytest.fixture(scope="module")
def clips(shared):
    soundfile = pytest.importorskip("soundfile")
    names = [p for p in sorted((shared / "data" / "speech").glob("en_US*.flac")) if p.stat().st_size > 60_000][:20:10]
    return [torch.from_numpy(soundfile.read(str(name), stop=3 * RATE, dtype="float32")[0]) for name in names]


def test_the_table_says_what_each_measure_is():
    assert set(AUDIO_MEASURES) == {"mr_stft", "lsd", "pesq", "estoi", "distillmos", "dnsmos"}
    for name, measure in AUDIO_MEASURES.items():
        assert measure.name == name
        assert measure.better == ("lower" if name in ("mr_stft", "lsd") else "higher")
        assert measure.paired == (name not in ("distillmos", "dnsmos"))
        assert load_audio_measure(name) is measure


@needs("mr_stft")
def test_mr_stft_is_auralosss():
    import auraloss

    a, b = noise(0, 8000), noise(1, 8000)
    expected = auraloss.freq.MultiResolutionSTFTLoss()(a[None, None], b[None, None])
    assert AUDIO_MEASURES["mr_stft"](a, b, RATE) == pytest.approx(float(expected), rel=1e-6)
    assert AUDIO_MEASURES["mr_stft"](a, a, RATE) == 0


@needs("pesq")
def test_pesq_is_the_packages_with_the_reference_first(clips):
    import pesq

    clip, damaged = clips[0], clips[0] + noise(0, len(clips[0]), 0.02)
    expected = pesq.pesq(RATE, clip.numpy(), damaged.numpy(), "wb")
    assert AUDIO_MEASURES["pesq"](damaged, clip, RATE) == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(pesq.pesq(RATE, damaged.numpy(), clip.numpy(), "wb"), rel=1e-3)


@needs("estoi")
def test_estoi_is_the_packages_with_the_reference_first(clips):
    import pystoi

    clip, damaged = clips[1], clips[1] + noise(0, len(clips[1]), 0.05)
    expected = pystoi.stoi(clip.double().numpy(), damaged.double().numpy(), RATE, extended=True)
    assert AUDIO_MEASURES["estoi"](damaged, clip, RATE) == pytest.approx(expected, rel=1e-6)
    assert AUDIO_MEASURES["estoi"](clip, clip, RATE) == pytest.approx(1, abs=1e-6)


@needs("dnsmos")
@pytest.mark.filterwarnings("ignore")
def test_dnsmos_is_the_packages(clips):
    """Of a clip that is repeated, one of a stretch and a bit, and one of two stretches."""
    pytest.importorskip("librosa")
    from speechmos import dnsmos

    for samples in (2 * RATE, int(9.5 * RATE), int(10.7 * RATE)):
        clip = torch.cat(clips * 3)[:samples]
        expected = dnsmos.run(clip.numpy(), RATE)["p808_mos"]
        assert AUDIO_MEASURES["dnsmos"](clip, None, RATE) == pytest.approx(expected, abs=2e-4)


@needs("distillmos")
@pytest.mark.filterwarnings("ignore")
def test_distillmos_is_the_packages(clips, capsys):
    network = sys.modules.get("distillmos.sqa") or speech._import_without_torchaudio("distillmos.sqa")
    with torch.no_grad():
        expected = float(network.ConvTransformerSQAModel().eval()(clips[0][None]))
    capsys.readouterr()
    assert AUDIO_MEASURES["distillmos"](clips[0], None, RATE) == pytest.approx(expected, rel=1e-5)
    assert AUDIO_MEASURES["distillmos"](0.5 * clips[0], None, RATE) == pytest.approx(expected, abs=1e-3)
    assert capsys.readouterr().out == ""
    assert "torchaudio" not in sys.modules


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in AUDIO_MEASURES])
def test_damaged_speech_is_worse(clips, name):
    """Without their frequencies over 2 kHz, and with noise 10 dB below them, the clips score worse."""
    measure = AUDIO_MEASURES[name]
    sign = 1 if measure.better == "higher" else -1
    hiss = [clip + noise(i, len(clip), float(clip.std()) / math.sqrt(10)) for i, clip in enumerate(clips)]
    clean, low, noisy = (
        sign * np.mean([measure(damaged, clip, RATE) for damaged, clip in zip(versions, clips, strict=True)])
        for versions in (clips, map(low_passed, clips), hiss)
    )
    assert low < clean - 0.05
    assert noisy < clean - 0.05


def test_lsd_of_a_gain_is_the_gain():
    clip = noise(2, 5000)
    assert AUDIO_MEASURES["lsd"](clip * 10 ** (-12 / 20), clip, RATE) == pytest.approx(12, abs=0.01)
    assert AUDIO_MEASURES["lsd"](clip, clip, RATE) == 0


def test_lsd_is_its_formula_over_librosas_frames():
    a, b = noise(0, 4000).double(), noise(1, 4000).double()
    window = np.hanning(1025)[:-1]
    powers = []
    for x in (a, b):
        padded = np.pad(x.numpy(), 512)
        frames = np.stack([padded[256 * i : 256 * i + 1024] for i in range(4000 // 256 + 1)])
        powers.append(np.abs(np.fft.rfft(frames * window)) ** 2 / (window.sum() / 2) ** 2 + 1e-10)
    expected = np.sqrt(np.mean((10 * np.log10(powers[0] / powers[1])) ** 2, 1)).mean()
    assert AUDIO_MEASURES["lsd"](a, b, RATE) == pytest.approx(expected, rel=1e-4)


def test_lsds_floor_is_100_db_below_a_full_scale_sine():
    """Silence against such a sine: 100 dB in its bin, 6 dB less in the two beside it (but for frames at the ends)."""
    sine = torch.sin(2 * math.pi * 1000 * torch.arange(20 * RATE, dtype=torch.float64) / RATE)
    expected = math.sqrt((100**2 + 2 * (100 - 20 * math.log10(2)) ** 2) / 513)
    assert AUDIO_MEASURES["lsd"](0 * sine, sine, RATE) == pytest.approx(expected, rel=0.03)


def test_lengths_are_cut_to_the_shorter_and_leading_axes_dropped():
    clip = noise(3, 6000)
    assert AUDIO_MEASURES["lsd"](torch.cat([clip, noise(4, 500)]), clip, RATE) == 0
    assert AUDIO_MEASURES["lsd"](clip[None, None], clip[None, :4000], RATE) == 0


@needs("pesq", "estoi", "distillmos", "dnsmos")
def test_other_sample_rates_are_resampled(clips):
    soxr, rate = pytest.importorskip("soxr"), 22050
    clip, damaged = clips[0], clips[0] + noise(0, len(clips[0]), 0.02)
    there = [soxr.resample(x.numpy(), RATE, rate, quality="VHQ") for x in (damaged, clip)]
    back = [torch.from_numpy(soxr.resample(x, rate, RATE, quality="VHQ")) for x in there]
    for name in ("pesq", "estoi", "distillmos", "dnsmos"):
        found = AUDIO_MEASURES[name](*map(torch.from_numpy, there), rate)
        assert found == pytest.approx(AUDIO_MEASURES[name](*back, RATE), abs=1e-6)
    assert found == pytest.approx(AUDIO_MEASURES["dnsmos"](damaged, None, RATE), abs=0.1)


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in AUDIO_MEASURES])
@pytest.mark.parametrize("case", ["silent", "short"])
def test_silent_and_too_short_clips_have_no_number(name, case):
    reference = torch.zeros(RATE) if case == "silent" else noise(0, 400)
    assert math.isnan(AUDIO_MEASURES[name](reference, reference, RATE))


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in ("pesq", "estoi")])
def test_silence_that_was_generated_has_no_number_against_speech(clips, name):
    assert math.isnan(AUDIO_MEASURES[name](torch.zeros_like(clips[0]), clips[0], RATE))


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in AUDIO_MEASURES])
def test_clips_that_are_not_finite_are_an_error(name):
    clip = noise(0, RATE)
    broken = clip.clone()
    broken[7] = math.nan
    with pytest.raises(ValueError, match="generated audio must be finite; 1 of 16000"):
        AUDIO_MEASURES[name](broken, clip, RATE)


def test_bad_input():
    measure, clip = AUDIO_MEASURES["lsd"], noise(0, 4000)
    with pytest.raises(ValueError, match="give the real clip too"):
        measure(clip)
    with pytest.raises(ValueError, match="one channel of one clip"):
        measure(clip.reshape(2, -1), clip, RATE)
    with pytest.raises(ValueError, match="reference audio must be finite"):
        measure(clip, clip * math.inf, RATE)
    with pytest.raises(TypeError, match="sample_rate must be an int"):
        measure(clip, clip, "fast")
    with pytest.raises(ValueError, match="did you mean 'distillmos'"):
        load_audio_measure("distilmos")
    with pytest.raises(ValueError, match="utmos=PATH"):
        load_audio_measure("utmos")
    with pytest.raises(FileNotFoundError, match="no TorchScript file"):
        load_audio_measure("utmos=nowhere.pt")


MISSING = {
    "mr_stft": ("auraloss", r"passband\[audio\]"),
    "pesq": ("pesq", r"passband\[speech\]"),
    "estoi": ("pystoi", r"passband\[speech\]"),
    "dnsmos": ("onnxruntime", r"passband\[speech\]"),
    "distillmos": ("distillmos", "--no-deps distillmos xls-r-sqa"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_package_is_said(monkeypatch, name):
    package, command = MISSING[name]
    for cached in (speech._distillmos_network, speech._dnsmos_session):
        cached.cache_clear()
    importlib.import_module("passband.metrics.signal_quality")._multi_resolution_loss.cache_clear()
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    reason = AUDIO_MEASURES[name].unavailable()
    assert f"needs the package {package!r}" in reason
    with pytest.raises(MissingExtraError, match=command):
        AUDIO_MEASURES[name](noise(0, RATE), noise(1, RATE), RATE)


def test_a_missing_resampler_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(MissingExtraError, match=r"passband\[audio\]"):
        speech.resampled(noise(0, 100), 8000, RATE)


class Score(torch.nn.Module):
    """A score that tells what it was given."""

    def forward(self, x, rate: int):
        return torch.stack([x.abs().mean(), torch.tensor(float(rate))])


def test_utmos_is_a_script(tmp_path):
    path = tmp_path / "utmos.pt"
    torch.jit.script(Score()).save(str(path))
    measure, clip = load_audio_measure(f"utmos={path}"), noise(0, RATE)
    assert (measure.name, measure.paired, measure.better, measure.unavailable()) == ("utmos", False, "higher", None)
    assert measure(clip, None, RATE) == pytest.approx((float(clip.abs().mean()) + RATE) / 2)
    assert math.isnan(measure(torch.zeros(RATE), None, RATE))
    torch.jit.script(torch.nn.Flatten(0)).save(str(path))
    assert load_audio_measure(f"utmos={path}")(clip, None, RATE) == pytest.approx(float(clip.mean()), abs=1e-7)
