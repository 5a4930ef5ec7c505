"""A JiT in a folder, and the Spectral Forcing that is recorded with it."""

import json

import pytest
import torch

from passband import Flow, SpectralForcing
from passband.forcing import ConstantFront, attached, detach, recorded
from passband.models import EDMDenoiser, EDMUNet, JiT, load_model, save_model

SMALL = {"patch_size": 8, "hidden_size": 16, "depth": 2, "num_heads": 2, "num_classes": 3, "in_context_start": 1}
KEY = "_spectral_forcing"


def network(**options):
    torch.manual_seed(0)
    model = JiT((16, 24), **(SMALL | options)).eval()
    torch.nn.init.normal_(model.final_layer.linear.weight)
    return model


def forcing():
    return SpectralForcing(Flow(data_at=1), ConstantFront(0.25), kappa=20.0, window=8)


@pytest.mark.parametrize("form", ["conv", "linear"])
def test_what_is_saved_is_loaded(tmp_path, form):
    model = network(patch_embedding=form, out_channels=6)
    model.save_pretrained(tmp_path)
    loaded = JiT.from_pretrained(tmp_path)
    x, t = torch.randn(2, 3, 16, 24), torch.rand(2)
    assert loaded.config == model.config
    assert torch.equal(loaded(x, t), model(x, t))
    assert loaded.recorded_forcing is None
    assert KEY not in json.loads((tmp_path / "config.json").read_text())


def test_an_attached_forcing_is_recorded_and_not_attached_by_itself(tmp_path):
    model = network()
    forcing().attach(model)
    save_model(model, tmp_path / "first", extra={"note": 1})
    assert json.loads((tmp_path / "first" / "config.json").read_text())[KEY] == forcing().config
    loaded = load_model(tmp_path / "first")
    assert (attached(loaded), recorded(loaded)) == (None, forcing().config)
    x, t = torch.randn(2, 3, 16, 24), torch.rand(2)
    assert not torch.equal(loaded(x, t), model(x, t))
    SpectralForcing.from_config(loaded.recorded_forcing, Flow(data_at=1)).attach(loaded)
    assert torch.equal(loaded(x, t), model(x, t))


def test_a_record_stays_until_another_forcing_is_attached(tmp_path):
    model = network()
    forcing().attach(model)
    save_model(model, tmp_path / "first")
    loaded = load_model(tmp_path / "first")
    save_model(loaded, tmp_path / "second")
    assert load_model(tmp_path / "second").recorded_forcing == forcing().config
    other = SpectralForcing(Flow(data_at=1))
    other.attach(loaded)
    save_model(loaded, tmp_path / "third")
    assert load_model(tmp_path / "third").recorded_forcing == other.config
    detach(model)
    save_model(model, tmp_path / "fourth")
    assert load_model(tmp_path / "fourth").recorded_forcing is None


def test_other_networks_record_it_too(tmp_path):
    torch.manual_seed(0)
    model = EDMUNet(8, 1, model_channels=8, channel_mult=(1,), num_blocks=1, attn_resolutions=())
    denoiser = EDMDenoiser(model)
    SpectralForcing(denoiser.process).attach(denoiser)
    assert attached(model) is attached(denoiser) is not None  # on the network that takes c_in x, not on x itself
    save_model(model, tmp_path)
    assert load_model(tmp_path).recorded_forcing == SpectralForcing(denoiser.process).config


def test_a_damaged_record(tmp_path):
    save_model(network(), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {KEY: "linear"}))
    with pytest.raises(ValueError, match=f"is damaged \\({KEY} is 'linear', expected an object\\)"):
        load_model(tmp_path)
