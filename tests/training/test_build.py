"""Each name in a recipe gives its object, with the options that were asked for."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel

from passband import regularization
from passband.data import Checkerboard, ImageFolder, save_image
from passband.process import EDM, VP, Flow, cosine_alphas_cumprod, linear_alphas_cumprod
from passband.training import config
from passband.training.build import build_dataset, build_model, build_process, build_regularizer, load_network

SMALL = config.UNetModel(block_out_channels=(8, 16), layers_per_block=1, mid_attention=False, norm_num_groups=4)
SHAPE = (1, 16, 16)


def term(name: str, **options: object) -> config.RegularizerSettings:
    return config.RegularizerSettings.model_validate({"losses": [{"name": name, **options}]})


def test_vp():
    t = torch.arange(20)
    linear = build_process(config.VPProcess(name="vp", prediction="v_prediction", steps=20))
    assert isinstance(linear, VP)
    assert linear.prediction == "v_prediction"
    torch.testing.assert_close(linear.level(t.double()).alpha, linear_alphas_cumprod(20).sqrt())
    cosine = build_process(config.VPProcess(name="vp", schedule="cosine", steps=20))
    torch.testing.assert_close(cosine.level(t.double()).alpha, cosine_alphas_cumprod(20).sqrt())


def test_edm():
    process = build_process(
        config.EDMProcess(
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
    process = build_process(config.FlowProcess(name="flow", data_at=1, time_scale=10, logit_normal=(-0.8, 0.8)))
    assert isinstance(process, Flow)
    assert (process.prediction, process.data_at, process.time_scale) == ("velocity", 1, 10)
    assert process.logit_normal == (-0.8, 0.8)


def test_checkerboards():
    data = build_dataset(config.CheckerboardData(name="checkerboard", resolution=16, cells=(2,), length=7, seed=3))
    assert isinstance(data, Checkerboard)
    assert len(data) == 7
    assert torch.equal(data[5], Checkerboard(16, (2,), length=7, seed=3)[5])
    assert not all(torch.equal(data[i], Checkerboard(16, (2,), length=7, seed=4)[i]) for i in range(7))


def test_images_take_every_option(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    for i in range(12):
        save_image(torch.rand(3, 24, 40, generator=generator), tmp_path / f"{i}.png")
    settings = config.ImagesData(
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
    built = build_regularizer(config.RegularizerSettings.model_validate({"losses": losses}))
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
    settings = config.RegularizerSettings.model_validate({"losses": [{"name": "pixel"}], "weight": weight})
    built = build_regularizer(settings)
    assert built is not None
    assert repr(built.weight) == expected
    assert built.gate is None


def test_gate():
    settings = {"losses": [{"name": "pixel"}], "gate": {"max_ratio": 3, "softness": 0.5}}
    built = build_regularizer(config.RegularizerSettings.model_validate(settings))
    assert built is not None
    assert repr(built.gate) == "NoiseRatioGate(max_ratio=3.0, softness=0.5)"


def test_no_regularizer():
    assert build_regularizer(None) is None


def test_the_network_takes_every_option():
    settings = config.UNetModel(
        block_out_channels=(8, 16, 16),
        layers_per_block=3,
        attention_levels=(1,),
        mid_attention=False,
        attention_head_dim=4,
        norm_num_groups=2,
        dropout=0.25,
    )
    found = build_model(settings, (3, 16, 24), seed=0).config
    assert found["sample_size"] == (16, 24)
    assert (found["in_channels"], found["out_channels"]) == (3, 3)
    assert tuple(found["block_out_channels"]) == (8, 16, 16)
    assert found["layers_per_block"] == 3
    assert tuple(found["down_block_types"]) == ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D")
    assert tuple(found["up_block_types"]) == ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    assert found["add_attention"] is False
    assert (found["attention_head_dim"], found["norm_num_groups"], found["dropout"]) == (4, 2, 0.25)


def test_attention_at_the_coarsest_level_alone_is_the_first_up_block():
    settings = SMALL.model_copy(update={"attention_levels": (1,), "attention_head_dim": 8})
    assert tuple(build_model(settings, SHAPE, 0).config["up_block_types"]) == ("AttnUpBlock2D", "UpBlock2D")


def test_weights_come_from_the_seed_and_the_global_generator_stays():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build_model(SMALL, SHAPE, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    build_model(SMALL, SHAPE, seed=7).save_pretrained(folder)
    return folder


def test_a_pretrained_network_is_loaded_as_it_was_saved(saved: Path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model = build_model(config.UNetModel(pretrained=saved), SHAPE, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    expected = build_model(SMALL, SHAPE, seed=7).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert isinstance(model, UNet2DModel)


def test_a_pretrained_network_must_fit_the_data(saved: Path):
    with pytest.raises(ValueError, match=r"has 1 channels, the data 3; set data\.channels"):
        build_model(config.UNetModel(pretrained=saved), (3, 16, 16), seed=0)


def copy(saved: Path, target: Path) -> Path:
    target.mkdir()
    for file in saved.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_there_must_be_a_network(tmp_path: Path, saved: Path):
    with pytest.raises(FileNotFoundError, match=r"there is no saved network at .*nowhere"):
        load_network(tmp_path / "nowhere")
    half = copy(saved, tmp_path / "half")
    (half / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a folder with config\.json and \*\.safetensors"):
        load_network(half)


def test_nothing_is_unpickled(tmp_path: Path, saved: Path):
    folder = copy(saved, tmp_path / "pickled")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(build_model(SMALL, SHAPE, 7).state_dict(), folder / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        load_network(folder)


def test_missing_weights_are_not_made_up(tmp_path: Path, saved: Path):
    from safetensors.torch import load_file, save_file

    folder = copy(saved, tmp_path / "less")
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    del weights["conv_in.bias"]
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match=r"lacks the weights \['conv_in.bias'\]"):
        load_network(folder)


@pytest.mark.parametrize("size", [0, 100, -10])
def test_damaged_weights(tmp_path: Path, saved: Path, size: int):
    folder = copy(saved, tmp_path / "cut")
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(OSError, match="cut"):
        load_network(folder)
