"""Losses, weights and gates from plain values."""

import json

import pytest
import torch

from passband.process import VP
from passband.regularization import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    ConstantWeight,
    EDMWeight,
    FramedLoss,
    GradientShare,
    NoiseRatioGate,
    PixelLoss,
    SpectralRegularizer,
    WaveletLoss,
    as_loss,
)

X, Y = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("description", "wanted"),
    [
        ("amplitude", AmplitudeLoss()),
        ({"name": "amplitude_phase", "coupling": "energy"}, AmplitudePhaseLoss("energy")),
        ({"name": "wavelet", "wavelet": "bior1.3", "levels": 1}, WaveletLoss("bior1.3", levels=1)),
        ([{"name": "pixel", "scale": 2.0}, {"name": "amplitude"}], 2.0 * PixelLoss() + AmplitudeLoss()),
        ({"name": "pixel", "scale": 0.5}, 0.5 * PixelLoss()),
    ],
)
def test_described_losses_are_those_written_out(description: object, wanted: torch.nn.Module) -> None:
    through_json = json.loads(json.dumps(description))
    torch.testing.assert_close(as_loss(through_json)(X, Y), wanted(X, Y), rtol=0, atol=0)


def test_short_time_losses_of_both_kinds() -> None:
    x, y = torch.randn(2, 1, 256), torch.randn(2, 1, 256)
    plain = as_loss({"name": "stft", "frame_lengths": [32, 64]})
    torch.testing.assert_close(plain(x, y), FramedLoss(AmplitudeLoss(), (32, 64))(x, y), rtol=0, atol=0)
    phase = as_loss({"name": "stft", "kind": "amplitude_phase", "frame_lengths": [32]})
    torch.testing.assert_close(phase(x, y), FramedLoss(AmplitudePhaseLoss(), (32,))(x, y), rtol=0, atol=0)


def test_a_loss_stays_itself() -> None:
    loss = AmplitudeLoss()
    assert as_loss(loss) is loss
    assert isinstance(as_loss([{"name": "amplitude"}]), AmplitudeLoss)


def test_weights_and_gates_in_plain_values() -> None:
    def of(**options: object) -> SpectralRegularizer:
        return SpectralRegularizer("amplitude", **options)

    assert isinstance(of(weight=1).weight, ConstantWeight)
    by_level, by_share = of(weight={"edm": 0.5}).weight, of(weight={"share": 0.1}).weight
    assert isinstance(by_level, EDMWeight)
    assert by_level.value == 0.5
    assert isinstance(by_share, GradientShare)
    assert by_share.share == 0.1
    gate = of(gate={"max_ratio": 3.0, "softness": 0.5}).gate
    assert isinstance(gate, NoiseRatioGate)
    assert (gate.max_ratio, gate.softness) == (3.0, 0.5)


def test_a_described_term_is_the_written_one() -> None:
    process, t = VP(), torch.tensor([10, 500])
    clean, pred = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    described = SpectralRegularizer({"name": "wavelet", "levels": 2}, weight={"edm": 0.5}, gate={"max_ratio": 2})
    written = SpectralRegularizer(WaveletLoss(levels=2), weight=EDMWeight(0.5), gate=2.0)
    assert described(process, clean, pred, t, clean=clean) == written(process, clean, pred, t, clean=clean)


@pytest.mark.parametrize(
    ("description", "error", "message"),
    [
        ("amplitud", ValueError, r"unknown loss: got 'amplitud' \(did you mean 'amplitude'\?\)"),
        ({"wavelet": "haar"}, ValueError, "unknown loss: got None"),
        (
            {"name": "wavelet", "level": 2},
            ValueError,
            r"no option 'level' \(did you mean 'levels'\?\); it has wavelet,",
        ),
        ({"name": "amplitude", "x": 2}, ValueError, "no option 'x'; it has none"),
        ({"name": "amplitude", "scale": "2"}, TypeError, "scale must be a number"),
        (["amplitude"], TypeError, r"or a list of mappings\) .* got \['amplitude'\]"),
        (3, TypeError, "got 3"),
        ([], ValueError, "a sum needs at least one loss"),
        ({"name": "wavelet", "wavelet": "harr"}, ValueError, "harr"),
    ],
)
def test_wrong_descriptions_are_errors(description: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SpectralRegularizer(description)


def test_wrong_weights_and_gates_are_errors() -> None:
    with pytest.raises(ValueError, match="weight's mapping is"):
        SpectralRegularizer("amplitude", weight={"edm": 1.0, "share": 1.0})
    with pytest.raises(ValueError, match="weight's mapping is"):
        SpectralRegularizer("amplitude", weight={"gradient": 1.0})
    with pytest.raises(ValueError, match="gate's mapping holds max_ratio"):
        SpectralRegularizer("amplitude", gate={"softness": 1.0})
