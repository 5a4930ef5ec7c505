"""The perceptual term by name."""

import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from passband.models import LPIPS, EfficientNetDistance
from passband.training.perceptual import build_perceptual
from passband.training.sections import PerceptualSettings


def choice_of(name, weights=None):
    return PerceptualSettings(name=name, weights=weights)


class Squared(nn.Module):
    """One value per image, kept in four dimensions as some packages do."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x, y):
        return self.scale * (self.norm(x) - self.norm(y)).square().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def package(monkeypatch):
    found = types.ModuleType("my_distances")
    found.Squared = Squared
    found.scalar = lambda: Function(lambda x, y: (x - y).square().mean())
    found.map = lambda: Function(lambda x, y: (x - y).square())
    found.several = lambda: Function(lambda x, y: [x, y])
    monkeypatch.setitem(sys.modules, "my_distances", found)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, y):
        return self.function(x, y)


def images(*shape):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_none_is_none():
    assert build_perceptual(None) is None


def test_names(tmp_path, package):
    lpips = LPIPS(widths=(4, 4, 4, 4, 4))
    torch.save(lpips.state_dict(), tmp_path / "lpips.pt")
    x, y = images(2, 3, 32, 40)
    own = Squared().eval()
    for choice, expected in (
        (choice_of("efficientnet-lite0"), EfficientNetDistance()),
        (choice_of("lpips", tmp_path / "lpips.pt"), lpips),
        (choice_of("module:my_distances.Squared"), lambda x, y: own(x, y).flatten()),
        (choice_of("module:my_distances.map"), lambda x, y: (x - y).square().mean((1, 2, 3))),
    ):
        module = build_perceptual(choice)
        found = module(x, y)
        assert found.shape == (2,), choice
        torch.testing.assert_close(found, expected(x, y), msg=choice.name)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "module:my_distances.Squared"])
def test_frozen_with_gradients_to_the_images(name, package):
    module = build_perceptual(choice_of(name))
    nn.ModuleList([module]).train()
    assert not any(part.training for part in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    x, y = images(2, 3, 32, 32)
    y.requires_grad_()
    module(x, y).mean().backward()
    assert y.grad.isfinite().all()
    assert y.grad.abs().amax() > 0


def test_a_step_along_the_gradient_brings_the_images_closer():
    module = build_perceptual(choice_of("efficientnet-lite0"))
    x, y = images(1, 3, 32, 32)
    values = []
    for _ in range(4):
        y = y.detach().requires_grad_()
        value = module(x, y).mean()
        values.append(float(value.detach()))
        value.backward()
        y = y - 0.05 * y.grad / y.grad.square().mean().sqrt()
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("choice", "error", "match"),
    [
        (choice_of("lpips"), ValueError, "'lpips' needs weights: a file, or a folder"),
        (choice_of("lpips", Path("no/such/file.pt")), FileNotFoundError, r"no weights at no/such/file\.pt"),
        (
            choice_of("efficientnet-lite0", Path("some.pt")),
            ValueError,
            "weights are read for 'lpips' only, got some.pt",
        ),
        (choice_of("lpip"), ValueError, "unknown perceptual distance: got 'lpip' .did you mean 'lpips'"),
        (choice_of("module:my_distances.absent"), ValueError, "has no function 'absent'"),
    ],
)
def test_bad_choices(package, choice, error, match):
    with pytest.raises(error, match=match):
        build_perceptual(choice)


@pytest.mark.parametrize(("name", "got"), [("scalar", r"got \(\)"), ("several", "got list")])
def test_modules_that_do_not_give_one_value_per_image(package, name, got):
    module = build_perceptual(choice_of(f"module:my_distances.{name}"))
    with pytest.raises(ValueError, match=rf"'my_distances\.{name}' must return one value per image, .*{got}"):
        module(*images(2, 3, 8, 8))
    with pytest.raises(ValueError, match="same shape"):
        module(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
