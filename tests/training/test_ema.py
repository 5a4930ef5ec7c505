import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from passband.training.ema import (
    ConstantDecay,
    HalfLife,
    PowerAverage,
    Snapshot,
    WeightAverage,
    lerp_weights,
    power_of,
    reconstruct,
    snapshot_mix,
    width_of,
)

BATCH = 100


class Net(nn.Module):
    def __init__(self, values=(0.0, 0.0, 0.0), dtype=torch.float64):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(values, dtype=dtype))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("running", torch.zeros(2))


def tracked(profile, trajectory, batch=BATCH, start=0.0):
    """The average after each step of a trajectory (steps, values) that starts from one value."""
    network = Net(np.full(trajectory.shape[1], start))
    average = WeightAverage(network, profile)
    found = []
    for step, values in enumerate(trajectory):
        network.weight.data.copy_(torch.as_tensor(values))
        average.update(network, step * batch, batch)
        found.append(average.module.weight.numpy().copy())
    return np.stack(found)


def walk(steps=800, values=40, seed=0):
    """A trajectory as weights have it: it drifts, and it jitters. Unit scale."""
    rng = np.random.default_rng(seed)
    drift = rng.normal(size=(steps, values)).cumsum(0) / steps**0.5
    return drift + 0.3 * rng.normal(size=(steps, values))


def profile_weights(std, steps):
    """What each step counts in a power average: the profile's integral over it."""
    edges = np.arange(steps + 1) / steps
    return np.diff(edges ** (power_of(std) + 1))


PROFILES = [HalfLife(700), HalfLife(2000, None), PowerAverage(0.05), PowerAverage(0.2), ConstantDecay(0.9)]


# Profiles.


@pytest.mark.parametrize("profile", PROFILES)
def test_only_a_half_life_without_ramp_up_remembers_the_initial_weights(profile):
    first = 0.5 ** (64 / 2000) if profile == HalfLife(2000, None) else 0
    assert profile(0, 64) == pytest.approx(first)
    assert 0 < profile(10_000, 64) < 1


def test_half_of_a_step_is_forgotten_after_the_half_life():
    # From 1 to 0 at the start: with no ramp-up, 1/2 is left after 2000 images, 1/4 after 4000.
    left = np.ones(1)
    network = Net([1.0])
    average = WeightAverage(network, HalfLife(2000, ramp_up_ratio=None))
    network.weight.data.zero_()
    for step in range(40):
        average.update(network, step * BATCH, BATCH)
        left = np.append(left, average.module.weight.item())
    assert left[20] == pytest.approx(0.5, rel=1e-12)
    assert left[40] == pytest.approx(0.25, rel=1e-12)


@given(batch=st.integers(1, 500), seen=st.integers(1, 10**7), parts=st.integers(1, 8))
def test_the_half_life_counts_images_not_steps(batch, seen, parts):
    # A step of many images keeps what as many small steps would (once the ramp-up is over).
    profile = HalfLife(5000, ramp_up_ratio=None)
    assert profile(seen, batch * parts) == pytest.approx(profile(seen, batch) ** parts)


def test_the_ramp_up_cuts_the_half_life_to_a_share_of_the_images_seen():
    profile = HalfLife(images=500_000, ramp_up_ratio=0.05)
    assert profile(20_000, 1000) == pytest.approx(0.5)  # 0.05 of 20,000
    assert profile(10_000_000, 500_000) == pytest.approx(0.5)  # the ramp-up ends here
    assert profile(40_000_000, 500_000) == pytest.approx(0.5)


@given(batch=st.integers(1, 500), steps=st.integers(1, 60), std=st.floats(0.01, 0.28))
def test_a_power_average_is_the_integral_of_its_profile(batch, steps, std):
    # w_k = k: sum over steps of k ((k/n)^(g+1) - ((k-1)/n)^(g+1)).
    trajectory = np.arange(1, steps + 1, dtype=np.float64)[:, None]
    expected = float(profile_weights(std, steps) @ trajectory[:, 0])
    assert tracked(PowerAverage(std), trajectory, batch)[-1, 0] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("std", [0.05, 0.1, 0.2])
def test_std_is_the_standard_deviation_of_the_profile_over_time(std):
    steps = 20_000
    weights, time = profile_weights(std, steps), (np.arange(steps) + 0.5) / steps
    mean = weights @ time
    assert weights @ (time - mean) ** 2 == pytest.approx(std**2, rel=1e-4)


@given(gamma=st.floats(0, 1e4))
def test_width_and_power_are_inverses(gamma):
    assert power_of(width_of(gamma)) == pytest.approx(gamma, rel=1e-6, abs=1e-6)


@given(std=st.floats(1e-4, 0.288))
def test_power_and_width_are_inverses(std):
    assert width_of(power_of(std)) == pytest.approx(std, rel=1e-9)


def test_published_powers():
    # Karras et al. 2023, Section 3.1: gamma = 6.94 has the width 0.10, gamma = 16.97 the width 0.05.
    assert width_of(6.94) == pytest.approx(0.10, abs=5e-5)
    assert width_of(16.97) == pytest.approx(0.05, abs=5e-5)
    assert power_of(12**-0.5) == pytest.approx(0, abs=1e-6)  # the plain mean


# Tracking.


@pytest.mark.parametrize("profile", PROFILES)
def test_constant_weights_stay(profile):
    np.testing.assert_allclose(tracked(profile, np.full((50, 3), 0.3), start=0.3), 0.3, rtol=1e-14)


@pytest.mark.parametrize("profile", PROFILES)
def test_tracking_is_the_recursion(profile):
    trajectory = walk(60, 5)
    expected = np.zeros(5)
    for step, values in enumerate(trajectory):
        kept = profile(step * BATCH, BATCH)
        expected = kept * expected + (1 - kept) * values
    np.testing.assert_allclose(tracked(profile, trajectory)[-1], expected, rtol=1e-12, atol=1e-14)


def test_a_constant_decay_is_torchs_averaged_model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = WeightAverage(network, ConstantDecay(0.9))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for step in range(5):
        network(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        theirs.update_parameters(network)
        ours.update(network, step * 8, 8)
    expected = theirs.module.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


def test_buffers_are_copied_and_tied_weights_stay_tied():
    network = Net([1.0])
    network.again = network.weight
    average = WeightAverage(network, ConstantDecay(0.5))
    network.seen.fill_(7)
    network.running.fill_(2.5)
    network.weight.data.fill_(3.0)
    average.update(network, BATCH, BATCH)
    assert average.module.seen == 7
    assert torch.equal(average.module.running, torch.tensor([2.5, 2.5]))
    assert average.module.again is average.module.weight
    assert average.module.weight.item() == 2.0


def test_half_precision_weights_are_averaged_in_float32():
    # 1 + 1e-3 steps of bfloat16 would be lost: its next number after 1 is 1.0078.
    network = Net([1.0], torch.bfloat16)
    average = WeightAverage(network, ConstantDecay(0.999))
    assert average.module.weight.dtype == torch.float32
    network.weight.data.fill_(2.0)
    average.update(network, BATCH, BATCH)
    assert average.module.weight.item() == pytest.approx(1.001, rel=1e-6)
    assert network.weight.dtype == torch.bfloat16


def test_the_copy_is_apart_from_the_network():
    network = Net([1.0])
    network.weight.grad = torch.ones(1, dtype=torch.float64)
    average = WeightAverage(network, HalfLife(100))
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    assert average.module.weight.grad is None
    assert network.weight.requires_grad
    assert network.weight.grad is not None
    network.weight.data.fill_(5.0)
    assert average.module.weight.item() == 1.0


def test_an_average_goes_on_from_its_state_bit_for_bit():
    trajectory = walk(40, 3)
    whole = tracked(HalfLife(900), trajectory)[-1]
    network, second = Net(), Net()
    first = WeightAverage(network, HalfLife(900))
    for step in range(17):
        network.weight.data.copy_(torch.as_tensor(trajectory[step]))
        first.update(network, step * BATCH, BATCH)
    resumed = WeightAverage(second, HalfLife(900))
    resumed.load_state_dict(first.state_dict())
    for step in range(17, 40):
        second.weight.data.copy_(torch.as_tensor(trajectory[step]))
        resumed.update(second, step * BATCH, BATCH)
    assert np.array_equal(resumed.module.weight.numpy(), whole)


def test_a_step_that_keeps_nothing_replaces_even_broken_weights():
    network = Net([1.0])
    average = WeightAverage(network, PowerAverage(0.1))
    average.module.weight.fill_(math.nan)
    average.update(network, 0, BATCH)
    assert average.module.weight.item() == 1.0


def test_nan_stays_nan():
    network = Net([math.nan])
    average = WeightAverage(Net([1.0]), ConstantDecay(0.9))
    average.update(network, BATCH, BATCH)
    assert average.module.weight.isnan().all()


# After the training.


def stored(stds, times, averages):
    """Snapshots of the averages tracked for each width, at some steps."""
    return [
        Snapshot(std, step * BATCH, {"weight": torch.from_numpy(averages[std][step - 1])})
        for std in stds
        for step in times
    ]


@pytest.mark.parametrize(("std", "step", "error"), [(0.07, 800, 5e-4), (0.15, 800, 1e-3), (0.08, 600, 5e-4)])
def test_a_reconstruction_is_the_average_that_would_have_been_tracked(std, step, error):
    """EDM2's claim. From averages of width 0.05 and 0.1 stored 16 times, one of another width, within the stated error
    (the trajectory has unit scale; the two stored averages are off by more than ten times that)."""
    trajectory = walk()
    averages = {width: tracked(PowerAverage(width), trajectory) for width in (0.05, 0.1, std)}
    snapshots = stored((0.05, 0.1), range(50, 801, 50), averages)
    found = reconstruct(snapshots, std, at=step * BATCH)["weight"].numpy()
    expected = averages[std][step - 1]

    def distance(a, b):
        return np.sqrt(np.mean((a - b) ** 2))

    assert distance(found, expected) < error
    assert min(distance(averages[width][step - 1], expected) for width in (0.05, 0.1)) > 10 * error


def test_a_stored_average_is_found_as_it_is():
    trajectory = walk(100, 4)
    averages = {width: tracked(PowerAverage(width), trajectory) for width in (0.05, 0.1)}
    snapshots = stored((0.05, 0.1), (25, 50, 75, 100), averages)
    for snapshot in snapshots:
        found = reconstruct(snapshots, snapshot.std, snapshot.images)["weight"]
        torch.testing.assert_close(found, snapshot.weights["weight"], rtol=0, atol=1e-9)
    assert torch.equal(reconstruct(snapshots, 0.1)["weight"], reconstruct(snapshots, 0.1, at=10_000)["weight"])


@pytest.mark.parametrize(("std", "at", "sum_error"), [(0.07, 1.0, 0.01), (0.15, 1.0, 0.03), (0.07, 0.9, 0.1)])
def test_coefficients_are_the_least_squares_fit_of_the_profiles(std, at, sum_error):
    # Brute force: the profiles on a fine grid, fitted directly.
    steps = 40_000
    time = (np.arange(steps) + 0.5) / steps
    stds, times = [0.05] * 5 + [0.1] * 5, [0.2, 0.4, 0.6, 0.8, 1.0] * 2

    def profile(width, end):
        gamma = power_of(width)
        return np.where(time <= end, (gamma + 1) * (np.minimum(time / end, 1)) ** gamma / end, 0)

    matrix = np.stack([profile(*pair) for pair in zip(stds, times, strict=True)], axis=1)
    wanted = profile(std, at)
    fit = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    assert fit.sum() == pytest.approx(1, abs=sum_error)  # about 1 of itself, then scaled
    mix = snapshot_mix(stds, [1e6 * end for end in times], std, 1e6 * at)
    np.testing.assert_allclose(mix.coefficients, fit / fit.sum(), atol=2e-3)
    assert mix.coefficients.sum() == pytest.approx(1, abs=1e-12)
    rest = np.linalg.norm(matrix @ mix.coefficients - wanted) / np.linalg.norm(wanted)
    assert mix.error == pytest.approx(rest, abs=2e-3)


@given(count=st.integers(2, 40), std=st.floats(0.05, 0.15), seed=st.integers(0, 99))
def test_more_snapshots_never_break_the_fit(count, std, seed):
    # At times close to each other, or equal, the system is singular.
    times = [*np.random.default_rng(seed).choice(np.linspace(500, 1000, 30), count).tolist(), 1000.0]
    mix = snapshot_mix([0.05] * len(times) + [0.1] * len(times), times * 2, std, 1000)
    assert np.isfinite(mix.coefficients).all()
    assert mix.coefficients.sum() == pytest.approx(1, abs=1e-9)
    assert mix.error <= snapshot_mix([0.05, 0.1], [1000, 1000], std, 1000).error + 1e-5


def test_snapshots_come_from_paths_functions_and_mappings(tmp_path):
    states = [{"a": torch.randn(3), "b.c": torch.randn(2, 2), "count": torch.tensor(k)} for k in range(4)]
    pairs = [(0.05, 100), (0.1, 100), (0.05, 200), (0.1, 200)]
    plain = [Snapshot(*pair, state) for pair, state in zip(pairs, states, strict=True)]
    paths = []
    for k, state in enumerate(states):
        save_file(state, tmp_path / f"{k}.safetensors")
        paths.append(Snapshot(*pairs[k], tmp_path / f"{k}.safetensors"))
    lazy = [Snapshot(*pair, lambda state=state: state) for pair, state in zip(pairs, states, strict=True)]
    expected = reconstruct(plain, 0.08)
    mix = snapshot_mix(*zip(*pairs, strict=True), 0.08, 200)
    by_hand = sum(c * state["a"].double() for c, state in zip(mix.coefficients, states, strict=True))
    torch.testing.assert_close(expected["a"], by_hand.float())
    for found in (reconstruct(paths, 0.08), reconstruct(iter(lazy), 0.08)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert expected["count"] in (2, 3)  # one of the last
    assert reconstruct(plain, 0.08, at=110)["count"] in (0, 1)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [(torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_results_are_in_float32_at_least(dtype, result):
    weights = {"w": torch.ones(2, dtype=dtype)}
    found = reconstruct([Snapshot(0.05, 10, weights), Snapshot(0.1, 10, weights)], 0.07)["w"]
    assert found.dtype == result
    torch.testing.assert_close(found, torch.ones(2, dtype=result))


def state(**shapes):
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: HalfLife(0), ValueError, "images must be a finite number above 0"),
        (lambda: HalfLife(10, ramp_up_ratio=-1), ValueError, "ramp_up_ratio"),
        (lambda: HalfLife("10"), TypeError, "images must be a number"),
        (lambda: ConstantDecay(1.5), ValueError, "between 0 and 1, got 1.5"),
        (lambda: PowerAverage(0.5), ValueError, r"at most 0.289 .* got 0.5"),
        (lambda: PowerAverage(0), ValueError, "above 0"),
        (lambda: PowerAverage(math.nan), ValueError, "got nan"),
        (lambda: width_of(-1), ValueError, "at least 0, got -1"),
        (lambda: WeightAverage(Net(), HalfLife(1)).update(Net(), -1, 4), ValueError, "before the step"),
        (lambda: WeightAverage(Net(), HalfLife(1)).update(Net(), 4, 0), ValueError, "batch_size at least 1"),
        (lambda: WeightAverage(Net(), HalfLife(1)).update(Net([0.0]), 4, 4), ValueError, "differ in the number or"),
        (lambda: WeightAverage(Net(), lambda *_: 2.0).update(Net(), 4, 4), ValueError, "between 0 and 1, got 2.0"),
        (lambda: lerp_weights(Net(), nn.Linear(1, 1), 0.5), ValueError, "differ in the number or"),
        (lambda: snapshot_mix([0.1], [10], 0.05, 11), ValueError, "11 images .* up to 10"),
        (lambda: snapshot_mix([0.1], [10, 20], 0.05, 10), ValueError, "1 widths and 2 times"),
        (lambda: snapshot_mix([0.1], [0], 0.05, 10), ValueError, "a time in images"),
        (lambda: reconstruct([], 0.1), ValueError, "no snapshots"),
        (lambda: reconstruct([Snapshot(0.1, 9, "nowhere.safetensors")], 0.1), FileNotFoundError, "nowhere"),
        (lambda: reconstruct([Snapshot(0.1, 9, __file__)], 0.1), ValueError, "no whole safetensors file"),
        (
            lambda: reconstruct([Snapshot(0.1, 9, state(a=2)), Snapshot(0.1, 9, state(a=3))], 0.1),
            ValueError,
            r"'a' of shape \(3,\) is not in the first",
        ),
        (
            lambda: reconstruct([Snapshot(0.1, 9, state(a=2, b=1)), Snapshot(0.05, 9, state(a=2))], 0.1),
            ValueError,
            r"9 images \(std 0.05\) .* lacks 'b'",
        ),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
