"""The trained part of a network alone: its names, its values in place, and a copy's values for a while."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from passband.training.finetune.adapters import Adapters, count_text, holding


@pytest.fixture
def network() -> nn.Module:
    """Two blocks, of which the second linear layer of each is trained."""
    torch.manual_seed(0)
    found = nn.Sequential(*(nn.ModuleDict({"base": nn.Linear(2, 2), "added": nn.Linear(2, 3)}) for _ in range(2)))
    for name, parameter in found.named_parameters():
        parameter.requires_grad_("added" in name)
    return found


def test_they_are_the_networks_own_parameters_under_their_names(network: nn.Module):
    adapters = Adapters(network)
    own = dict(network.named_parameters())
    found = dict(adapters.named_parameters())
    assert list(found) == [f"{block}.added.{part}" for block in range(2) for part in ("weight", "bias")]
    assert all(value is own[name] for name, value in found.items())
    assert count_text(network) == "18 of 30 weights"
    assert count_text(adapters) == "18 weights"


def test_loading_changes_the_network_in_place(network: nn.Module, tmp_path: Path):
    adapters = Adapters(network)
    adapters.save_pretrained(tmp_path / "there")
    stored = load_file(tmp_path / "there" / "adapters.safetensors")
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.zero_()
    assert not any(bool(value.any()) for name, value in network.named_parameters() if "added" in name)
    adapters.load_state_dict(stored)
    assert all(torch.equal(dict(network.named_parameters())[name], value) for name, value in stored.items())


def test_a_copys_values_are_held_for_as_long_as_it_is_open(network: nn.Module):
    before = {name: value.clone() for name, value in network.named_parameters()}
    average = deepcopy(Adapters(network)).double()
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.fill_(2.0)
    with holding(network, average) as held:
        for name, value in held.named_parameters():
            expected = torch.full_like(before[name], 2.0) if "added" in name else before[name]
            assert torch.equal(value, expected)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    with pytest.raises(KeyError), holding(network, average):
        raise KeyError
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
