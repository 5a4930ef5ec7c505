"""Each name in a recipe gives its object, with the options that were asked for."""

from pathlib import Path

import pytest
import torch

from passband import regularization
from passband.data import Checkerboard, ImageFolder, save_image
from passband.process import EDM, VP, Flow, cosine_alphas_cumprod, linear_alphas_cumprod
from passband.training import sections
from passband.training.build import build_dataset, build_process, build_regularizer


def term(name: str, **options: object) -> sections.RegularizerSettings:
    return sections.RegularizerSettings.model_validate({"losses": [{"name": name, **options}]})


def test_vp():
    t = torch.arange(20)
    linear = build_process(sections.VPProcess(name="vp", prediction="v_prediction", steps=20))
    assert isinstance(linear, VP)
    assert linear.prediction == "v_prediction"
    torch.testing.assert_close(linear.level(t.double()).alpha, linear_alphas_cumprod(20).sqrt())
    cosine = build_process(sections.VPProcess(name="vp", schedule="cosine", steps=20))
    torch.testing.assert_close(cosine.level(t.double()).alpha, cosine_alphas_cumprod(20).sqrt())


def test_edm():
    process = build_process(
        sections.EDMProcess(
            name="edm", prediction="sample", sigma_data=0.4, sigma_min=0.1, sigma_max=9, p_mean=-1, p_std=2
        )
    )
    assert isinstance(process, EDM)
    found = (
        process.prediction,
        process.sigma_data,
        process.sigma_min,
        process.sigma_max,
        process.p_mean,
        process.p_std,
    )
    assert found == ("sample", 0.4, 0.1, 9, -1, 2)


def test_flow():
    process = build_process(sections.FlowProcess(name="flow", data_at=1, time_scale=10, logit_normal=(-0.8, 0.8)))
    assert isinstance(process, Flow)
    assert (process.prediction, process.data_at, process.time_scale) == ("velocity", 1, 10)
    assert process.logit_normal == (-0.8, 0.8)


def test_checkerboards():
    data = build_dataset(sections.CheckerboardData(name="checkerboard", resolution=16, cells=(2,), length=7, seed=3))
    assert isinstance(data, Checkerboard)
    assert len(data) == 7
    assert torch.equal(data[5], Checkerboard(16, (2,), length=7, seed=3)[5])
    assert not all(torch.equal(data[i], Checkerboard(16, (2,), length=7, seed=4)[i]) for i in range(7))


def test_images_take_every_option(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    for i in range(12):
        save_image(torch.rand(3, 24, 40, generator=generator), tmp_path / f"{i}.png")
    settings = sections.ImagesData(
        path=tmp_path, resolution=8, crop="tile", channels=1, subset="eval", eval_share=0.5, limit=60, strict=True
    )
    data = build_dataset(settings)
    expected = ImageFolder(tmp_path, 8, crop="tile", channels=1, subset="eval", eval_share=0.5, limit=60, strict=True)
    assert isinstance(data, ImageFolder)
    assert data.strict
    assert len(data) == len(expected) == 60
    assert all(torch.equal(data[i], expected[i]) for i in range(60))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("amplitude", {}, regularization.AmplitudeLoss()),
        ("amplitude_phase", {}, regularization.AmplitudePhaseLoss()),
        ("amplitude_phase", {"coupling": "energy", "rel": 0.1}, regularization.AmplitudePhaseLoss("energy", rel=0.1)),
        ("amplitude_phase", {"coupling": "norm"}, regularization.AmplitudePhaseLoss("norm")),
        ("wavelet", {}, regularization.WaveletLoss()),
        (
            "wavelet",
            {"wavelet": "bior1.3", "levels": 1, "mode": "periodization"},
            regularization.WaveletLoss("bior1.3", 1, mode="periodization"),
        ),
        ("wavelet", {"levels": 2, "stationary": True}, regularization.WaveletLoss(levels=2, stationary=True)),
        ("focal_frequency", {"alpha": 0.5}, regularization.FocalFrequencyLoss(alpha=0.5)),
        ("pixel", {}, regularization.PixelLoss()),
    ],
)
def test_each_loss_has_its_options(name: str, options: dict[str, object], expected: regularization.SpectralLoss):
    built = build_regularizer(term(name, **options))
    assert built is not None
    assert type(built.loss) is type(expected)
    estimate, clean = torch.randn(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(built.loss(estimate, clean), expected(estimate, clean), rtol=0, atol=0)


def test_losses_sum_with_their_scales():
    losses = [{"name": "amplitude", "scale": 2.0}, {"name": "pixel", "scale": 0.5}]
    built = build_regularizer(sections.RegularizerSettings.model_validate({"losses": losses}))
    assert built is not None
    estimate, clean = torch.randn(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = 2 * regularization.AmplitudeLoss()(estimate, clean) + 0.5 * regularization.PixelLoss()(estimate, clean)
    torch.testing.assert_close(built.loss(estimate, clean), expected)


def test_a_single_loss_keeps_its_scale():
    built = build_regularizer(term("pixel", scale=3.0))
    assert built is not None
    x, y = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert built.loss(x, y).item() == 3


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0.25, "ConstantWeight(0.25)"),
        ("edm", "EDMWeight(1.0)"),
        ({"edm": 0.5}, "EDMWeight(0.5)"),
        ({"share": 0.1}, "GradientShare(0.1)"),
    ],
)
def test_weights(weight: object, expected: str):
    settings = sections.RegularizerSettings.model_validate({"losses": [{"name": "pixel"}], "weight": weight})
    built = build_regularizer(settings)
    assert built is not None
    assert repr(built.weight) == expected
    assert built.gate is None


def test_gate():
    settings = {"losses": [{"name": "pixel"}], "gate": {"max_ratio": 3, "softness": 0.5}}
    built = build_regularizer(sections.RegularizerSettings.model_validate(settings))
    assert built is not None
    assert repr(built.gate) == "NoiseRatioGate(max_ratio=3.0, softness=0.5)"


def test_no_regularizer():
    assert build_regularizer(None) is None
