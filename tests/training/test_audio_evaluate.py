"""Evaluations of audio: known changes give known numbers, files are kept, processes share, grids compare."""

import json
import math
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from passband._checks import MissingExtraError
from passband._seeds import seed_for
from passband.data import AudioFolder, read_audio, save_audio
from passband.metrics import FrechetAudioDistance, LongTermSpectrum, compare_long_term, load_audio_embedding
from passband.models import DiffWave
from passband.reports.grid import grid_report
from passband.reports.grid_tables import compare_arms, describe_grid, metric_title
from passband.sampling import FAST_SCHEDULE, sample, schedule_times, vocode
from passband.training import CheckpointError, RecipeError, Trainer, make_recipe, restore
from passband.training import evaluate_audio as evaluation
from passband.training.audio_metrics import default_metrics, high_edge
from passband.training.build import build_process
from passband.training.clips import clips_in, held_out_clips, output_names, read_spectrogram
from passband.training.draw import Drawing, NonFiniteSamplesError
from passband.training.draw_audio import Vocoding
from passband.training.evaluate_audio import AudioEvaluationSettings, AudioEvaluator
from passband.training.grid import collect, load_grid, run_grid
from passband.training.ranks import Ranks
from passband.training.restore import is_audio, is_autoencoder
from passband.training.sampler import evaluations, sampler_settings

RATE, HOP = 16000, 128
MEL = {"sample_rate": RATE, "n_fft": 512, "win_length": None, "hop_length": HOP, "n_mels": 20, "f_min": 20.0}
PROCESS = {"name": "vp", "prediction": "epsilon", "schedule": "linear", "steps": 50, "beta_end": 0.05}
MODEL = {"n_mels": 20, "residual_layers": 2, "residual_channels": 8, "dilation_cycle_length": 2}
MODEL |= {"upsample_factors": [8, 16]}
RECIPE: dict[str, Any] = {
    "name": "voices",
    "data": {
        "name": "audio",
        "sample_rate": RATE,
        "frames": 8,
        "mel": {name: value for name, value in MEL.items() if name != "sample_rate"},
        "subset": "train",
        "eval_share": 0.3,
        "test_share": 0.3,
    },
    "process": PROCESS,
    "model": {"name": "diffwave", **MODEL},
    "loss": {"distance": "l1"},
    "training": {"steps": 2, "batch_size": 2, "log_every": 1, "sample_every": None, "trackers": []},
    "sampling": {"solver": "ancestral", "noise_schedule": [1e-4, 0.01, 0.3]},
}
QUICK = {"metrics": ("lsd", "frechet_audio", "ltas", "hf_balance"), "steps": 2, "solver": "euler"}


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips of a second and more: two tones, the louder one low, over a little noise."""
    folder = tmp_path_factory.mktemp("voices")
    generator = torch.Generator().manual_seed(0)
    for i in range(7):
        t = torch.arange(RATE + 500 * i) / RATE
        tones = 0.3 * torch.sin(2 * math.pi * (200 + 40 * i) * t) + 0.05 * torch.sin(2 * math.pi * 5000 * t)
        save_audio(folder / f"v{i}.wav", tones + 0.01 * torch.randn(len(t), generator=generator), RATE)
    return folder


def imported(folder: Path, **changes: Any) -> Path:
    """A network as an import writes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DiffWave(**(MODEL | changes))
        nn.init.normal_(network.output_projection.weight, std=0.1)
    network.save_pretrained(folder)
    (folder / "process.json").write_text(json.dumps(PROCESS))
    (folder / "mel.json").write_text(json.dumps(MEL))
    return folder


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imported(tmp_path_factory.mktemp("vocoder") / "network")


@pytest.fixture(scope="module")
def speechless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional network."""
    return imported(tmp_path_factory.mktemp("speechless") / "network", unconditional=True)


@pytest.fixture(scope="module")
def trained(voices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    recipe = make_recipe(RECIPE | {"data": RECIPE["data"] | {"path": str(voices)}})
    root = tmp_path_factory.mktemp("trained") / "run"
    Trainer(recipe, root).train()
    return root


@pytest.fixture(scope="module")
def evaluated(vocoder: Path, voices: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """An evaluation, with its page."""
    out = tmp_path_factory.mktemp("evaluated")
    return out, AudioEvaluator(AudioEvaluationSettings(real=voices, **QUICK)).evaluate(vocoder, out)


@pytest.fixture(autouse=True)
def without_page(evaluated: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further evaluations write their numbers alone: figures and players take most of the time."""

    def write(results: dict, comparison: object, shown: object, out: Path) -> None:
        out.joinpath("results.json").write_text(json.dumps(results))

    monkeypatch.setattr(evaluation, "audio_evaluation_report", write)


def by_key(results: dict) -> dict[str, dict]:
    return {entry["key"]: entry for entry in results["metrics"]}


# Restoring.


def test_an_imported_vocoder_is_sampled_as_published(vocoder: Path):
    found = restore(vocoder)
    assert found.is_audio
    assert found.is_vocoder
    assert is_audio(vocoder)
    assert not is_autoencoder(vocoder)
    assert (found.sample_shape[0], found.step, found.recipe) == (1, 0, None)
    assert (found.mel.sample_rate, found.mel.hop_length, found.mel.n_mels) == (RATE, HOP, 20)
    assert (found.sampling.steps, found.sampling.solver) == (50, "ancestral")


def test_a_run_brings_its_spectrogram(trained: Path, voices: Path):
    found = restore(trained)
    assert (found.sample_shape, found.step, found.is_vocoder) == ((1, 8 * HOP), 2, True)
    audio = read_audio(voices / "v0.wav").audio
    expected = restore(trained).recipe.data.mel
    assert found.mel.n_fft == expected.n_fft
    assert found.mel.normalized(audio).shape == (20, RATE // HOP + 1)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "mel.json' cannot be read"),
        (json.dumps(MEL | {"n_mel": 3}), "unknown key 'n_mel'"),
        (json.dumps(MEL | {"n_mels": 21}), "takes 20 bands and 128 samples a frame, its mel.json says 21 and 128"),
        (json.dumps(MEL | {"f_min": 9000.0}), "makes no spectrogram: expected 0 <= f_min"),
    ],
)
def test_a_mel_record_that_does_not_fit(vocoder: Path, tmp_path: Path, record: str, message: str):
    shutil.copytree(vocoder, tmp_path / "copy")
    (tmp_path / "copy" / "mel.json").write_text(record)
    with pytest.raises(CheckpointError, match=message):
        restore(tmp_path / "copy")


# How audio is drawn.


def test_schedules_are_settings(vocoder: Path):
    found = restore(vocoder)
    fast = sampler_settings(found.sampling, found.process, schedule="fast")
    assert (fast["noise_schedule"], fast["steps"], evaluations(fast)) == (list(FAST_SCHEDULE), 6, 6)
    full = sampler_settings(found.sampling, found.process, schedule="full", solver="heun")
    assert (full["steps"], evaluations(full)) == (50, 99)
    assert "noise_schedule" not in full
    own = sampler_settings(found.sampling, found.process, schedule="1e-4, 0.01")
    assert own["noise_schedule"] == [1e-4, 0.01]
    recipe = found.sampling.model_copy(update={"noise_schedule": (1e-4, 0.02)})
    assert sampler_settings(recipe, found.process)["steps"] == 2
    assert "noise_schedule" not in sampler_settings(recipe, found.process, steps=5)


def test_bad_schedules(vocoder: Path):
    found = restore(vocoder)
    flow = make_recipe({"name": "f", "data": {"name": "checkerboard"}, "process": {"name": "flow"}})
    with pytest.raises(ValueError, match=r"betas separated by commas, such as 1e-4,0\.01,0\.3; got 'quick'"):
        sampler_settings(found.sampling, found.process, schedule="quick")
    with pytest.raises(ValueError, match="give steps, or a schedule, not both"):
        sampler_settings(found.sampling, found.process, schedule="fast", steps=3)
    with pytest.raises(TypeError, match="is for a VP process, got Flow"):
        sampler_settings(found.sampling, build_process(flow.process), schedule="full")
    with pytest.raises(ValueError, match="between 0 and 1"):
        sampler_settings(found.sampling, found.process, schedule="2")


def test_a_clip_is_what_vocode_makes_of_its_spectrogram(trained: Path, voices: Path, tmp_path: Path):
    found = restore(trained)
    vocoding = Vocoding(Drawing(found, trained), seed=3)
    clips = clips_in(voices, found.mel, 1)
    vocoding.draw(tmp_path, clips, suffix=".flac")
    audio = clips.audio(0)
    expected = vocode(
        found.model,
        found.process,
        found.mel.normalized(audio),
        hop_length=HOP,
        seed=seed_for(3, 0, f"clip {clips.names[0]}"),
        times=schedule_times(found.process, [1e-4, 0.01, 0.3]),
        solver="ancestral",
    )[: len(audio)]
    got = read_audio(tmp_path / f"{clips.names[0]}.flac").audio
    assert len(got) == len(audio)
    assert (got - expected.clamp(-1, 1)).abs().max() <= 1.01 / 32768
    noted = json.loads((tmp_path / "settings.json").read_text())
    assert (noted["noise_schedule"], noted["solver"], noted["seed"]) == ([1e-4, 0.01, 0.3], "ancestral", 3)
    assert noted["clips"] == str(voices.resolve())


def test_audio_that_is_not_finite_is_not_written(vocoder: Path, voices: Path, tmp_path: Path):
    found = restore(vocoder)
    nn.init.constant_(found.model.output_projection.weight, math.nan)
    with pytest.raises(NonFiniteSamplesError, match=r"the audio of \['v0'\] is not finite"):
        Vocoding(Drawing(found, vocoder, steps=1)).draw(tmp_path, clips_in(voices, found.mel))
    assert not list(tmp_path.glob("*.wav"))


def test_vocoding_needs_a_vocoder(speechless: Path, vocoder: Path):
    with pytest.raises(ValueError, match="makes no audio of spectrograms"):
        Vocoding(Drawing(restore(speechless), speechless))
    drawing = Drawing(restore(vocoder), vocoder)
    with pytest.raises(ValueError, match="0 for the whole clip; got -1"):
        Vocoding(drawing, chunk=-1)
    frames = [Vocoding(drawing, chunk=chunk).chunk_frames for chunk in (None, 0, 1, 1e-9)]
    assert frames == [1024, None, RATE // HOP, 1]


# Clips.


def test_held_out_clips_are_test_clips_where_there_are_any(voices: Path):
    data = RECIPE["data"] | {"path": str(voices)}

    def names(asked: str | None, **changes: Any) -> tuple[set[str], str]:
        clips, chosen = held_out_clips(make_recipe(RECIPE | {"data": data | changes}).data, asked)
        return set(clips.names), chosen

    parts = {subset: names(subset)[0] for subset in ("test", "eval", "all")}
    assert names(None) == (parts["test"], "test")
    assert names(None, test_share=0.0)[1] == "eval"
    assert names(None, test_share=0.0, subset="all") == (parts["all"], "all")
    assert names(None, test_share=0.0, test_files=["v3*"]) == ({"v3"}, "test")
    assert parts["all"] == {f"v{i}" for i in range(7)}
    train = AudioFolder(voices, RATE, length=1024, hop_length=HOP, subset="train", eval_share=0.3, test_share=0.3)
    assert {Path(name).stem for name in train.names} == parts["all"] - parts["test"] - parts["eval"]
    assert parts["test"]
    assert not parts["test"] & parts["eval"]


@pytest.mark.parametrize(
    ("trained", "asked", "told"),
    [
        ("train", None, False),
        ("train", "eval", False),
        ("train", "all", True),
        ("all", None, True),
        ("eval", "eval", True),
    ],
)
def test_clips_that_were_trained_on_are_told(voices: Path, trained: str, asked: Any, told: bool):
    data = RECIPE["data"] | {"path": str(voices), "subset": trained}
    clips, _ = held_out_clips(make_recipe(RECIPE | {"data": data}).data, asked)
    assert any(f"Not held out: training (data.subset {trained})" in note for note in clips.notes) == told


def test_what_cannot_be_used_is_left_out_and_named(voices: Path, vocoder: Path, tmp_path: Path):
    shutil.copy(voices / "v0.wav", tmp_path / "whole.wav")
    (tmp_path / "broken.wav").write_bytes(bytes(3000))
    save_audio(tmp_path / "short.wav", torch.ones(100) / 2, RATE)
    clips = clips_in(tmp_path, restore(vocoder).mel)
    assert clips.names == ["whole"]
    assert "Left out of the clips: 2" in clips.notes[0]
    assert "short.wav" in clips.notes[0]


def test_names_of_outputs_are_distinct():
    assert output_names(["a.wav", "b/a.wav", "c.wav", "c.flac"]) == ["a", "b/a", "c.wav", "c.flac"]


def test_spectrograms_of_files(tmp_path: Path):
    found = torch.rand(20, 9)
    np.save(tmp_path / "a.npy", found.numpy())
    save_file({"mel": found[None].contiguous(), "other": torch.zeros(1)}, tmp_path / "b.safetensors")
    for name in ("a.npy", "b.safetensors"):
        assert torch.equal(read_spectrogram(tmp_path / name, 20), found)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((9, 20), np.float32), "network's 20 bands as rows, got (9, 20); it looks transposed"),
        (np.zeros((20, 0), np.float32), "bands as rows, got (20, 0)"),
        (np.full((20, 9), -4.0), "finite values from 0 to 1, as MelSpectrogram.normalized gives them, got -4 to -4"),
        (np.full((20, 9), np.nan), "finite values from 0 to 1"),
        (np.zeros((20, 9), np.int64), "must be floats of shape (20, frames), got torch.int64"),
        (np.zeros((2, 20, 9)), "must be floats of shape (20, frames)"),
        (np.array([{}]), "cannot be read as a spectrogram"),
    ],
)
def test_spectrograms_that_do_not_fit(tmp_path: Path, array: np.ndarray, message: str):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        read_spectrogram(tmp_path / "x.npy", 20)


# Evaluations.


def test_half_the_amplitude_is_six_decibels_everywhere(evaluated, vocoder: Path, voices: Path, tmp_path: Path):
    """The audio that was made is replaced by the originals at half their amplitude."""
    made, results = evaluated
    shutil.copytree(made, tmp_path / "out")
    for clip in results["clips"]:
        save_audio(
            tmp_path / "out/samples" / f"{clip['name']}.flac",
            read_audio(voices / f"{clip['name']}.wav").audio / 2,
            RATE,
        )
    (tmp_path / "out" / "results.json").unlink()
    found = by_key(AudioEvaluator(AudioEvaluationSettings(real=voices, **QUICK)).evaluate(vocoder, tmp_path / "out"))
    half = 20 * math.log10(2)
    assert found["hf_balance"]["value"] == pytest.approx(-half, abs=0.02)
    assert found["ltas"]["value"] == pytest.approx(half, abs=0.02)
    assert found["lsd"]["value"] == pytest.approx(half, abs=0.1)
    assert found["lsd"]["spread"] < 0.1
    # 32 bands whose mean level falls by 6.02 dB, nothing else.
    assert found["frechet_audio"]["value"] == pytest.approx(32 * half**2, rel=0.05)


def test_muffled_audio_is_told_by_the_high_frequencies(evaluated, vocoder: Path, voices: Path, tmp_path: Path):
    made, results = evaluated
    shutil.copytree(made, tmp_path / "out")
    for clip in results["clips"]:
        spectrum = torch.fft.rfft(read_audio(voices / f"{clip['name']}.wav").audio)
        frequency = torch.linspace(0, RATE / 2, len(spectrum))
        spectrum[frequency > 4000] /= 10  # 20 dB less
        save_audio(tmp_path / "out/samples" / f"{clip['name']}.flac", torch.fft.irfft(spectrum), RATE)
    (tmp_path / "out" / "results.json").unlink()
    found = by_key(AudioEvaluator(AudioEvaluationSettings(real=voices, **QUICK)).evaluate(vocoder, tmp_path / "out"))
    assert found["hf_balance"]["value"] == pytest.approx(-20, abs=0.3)
    assert found["hf_balance"]["above_hz"] == 4000
    assert (high_edge(22050), high_edge(8000)) == (4000, 2000)


def test_numbers_equal_a_direct_computation(evaluated, voices: Path):
    out, results = evaluated
    distance, spectra = FrechetAudioDistance(load_audio_embedding("mel")), [LongTermSpectrum(RATE) for _ in range(2)]
    for i in range(7):
        real, fake = read_audio(voices / f"v{i}.wav").audio, read_audio(out / "samples" / f"v{i}.flac").audio
        assert len(real) == len(fake)
        distance.update(real=real, fake=fake, sample_rate=RATE)
        spectra[0].update(real)
        spectra[1].update(fake)
    found = by_key(results)
    assert found["frechet_audio"]["value"] == pytest.approx(distance.compute().distance, rel=1e-9)
    assert found["ltas"]["value"] == pytest.approx(compare_long_term(*spectra).lsd, rel=1e-9)
    values = [clip["lsd"] for clip in results["clips"]]
    assert found["lsd"]["value"] == pytest.approx(np.mean(values))
    assert found["lsd"]["spread"] == pytest.approx(np.std(values, ddof=1) / math.sqrt(7))
    assert (found["lsd"]["real"], found["lsd"]["fake"]) == (7, 7)
    assert results["samples"]["nfe"] == 2


def test_the_page_holds_players_and_the_file_the_numbers(evaluated):
    out, results = evaluated
    assert json.loads((out / "results.json").read_text()) == results
    page = (out / "index.html").read_text()
    assert page.count("<audio") == 12  # six clips, with their originals
    assert "→\N{NO-BREAK SPACE}0" in page
    assert results["spectrum"]["lsd_db"] == pytest.approx(by_key(results)["ltas"]["value"], rel=1e-9)
    assert "The log-spectral distance of the long-term spectra is" in page


def test_what_is_there_is_kept(evaluated, vocoder: Path, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made, results = evaluated
    out = Path(shutil.copytree(made, tmp_path / "out"))
    evaluator = AudioEvaluator(AudioEvaluationSettings(real=voices, **QUICK))
    before = (out / "samples" / "v2.flac").read_bytes()
    (out / "samples" / "v2.flac").unlink()
    again = evaluator.evaluate(vocoder, out)
    assert (out / "samples" / "v2.flac").read_bytes() == before
    assert again["metrics"] == results["metrics"]
    monkeypatch.setattr(evaluation, "audio_entries", lambda *_, **__: pytest.fail("computed again"))
    assert evaluator.evaluate(vocoder, out)["seconds"] == again["seconds"]


def test_audio_of_other_settings_is_not_mixed_in(evaluated, vocoder: Path, voices: Path):
    out, _ = evaluated
    with pytest.raises(ValueError, match="drawn with other settings"):
        AudioEvaluator(AudioEvaluationSettings(real=voices, **(QUICK | {"steps": 3}))).evaluate(vocoder, out)


class Threads(Ranks):
    """Two processes, played by two threads."""

    barrier, board = threading.Barrier(2, timeout=60), [None, None]

    def __init__(self, index: int) -> None:
        super().__init__("cpu")
        self.index, self.count = index, 2

    def gather(self, value: Any) -> list[Any]:
        self.barrier.wait()
        self.board[self.index] = value
        self.barrier.wait()
        return list(self.board)

    def first(self, value: Any) -> Any:
        return self.gather(value)[0]


def test_two_processes_share_the_work_and_find_the_same(evaluated, vocoder: Path, voices: Path, tmp_path: Path):
    found: dict[int, dict] = {}

    def work(index: int) -> None:
        settings = AudioEvaluationSettings(real=voices, **QUICK)
        found[index] = AudioEvaluator(settings, Threads(index)).evaluate(vocoder, tmp_path)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out, results = evaluated
    assert found[0]["metrics"] == found[1]["metrics"] == results["metrics"]
    for i in range(7):
        name = f"samples/v{i}.flac"
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_a_run_is_judged_on_the_clips_it_holds_out(trained: Path, voices: Path):
    results = AudioEvaluator(AudioEvaluationSettings(metrics=("lsd",))).evaluate(trained)
    expected, _ = held_out_clips(restore(trained).recipe.data)
    assert [clip["name"] for clip in results["clips"]] == expected.names
    assert (results["subset"], results["samples"]["nfe"]) == ("test", 3)
    chosen = AudioEvaluator(AudioEvaluationSettings(metrics=("lsd",), subset="eval")).evaluate(trained)
    assert chosen["subset"] == "eval"
    assert not {clip["name"] for clip in chosen["clips"]} & set(expected.names)


def test_samples_without_spectrograms(speechless: Path, voices: Path, tmp_path: Path):
    settings = AudioEvaluationSettings(real=voices, count=3, steps=1, seed=5, metrics=("frechet_audio", "hf_balance"))
    found = restore(speechless)._replace(sample_shape=(1, 6000))
    original = evaluation.restore
    try:
        evaluation.restore = lambda *_, **__: found
        results = AudioEvaluator(settings).evaluate(speechless, tmp_path)
    finally:
        evaluation.restore = original
    assert [clip["name"] for clip in results["clips"]] == ["000005", "000006", "000007"]
    assert (results["samples"]["samples"], results["kind"]) == (6000, "unconditional")
    drawn = sample(found.model, found.process, (1, 6000), seeds=[6], steps=1, solver="ancestral")[0, 0].clamp(-1, 1)
    assert (read_audio(tmp_path / "samples/000006.wav").audio - drawn).abs().max() <= 1.01 / 32768
    assert by_key(results)["frechet_audio"]["fake"] == 3


def test_what_cannot_be_measured_is_said_before_audio_is_made(
    vocoder: Path, speechless: Path, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ValueError, match="at least 20 clips of each kind, got 7 and 7"):
        AudioEvaluator(AudioEvaluationSettings(real=voices, metrics=("ndb",))).evaluate(vocoder, tmp_path)
    short = restore(speechless)._replace(sample_shape=(1, 512))
    monkeypatch.setattr(evaluation, "restore", lambda *_, **__: short)
    with pytest.raises(ValueError, match=r"the samples of this network have 512 \(0.*s\): train it on longer crops"):
        AudioEvaluator(AudioEvaluationSettings(real=voices, metrics=("ltas",))).evaluate(speechless, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["pesk"]}, "unknown metric of audio: got 'pesk' (did you mean 'pesq'?)"),
        ({"metrics": []}, "metrics must name at least one"),
        ({"steps": 2, "schedule": "fast"}, "give steps or schedule, not both"),
        ({"real": "x", "subset": "test"}, "subset is one of the recipe's clips"),
        ({"subset": "train"}, "Input should be 'all', 'eval' or 'test'"),
    ],
)
def test_settings_that_do_not_fit(changes: dict, message: str):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        AudioEvaluationSettings(**changes)


def test_evaluations_that_cannot_be_made(vocoder: Path, speechless: Path, voices: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match="no recipe that names its audio"):
        AudioEvaluator(AudioEvaluationSettings(metrics=("lsd",), steps=1)).evaluate(vocoder, tmp_path / "a")
    with pytest.raises(ValueError, match="mr_stft compares a clip with its original"):
        AudioEvaluator(AudioEvaluationSettings(real=voices, metrics=("mr_stft",))).evaluate(speechless, tmp_path / "b")
    small = {"real": voices, "count": 3, "steps": 1, "metrics": ("ndb",)}
    with pytest.raises(ValueError, match="needs at least 20 clips of each kind, got 7 and 3"):
        AudioEvaluator(AudioEvaluationSettings(**small)).evaluate(speechless, tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="no TorchScript file"):
        AudioEvaluator(AudioEvaluationSettings(real=voices, metrics=("utmos=none.pt",))).evaluate(vocoder, tmp_path)


def test_a_metric_whose_package_is_missing(
    vocoder: Path, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pesq", None)
    assert "pesq" not in default_metrics(vocoder=True)
    with pytest.raises((ValueError, MissingExtraError), match="or leave pesq out of the metrics"):
        AudioEvaluator(AudioEvaluationSettings(real=voices, metrics=("pesq",))).evaluate(vocoder, tmp_path)


def test_the_default_metrics_of_samples_need_no_original():
    assert {"lsd", "frechet_audio", "ltas", "hf_balance"} <= set(default_metrics(vocoder=True))
    alone = default_metrics(vocoder=False)
    assert "ndb" in alone
    assert not {"lsd", "mr_stft", "pesq", "estoi"} & set(alone)


# Grids.

GRID = """
name: losses
recipe: recipe.yaml
arms:
  none: [regularizer=null]
  amplitude: ["regularizer={losses: [{name: amplitude}], weight: 0.01}"]
baseline: none
seeds: [0, 1]
steps: [1]
evaluate: {metrics: [lsd, hf_balance], subset: test, limit: 2, keep_samples: false}
"""


@pytest.fixture
def grid_file(voices: Path, tmp_path: Path) -> Path:
    recipe = make_recipe(RECIPE | {"data": RECIPE["data"] | {"path": str(voices)}})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path / "grid.yaml"


def test_a_grid_of_audio_compares_its_arms(grid_file: Path, tmp_path: Path):
    grid = load_grid(grid_file)
    assert (grid.settings.evaluate.kind, grid.settings.evaluate.limit) == ("audio", 2)
    run_grid(grid, tmp_path / "out")
    results = collect(grid, tmp_path / "out")
    assert (len(results["runs"]), results["missing"], results["failed"]) == (4, [], [])
    assert set(results["metrics"]) == {"lsd", "hf_balance"}
    assert not list((tmp_path / "out").rglob("*.flac"))
    rows = {(entry["metric"], entry["arm"]): entry for entry in results["tables"]}
    runs = {(run["arm"], run["seed"]): run["metrics"] for run in results["runs"]}
    changes = [runs["amplitude", seed]["lsd"] - runs["none", seed]["lsd"] for seed in (0, 1)]
    assert rows["lsd", "amplitude"]["difference"] == pytest.approx(np.mean(changes))
    assert "clips" in grid_report(results, tmp_path / "page").parent.joinpath("table.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluate.metrics=[kid]"], "evaluate.metrics: unknown metric of audio: got 'kid'"),
        (["evaluate.features=[x]"], "evaluate: unknown key 'features'"),
        (["evaluate.schedule=fasst"], "evaluate.schedule: a schedule is fast, full, or betas .* got 'fasst'"),
        (["evaluate.schedule=[0.1,2]"], r"evaluate.schedule: betas must lie between 0 and 1, got \[0.1, 2.0\]"),
        (["paper={source: s, values: {model: {none: {1: {frechet: 1.0}}}}}"], "unknown metric in paper: got 'frechet'"),
    ],
)
def test_grids_of_audio_take_metrics_of_audio(grid_file: Path, overrides: list[str], message: str):
    with pytest.raises(RecipeError, match=message):
        load_grid(grid_file, overrides)


def test_what_is_best_at_zero_is_compared_by_its_size():
    """+1 dB is as good as -1 dB, and better than -3 dB."""
    facts = {"metric": "hf_balance", "title": "High", "better": "zero", "features": "", "real": 2, "fake": 2}
    runs = [
        {"model": "model", "arm": arm, "seed": seed, "steps": 1, "metrics": {"hf_balance": value}}
        for arm, values in {"none": (-3.0, -3.2), "loss": (1.0, -1.0)}.items()
        for seed, value in enumerate(values)
    ]
    grid = {"models": {"model": []}, "arms": {"none": [], "loss": []}, "baseline": "none", "steps": [1]}
    results = {"grid": grid, "runs": runs, "metrics": {"hf_balance": facts}, "paper": None}
    table = {entry["arm"]: entry for entry in compare_arms(results)}
    assert table["loss"]["mean"] == 0
    assert table["loss"]["difference"] == pytest.approx(-2.1)
    assert "1 are clearly better and 0 clearly worse" in describe_grid(results | {"tables": list(table.values())})
    assert metric_title(facts).endswith("0")
