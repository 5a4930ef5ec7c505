"""Sampling a model in another way than it was trained is an error, unless one insists."""

import pytest
import torch

from passband import EDM, VP, Flow, SpectralForcing, sample
from passband.forcing import check_forced
from passband.models import EDMUNet, load_model
from passband.process import RescaledVP


def network():
    torch.manual_seed(0)
    model = EDMUNet(8, 1, model_channels=8, channel_mult=(1,), num_blocks=1).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def draw(model, process=None, **options):
    return sample(model, EDM() if process is None else process, (1, 8, 8), seeds=[0, 1], steps=2, **options)


def test_a_forced_model_without_its_forcing_is_refused(tmp_path):
    model = network()
    plain = draw(model)
    SpectralForcing(EDM()).attach(model)
    forced = draw(model)
    assert not torch.allclose(plain, forced, atol=1e-3)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    with pytest.raises(
        ValueError, match=r"the EDMUNet was trained with Spectral Forcing.*SpectralForcing\.from_config"
    ):
        draw(loaded)
    torch.testing.assert_close(draw(loaded, unforced_ok=True), plain)
    SpectralForcing.from_config(loaded.recorded_forcing, EDM()).attach(loaded)
    torch.testing.assert_close(draw(loaded), forced)


def test_a_forcing_of_another_process_is_refused():
    model = network()
    SpectralForcing(Flow(data_at=1)).attach(model)
    with pytest.raises(ValueError, match=r"made for Flow\(.*misread the times that the given process, EDM\("):
        draw(model)
    with pytest.raises(ValueError, match=r"misread the times that the given process, Flow\(data_at=0"):
        draw(model, Flow(0))
    assert draw(model, Flow(data_at=1, prediction="sample")).shape == (2, 1, 8, 8)


def test_the_attachment_is_sampled_as_its_network_in_any_precision():
    model = network().bfloat16()
    attachment = SpectralForcing(EDM()).attach(model)
    assert torch.equal(draw(attachment), draw(model))


def test_processes_that_read_times_alike():
    model = network()
    SpectralForcing(VP()).attach(model)
    check_forced(model, VP("v_prediction"))
    check_forced(model, RescaledVP())
