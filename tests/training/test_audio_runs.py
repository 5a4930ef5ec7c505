"""Training on audio: a vocoder and an unconditional network, every spectral term, resumed, on two processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from passband.data import save_audio
from passband.models import DiffWave
from passband.sampling import sample, schedule_times
from passband.training import NonFiniteLossError, RecipeError, Trainer, denoising_loss, make_recipe
from passband.training.batches import batches
from passband.training.build import build_dataset, build_process, build_regularizer
from passband.training.clips import FileClips
from passband.training.conditioning import Conditioner
from passband.training.draw import Drawing
from passband.training.draw_audio import Vocoding
from passband.training.restore import restore
from passband.training.sections import build_mel

RATE, HOP = 8000, 32
MEL = {"n_fft": 128, "hop_length": HOP, "n_mels": 8}
FAST = [1e-4, 0.01, 0.2, 0.5]
NETWORK = {
    "name": "diffwave", "n_mels": 8, "residual_layers": 3, "residual_channels": 8, "dilation_cycle_length": 2,
    "upsample_factors": [8, 4],
}  # fmt: skip


@pytest.fixture(scope="session")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of noisy tones, 0.4 to 0.58 s."""
    root = tmp_path_factory.mktemp("voices")
    generator = torch.Generator().manual_seed(0)
    for number in range(10):
        time = torch.arange(3200 + 160 * number) / RATE
        tone = 0.3 * torch.sin(2 * torch.pi * (200 + 50 * number) * time)
        save_audio(root / f"{number}.wav", tone + 0.03 * torch.randn(len(time), generator=generator), RATE)
    return root


def recipe(voices: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "name": "spoken",
        "data": {"name": "audio", "path": str(voices), "sample_rate": RATE, "frames": 16, "mel": MEL},
        "process": {"name": "vp", "steps": 50, "beta_start": 1e-4, "beta_end": 0.05},
        "model": NETWORK,
        "loss": {"distance": "l1"},
        "optimizer": {"lr": 1e-3},
        "training": {"steps": 4, "batch_size": 4, "ema": 0.5, "log_every": 1, "save_every": 2, "sample_every": 4,
                     "trackers": []},
        "sampling": {"count": 2, "solver": "ancestral", "noise_schedule": FAST},
    }  # fmt: skip
    for key, change in changes.items():
        values[key] = {**values.get(key, {}), **change} if isinstance(change, dict) else change
    return make_recipe(values)


def test_a_batch_is_a_crop_and_the_columns_of_its_whole_file(voices):
    chosen = recipe(voices)
    dataset, mel = build_dataset(chosen.data), build_mel(chosen.data)
    (batch,) = batches(dataset, 3, 4, 4, seed=1)
    assert batch.clean.shape == (4, 1, 16 * HOP)
    network = DiffWave(8, 1, 4, 1, upsample_factors=(8, 4))
    given = Conditioner.of(network, 0.0, 1, mel)(batch)["spectrogram"]
    whole = {path.name: torch.tensor(soundfile.read(path, dtype="float32")[0]) for path in voices.iterdir()}
    for crop, columns in zip(batch.clean[:, 0], given, strict=True):
        places = [
            (name, start)
            for name, audio in whole.items()
            for start in range(0, len(audio) - len(crop) + 1, HOP)
            if torch.equal(audio[start : start + len(crop)], crop)
        ]
        ((name, start),) = places
        wanted = mel.normalized(whole[name])[:, start // HOP : start // HOP + 16]
        torch.testing.assert_close(columns, wanted)


def test_batches_do_not_depend_on_workers_or_shares(voices):
    dataset = build_dataset(recipe(voices).data)
    whole = list(batches(dataset, 0, 3, 4, seed=0))
    worked = list(batches(dataset, 0, 3, 4, seed=0, workers=2))
    shares = [list(batches(dataset, 0, 3, 4, seed=0, rank=rank, world_size=2)) for rank in range(2)]
    for step in range(3):
        assert torch.equal(whole[step].clean, worked[step].clean)
        assert torch.equal(whole[step].surroundings, torch.cat([share[step].surroundings for share in shares]))
    assert not torch.equal(whole[0].clean, whole[1].clean)


def test_the_base_loss_is_l1_of_the_noise(voices):
    chosen = recipe(voices)
    (batch,) = batches(build_dataset(chosen.data), 0, 1, 4, seed=0)
    process = build_process(chosen.process)
    base = denoising_loss(lambda x, t: torch.zeros_like(x), process, None, batch, 0, distance="l1").base
    # Of standard normal values the mean absolute one is sqrt(2 / pi).
    assert base.item() == pytest.approx((2 / torch.pi) ** 0.5, abs=0.05)
    squared = denoising_loss(lambda x, t: torch.zeros_like(x), process, None, batch, 0).base
    assert squared.item() == pytest.approx(1.0, abs=0.1)


def test_a_vocoder_trains_shows_itself_and_resumes_to_the_same_bits(voices, tmp_path):
    chosen = recipe(voices, data={"subset": "train", "eval_share": 0.3})
    whole = Trainer(chosen, tmp_path / "whole")
    losses: list[float] = []
    whole.train(on_log=lambda step, entry: losses.append(entry["base"]))
    Trainer(chosen, tmp_path / "parts").train(until=2)
    resumed = Trainer(chosen, tmp_path / "parts", resume=True)
    assert resumed.step == 2
    resumed.train()
    for name in ("diffwave", "ema"):
        files = [tmp_path / run / f"checkpoints/step-00000004/{name}/model.safetensors" for run in ("whole", "parts")]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert len(losses) == 4
    audio, rate = soundfile.read(tmp_path / "whole/samples/step-00000004.wav")
    assert rate == RATE
    assert audio.shape == (2 * 16 * HOP,)
    assert (tmp_path / "whole/samples/step-00000004.png").is_file()


def test_a_run_shows_held_out_clips_by_its_own_schedule(voices, tmp_path):
    chosen = recipe(voices, data={"subset": "train", "eval_share": 0.5})
    trainer = Trainer(chosen, tmp_path)
    torch.nn.init.normal_(trainer.averaged.output_projection.weight)
    held_out = build_dataset(chosen.data.model_copy(update={"subset": "eval"}))
    assert not set(held_out.names) & set(trainer.dataset.names)
    mel, process = build_mel(chosen.data), build_process(chosen.process)
    columns = mel.normalized(held_out.read([0, 1]), padded=True)[..., :16]
    wanted = sample(
        trainer.averaged.eval(), process, (1, 16 * HOP), seeds=range(2), solver="ancestral",
        times=schedule_times(process, FAST), conditioning={"spectrogram": columns},
    )  # fmt: skip
    assert torch.equal(trainer.sample(range(2)), wanted)


TERMS: dict[str, dict[str, Any]] = {
    "amplitude": {"name": "amplitude"},
    "phase": {"name": "amplitude_phase"},
    "haar": {"name": "wavelet", "wavelet": "haar"},
    "bior": {"name": "wavelet", "wavelet": "bior1.3"},
    "stft": {"name": "stft", "frame_lengths": [64, 128]},
}


@pytest.mark.parametrize("estimate", ["tweedie", {"ddim": 2}], ids=["tweedie", "ddim"])
@pytest.mark.parametrize("term", TERMS)
def test_every_term_takes_part(voices, tmp_path, term, estimate):
    given = {"losses": [TERMS[term]], "weight": 1.0, "clean_estimate": estimate}
    changes = {"training": {"steps": 3, "sample_every": None}}
    logs, runs = [], []
    for name, options in (("with", {"regularizer": given}), ("without", {})):
        run = Trainer(recipe(voices, **options, **changes), tmp_path / name)
        run.train()
        runs.append(run.network.output_projection.weight)
        logs.append([json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()])
    assert all(entry["spectral"] > 0 for entry in logs[0])
    # The same crops, noise and first weights; then the term moves them elsewhere.
    assert logs[0][0]["base"] == logs[1][0]["base"]
    assert not torch.equal(*runs)


def test_two_updates_call_the_network_with_its_spectrogram(voices):
    chosen = recipe(voices, regularizer={"losses": [TERMS["amplitude"]], "weight": 1.0, "clean_estimate": {"ddim": 2}})
    (batch,) = batches(build_dataset(chosen.data), 0, 1, 4, seed=0)
    network = DiffWave(8, 2, 4, 2, upsample_factors=(8, 4))
    torch.nn.init.normal_(network.output_projection.weight)
    given = Conditioner.of(network, 0.0, 0, build_mel(chosen.data))(batch)
    calls: list[torch.Tensor] = []

    def model(x: torch.Tensor, t: torch.Tensor, spectrogram: torch.Tensor) -> torch.Tensor:
        assert spectrogram is given["spectrogram"]
        calls.append(t)
        return network(x, t, spectrogram)

    process, regularizer = build_process(chosen.process), build_regularizer(chosen.regularizer)
    losses = denoising_loss(model, process, regularizer, batch, 0, given, distance="l1")
    assert len(calls) == 2
    # Half way to the clean end, -1, in the process's own time.
    torch.testing.assert_close(calls[1].float(), (calls[0].float() - 1) / 2)
    losses.spectral.backward()
    assert network.input_projection.weight.grad.abs().sum() > 0


def test_an_unconditional_network_trains(voices, tmp_path):
    chosen = recipe(voices, model={"unconditional": True}, training={"steps": 2, "sample_every": 2})
    trainer = Trainer(chosen, tmp_path)
    trainer.train()
    assert trainer.network.unconditional
    assert trainer.sample(range(3)).shape == (3, 1, 16 * HOP)


def test_fine_tuning_starts_from_the_saved_network(voices, tmp_path):
    Trainer(recipe(voices), tmp_path / "first").train()
    saved = tmp_path / "first/checkpoints/step-00000004/ema"
    tuned = Trainer(recipe(voices, model={"pretrained": str(saved)}), tmp_path / "second")
    weights = load_file(saved / "model.safetensors")
    for name, value in tuned.network.state_dict().items():
        assert torch.equal(value, weights[name])
    wrong = recipe(voices, model={"pretrained": str(saved)}, data={"mel": {**MEL, "n_mels": 9}})
    with pytest.raises(
        RecipeError, match="takes spectrograms of 8 bands with a frame every 32 samples, the data give 9"
    ):
        Trainer(wrong, tmp_path / "third")


def test_an_imported_network_is_trained_on_as_it_was_made(voices, tmp_path):
    folder = tmp_path / "imported"
    DiffWave(**{key: value for key, value in NETWORK.items() if key != "name"}).save_pretrained(folder)
    process = {"name": "vp", "steps": 50, "beta_start": 1e-4, "beta_end": 0.05}
    (folder / "process.json").write_text(json.dumps(process))
    mel = {"sample_rate": RATE, **MEL, "f_min": 20.0}
    (folder / "mel.json").write_text(json.dumps(mel))
    changes = {"model": {"pretrained": str(folder)}}
    Trainer(recipe(voices, **changes), tmp_path / "fits")
    plain = {"noise_schedule": None}
    for wrong, match in (
        ({"process": {"steps": 100}}, "in its schedule, of 50 steps to a noise ratio of .*; the recipe's has 100"),
        ({"process": {"beta_end": 0.02}, "sampling": plain}, "in its schedule, of 50 steps .*; the recipe's has 50"),
        ({"data": {"sample_rate": 8001}}, "differs from the recipe's in sample_rate: set data.sample_rate and"),
        ({"data": {"mel": {**MEL, "win_length": 64}}}, "in win_length"),
        ({"data": {"mel": {**MEL, "f_min": 30.0}}}, "in f_min, f_max, scale or area_norm"),
    ):
        with pytest.raises(RecipeError, match=match):
            Trainer(recipe(voices, **changes, **wrong), tmp_path / "wrong")


def test_a_forced_vocoder_can_be_drawn_without_on_insistence(voices, tmp_path):
    chosen = recipe(voices, forcing={"front": {"name": "linear"}}, training={"sample_every": None})
    Trainer(chosen, tmp_path / "run").train()
    made = {}
    for forcing in ("recorded", "none"):
        found = restore(tmp_path / "run", forcing=forcing, insist=True)
        clips = FileClips(voices / "0.wav", found.mel)
        vocoding = Vocoding(Drawing(found, tmp_path / "run"))
        made[forcing] = vocoding.speak(clips.read(0, found.mel), "0")
    assert made["none"].isfinite().all()
    assert not torch.allclose(made["recorded"], made["none"])


SCRIPT = """
import json, sys
from passband.training import Trainer, load_recipe
trainer = Trainer(load_recipe(sys.argv[1]), sys.argv[2])
trainer.train()
trainer.end()
"""


def test_two_processes_train_what_one_does(voices, tmp_path, two_processes: Callable[..., list[str]]):
    chosen = recipe(voices, training={"sample_every": None}, regularizer={"losses": [TERMS["stft"]], "weight": 0.1})
    file = tmp_path / "recipe.yaml"
    file.write_text(chosen.to_yaml())
    Trainer(chosen, tmp_path / "one").train()
    two_processes("-c", SCRIPT, file, tmp_path / "two")
    one, two = (load_file(tmp_path / run / "checkpoints/step-00000004/ema/model.safetensors") for run in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model": {"n_mels": 80}}, "model.n_mels 80 must be data.mel.n_mels, 8"),
        ({"model": {"upsample_factors": [16, 16]}}, r"product of model.upsample_factors \[16, 16\] must be"),
        ({"model": {"upsample_factors": [31, 1]}}, "upsample_factors"),
        ({"data": {"mel": {**MEL, "f_max": 5000}}}, "half the sample rate, 4000 Hz"),
        ({"sampling": {"noise_schedule": [0.1, 1.5]}}, "noise_schedule"),
        ({"sampling": {"noise_schedule": []}}, "noise_schedule: give at least one beta"),
        ({"loss": {"distance": "huber"}}, "distance"),
    ],
)
def test_recipes_that_do_not_fit(voices, changes, match):
    with pytest.raises(RecipeError, match=match):
        recipe(voices, **changes)


def test_audio_and_images_take_their_own_networks(voices):
    values = recipe(voices).model_dump(mode="json")
    unet = {"name": "unet", "block_out_channels": [32, 32]}
    with pytest.raises(RecipeError, match=r"model.name unet and data.name audio do not fit"):
        make_recipe({**values, "model": unet})
    with pytest.raises(RecipeError, match=r"model.name diffwave and data.name checkerboard do not fit"):
        make_recipe({**values, "data": {"name": "checkerboard"}})
    images = {"model": unet, "data": {"name": "checkerboard"}, "regularizer": {"losses": [{"name": "stft"}]}}
    with pytest.raises(RecipeError, match=r"stft is a loss of audio, and data.name is checkerboard"):
        make_recipe({**values, **images})
    with pytest.raises(RecipeError, match=r"noise_schedule holds betas of a vp process, and process.name is flow"):
        make_recipe({**values, "process": {"name": "flow"}})


def test_a_crop_is_saved_with_the_batch_that_failed(voices, tmp_path):
    chosen = recipe(voices, optimizer={"lr": 1e-3}, training={"sample_every": None})
    trainer = Trainer(chosen, tmp_path)
    with torch.no_grad():
        trainer.network.output_projection.bias.fill_(np.nan)
    with pytest.raises(NonFiniteLossError, match="failed-step"):
        trainer.train()
    (folder,) = tmp_path.glob("failed-step-*")
    assert any(voices.joinpath(name).is_file() for name in json.loads((folder / "batch.json").read_text())["files"])


def test_samples_that_are_not_finite_do_not_end_the_training(voices, tmp_path):
    trainer = Trainer(recipe(voices), tmp_path / "run")
    drawn = torch.zeros(2, 1, 512)
    drawn[1] = torch.nan
    picture = trainer.task.show(drawn, tmp_path / "shown")
    magenta = (picture == np.array([255, 0, 255])).all(-1)
    assert 0 < magenta.mean() < 0.6
    assert len(soundfile.read(tmp_path / "shown.wav")[0]) == 1024


def test_a_crop_that_has_no_spectrogram_of_its_own_is_refused_before_training(voices):
    with pytest.raises(RecipeError, match=r"must be more than half of mel\.n_fft, 64: set frames to 3 or more"):
        recipe(voices, data={"frames": 2})
    assert recipe(voices, data={"frames": 3}).data.length == 96
