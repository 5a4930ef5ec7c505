import math

import pytest
import torch

from passband.process import EDM, VP, Flow
from passband.sampling import SampleNoise


def test_each_sample_has_its_seeds_own_numbers():
    noise = SampleNoise([3, 1, 2**31])
    first, second = noise.normal((2, 5)), noise.normal((4,))
    for row, seed in enumerate([3, 1, 2**31]):
        generator = torch.Generator().manual_seed(seed)
        assert torch.equal(first[row], torch.randn(2, 5, generator=generator))
        assert torch.equal(second[row], torch.randn(4, generator=generator))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_split_and_order_gives_the_same_numbers(dtype):
    seeds = [5, 0, 17, 4]
    whole = SampleNoise(seeds).normal((3, 3), dtype)
    assert whole.dtype == dtype
    parts = [SampleNoise(seeds[:1]), SampleNoise(seeds[1:])]
    assert torch.equal(torch.cat([part.normal((3, 3), dtype) for part in parts]), whole)
    assert torch.equal(SampleNoise(seeds[::-1]).normal((3, 3), dtype), whole.flip(0))


def test_draws_are_standard_normal_and_independent():
    noise = SampleNoise(range(200))
    draws = [noise.normal((10, 10)) for _ in range(2)]
    for x in draws:
        assert x.mean().item() == pytest.approx(0, abs=4 / math.sqrt(20_000))
        assert x.std().item() == pytest.approx(1, abs=4 / math.sqrt(40_000))
    assert (draws[0] * draws[1]).mean().item() == pytest.approx(0, abs=4 / math.sqrt(20_000))
    assert (draws[0][:-1] * draws[0][1:]).mean().item() == pytest.approx(0, abs=4 / math.sqrt(20_000))


@pytest.mark.parametrize("process", [VP(), EDM(), Flow(0, logit_normal=(-0.8, 0.8))], ids=["vp", "edm", "flow"])
def test_training_times_depend_on_the_seed_alone(process):
    seeds = [5, 0, 17, 4]
    whole = SampleNoise(seeds).times(process)
    assert whole.shape == (4,)
    assert torch.equal(torch.cat([SampleNoise([seed]).times(process) for seed in seeds]), whole)
    assert whole.unique().numel() == 4
    assert torch.equal(whole[1:2], process.sample_times(1, generator=torch.Generator().manual_seed(0)))


def test_seeds_may_be_a_range():
    expected = SampleNoise([0, 1, 2]).normal((4,))
    assert torch.equal(SampleNoise(range(3)).normal((4,)), expected)


def test_no_seeds():
    with pytest.raises(ValueError, match="seeds must hold one integer per sample, got none"):
        SampleNoise([])
