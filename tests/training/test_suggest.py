"""What is suggested follows from where gradients go: the loss, its weight, its gate, a front; or nothing."""

from dataclasses import replace

import pytest
import torch
import yaml

from passband.data import power_law_fields
from passband.metrics import DenoiserMeasure, GradientShare, measure_power_law, measure_wiener
from passband.training.diagnosis_gradients import AUDIO_LOSSES
from passband.training.diagnosis_gradients import LOSSES as IMAGE_LOSSES
from passband.training.sections import ContourFrontSettings, RegularizerSettings
from passband.training.suggest import suggest
from passband.training.suggest_weight import overall, weigh
from passband.transforms import dct, idct

RATIOS = (0.1, 0.5, 2.0)
EVEN = (1 / 3, 1 / 3, 1 / 3)
LOSSES = {"amplitude": "amplitude", "wavelet": {"name": "wavelet", "wavelet": "haar", "levels": 2}}


@pytest.fixture(scope="module")
def law():
    return measure_power_law(power_law_fields(64, 32, 2.0, seed=0))


@pytest.fixture(scope="module")
def faultless():
    """The measurement of an ideal filter, of which the tests change what they are about."""
    clean = power_law_fields(64, 32, 2.0, seed=0)
    noise, wiener = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)), measure_wiener(clean)
    measure = DenoiserMeasure(RATIOS, wiener=wiener)
    estimates = [idct(wiener.estimate(dct(clean + ratio * noise), ratio)) for ratio in RATIOS]
    measure.update(clean, noise, estimates, [str(i) for i in range(64)])
    result = measure.compute()
    assert result.same
    return result


def called(result, kind, cells):
    mask = torch.zeros_like(result.under)
    for cell in cells:
        mask[cell] = True
    return replace(result, **{kind: mask})


def pulling(result, **norms):
    """Gradients: of each loss its norm at the three levels, and the band that takes all of it."""
    gradients = {}
    for name, (norm, band) in norms.items():
        share = torch.zeros(result.under.shape, dtype=torch.float64)
        share[:, band] = 1.0
        gradients[name] = GradientShare(name, share, torch.tensor(norm, dtype=torch.float64))
    return replace(result, gradients=gradients)


def settings(suggestion):
    lines = yaml.safe_load(suggestion.recipe)
    return RegularizerSettings.model_validate(lines["regularizer"])


def test_nothing_where_nothing_is_wrong(faultless, law):
    found = suggest(faultless, law, losses=LOSSES, visits=EVEN)
    assert (found.loss, found.weight, found.gate, found.front, found.recipe) == (None, None, None, None, "")
    assert "Nothing to mend" in found.sentences["found"]


def test_the_loss_that_looks_there_with_a_third_of_the_base_losss_gradient(faultless, law):
    wrong = called(faultless, "smooth", [(1, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 3), amplitude=((10, 10, 10), 4), wavelet=((20, 20, 20), 8))
    found = suggest(wrong, law, losses=LOSSES, visits=EVEN)
    assert found.loss == "wavelet"
    # A third of its gradient is at that level, all of that in that band.
    assert "the wavelet loss spends 33 %" in found.sentences["loss"]
    assert found.weight == pytest.approx(0.3 / 20)
    assert found.gate is None
    assert settings(found).losses[0].levels == 2
    assert settings(found).weight == found.weight


def test_any_loss_is_weighed_by_the_same_rule(faultless):
    """At 0.5 and 2 it pulls 8 and 2 times as hard as the base loss: 4 in geometric mean."""
    wrong = called(faultless, "smooth", [(1, 8), (2, 8)])
    wrong = pulling(wrong, base=((1, 2, 5), 3), pixel=((3, 16, 10), 8))
    found = weigh(wrong, "pixel", EVEN)
    assert found.pull.tolist() == pytest.approx([3, 8, 2])
    assert found.levels.tolist() == [False, True, True]
    assert found.weight == pytest.approx(0.3 / 4)
    assert overall(wrong, "pixel", EVEN) == pytest.approx((365 / 30) ** 0.5)
    assert overall(wrong, "pixel", EVEN, gate=0.5) == pytest.approx((265 / 30) ** 0.5)


def test_the_first_of_equals(faultless, law):
    wrong = called(faultless, "rough", [(1, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 3), amplitude=((5, 5, 5), 8), wavelet=((20, 20, 20), 8))
    assert suggest(wrong, law, losses=LOSSES, visits=EVEN).loss == "amplitude"


def test_amplitudes_do_not_mend_positions(faultless, law):
    wrong = called(faultless, "under", [(0, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 3), amplitude=((5, 5, 5), 8), wavelet=((20, 20, 20), 8))
    found = suggest(wrong, law, losses=LOSSES, visits=EVEN)
    assert found.loss == "wavelet"
    assert "amplitudes alone is left out" in found.sentences["loss"]
    alone = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN)
    assert (alone.loss, alone.recipe) == (None, "")
    assert "those that were tried look at amplitudes alone" in alone.sentences["loss"]


def test_a_loss_of_phases_is_not_blind(faultless, law):
    wrong = pulling(called(faultless, "under", [(0, 8)]), base=((1, 1, 1), 3), stft=((5, 5, 5), 8))
    framed = {"name": "stft", "frame_lengths": [512]}
    assert suggest(wrong, law, losses={"stft": framed}, visits=EVEN, kind="signals").loss is None
    phases = framed | {"kind": "amplitude_phase"}
    assert suggest(wrong, law, losses={"stft": phases}, visits=EVEN, kind="signals").loss == "stft"


def test_a_base_loss_that_looks_there_needs_no_help(faultless, law):
    wrong = called(faultless, "smooth", [(1, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 8), amplitude=((10, 10, 10), 8), wavelet=((20, 20, 20), 8))
    found = suggest(wrong, law, losses=LOSSES, visits=EVEN)
    assert found.loss is None
    assert found.recipe == ""
    assert "Longer training" in found.sentences["loss"]


def test_how_often_training_looks_at_a_level_counts(faultless, law):
    wrong = called(faultless, "smooth", [(2, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 8), amplitude=((1, 1, 4), 8))
    losses = {"amplitude": "amplitude"}
    # 16 of 18 parts of the term's squared gradient, a third of the base loss's; next to nothing if never visited.
    assert "spends 89 %" in suggest(wrong, law, losses=losses, visits=EVEN).sentences["loss"]
    seldom = suggest(wrong, law, losses=losses, visits=(0.5, 0.49, 0.01)).sentences["loss"]
    assert "spends 14 %" in seldom


def test_a_gate_keeps_it_from_running_away(faultless, law):
    wrong = called(faultless, "smooth", [(0, 8), (1, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 3), amplitude=((10, 10, 400), 8))
    found = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN)
    assert found.gate == pytest.approx(1.0)  # between 0.5 and 2
    assert settings(found).gate.max_ratio == found.gate
    assert "40 times as hard" in found.sentences["gate"]
    assert "ε-prediction" in found.sentences["gate"]


def test_no_gate_where_it_is_wrong_up_to_the_top(faultless, law):
    wrong = called(faultless, "smooth", [(0, 8), (2, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 3), amplitude=((10, 10, 400), 8))
    found = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN)
    assert found.gate is None
    assert found.weight == pytest.approx(0.3 / (10 * 400) ** 0.5, rel=0.05)
    assert "up to the highest noise ratio" in found.sentences["gate"]
    assert "(0.05 at noise ratio 0.1, 1.9 at 2)" in found.sentences["weight"]
    assert "It outweighs the base loss where that is more than 1" in found.sentences["weight"]
    assert "a gate at 1 keeps the term to where the base loss outweighs it" in found.sentences["gate"]


def test_a_multiple_is_not_a_percentage_of_thousands(faultless, law):
    wrong = called(faultless, "smooth", [(0, 8), (1, 8), (2, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 3), amplitude=((1, 10, 1e4), 8))
    said = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN).sentences["weight"]
    assert ", 65 at 2)" in said
    assert "%" not in said


def test_errors_where_training_does_not_look_are_not_a_terms_to_mend(faultless, law):
    wrong = called(faultless, "smooth", [(2, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 3), amplitude=((10, 10, 10), 8))
    found = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=(0.5, 0.5, 0.0))
    assert (found.loss, found.weight, found.recipe) == (None, None, "")
    assert "training spends none of its steps" in found.sentences["loss"]
    few = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=(0.5, 0.495, 0.005))
    assert "training spends 0.5 % of its steps" in few.sentences["loss"]


@pytest.mark.parametrize("rare", [0.0, 0.004])
def test_levels_that_training_hardly_draws_take_no_part_in_the_weight(faultless, law, rare):
    wrong = called(faultless, "smooth", [(1, 8), (2, 8)])
    wrong = pulling(wrong, base=((1, 1, 1), 3), amplitude=((10, 10, 1e6), 8))
    found = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=(0.5, 0.5 - rare, rare))
    assert found.weight == pytest.approx(0.3 / 10)
    assert " at 2)" not in found.sentences["weight"]


@pytest.mark.parametrize(
    ("base", "term"), [((1, 0, 1), (10, 10, 10)), ((1, 1, 1), (10, 0, 10)), ((1, 1, 0), (10, 20, 10))]
)
def test_levels_without_a_gradient_take_no_part(faultless, law, base, term):
    wrong = pulling(called(faultless, "smooth", [(0, 8), (1, 8)]), base=(base, 3), amplitude=(term, 8))
    found = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN)
    assert found.weight == pytest.approx(0.3 / (200**0.5 if term[1] == 20 else 10), rel=0.05)
    assert not {"nan", "inf"} & set(" ".join(found.sentences.values()).replace(",", " ").split())
    if base[2] == 0:
        assert (
            found.sentences["gate"] == "No gate: beyond noise ratio 0.5 the term pulls at nothing that training draws."
        )


@pytest.mark.parametrize("norm", [(10, 0, 10), (10, float("nan"), 10), (10, float("inf"), 10)])
def test_a_gradient_that_is_none_is_said_to_be(faultless, law, norm):
    wrong = pulling(called(faultless, "smooth", [(1, 8)]), base=((1, 1, 1), 3), amplitude=(norm, 8))
    found = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN)
    assert (found.loss, found.weight, found.recipe) == (None, None, "")
    assert "the gradients vanish or are not finite" in found.sentences["loss"]


def test_no_loss_that_does_not_look_there_either(faultless, law):
    wrong = pulling(called(faultless, "smooth", [(1, 8)]), base=((1, 1, 1), 3), amplitude=((1, 1, 1), 4))
    assert suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN).loss is None


@pytest.mark.parametrize(
    ("cells", "times"),
    [
        ([(0, 8), (2, 8)], "1.1"),  # 0.0047 · sqrt((10² + 10² + 400²) / 3)
        ([(0, 8), (1, 8)], "0.2"),  # 0.03 · sqrt((10² + 10²) / 3): the gate takes the last level out
    ],
)
def test_the_whole_trainings_share_is_the_root_mean_square(faultless, law, cells, times):
    wrong = pulling(called(faultless, "smooth", cells), base=((1, 1, 1), 3), amplitude=((10, 10, 400), 8))
    said = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN).sentences["weight"]
    assert f"and {times} times in root mean square over a whole training" in said


def test_a_term_that_it_was_trained_with_is_replaced(faultless, law):
    wrong = called(faultless, "smooth", [(1, 8)])
    plain = pulling(wrong, base=((1, 1, 1), 3), amplitude=((1, 1, 1), 8))
    said = suggest(plain, law, losses=LOSSES, visits=EVEN).sentences["next"]
    assert "take its place" not in said
    assert "it may lower these errors and leave the samples as they are, or worse" in said
    trained = pulling(wrong, base=((1, 1, 1), 3), amplitude=((1, 1, 1), 8), **{"trained with": ((1, 1, 1), 8)})
    assert "these lines take its place" in suggest(trained, law, losses=LOSSES, visits=EVEN).sentences["next"]


STFT = {"name": "stft", "kind": "amplitude", "frame_lengths": [512]}


@pytest.mark.parametrize("described", [*IMAGE_LOSSES.values(), *AUDIO_LOSSES.values(), STFT, [STFT, {"name": "pixel"}]])
def test_recipes_take_every_loss(faultless, law, described):
    wrong = pulling(called(faultless, "smooth", [(1, 8)]), base=((1, 1, 1), 3), it=((1, 1, 1), 8))
    found = settings(suggest(wrong, law, losses={"it": described}, visits=EVEN))
    terms = described if isinstance(described, list) else [described]
    assert [term.name for term in found.losses] == [term if isinstance(term, str) else term["name"] for term in terms]


def test_signals_have_no_pixels_and_no_front(faultless, law):
    wrong = pulling(called(faultless, "rough", [(2, 8), (2, 0)]), base=((1, 1, 1), 3), amplitude=((1, 1, 1), 8))
    assert suggest(wrong, law, losses=LOSSES, visits=EVEN, prediction="sample").front is not None
    for one_axis, kind in ((replace(wrong, size=(1024,)), None), (wrong, "signals")):
        found = suggest(one_axis, law, losses=LOSSES, visits=EVEN, kind=kind, prediction="sample")
        assert found.front is None
        assert "front" not in found.sentences
        assert "cycles per sample" in found.sentences["found"]
        assert "brightness" not in found.sentences["found"]


def test_a_front_where_the_model_invents_what_noise_hides(faultless, law):
    drowned = faultless.wiener[2] > 0.9
    assert bool(drowned[8])
    wrong = pulling(called(faultless, "rough", [(2, 8)]), base=((1, 1, 1), 3), amplitude=((1, 1, 1), 8))
    found = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN, prediction="sample")
    front = ContourFrontSettings.model_validate(found.front)
    assert front.beta == pytest.approx(law.beta, abs=1e-3)
    assert yaml.safe_load(found.recipe)["forcing"] == {"front": found.front}
    flat = suggest(wrong, replace(law, beta=1.0), losses=LOSSES, visits=EVEN, prediction="sample")
    assert flat.front is None
    assert "it has been seen to hurt" in flat.sentences["front"]
    assert "hides in 1 cell:" in flat.sentences["front"]
    none = suggest(wrong, "there is no power", losses=LOSSES, visits=EVEN, prediction="sample")
    assert none.sentences["front"] == "No front can be given: there is no power."


def test_an_estimate_of_nothing_invents_nothing(faultless, law):
    """Where noise hides the data, an estimate of zero has more error than the filter's, and adds none of its own."""
    wrong = pulling(called(faultless, "under", [(2, 8)]), base=((1, 1, 1), 3), amplitude=((1, 1, 1), 8))
    for relative, is_there in ((1.0, False), (1.05, True)):
        error = faultless.relative.clone()
        error[2, 8] = relative
        found = suggest(replace(wrong, relative=error), law, losses=LOSSES, visits=EVEN, prediction="sample")
        assert (found.front is not None) == is_there


def test_no_front_for_what_a_low_pass_lets_through(faultless, law):
    """The mean passes every front, and so does a band above which there is something to see."""
    wrong = pulling(called(faultless, "rough", [(2, 0), (2, 7)]), base=((1, 1, 1), 3), amplitude=((1, 1, 1), 8))
    wiener = faultless.wiener.clone()
    wiener[2] = 0.95
    assert (
        suggest(replace(wrong, wiener=wiener), law, losses=LOSSES, visits=EVEN, prediction="sample").front is not None
    )
    wiener[2, 8] = 0.2
    found = suggest(replace(wrong, wiener=wiener), law, losses=LOSSES, visits=EVEN, prediction="sample")
    assert found.front is None
    assert "invents nothing where noise hides the data at a frequency and at all above it" in found.sentences["front"]


def test_no_front_where_there_is_something_to_see(faultless, law):
    wrong = pulling(called(faultless, "rough", [(0, 4)]), base=((1, 1, 1), 3), amplitude=((1, 1, 1), 8))
    found = suggest(wrong, law, losses=LOSSES, visits=EVEN, prediction="sample")
    assert found.front is None
    assert found.sentences["front"].startswith("No Spectral Forcing")


@pytest.mark.parametrize("prediction", ["epsilon", "velocity", "v_prediction", "edm"])
def test_no_front_for_what_has_the_noise_in_it(faultless, law, prediction):
    """Behind a low-pass it is not to be seen; networks that were trained so put all of it into their samples."""
    wrong = pulling(called(faultless, "rough", [(2, 8)]), base=((1, 1, 1), 3), amplitude=((1, 1, 1), 8))
    found = suggest(wrong, law, losses={"amplitude": "amplitude"}, visits=EVEN, prediction=prediction)
    assert (found.front, "forcing" in found.recipe) == (None, False)
    assert f"what the model predicts ({prediction}) has the noise in it" in found.sentences["front"]


def test_without_gradients_no_loss(faultless, law):
    found = suggest(called(faultless, "smooth", [(1, 8)]), law, losses=LOSSES, visits=EVEN)
    assert found.loss is None
    assert "no gradients were measured" in found.sentences["loss"]


@pytest.mark.parametrize(
    ("kind", "cells", "said"),
    [
        ("under", [(1, 0)], "In one cell, at noise ratio 0.5 in the mean (brightness), the estimate has"),
        ("rough", [(1, 10)], "In one cell, at noise ratio 0.5 in the corners of the plane, the estimate has"),
        ("rough", [(0, 8), (1, 9)], "(noise ratios 0.1 to 0.5; from 1/4 to 1/2 cycles per pixel)"),
        ("rough", [(0, 8), (0, 10)], "(noise ratio 0.1; from 1/4 to the corners of the plane)"),
    ],
)
def test_where_it_is_wrong_in_words(faultless, law, kind, cells, said):
    sentence = suggest(called(faultless, kind, cells), law, losses=LOSSES, visits=EVEN).sentences["found"]
    assert said in sentence
