"""Audio embeddings: closed forms of the mel statistics, the published package and front ends as oracles."""

import importlib.util
import math
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from passband._checks import MissingExtraError
from passband.metrics import (
    AudioEmbedding,
    MelStatistics,
    ResemblyzerEmbedding,
    TorchScriptEmbedding,
    load_audio_embedding,
    vggish_examples,
)

RATE = 16000


def noise(seed, samples, scale=0.1):
    return scale * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def tone(hertz, seconds=2.0, amplitude=0.5, rate=RATE):
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate), dtype=torch.float64) / rate)


class Halves(torch.nn.Module):
    """Two vectors: mean and power of either half of the waveform."""

    def forward(self, x):
        rows = x.reshape(2, -1)
        return torch.stack([rows.mean(1), rows.square().mean(1), rows.abs().amax(1)], 1)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "halves.pt"
    torch.jit.script(Halves()).save(str(path))
    return path


def test_a_gain_moves_the_means_and_nothing_else():
    embedding, clip = MelStatistics(), noise(0, 3 * RATE)
    before, after = embedding(clip), embedding(clip * 10 ** (7 / 20))
    torch.testing.assert_close(after[:, :32] - before[:, :32], torch.full((5, 32), 7.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(after[:, 32:], before[:, 32:], atol=1e-3, rtol=1e-4)


def test_a_tone_is_steady_and_loudest_in_its_band():
    """A window's DFT of a tone on a bin is A/2 · sum w there; over the root of sum w² that is A/2 · sqrt(2N/3)."""
    embedding = MelStatistics(n_mels=8)
    rows = embedding(tone(1000.0))  # bin 32 of 512
    peak = rows[:, :8].argmax(1)
    assert rows.shape == (3, 24)
    assert len(set(peak.tolist())) == 1
    magnitude = 0.25 * math.sqrt(2 * 512 / 3)
    bank = embedding._mel.bank[:, peak[0]]
    expected = 20 * math.log10(magnitude * float(bank[32] + 0.5 * (bank[31] + bank[33])))
    assert rows[1, peak[0]].item() == pytest.approx(expected, abs=1e-3)
    assert rows[1, 8 + peak[0]].abs() < 1e-3  # steady: no spread
    assert rows[1, 16 + peak[0]].abs() < 1e-3  # and no change


def test_spread_and_change_of_a_level_that_rises_steadily():
    """A tone that grows by 1 dB a frame (256 samples): a window of 64 spreads by sqrt((64² - 1) / 12) dB."""
    embedding = MelStatistics(n_mels=4, window=1.024, step=0.128)
    row = embedding(tone(2000.0, 80 * 256 / RATE, 1e-3) * 10 ** (torch.arange(80 * 256) / 256 / 20))[1]
    band = row[:4].argmax()
    assert row[4 + band].item() == pytest.approx(math.sqrt((64**2 - 1) / 12), rel=1e-3)
    assert row[8 + band].item() == pytest.approx(1, rel=1e-3)


def test_silence_lies_at_the_floor():
    rows = MelStatistics(n_mels=5)(torch.zeros(RATE))
    assert rows[:, :5].tolist() == [[-80.0] * 5]
    assert bool((rows[:, 5:] == 0).all())


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_windows_last_about_a_second_at_any_rate(rate):
    embedding = MelStatistics(rate)
    assert embedding(noise(0, 3 * rate)).shape == (5, embedding.dim)
    assert embedding.sample_rate == rate
    assert str(rate // 2) in embedding.name


def test_a_short_clip_has_one_window_and_leading_axes_are_dropped():
    embedding = MelStatistics()
    assert embedding(noise(0, 4000)[None]).shape == (1, 96)
    assert embedding(noise(0, 257)).isfinite().all()
    with pytest.raises(ValueError, match="at least 257 samples"):
        embedding(noise(0, 200))


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        (torch.full((RATE,), math.nan), ValueError, "16000 of 16000 samples are not"),
        (torch.zeros(2, RATE), ValueError, "one clip"),
        (torch.zeros(0), ValueError, "one clip"),
        (torch.zeros(RATE, dtype=torch.int16), TypeError, "floating"),
    ],
)
def test_clips_that_cannot_be_taken(audio, error, message):
    with pytest.raises(error, match=message):
        MelStatistics()(audio)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 0}, ValueError, "window must be a length in seconds"),
        ({"step": -1.0}, ValueError, "step must be"),
        ({"n_mels": 2.5}, TypeError, "n_mels"),
        ({"sample_rate": 0}, ValueError, "at least 1"),
        ({"n_mels": 400}, ValueError, "fewer n_mels"),
    ],
)
def test_options_that_cannot_be(options, error, message):
    with pytest.raises(error, match=message):
        MelStatistics(**options)


@pytest.fixture(scope="module")
def published():
    """The package's encoder; an empty module stands in for the voice detector, which embedding does not use."""
    pytest.importorskip("librosa")
    if importlib.util.find_spec("resemblyzer") is None:
        pytest.skip("resemblyzer is not installed")
    patch = pytest.MonkeyPatch()
    patch.setitem(sys.modules, "webrtcvad", ModuleType("webrtcvad"))
    from resemblyzer import VoiceEncoder

    yield VoiceEncoder("cpu", verbose=False)
    patch.undo()


@pytest.mark.filterwarnings("ignore")
def test_equals_the_published_encoder(published):
    for samples in (4000, 25599, 25600, 43000, 64000, 70001):
        clip = noise(samples, samples, 0.1) + tone(220, samples / RATE)[:samples].float()
        _, expected, _ = published.embed_utterance(clip.numpy(), return_partials=True)
        found = ResemblyzerEmbedding()(clip)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


def test_resemblyzers_vectors_have_length_one_even_of_silence():
    rows = ResemblyzerEmbedding()(torch.zeros(30000))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'passband\[speech\]'"):
        ResemblyzerEmbedding()
    with pytest.raises(FileNotFoundError, match="no weights"):
        ResemblyzerEmbedding("nowhere.pt")


def test_a_script_gets_the_waveform(script):
    embedding, clip = load_audio_embedding(f"{script}@8000"), noise(0, 8000)
    assert embedding.sample_rate == 8000
    assert "halves" in embedding.name
    assert "8000 Hz" in embedding.name
    torch.testing.assert_close(embedding(clip), Halves()(clip))
    assert embedding.dim == 3
    assert load_audio_embedding(str(script)).sample_rate == 16000


def test_a_script_that_fails_or_returns_something_else(script, tmp_path):
    with pytest.raises(ValueError, match=r"failed on audio of shape \(8001,\)"):
        TorchScriptEmbedding(script)(noise(0, 8001))
    with pytest.raises(ValueError, match="SHA-256"):
        TorchScriptEmbedding(script, sha256="0" * 64)
    other = tmp_path / "map.pt"
    torch.jit.script(torch.nn.Flatten(0)).save(str(other))
    assert TorchScriptEmbedding(other)(noise(0, 7)).shape == (1, 7)
    embedding = TorchScriptEmbedding(other)
    assert embedding.dim == 32000
    with pytest.raises(ValueError, match=r"must return \(windows, 32000\)"):
        embedding(noise(0, 7))
    (tmp_path / "text.pt").write_text("no script")
    with pytest.raises(ValueError, match="no TorchScript file"):
        TorchScriptEmbedding(tmp_path / "text.pt")


def test_vggish_gets_its_examples(tmp_path):
    """A tone of amplitude A has the magnitude A/2 · sum w at its bin, and 1,000 Hz lies in bin 32."""
    examples = vggish_examples(tone(1000.0, 2.5).float())
    assert examples.shape == (2, 1, 96, 64)
    mel = [1127 * math.log(1 + f / 700) for f in (125, 1000, 7500)]
    place = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1  # 65 steps between 66 edges; band k peaks at edge k + 1
    assert abs(float(examples[0, 0, 10].argmax()) - place) <= 1
    silence = vggish_examples(torch.zeros(100))
    assert silence.shape == (1, 1, 96, 64)
    assert bool((silence == math.log(torch.tensor(0.01))).all())
    path = tmp_path / "net.pt"
    torch.jit.script(torch.nn.Flatten(1)).save(str(path))
    embedding = load_audio_embedding(f"vggish:{path}")
    torch.testing.assert_close(embedding(tone(1000.0, 2.5)), examples.flatten(1))
    assert "vggish_examples" in embedding.name


def test_vggishs_front_end_equals_its_steps_written_out():
    clip = noise(3, 20000)
    frames = np.stack([clip.numpy()[160 * i : 160 * i + 400] for i in range(96)])
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(401)[:-1], 512, axis=1))
    mels, low, high = (1127 * np.log1p(np.asarray(f) / 700) for f in (np.linspace(0, 8000, 257), 125, 7500))
    edges = np.linspace(low, high, 66)
    bank = np.stack([np.interp(mels, edges[k : k + 3], [0, 1, 0]) for k in range(64)], 1)
    np.testing.assert_allclose(vggish_examples(clip)[0, 0].numpy(), np.log(magnitude @ bank + 0.01), atol=2e-4)


class Own(AudioEmbedding):
    """An embedding of somebody else's."""

    name, dim, sample_rate = "own", 1, 8000

    def __call__(self, audio):
        return audio.mean().reshape(1, 1)


def test_an_embedding_of_ones_own(monkeypatch):
    module = ModuleType("their_embeddings")
    module.Own, module.ready, module.make, module.number = Own, Own(), lambda: Own(), 3
    monkeypatch.setitem(sys.modules, "their_embeddings", module)
    for name in ("Own", "ready", "make"):
        assert load_audio_embedding(f"module:their_embeddings.{name}").name == "own"
    with pytest.raises(TypeError, match="AudioEmbedding, got int"):
        load_audio_embedding("module:their_embeddings.number")
    with pytest.raises(ImportError, match="has no 'other'"):
        load_audio_embedding("module:their_embeddings.other")
    with pytest.raises(ImportError, match="no_such_package"):
        load_audio_embedding("module:no_such_package.thing")
    with pytest.raises(ValueError, match="a dot before the name"):
        load_audio_embedding("module:thing")


def test_names_that_are_none():
    with pytest.raises(ValueError, match="did you mean 'resemblyzer'"):
        load_audio_embedding("resemblyser")
    with pytest.raises(FileNotFoundError, match=r"no TorchScript file at nets/vggish\.pt"):
        load_audio_embedding("nets/vggish.pt@16000")
    with pytest.raises(FileNotFoundError, match="no TorchScript file"):
        load_audio_embedding("vggish:nowhere.pt")
