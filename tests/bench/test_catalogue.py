"""Items: their names, their choice, and that they can be made and measured."""

import pytest
import torch

from passband.bench import Arm, Budget, Setting, catalogue, choose, measure
from passband.bench.bars import BIOR, HAAR, LOW_PASS, PHASE

NAMES = [item.name for item in catalogue()]


def test_names_are_unique_and_plain():
    assert len(set(NAMES)) == len(NAMES)
    assert [name for name in NAMES if " " in name or name != name.strip("/")] == []


def test_every_family_is_there():
    families = {name.partition("/")[0] for name in NAMES}
    assert families >= {"amplitude", "amplitude-phase", "focal", "pixel", "haar", "bior1.3", "low-pass", "framed"}
    assert families >= {"esm", "dsm", "dog", "alignment", "eq", "metrics", "transforms", "step", "scaling"}


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("haar/16x3x64x64", ["haar/16x3x64x64"]),
        ("step", ["step/unet-small", "step/unet-medium", "step/jit-small", "step/diffwave-small"]),
        ("metrics/*Distance", ["metrics/SpectrumDistance", "metrics/FrechetDistance", "metrics/FrechetAudioDistance"]),
        ("low-pass/cutoff-0.3", [name for name in NAMES if name.startswith("low-pass/cutoff-0.3/")]),
        ("unet-sm", ["step/unet-small"]),
        ("*512x512", [name for name in NAMES if name.endswith("512x512")]),
    ],
)
def test_choosing(pattern: str, wanted: list[str]):
    assert [item.name for item in choose(catalogue(), [pattern])] == wanted


def test_a_family_is_not_a_part_of_other_names():
    chosen = [item.name for item in choose(catalogue(), ["amplitude"])]
    assert chosen
    assert all(name.startswith("amplitude/") for name in chosen)


def test_several_patterns_keep_the_order_of_the_catalogue():
    chosen = [item.name for item in choose(catalogue(), ["dog", "pixel", "dog"])]
    assert chosen == [name for name in NAMES if name.startswith(("pixel/", "dog/"))]
    assert [item.name for item in choose(catalogue(), [])] == NAMES


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("harr", "haar"), ("HAAR", "near: haar"), ("amplitud-phase", "amplitude-phase"), ("zzz", "families: amplitude")],
)
def test_a_pattern_that_matches_nothing_names_what_is_near(pattern: str, near: str):
    with pytest.raises(ValueError, match=near) as told:
        choose(catalogue(), ["haar", pattern])
    assert repr(pattern) in str(told.value)
    assert "--list" in str(told.value)


@pytest.mark.parametrize("pattern", ["", "/", " "])
def test_an_empty_pattern_is_not_everything(pattern: str):
    with pytest.raises(ValueError, match="names nothing"):
        choose(catalogue(), [pattern])


@pytest.mark.parametrize(
    ("name", "arm", "bar"),
    [
        ("haar/8x4x128x128", "pytorch-wavelets", HAAR[128]),
        ("haar/8x4x128x128", "wavelet-loss", HAAR[128]),
        ("bior1.3/16x3x64x64", "pytorch-wavelets", BIOR),
        ("amplitude-phase/16x3x64x64", "two angles, by hand", PHASE),
        ("low-pass/8x3x256x256", "torch-dct", LOW_PASS[256]),
    ],
)
def test_bars_are_at_their_rivals(name: str, arm: str, bar: object):
    case = choose(catalogue(), [name])[0].build(Setting())
    (found,) = (each for each in case.arms if each.name == arm)
    assert isinstance(found, Arm)
    assert bar in found.bars


SMALL = [
    *(name for name in NAMES if name.startswith("scaling/") and name.endswith(("4x3x16x16", "4x1x1024"))),
    *("pixel/16x3x64x64", "db4/16x3x64x64", "haar/stationary/16x3x64x64", "focal/16x1x16384", "bior1.3/16x1x16384"),
    *("amplitude-phase/energy/16x3x64x64", "low-pass/16x3x64x64", "low-pass/exact/16x3x64x64"),
    *("low-pass/window-8/16x3x64x64", "transforms/dwt/16x3x64x64", "transforms/idwt/16x3x64x64"),
    *("transforms/dct/16x3x64x64", "esm/8x4x32x32", "eq/8x3x128x128", "alignment/16x384x16x16"),
    *("metrics/radial_psd", "metrics/SpectrumDistance", "metrics/KID", "metrics/InceptionScore", "metrics/NDB"),
    *("metrics/LongTermSpectrum", "metrics/FrechetDistance", "metrics/FrechetAudioDistance"),
]


@pytest.mark.parametrize("name", SMALL)
def test_an_item_is_measured_and_its_quantities_agree(name: str):
    result = measure(choose(catalogue(), [name])[0], Setting(), Budget(repeats=1))
    assert result.name == name
    assert result.arms[0].kind == "ours"
    assert result.arms[0].ratio is None
    for arm in result.arms[1:]:
        assert not arm.missing.startswith("broken")
        assert arm.missing or (arm.ratio > 0 and arm.turns == 1)
        compared = arm.kind == "rival" and not arm.missing and (not arm.differs or "forward" in arm.differs)
        assert (arm.deviation is not None) == compared


def test_inputs_come_from_the_seed():
    x, y = Setting(seed=3).pair((2, 1, 8))
    again, _ = Setting(seed=3).pair((2, 1, 8))
    assert torch.equal(x, again)
    assert x.requires_grad
    assert not y.requires_grad
    assert not torch.equal(x, Setting(seed=4).pair((2, 1, 8))[0])
