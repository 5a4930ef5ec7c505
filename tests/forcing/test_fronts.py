"""Fronts against their formulas, their configurations, and errors."""

import json
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.forcing import FRONTS, ConstantFront, ContourFront, LinearFront, front_from_config

ALL = [
    LinearFront(),
    LinearFront(0.2, 0.8),
    ConstantFront(0.3),
    ContourFront(2.7, 4.0, 64),
    ContourFront(1.5, 2.0, (16, 32), approximate=False, c_min=0.1),
    ContourFront(1.5, 2, (100,)),
]
times = st.floats(0, 1).map(lambda t: torch.tensor(t, dtype=torch.float64))


@given(tau=times, c_min=st.floats(0, 1), c_max=st.floats(0, 1))
def test_linear(tau, c_min, c_max):
    c_min, c_max = sorted((c_min, c_max))
    torch.testing.assert_close(
        LinearFront(c_min, c_max)(tau), torch.lerp(torch.full_like(tau, c_min), torch.full_like(tau, c_max), tau)
    )


@given(tau=st.floats(0.01, 0.99), beta=st.floats(0.5, 4), k1=st.floats(0.5, 20), side=st.integers(2, 64))
def test_on_the_contour_data_and_noise_have_one_power(tau, beta, k1, side):
    for size, largest in ((side, 2**0.5 * (side - 1)), ((side,), side - 1)):
        for approximate in (True, False):
            front = ContourFront(beta, k1, size, approximate=approximate)
            cutoff = front(torch.tensor(tau, dtype=torch.float64)).item()
            if cutoff == 1:
                k = largest
            else:
                k = cutoff * largest
            signal = (1.0 if approximate else tau**2) * (k / k1) ** -beta
            if cutoff == 1:
                assert signal >= (1 - tau) ** 2 * (1 - 1e-9)
            else:
                assert signal == pytest.approx((1 - tau) ** 2)


def test_the_contour_of_an_oblong_field():
    # In units of the shortest side: the index 15 of the short side, 16 * 31 / 32 of the long one.
    largest = (15**2 + 15.5**2) ** 0.5
    cutoff = ContourFront(2.0, 4.0, (16, 32))(torch.tensor(0.5, dtype=torch.float64))
    assert cutoff.item() == pytest.approx(8 / largest)


@pytest.mark.parametrize("front", ALL, ids=repr)
def test_any_shape_within_bounds_and_never_falling(front):
    tau = torch.linspace(0, 1, 12).reshape(3, 4)
    cutoff = front(tau)
    assert cutoff.shape == tau.shape
    assert cutoff.dtype == tau.dtype
    assert bool(((cutoff >= 0) & (cutoff <= 1)).all())
    assert bool((cutoff.flatten().diff() >= 0).all())
    assert front(tau.double()).dtype == torch.float64


@pytest.mark.parametrize("front", [f for f in ALL if not isinstance(f, ConstantFront)], ids=repr)
def test_nan_stays_nan(front):
    assert front(torch.tensor([torch.nan, 0.5])).isnan().tolist() == [True, False]


@pytest.mark.parametrize("approximate", [True, False])
def test_the_contour_bears_times_that_rounding_put_outside(approximate):
    front = ContourFront(2.7, 4.0, 64, approximate=approximate)
    assert torch.equal(front(torch.tensor([-1e-6, 1 + 1e-6])), front(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("front", ALL, ids=repr)
def test_configurations_rebuild_the_front(front):
    config = json.loads(json.dumps(front.config))
    assert config["name"] in FRONTS
    rebuilt = front_from_config(config)
    assert rebuilt == front
    assert hash(rebuilt) == hash(front)
    tau = torch.linspace(0, 1, 5)
    assert torch.equal(rebuilt(tau), front(tau))
    assert torch.equal(pickle.loads(pickle.dumps(front))(tau), front(tau))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearFront(0.5, 0.2), "0 <= c_min <= c_max <= 1, got 0.5 and 0.2"),
        (lambda: LinearFront(-0.1), "0 <= c_min <= c_max <= 1"),
        (lambda: LinearFront(0.1, 1.2), "0 <= c_min <= c_max <= 1"),
        (lambda: LinearFront("0.1"), "c_min must be a number, got '0.1'"),
        (lambda: ConstantFront(1.1), "share of the largest frequency, 0 to 1; got 1.1"),
        (lambda: ConstantFront(float("nan")), "got nan"),
        (lambda: ContourFront(0.0, 4.0, 64), "beta must be positive and finite, got 0.0"),
        (lambda: ContourFront(2.0, float("inf"), 64), "k1 must be positive and finite, got inf"),
        (lambda: ContourFront(2.0, 4.0, 64, c_min=2.0), "c_min is a cutoff, 0 to 1; got 2.0"),
        (lambda: ContourFront(2.0, 4.0, 1), "with a frequency above 0 among them, got 1"),
        (lambda: ContourFront(2.0, 4.0, (4, 4, 4)), r"1 or 2 sides .* got \(4, 4, 4\)"),
        (lambda: ContourFront(2.0, 4.0, "64"), "size must be an int, or one int per axis, got '64'"),
        (lambda: ContourFront(2.0, 4.0, 64.0), "size must be an int, or one int per axis, got 64.0"),
        (lambda: front_from_config({"name": "lineal"}), r"unknown front: got 'lineal' \(did you mean 'linear'\?\)"),
        (lambda: front_from_config({}), "unknown front: got None"),
        (lambda: front_from_config("linear"), "a mapping with its name, got 'linear'"),
        (lambda: front_from_config({"name": "linear", "c": 1}), r"'linear' does not take \{'c': 1\}"),
        (lambda: front_from_config({"name": "contour"}), "'contour' does not take"),
        (
            lambda: front_from_config({"name": "custom", "function": "mine"}),
            r"function of the user's \(mine\).* pass it: SpectralForcing.from_config\(config, process, front=...\)",
        ),
    ],
)
def test_bad_fronts(build, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build()
