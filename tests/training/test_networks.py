"""Networks: built from every option, loaded as they were saved, refused where they do not fit."""

import logging
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel

from passband.forcing import SpectralForcing, recorded
from passband.models import EDMUNet
from passband.process import EDM
from passband.training import sections
from passband.training.networks import (
    augment_inputs,
    build_network,
    class_inputs,
    load_network,
    network_shape,
)

SMALL = sections.UNetModel(block_out_channels=(8, 16), layers_per_block=1, mid_attention=False, norm_num_groups=4)
SMALL_EDM = sections.EDMUNetModel(
    name="edm_unet", model_channels=8, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,), augment_dim=9
)
SHAPE = (1, 16, 16)


def test_the_network_takes_every_option():
    settings = sections.UNetModel(
        block_out_channels=(8, 16, 16),
        layers_per_block=3,
        attention_levels=(1,),
        mid_attention=False,
        attention_head_dim=4,
        norm_num_groups=2,
        dropout=0.25,
    )
    found = build_network(settings, (3, 16, 24), seed=0).config
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
    assert tuple(build_network(settings, SHAPE, 0).config["up_block_types"]) == ("AttnUpBlock2D", "UpBlock2D")


def test_weights_come_from_the_seed_and_the_global_generator_stays():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build_network(SMALL, SHAPE, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network")
    build_network(SMALL, SHAPE, seed=7).save_pretrained(folder)
    return folder


def test_a_pretrained_network_is_loaded_as_it_was_saved(saved: Path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model = build_network(sections.UNetModel(pretrained=saved), SHAPE, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    expected = build_network(SMALL, SHAPE, seed=7).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert isinstance(model, UNet2DModel)


def test_a_pretrained_network_must_fit_the_data(saved: Path):
    with pytest.raises(ValueError, match=r"has 1 channels, the data 3; set data\.channels"):
        build_network(sections.UNetModel(pretrained=saved), (3, 16, 16), seed=0)


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


@pytest.mark.parametrize("text", ["[]", "{", ""])
def test_a_damaged_configuration(tmp_path: Path, saved: Path, text: str):
    folder = copy(saved, tmp_path / "damaged")
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json' is damaged"):
        load_network(folder)


def test_a_run_is_no_network_but_holds_one(finished: Path):
    with pytest.raises(FileNotFoundError, match=r"of a run, take checkpoints/step-N/ema"):
        load_network(finished)


def test_nothing_is_unpickled(tmp_path: Path, saved: Path):
    folder = copy(saved, tmp_path / "pickled")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(build_network(SMALL, SHAPE, 7).state_dict(), folder / "diffusion_pytorch_model.bin")
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


# EDM's networks.


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("ddpmpp", ("positional", "standard", "standard", 1, (1, 1))),
        ("ncsnpp", ("fourier", "residual", "standard", 2, (1, 3, 3, 1))),
    ],
)
def test_edm_networks_take_their_form(form: str, expected: tuple[object, ...]):
    network = build_network(SMALL_EDM.model_copy(update={"form": form}), SHAPE, seed=0)
    assert isinstance(network, EDMUNet)
    names = ("embedding_type", "encoder_type", "decoder_type", "channel_mult_noise")
    found = network.config
    assert (*(found[name] for name in names), tuple(found["resample_filter"])) == expected
    assert (found["model_channels"], tuple(found["channel_mult"]), found["num_blocks"]) == (8, (1, 2), 1)
    assert (tuple(found["attn_resolutions"]), found["dropout"]) == ((8,), 0.1)
    assert network_shape(network) == SHAPE
    assert (class_inputs(network), augment_inputs(network)) == (0, 9)


def test_classes_count_where_the_settings_ask_for_them():
    conditional = {"class_conditional": True}
    assert class_inputs(build_network(SMALL, SHAPE, 0, num_classes=5)) == 0
    assert class_inputs(build_network(SMALL.model_copy(update=conditional), SHAPE, 0, num_classes=5)) == 5
    with_null = SMALL.model_copy(update={**conditional, "label_dropout": 0.1})
    assert class_inputs(build_network(with_null, SHAPE, 0, num_classes=5)) == 6
    edm = SMALL_EDM.model_copy(update={**conditional, "label_dropout": 0.1})
    assert class_inputs(build_network(edm, SHAPE, 0, num_classes=5)) == 5


@pytest.fixture(scope="module")
def saved_edm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edm")
    settings = SMALL_EDM.model_copy(update={"class_conditional": True})
    build_network(settings, SHAPE, seed=7, num_classes=3).save_pretrained(folder)
    return folder


def test_a_pretrained_edm_network_keeps_its_weights_under_another_dropout(saved_edm: Path):
    settings = sections.EDMUNetModel(name="edm_unet", pretrained=saved_edm, class_conditional=True)
    kept = build_network(settings, SHAPE, seed=0, num_classes=3)
    changed = build_network(settings.model_copy(update={"dropout": 0.5}), SHAPE, seed=0, num_classes=3)
    assert (kept.config["dropout"], changed.config["dropout"]) == (0.1, 0.5)
    assert all(torch.equal(value, kept.state_dict()[name]) for name, value in changed.state_dict().items())
    x, t = torch.randn(2, 2, 1, 16, 16)[0], torch.zeros(2)
    torch.manual_seed(0)
    first = changed.train()(x, t)
    torch.manual_seed(0)
    assert not torch.equal(first, kept.train()(x, t))


def test_a_pretrained_edm_network_keeps_its_forcing_under_another_dropout(saved_edm: Path, tmp_path: Path):
    network = EDMUNet.from_pretrained(saved_edm)
    SpectralForcing(EDM()).attach(network)
    network.save_pretrained(tmp_path)
    settings = sections.EDMUNetModel(name="edm_unet", pretrained=tmp_path, class_conditional=True, dropout=0.5)
    assert recorded(build_network(settings, SHAPE, seed=0, num_classes=3)) == SpectralForcing(EDM()).config


def test_a_forced_unet_is_loaded_without_a_warning_of_the_record_that_it_keeps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    network = build_network(SMALL, SHAPE, seed=0)
    network.register_to_config(something_else=1)
    network.save_pretrained(tmp_path / "other")
    load_network(tmp_path / "other")
    assert "something_else" in caplog.text
    caplog.clear()
    forced = build_network(SMALL, SHAPE, seed=0)
    SpectralForcing(EDM()).attach(forced)
    forced.save_pretrained(tmp_path / "forced")
    assert recorded(load_network(tmp_path / "forced")) == SpectralForcing(EDM()).config
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "shape", "classes", "message"),
    [
        ({}, (3, 16, 16), 3, r"has 1 channels, the data 3; set data\.channels"),
        ({}, (1, 32, 32), 3, r"made for 16 x 16 pixels, the data has 32 x 32; set data\.resolution"),
        ({}, SHAPE, 4, "takes 3 classes, the data has 4"),
        ({"class_conditional": False}, SHAPE, 0, r"is class-conditional: set model\.class_conditional to true"),
    ],
)
def test_a_pretrained_edm_network_must_fit(saved_edm: Path, changes, shape, classes: int, message: str):
    values = {"name": "edm_unet", "pretrained": saved_edm, "class_conditional": True, **changes}
    with pytest.raises(ValueError, match=message):
        build_network(sections.EDMUNetModel.model_validate(values), shape, 0, num_classes=classes)


def test_a_pretrained_unet_must_fit(tmp_path: Path):
    build_network(SMALL, SHAPE, seed=0).save_pretrained(tmp_path / "one")
    settings = SMALL.model_copy(update={"pretrained": tmp_path / "one"})
    assert build_network(settings, (1, 32, 32), seed=0)
    with pytest.raises(ValueError, match=r"needs a resolution divisible by 2, the data has 31; set data\.resolution"):
        build_network(settings, (1, 31, 31), seed=0)
    learned = {"in_channels": 1, "out_channels": 2, "block_out_channels": (8,), "norm_num_groups": 4}
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "add_attention": False}
    UNet2DModel(sample_size=16, **learned, **blocks).save_pretrained(tmp_path / "two")
    with pytest.raises(ValueError, match="gives 2 channels for 1, expected 1: one that learns the variance"):
        build_network(SMALL.model_copy(update={"pretrained": tmp_path / "two"}), SHAPE, seed=0)


def test_the_kind_of_a_pretrained_network_must_be_the_one_named(saved: Path, saved_edm: Path):
    with pytest.raises(ValueError, match=r"the class EDMUNet, which model\.name 'unet' is not: set it to edm_unet"):
        build_network(sections.UNetModel(pretrained=saved_edm), SHAPE, 0)
    with pytest.raises(ValueError, match=r"class UNet2DModel, which model\.name 'edm_unet' is not: set it to unet"):
        build_network(sections.EDMUNetModel(name="edm_unet", pretrained=saved), SHAPE, 0)


@pytest.mark.parametrize("patch", [1, 2])
def test_jit_takes_latents_of_any_shape(patch: int, tmp_path: Path):
    sizes = {"hidden_size": 16, "depth": 1, "num_heads": 2, "bottleneck_dim": 8, "in_context_len": 0}
    settings = sections.JiTModel(name="jit", patch_size=patch, **sizes)
    network = build_network(settings, (16, 4, 6), 0)
    assert network_shape(network) == (16, 4, 6)
    assert network(torch.randn(2, 16, 4, 6), torch.rand(2)).shape == (2, 16, 4, 6)
    network.save_pretrained(tmp_path)
    pretrained = settings.model_copy(update={"pretrained": tmp_path})
    assert network_shape(build_network(pretrained, (16, 4, 6), 0)) == (16, 4, 6)
    with pytest.raises(ValueError, match="made for 4 x 6 pixels, the data has 6 x 4"):
        build_network(pretrained, (16, 6, 4), 0)
