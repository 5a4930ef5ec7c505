import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.process import EDM, VP, Flow
from passband.regularization import NoiseRatioGate


def ratios(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_hard_gate_is_a_step_that_includes_its_edge():
    gate = NoiseRatioGate(2.0)
    assert gate(ratios(0, 1.99, 2.0, 2.01, math.inf)).tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("softness", [0.1, 0.5, 2.0])
def test_soft_gate_is_a_logistic_in_the_logarithm_of_the_ratio(softness):
    r = ratios(1e-3, 0.5, 2.0, 3.0, 157)
    expected = [1 / (1 + (x / 2.0) ** (1 / softness)) for x in r.tolist()]
    assert NoiseRatioGate(2.0, softness)(r).tolist() == pytest.approx(expected, rel=1e-12)


@given(st.floats(1e-3, 1e3), st.floats(0, 5), st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
def test_gates_fall_from_one_to_zero(edge, softness, values):
    gate = NoiseRatioGate(edge, softness)
    weights = gate(ratios(*sorted(values)))
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights.diff() <= 0).all()
    assert gate(ratios(0.0, math.inf)).tolist() == [1, 0]


@pytest.mark.parametrize("softness", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(dtype, softness):
    weights = NoiseRatioGate(1, softness)(torch.ones(2, 3, dtype=dtype))
    assert weights.shape == (2, 3)
    assert weights.dtype == dtype


def test_one_gate_means_the_same_for_every_process():
    # x_t with as much noise as signal, found on three time axes.
    gate = NoiseRatioGate(1.0, 0.5)
    for process in (VP(), EDM(), Flow(data_at=1), Flow(data_at=0, time_scale=1000.0)):
        time = process.time_at(ratios(0.25, 1.0, 4.0))
        expected = [1 / (1 + 0.25**2), 0.5, 1 / (1 + 4.0**2)]
        assert gate(process.noise_ratio(time)).tolist() == pytest.approx(expected, rel=1e-9)


def test_runs_on_the_device_of_the_ratio():
    assert NoiseRatioGate(2.0, 0.1)(torch.ones(3, device="meta")).device.type == "meta"


def test_copies_and_text():
    gate = NoiseRatioGate(2.0, 0.1)
    assert repr(gate) == "NoiseRatioGate(max_ratio=2.0, softness=0.1)"
    for twin in (copy.deepcopy(gate), pickle.loads(pickle.dumps(gate))):
        assert repr(twin) == repr(gate)


def test_options_out_of_range():
    for edge in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="max_ratio is a noise ratio sigma / alpha and must be positive, got"):
            NoiseRatioGate(edge)
    for softness in (-0.1, math.nan):
        with pytest.raises(ValueError, match=r"softness is a width in ln\(sigma / alpha\) and must be at least 0, got"):
            NoiseRatioGate(1.0, softness)
