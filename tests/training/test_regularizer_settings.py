"""Framed losses and clean estimates as a recipe names them."""

import json

import pytest
import torch
from pydantic import ValidationError

from passband.regularization import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    DDIMEstimate,
    FramedLoss,
    SpectralRegularizer,
    tweedie,
)
from passband.training.build import build_regularizer
from passband.training.sections import DDIMSettings, RegularizerSettings


def settings(**options: object) -> RegularizerSettings:
    return RegularizerSettings.model_validate({"losses": [{"name": "pixel"}], **options})


def built(**options: object) -> SpectralRegularizer:
    result = build_regularizer(settings(**options))
    assert result is not None
    return result


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, FramedLoss(AmplitudeLoss())),
        ({"frame_lengths": [64, 256], "overlap": 0.5}, FramedLoss(AmplitudeLoss(), (64, 256), 0.5)),
        ({"kind": "amplitude_phase"}, FramedLoss(AmplitudePhaseLoss())),
        (
            {"kind": "amplitude_phase", "coupling": "energy", "rel": 0.1, "window": "rectangular"},
            FramedLoss(AmplitudePhaseLoss("energy", 0.1), window="rectangular"),
        ),
    ],
    ids=str,
)
def test_stft_has_its_options(options, expected):
    loss = built(losses=[{"name": "stft", **options}]).loss
    assert isinstance(loss, FramedLoss)
    assert repr(loss) == repr(expected)
    estimate, clean = torch.randn(2, 2, 1, 2048, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loss(estimate, clean), expected(estimate, clean))


def test_stft_in_a_sum():
    losses = [{"name": "stft", "frame_lengths": [64], "scale": 0.5}, {"name": "pixel"}]
    assert [term[:2] for term in built(losses=losses).loss.terms()] == [("framed_amplitude", 0.5), ("pixel", 1.0)]


def test_clean_estimates():
    assert built().clean_estimate is tweedie
    assert not built(clean_estimate="tweedie").needs_denoiser
    five = built(clean_estimate={"ddim": 5})
    assert isinstance(five.clean_estimate, DDIMEstimate)
    assert five.clean_estimate.steps == 5
    assert five.needs_denoiser
    assert not built(clean_estimate={"ddim": 1}).needs_denoiser


def test_settings_are_read_again():
    losses = [{"name": "stft", "kind": "amplitude_phase", "frame_lengths": [64, 128]}, {"name": "stft"}]
    for estimate in ("tweedie", {"ddim": 3}, DDIMSettings(ddim=2)):
        first = settings(losses=losses, clean_estimate=estimate)
        assert RegularizerSettings.model_validate(json.loads(json.dumps(first.model_dump()))) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_lengths": []}, "at least 1 item"),
        ({"frame_lengths": [1]}, "greater than or equal to 2"),
        ({"frame_lengths": 512}, "valid tuple"),
        ({"overlap": 1.0}, "less than 1"),
        ({"window": "hamming"}, "'hann' or 'rectangular'"),
        ({"kind": "phase"}, "'amplitude' or 'amplitude_phase'"),
        ({"coupling": "energy"}, "coupling and rel are about phases: set kind to amplitude_phase"),
        ({"frames": [512]}, "unknown key 'frames'.*frame_lengths"),
    ],
    ids=str,
)
def test_wrong_options_of_stft(options, message):
    with pytest.raises(ValidationError, match=message):
        settings(losses=[{"name": "stft", **options}])


@pytest.mark.parametrize("estimate", ["ddim", 5, None, ["ddim", 5]], ids=str)
def test_wrong_kinds_of_clean_estimates(estimate):
    with pytest.raises(ValidationError, match=r"a clean estimate is tweedie or \{ddim: STEPS\}"):
        settings(clean_estimate=estimate)


def test_wrong_numbers_of_updates():
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        settings(clean_estimate={"ddim": 0})
    with pytest.raises(ValidationError, match="unknown key 'dim'"):
        settings(clean_estimate={"dim": 3})
