"""Diagnosis as a whole: an ideal denoiser with one band damped is found out, runs and pipelines are opened."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
import yaml

from passband._seeds import seed_for
from passband.data import PowerLawFields, power_law_fields, save_image
from passband.metrics import PixelBands, measure_wiener
from passband.metrics.noise_levels import noise_levels
from passband.models import EDMUNet, save_model
from passband.process import EDM, VP, Flow, Prediction
from passband.regularization import AmplitudeLoss
from passband.sampling import SampleNoise
from passband.training import RecipeError
from passband.training.batches import Batch, Reading
from passband.training.conditioning import Conditioner
from passband.training.diagnose import DiagnosisSettings, diagnose
from passband.training.diagnosis_data import DiagnosisData, _put_into_space, given_data, own_data
from passband.training.diagnosis_gradients import described_losses
from passband.training.diagnosis_levels import common_ratios, default_ratios, visits
from passband.training.sections import ImagesData, LatentsData, LossSettings, RegularizerSettings
from passband.training.subject import LatentSpace, Subject, _given, open_subject, told_apart
from passband.training.suggest import Suggestion
from passband.transforms import MelSpectrogram, dct, idct

PROCESS = Flow(data_at=1, prediction="sample")
RATIOS = (0.05, 0.2, 0.8)
SETTINGS = DiagnosisSettings(count=192, gradients=32, batch_size=96, ratios=RATIOS)


def ideal(wiener, x, t, damped=None, factor=0.8):
    """The Wiener filter as a network; `damped` is the (ratio, band) whose estimate is multiplied by the factor."""
    alpha, sigma = PROCESS.level(t[:1].double())
    ratio = float(sigma / alpha)
    spectrum = wiener.estimate(dct(x / alpha.float()), ratio)
    if damped is not None and abs(ratio - damped[0]) < 1e-3:
        spectrum = torch.where(PixelBands((32, 32)).index == damped[1], factor * spectrum, spectrum)
    return idct(spectrum)


def subject(model, name="model", process=PROCESS, shape=(1, 32, 32)):
    return Subject(
        name=name,
        model=model,
        process=process,
        shape=shape,
        kind="images",
        given=lambda _: {},
        clean=lambda batch: batch.clean,
        move=lambda _: None,
    )


@pytest.fixture(scope="module")
def fields():
    dataset = PowerLawFields(resolution=32, beta=2.0, share=0.0, length=192, seed=3)
    return DiagnosisData(dataset, Reading(), 192, 0, "fields")


@pytest.fixture(scope="module")
def wiener(fields):
    return measure_wiener(torch.stack([fields.dataset[i] for i in range(192)]))


@pytest.fixture(scope="module")
def faultless(fields, wiener):
    return diagnose(subject(partial(ideal, wiener)), fields, SETTINGS)


@pytest.mark.parametrize(("hybrid", "prediction"), [(True, "sample"), (False, "velocity")])
def test_a_hybrid_head_counts_as_a_clean_estimate(fields, monkeypatch, hybrid, prediction):
    """It may be given a front, and a network that predicts a velocity alone may not."""
    asked = {}
    monkeypatch.setattr("passband.training.diagnose.suggest", lambda *_, **given: asked.update(given) or Suggestion())
    process = Flow(data_at=1, prediction="velocity", hybrid=hybrid)
    model = subject(lambda x, _: torch.zeros_like(x).repeat(1, process.heads, 1, 1), process=process)
    diagnose(model, replace(fields, count=8), DiagnosisSettings(count=8, gradients=0, ratios=(0.2,)))
    assert asked["prediction"] == prediction


def test_nothing_is_found_in_an_ideal_denoiser(faultless):
    assert faultless.model.spectrum.same
    assert faultless.suggestion.loss is None
    assert faultless.suggestion.recipe == ""
    assert faultless.suggestion.sentences["found"].startswith("Nothing to mend")
    assert faultless.law.beta == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("level", "band"), [(0, 9), (1, 6), (2, 3)])
def test_a_damped_band_is_found_and_a_term_for_it(fields, wiener, level, band):
    damped = subject(partial(ideal, wiener, damped=(RATIOS[level], band)))
    found = diagnose(damped, fields, SETTINGS)
    assert found.model.spectrum.wrong.nonzero().tolist() == [[level, band]]
    assert bool(found.model.spectrum.smooth[level, band])
    label = found.model.spectrum.excess.labels[1][band]
    assert f"noise ratio {RATIOS[level]:g} at {label} cycles per pixel" in found.suggestion.sentences["found"]
    if found.suggestion.loss is not None:
        _validated(found.suggestion)


@pytest.mark.parametrize("process", [VP, EDM, partial(Flow, data_at=0), partial(Flow, data_at=1)])
def test_every_process_and_prediction_is_read_rightly(fields, wiener, process):
    """The ideal filter behind each form of the network's output: its error is P r²/(P + r²), the closed form's."""
    data = DiagnosisData(fields.dataset, Reading(), 32, 0, "fields")
    settings = DiagnosisSettings(count=32, gradients=0, ratios=[0.1, 2.0], replicates=20)
    for prediction in get_args(Prediction):
        noised = process(prediction=prediction)
        spectrum = diagnose(
            subject(partial(ideal_output, noised, wiener), process=noised), data, settings
        ).model.spectrum
        own = measure_wiener(torch.stack([data.dataset[i] for i in data.indices()])).psd
        bands = PixelBands((32, 32))
        for ratio, left in zip(spectrum.ratios, spectrum.relative, strict=True):
            gain = wiener.gain(ratio)
            expected = bands.sums((1 - gain).square() * own + (gain * ratio).square())[0] / bands.sums(own)[0]
            assert left[4:].tolist() == pytest.approx(expected[4:].tolist(), rel=0.15), prediction


def ideal_output(process, wiener, x, t):
    """What a network of this process says that knows the ideal filter: a x̂0 + b ε̂."""
    levels = noise_levels(process, [0.1, 2.0])
    level = min(levels, key=lambda one: abs(float(process.model_time(one.t())) - float(t[0])))
    time = level.t()
    noisy = x / process.scale_input(torch.ones_like(x), time)
    alpha, sigma = (float(part) for part in process.level(time.double()))
    estimate = idct(wiener.estimate(dct(noisy / alpha), sigma / alpha))
    return process.target(estimate, (noisy - alpha * estimate) / sigma, time)


def test_another_model_is_measured_on_the_same_noise(fields, wiener, faultless):
    damped = subject(partial(ideal, wiener, damped=(RATIOS[1], 6)))
    found = diagnose(damped, fields, SETTINGS, against=subject(partial(ideal, wiener)))
    assert [found.model.name, found.against.name] == ["model", "model (2)"]
    assert found.comparison.different.nonzero().tolist() == [[1, 6]]
    assert float(found.comparison.difference[1, 6]) < 0  # the other one errs less
    torch.testing.assert_close(found.against.spectrum.relative, faultless.model.spectrum.relative)


def test_batches_change_nothing(fields, wiener, faultless):
    smaller = DiagnosisSettings(count=192, gradients=32, batch_size=50, ratios=RATIOS)
    found = diagnose(subject(partial(ideal, wiener)), fields, smaller)
    torch.testing.assert_close(found.model.spectrum.relative, faultless.model.spectrum.relative)
    torch.testing.assert_close(
        found.model.spectrum.gradients["base"].norm, faultless.model.spectrum.gradients["base"].norm
    )


def test_gradients_are_those_of_the_losses(fields, wiener):
    """Against autograd through a whole batch of one sample: base loss of another space, and a loss on the estimate."""
    process = Flow(data_at=1, prediction="velocity")
    model = subject(lambda x, t: 0.1 * x, process=process)
    model = Subject(**{**vars(model), "loss": LossSettings(space="epsilon", distance="l1")})
    one = DiagnosisData(fields.dataset, Reading(), 8, 0, "fields")
    settings = DiagnosisSettings(count=8, gradients=1, batch_size=8, ratios=[0.5], losses={"amplitude": "amplitude"})
    found = diagnose(model, one, settings).model.spectrum.gradients
    batch, _ = next(iter(one.batches(8, torch.device("cpu"))))
    clean, t = batch.clean[:1], process.time_at(torch.tensor([0.5]))
    noise = SampleNoise([seed_for(0, 0, "diagnose")]).normal(clean.shape[1:])
    noisy = process.add_noise(clean, noise, t)
    leaf = (0.1 * noisy).requires_grad_(True)
    estimate = process.clean_estimate(noisy, leaf, t)
    # The error of the noise: eps = (x_t - alpha x0) / sigma.
    alpha, sigma = process.level(t)
    for name, loss in (
        ("base", (alpha / sigma * (estimate - clean)).abs().mean()),
        ("amplitude", AmplitudeLoss()(estimate, clean).sum()),
    ):
        (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        assert float(found[name].norm[0]) == pytest.approx(float(gradient.norm()), rel=1e-4)
        bands = PixelBands((32, 32)).sums(dct(gradient).square())[0, 0]
        torch.testing.assert_close(found[name].share[0], bands / bands.sum(), rtol=1e-3, atol=1e-6)


def test_levels_follow_the_data_and_the_process():
    wiener = measure_wiener(power_law_fields(64, 32, 2.0, seed=0))
    ratios = default_ratios(Flow(data_at=1), wiener)
    power = PixelBands((32, 32)).sums(wiener.psd.mean(0)) / PixelBands((32, 32)).counts
    weakest = float(power[1:].min().sqrt())
    assert weakest / 4 <= ratios[0] <= weakest / 2
    assert all(b / a == 2 for a, b in pairwise(ratios))
    assert ratios[-1] == 64
    assert default_ratios(VP(), wiener)[0] >= 0.01  # DDPM's smallest noise ratio
    assert max(default_ratios(VP(alphas_cumprod=(1 - torch.linspace(1e-4, 0.05, 50)).cumprod(0)), wiener)) < 2


def test_two_models_share_their_levels():
    vp, edm = VP(), EDM()
    ratios = common_ratios([edm, vp], [0.1, 1.0])
    assert ratios == tuple(level.ratio for level in noise_levels(vp, [0.1, 1.0]))  # whole times decide
    assert common_ratios([vp, edm], [0.1, 1.0]) == ratios
    assert common_ratios([edm], [0.1]) == pytest.approx([0.1])
    coarse = VP(alphas_cumprod=torch.linspace(0.99, 0.01, 7))
    with pytest.raises(ValueError, match="no noise ratios in common"):
        common_ratios([vp, coarse], [0.5, 1.0])


def test_losses_that_do_not_fit_are_left_out():
    asked = subject(torch.nn.Identity())
    assert list(described_losses(asked, SETTINGS.losses, (4, 4))) == ["amplitude", "amplitude_phase", "wavelet"]
    assert list(described_losses(asked, SETTINGS.losses, (2, 2))) == ["amplitude", "amplitude_phase"]
    framed = described_losses(replace(asked, kind="signals"), SETTINGS.losses, (1500,))["stft"]
    assert framed["frame_lengths"] == [512, 1024]


def test_a_class_beyond_the_networks_is_named():
    batch = Batch(torch.zeros(2, 3, 8, 8), torch.arange(2), torch.tensor([0, 7]))
    conditioner = Conditioner(4, True, 0, 0.0, 0)
    with pytest.raises(ValueError, match="tells 4 classes apart, 0 to 3, and the data have class 7"):
        _given(conditioner, torch.nn.Identity(), True, 4, batch)


def test_visits_are_how_training_draws_its_times():
    # ln sigma is normal, mean -1.2 and deviation 1.2: half of it lies below e^-1.2.
    middle = 2.718281828**-1.2
    low, high = visits(EDM(), [middle / 4, middle * 4])
    normal = NormalDist(sigma=1.2)
    assert [low, high] == pytest.approx([0.5 - normal.cdf(-math.log(16))] * 2, abs=0.01)
    # Levels that training hardly reaches are not given what lies far from them.
    assert visits(EDM(), [20.0]) == pytest.approx(
        [normal.cdf(math.log(20 * 2**0.5) + 1.2) - normal.cdf(math.log(20 / 2**0.5) + 1.2)], abs=1e-3
    )
    assert sum(visits(EDM(), [20.0, 40.0])) < 0.001


def test_a_class_conditional_network_is_asked_without_classes(tmp_path):
    options = {"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": [], "label_dim": 3}
    model = EDMUNet(img_resolution=8, img_channels=1, **options)
    save_model(model, tmp_path / "net")
    (tmp_path / "net" / "process.json").write_text('{"name": "edm"}')
    found = open_subject(tmp_path / "net")
    data = DiagnosisData(PowerLawFields(resolution=8, length=16, seed=0), Reading(), 16, 0, "fields")
    settings = DiagnosisSettings(count=16, gradients=8, ratios=[0.5, 2.0])
    spectrum = diagnose(found, data, settings).model.spectrum
    assert spectrum.relative.isfinite().all()
    assert spectrum.count == 16


@pytest.mark.parametrize("kind", ["ddpm", "dit", "sd"])
def test_pipelines(tiny_pipeline, tmp_path, kind):
    found = open_subject(tiny_pipeline(kind))
    generator = torch.Generator().manual_seed(0)
    for number in range(8):
        save_image(torch.rand(3, *found.shape[1:], generator=generator) - 0.5, tmp_path / f"{number}.png")
    data = given_data(found, tmp_path, 8)
    settings = DiagnosisSettings(count=8, gradients=4, ratios=[0.5, 1.0])
    diagnosis = diagnose(found, data, settings)
    assert diagnosis.kind == ("images" if kind == "ddpm" else "latents")
    assert diagnosis.model.spectrum.relative.isfinite().all()
    notes = {"ddpm": (), "dit": ("without a class",), "sd": ("without a prompt",)}[kind]
    assert diagnosis.notes == tuple(f"The network was asked {note}." for note in notes)
    with pytest.raises(RecipeError, match="no recipe that names its data"):
        own_data(found, 8)


def test_a_run_is_diagnosed_on_its_own_data(finished: Path):
    found = open_subject(finished)
    assert isinstance(found.regularizer, RegularizerSettings)
    data = own_data(found, 16)
    # Boards that training has not drawn.
    assert data.dataset.seed != found.data.seed
    diagnosis = diagnose(found, data, DiagnosisSettings(count=16, gradients=8, batch_size=8, ratios=[0.1, 1.0]))
    spectrum = diagnosis.model.spectrum
    assert list(spectrum.gradients) == ["base", "amplitude", "amplitude_phase", "wavelet", "trained with"]
    torch.testing.assert_close(spectrum.gradients["trained with"].share, spectrum.gradients["amplitude"].share)
    # Whole times of DDPM nearest to the ratios asked for.
    assert all(time == round(time) for time in spectrum.times)
    assert diagnosis.model.facts["checkpoint"] == "step 6"


def test_tiles_of_one_photograph_are_one_key(tmp_path):
    for number in range(8):
        save_image(torch.rand(3, 34, 34), tmp_path / f"{number}.png")
    model = subject(lambda x, t: x, shape=(3, 16, 16))
    data = given_data(model, tmp_path, 100, crop="tile")
    keys = [key for _, part in data.batches(5, torch.device("cpu")) for key in part]
    assert sorted(keys) == [str(i) for i in range(8) for _ in range(4)]
    assert data.count == 32
    assert data.notes == ()


def test_held_out_images_are_taken(labelled):
    model = subject(lambda x, t: x, shape=(3, 16, 16))
    settings = {"path": labelled, "resolution": 16, "eval_share": 0.9}
    held, seen = (
        own_data(Subject(**{**vars(model), "data": ImagesData(**settings, subset=subset)}), 100)
        for subset in ("train", "all")
    )
    assert held.notes == ()
    assert "trained on" in seen.notes[0]
    assert 0 < held.count < seen.count == 9
    keys = [key for _, part in held.batches(4, torch.device("cpu")) for key in part]
    assert len(set(keys)) == held.count


def test_images_for_a_model_of_latents_are_refused(labelled):
    data = LatentsData(name="latents", path=labelled, shape=(4, 8, 8))
    model = Subject(**{**vars(subject(lambda x, t: x, shape=(4, 8, 8))), "kind": "latents", "data": data})
    with pytest.raises(ValueError, match=r"holds none: encode the images first with `passband encode`"):
        given_data(model, labelled, 8)


def test_latents_of_another_autoencoder_are_refused_and_of_other_samples_rescaled(monkeypatch, tmp_path):
    (tmp_path / "latents.json").write_text("{}")
    space = LatentSpace("a", (1.0,), (2.0,))
    settings = LatentsData(name="latents", path=tmp_path, shape=(4, 8, 8))
    model = replace(subject(lambda x, t: x, shape=(4, 8, 8)), kind="latents", space=space, data=settings)
    for autoencoder in ("a", "b"):
        header = {"autoencoder": {"sha256": autoencoder}, "shift": [0.5], "scale": [4.0]}
        shards = SimpleNamespace(header=header, shape=(4, 8, 8), path=tmp_path, shift=(0.5,), scale=(4.0,))
        if autoencoder == "a":
            _put_into_space(model, shards)
            assert (shards.shift, shards.scale) == (space.shift, space.scale)
            continue
        monkeypatch.setattr("passband.training.diagnosis_data.LatentShards", lambda _, found=shards: found)
        with pytest.raises(ValueError, match="another autoencoder's than those that 'model' was trained on"):
            given_data(model, tmp_path, 8)
    with pytest.raises(ValueError, match="holds encoded latents, and 'model' is asked about images"):
        given_data(subject(lambda x, t: x), tmp_path, 8)


def test_too_few_samples_are_refused(tmp_path):
    save_image(torch.rand(3, 20, 40), tmp_path / "one.png")
    with pytest.raises(ValueError, match=r"at least 8 samples to tell a fault from chance, and .* has 2 to give"):
        given_data(subject(lambda x, t: x, shape=(3, 16, 16)), tmp_path, 8, crop="tile")


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        open_subject(tmp_path / "nowhere")
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="one set of weights"):
        open_subject(tmp_path / "pipeline", weights="last")


def test_a_part_of_a_run_or_a_pipeline_is_not_taken_for_the_whole(finished, tmp_path):
    checkpoint = finished / "checkpoints" / "step-00000006"
    for part in (checkpoint, checkpoint / "ema"):
        with pytest.raises(RecipeError, match=r"is a part of the run in .*give the run's folder"):
            open_subject(part)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RecipeError, match="nothing says which process it was trained with"):
        open_subject(tmp_path)


def test_two_checkpoints_of_one_run_are_told_apart(finished):
    names = [one.name for one in told_apart(open_subject(finished, step=4), open_subject(finished))]
    assert names == ["run (step 4)", "run (step 6)"]


def test_levels_beyond_the_process_are_named(fields):
    model = subject(lambda x, t: x, process=VP())
    with pytest.raises(ValueError, match=r"lie between 0.01 and 157, got 200"):
        diagnose(model, fields, DiagnosisSettings(count=8, gradients=0, ratios=[1.0, 200.0]))


def test_models_of_other_latents_or_audio_are_not_compared(fields, wiener):
    model = subject(partial(ideal, wiener))
    other = replace(model, space=LatentSpace("b", (0.0,), (1.0,)))
    with pytest.raises(ValueError, match="of other autoencoders, or on other scales"):
        diagnose(replace(model, space=LatentSpace("a", (0.0,), (1.0,))), fields, SETTINGS, against=other)
    slow, fast = (replace(model, mel=MelSpectrogram(rate, n_fft=64, hop_length=16, n_mels=4)) for rate in (8000, 16000))
    with pytest.raises(ValueError, match=r"\(8000, 64, 16\) for 'model' and \(16000, 64, 16\)"):
        diagnose(slow, fields, SETTINGS, against=fast)


def test_a_loss_that_does_not_fit_is_told_before_the_network_is_asked(fields):
    settings = replace(SETTINGS, losses={"stft": "stft"})
    with pytest.raises(ValueError, match=r"the loss 'stft' does not take samples \[1, 32, 32\]: .*choose another"):
        diagnose(subject(lambda x, t: 1 / 0), fields, settings)


def test_models_of_other_samples_are_not_compared(fields, wiener):
    with pytest.raises(ValueError, match="must denoise the same samples"):
        diagnose(
            subject(partial(ideal, wiener)),
            fields,
            SETTINGS,
            against=subject(partial(ideal, wiener), shape=(3, 16, 16)),
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [({"count": 3}, "count must be at least 8"), ({"ratios": [0.0]}, "above 0"), ({"replicates": 1}, "replicates")],
)
def test_settings_out_of_range(given, message):
    with pytest.raises(ValueError, match=message):
        DiagnosisSettings(**given)


def _validated(suggestion):
    """The recipe's lines are valid settings of the trainer."""
    lines = yaml.safe_load(suggestion.recipe)
    assert set(lines) <= {"regularizer", "forcing"}
    settings = RegularizerSettings.model_validate(lines["regularizer"])
    assert settings.weight == suggestion.weight
    assert settings.losses[0].name == suggestion.loss
