"""The mean power in the plane, against direct means, however it was split; its groups."""

import pytest
import torch

from passband.metrics import in_first_half
from passband.metrics.plane_map import GROUPS, PlaneMap, sample_groups, whole_spectrum


def powers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def keys_of(count: int) -> list[str]:
    return [f"sample {number}" for number in range(count)]


def test_mean_is_that_of_all_samples_and_without_that_of_the_others() -> None:
    power, keys = powers(60), keys_of(60)
    plane = PlaneMap()
    plane.update(power[:25], keys[:25])
    plane.update(power[25:], keys[25:])
    groups = sample_groups(keys)
    assert plane.planes == 2
    for number in range(2):
        single = power[:, number]
        torch.testing.assert_close(plane.mean(number), single.mean(0), rtol=1e-6, atol=0)
        for group in groups.unique().tolist():
            expected = single[groups != group].mean(0)
            torch.testing.assert_close(plane.without(number)[group], expected, rtol=1e-5, atol=0)


def test_merged_parts_are_one_pass() -> None:
    power, keys = powers(40), keys_of(40)
    whole, parts = PlaneMap(seed=3), [PlaneMap(seed=3), PlaneMap(seed=3)]
    whole.update(power, keys)
    parts[0].update(power[::2], keys[::2])
    parts[1].update(power[1::2], keys[1::2])
    restored = PlaneMap()
    restored.load_state_dict(parts[0].merge(parts[1]).state_dict())
    torch.testing.assert_close(restored.sums, whole.sums)
    assert restored.counts.tolist() == whole.counts.tolist()
    assert restored.seed == 3
    assert restored.count == 40


def test_groups_are_even_and_nested_in_the_halves() -> None:
    keys = keys_of(3200)
    groups = sample_groups(keys, seed=5)
    counts = torch.bincount(groups, minlength=GROUPS)
    assert len(counts) == GROUPS
    assert int((counts - 200).abs().max()) < 5 * 200**0.5
    assert torch.equal(groups >= GROUPS // 2, in_first_half(keys, 5))


def test_an_empty_map_merges_and_has_no_state() -> None:
    plane = PlaneMap()
    plane.update(powers(0), [])
    assert plane.merge(PlaneMap()).state_dict() == {}


@pytest.mark.parametrize("width", [1, 2, 7, 8])
@pytest.mark.parametrize("height", [None, 5, 6])
def test_whole_spectrum_is_the_full_dft(height: int | None, width: int) -> None:
    x = (
        torch.randn(2, width, dtype=torch.float64)
        if height is None
        else powers(2)[:, 0, :height, :1].repeat(1, 1, width)
    )
    axes = tuple(range(1, x.ndim))
    x = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    half, full = torch.fft.rfftn(x, dim=axes), torch.fft.fftn(x, dim=axes)
    torch.testing.assert_close(whole_spectrum(half, width), full)
    torch.testing.assert_close(whole_spectrum(half.abs(), width), full.abs())


def test_bad_input_says_what_was_wrong() -> None:
    plane = PlaneMap()
    with pytest.raises(ValueError, match="no samples yet"):
        plane.mean(0)
    with pytest.raises(ValueError, match="3 keys"):
        plane.update(powers(2), ["a", "b", "c"])
    with pytest.raises(TypeError, match="floating"):
        plane.update(torch.ones(2, 1, 4, dtype=torch.int64), ["a", "b"])
    plane.update(powers(2), ["a", "b"])
    with pytest.raises(ValueError, match=r"one shape, got \(2, 6, 3\) after \(2, 6, 4\)"):
        plane.update(powers(2)[..., :3], ["a", "b"])
    with pytest.raises(ValueError, match="one seed, got 0 and 1"):
        plane.merge(PlaneMap(seed=1))
    with pytest.raises(ValueError, match="lacks"):
        plane.load_state_dict({"sums": torch.ones(1)})
    assert plane.count == 2
