"""The spectral term of a training loss, for every process and prediction."""

import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from passband.process import EDM, VP, Flow, Process, RescaledVP
from passband.regularization import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    ConstantWeight,
    EDMWeight,
    GradientShare,
    NoiseRatioGate,
    PixelLoss,
    SpectralLoss,
    SpectralRegularizer,
    WaveletLoss,
    tweedie,
)

PREDICTIONS = ("epsilon", "sample", "v_prediction", "velocity", "edm", "edm_negated")
PROCESSES = {
    "vp": VP,
    "rescaled-vp": RescaledVP,
    "edm": EDM,
    "edm-c_noise": lambda p: EDM(p, time="c_noise"),
    "flow-1": lambda p: Flow(1, p),
    "flow-0": lambda p: Flow(0, p, time_scale=1000.0),
}
RATIOS = (0.1, 1.0, 3.0)
every_process = pytest.mark.parametrize(
    "process",
    [pytest.param(make(p), id=f"{name}-{p}") for name, make in PROCESSES.items() for p in PREDICTIONS],
)
LOSS = AmplitudePhaseLoss("energy") + 0.5 * WaveletLoss()


class Step:
    """One training step at three noise ratios: what a host's loop holds when it calls the regularizer."""

    def __init__(self, process: Process, dtype: torch.dtype = torch.float64, size: tuple[int, ...] = (8, 8)) -> None:
        generator = torch.Generator().manual_seed(5)
        draws = [torch.randn(3, 2, *size, generator=generator, dtype=torch.float64) for _ in range(3)]
        self.clean, self.noise, error = (x.to(dtype) for x in draws)
        self.process = process
        self.t = process.time_at(torch.tensor(RATIOS, dtype=torch.float64))
        self.noisy = process.add_noise(self.clean, self.noise, self.t).to(dtype)
        self.target = process.target(self.clean, self.noise, self.t).to(dtype)
        self.pred = (self.target + 0.2 * error).requires_grad_()

    def estimate(self) -> Tensor:
        """The clean estimate with the coefficients solved for by hand: two equations, two unknowns."""
        alpha, sigma = (x.reshape(-1, 1, 1, 1) for x in self.process.level(self.t))
        zero, one = torch.zeros_like(self.clean), torch.ones_like(self.clean)
        a, b = self.process.target(one, zero, self.t), self.process.target(zero, one, self.t)
        rows = torch.stack([torch.stack([alpha * one, sigma * one], -1), torch.stack([a, b], -1)], -2)
        return torch.linalg.solve(rows, torch.stack([self.noisy, self.pred], -1))[..., 0]

    def __call__(self, spectral: SpectralRegularizer, **options: object) -> Tensor:
        return spectral.per_sample(self.process, self.noisy, self.pred, self.t, clean=self.clean, **options)

    def mean(self, spectral: SpectralRegularizer, **options: object) -> Tensor:
        return spectral(self.process, self.noisy, self.pred, self.t, clean=self.clean, **options)


def close(result: Tensor, expected: Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(result, expected, rtol=rtol, atol=0)


# The one equation.


@every_process
def test_is_the_loss_of_the_clean_estimate(process):
    step = Step(process)
    expected = 0.25 * LOSS(step.estimate(), step.clean)
    spectral = SpectralRegularizer(LOSS, weight=0.25)
    close(step(spectral), expected)
    close(step.mean(spectral), expected.mean())
    gradients = [torch.autograd.grad(x, step.pred)[0] for x in (step.mean(spectral), expected.mean())]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-14)


@every_process
def test_a_linear_loss_needs_the_residual_alone(process):
    step = Step(process)
    gain = process.residual_gain(step.t).reshape(-1, 1, 1, 1)
    residual = gain * (step.pred - step.target)
    expected = WaveletLoss("db2", levels=1)(residual, torch.zeros_like(residual))
    close(step(SpectralRegularizer(WaveletLoss("db2", levels=1), weight=1)), expected, rtol=1e-8)


@every_process
def test_a_perfect_prediction_costs_nothing(process):
    step = Step(process)
    step.pred = step.target
    assert step.mean(SpectralRegularizer(LOSS, weight=1)).item() < 1e-11


@pytest.mark.parametrize("size", [(9,), (5, 6), (4, 3, 4)], ids=str)
def test_one_to_three_spatial_dimensions(size):
    step = Step(VP(), size=size)
    expected = AmplitudeLoss()(step.process.clean_estimate(step.noisy, step.pred, step.t), step.clean)
    close(step(SpectralRegularizer(AmplitudeLoss(), weight=1)), expected)


def test_a_single_time_serves_the_whole_batch():
    step = Step(Flow(1))
    spectral = SpectralRegularizer(LOSS, weight=1, gate=2.0)
    for t in (0.25, torch.tensor(0.25), torch.tensor([0.25])):
        values = spectral.per_sample(step.process, step.noisy, step.pred, t, clean=step.clean)
        close(
            values, spectral.per_sample(step.process, step.noisy, step.pred, torch.full((3,), 0.25), clean=step.clean)
        )


def test_times_of_edms_shape():
    step = Step(EDM())
    spectral = SpectralRegularizer(LOSS, weight="edm", gate=2.0)
    expected = step(spectral)
    step.t = step.t.reshape(3, 1, 1, 1)
    close(step(spectral), expected)


# Weight and gate.


def test_the_default_weight_is_one_hundredth_without_a_gate():
    step = Step(VP())
    close(step(SpectralRegularizer(LOSS)), 0.01 * LOSS(step.estimate(), step.clean))


@every_process
def test_edm_weight(process):
    step = Step(process)
    weight = [4 * (r**2 + 0.25) / r**2 for r in RATIOS]
    expected = torch.tensor(weight, dtype=torch.float64) * LOSS(step.estimate(), step.clean)
    close(step(SpectralRegularizer(LOSS, weight="edm")), expected, rtol=1e-8)
    close(step(SpectralRegularizer(LOSS, weight=EDMWeight(0.1))), 0.1 * expected, rtol=1e-8)


@every_process
def test_the_gate_acts_on_each_sample(process):
    step = Step(process)
    values = LOSS(step.estimate(), step.clean)
    close(step(SpectralRegularizer(LOSS, weight=1, gate=1.5)), values * torch.tensor([1, 1, 0]))
    assert step(SpectralRegularizer(LOSS, weight=1, gate=0.05)).tolist() == [0, 0, 0]
    soft = SpectralRegularizer(LOSS, weight=1, gate=NoiseRatioGate(1.0, 0.5))
    close(step(soft), values * torch.tensor([1 / (1 + r**2) for r in RATIOS]), rtol=1e-6)
    step.mean(SpectralRegularizer(LOSS, gate=1.5)).backward()
    per_sample = step.pred.grad.abs().amax((1, 2, 3))
    assert (per_sample[:2] > 0).all()
    assert per_sample[2] == 0


def test_a_gate_of_ones_own():
    step = Step(VP())
    values = LOSS(step.estimate(), step.clean)
    gate = SpectralRegularizer(LOSS, weight=1, gate=lambda ratio: ratio / 10)
    close(step(gate), values * torch.tensor(RATIOS, dtype=torch.float64) / 10, rtol=1e-8)


def test_the_weight_is_given_everything():
    step, seen = Step(VP()), {}

    def weight(values: Tensor, **given: object) -> Tensor:
        seen.update(given)
        return 2 * values

    base = step.pred.square().mean()
    close(step(SpectralRegularizer(LOSS, weight=weight), base_loss=base), 2 * LOSS(step.estimate(), step.clean))
    assert seen["process"] is step.process
    assert seen["pred"] is step.pred
    assert seen["t"] is step.t
    assert seen["base_loss"] is base


def test_gradient_share_of_the_gated_term():
    step = Step(VP())
    base = (step.pred - step.target).square().mean()
    term = step.mean(SpectralRegularizer(LOSS, weight=GradientShare(0.2), gate=1.5), base_loss=base)
    norms = [torch.autograd.grad(x, step.pred)[0].norm().item() for x in (term, base)]
    assert norms[0] / norms[1] == pytest.approx(0.2, rel=1e-6)


# Where the clean estimate comes from.


def test_another_clean_estimate_takes_tweedies_place():
    step = Step(VP())

    def two_steps(process: Process, noisy: Tensor, pred: Tensor, t: Tensor, denoiser: object = None) -> Tensor:
        """One DDIM update towards half the noise ratio with this output, the rest with a fixed one."""
        halfway = process.time_at(process.noise_ratio(t) / 2)
        middle = process.step(noisy, process.clean_estimate(noisy, pred, t), t, halfway)
        return process.clean_estimate(middle, torch.zeros_like(pred), halfway)

    expected = LOSS(two_steps(step.process, step.noisy, step.pred, step.t), step.clean)
    close(step(SpectralRegularizer(LOSS, weight=1, clean_estimate=two_steps)), expected)
    assert not torch.allclose(expected, step(SpectralRegularizer(LOSS, weight=1)), rtol=0.1)


def test_tweedie_is_the_processs_clean_estimate():
    step = Step(Flow(1))
    expected = step.process.clean_estimate(step.noisy, step.pred, step.t)
    assert torch.equal(tweedie(step.process, step.noisy, step.pred, step.t), expected)


# What is logged.


def test_each_term_and_the_total_are_logged():
    step = Step(VP())
    loss = AmplitudeLoss() + 0.5 * WaveletLoss() + 2 * WaveletLoss("db2") + PixelLoss()
    spectral = SpectralRegularizer(loss, weight=0.1, gate=1.5)
    assert spectral.terms == {}
    value = step.mean(spectral)
    estimate = step.estimate()
    assert list(spectral.terms) == ["amplitude", "wavelet", "wavelet_2", "pixel", "total"]
    close(spectral.terms["amplitude"], AmplitudeLoss()(estimate, step.clean).mean().detach())
    close(spectral.terms["wavelet"], WaveletLoss()(estimate, step.clean).mean().detach())
    close(spectral.terms["wavelet_2"], WaveletLoss("db2")(estimate, step.clean).mean().detach())
    assert torch.equal(spectral.terms["total"], value.detach())
    for term in spectral.terms.values():
        assert term.shape == ()
        assert not term.requires_grad


def test_log_follows_the_last_call():
    spectral, first, second = SpectralRegularizer(AmplitudeLoss()), Step(VP()), Step(VP())
    before, _ = first.mean(spectral), dict(spectral.terms)
    second.clean = 2 * second.clean
    after = second.mean(spectral)
    assert spectral.terms["total"].item() == after.item() != before.item()


# Bad input.


def test_wrong_loss_weight_and_gate():
    with pytest.raises(TypeError, match=r"loss must be a SpectralLoss such as AmplitudeLoss\(\), .*; got L1Loss\(\)"):
        SpectralRegularizer(torch.nn.L1Loss())
    with pytest.raises(TypeError, match="loss must be a SpectralLoss"):
        SpectralRegularizer(AmplitudeLoss)
    with pytest.raises(
        ValueError, match=r"unknown weight: got 'edn' \(did you mean 'edm'\?\); expected a number or 'edm'"
    ):
        SpectralRegularizer(LOSS, weight="edn")
    for weight in (True, None, [0.1]):
        with pytest.raises(TypeError, match="weight must be a number, 'edm' or a weight object, got"):
            SpectralRegularizer(LOSS, weight=weight)
    for weight in (-0.01, math.nan, math.inf):
        with pytest.raises(ValueError, match="weight must be a finite number of at least 0, got"):
            SpectralRegularizer(LOSS, weight=weight)
    for gate in ("2", True, [2.0]):
        with pytest.raises(
            TypeError, match="gate must be the largest noise ratio, a function of the noise ratio, or None"
        ):
            SpectralRegularizer(LOSS, gate=gate)
    with pytest.raises(ValueError, match="max_ratio is a noise ratio"):
        SpectralRegularizer(LOSS, gate=0)


def test_wrong_fields_and_times():
    step, spectral = Step(VP()), SpectralRegularizer(LOSS, weight=GradientShare(0.1))
    with pytest.raises(
        ValueError, match=r"clean and pred must have the same shape, got \(2, 2, 8, 8\) and \(3, 2, 8, 8\)"
    ):
        spectral(step.process, step.noisy, step.pred, step.t, clean=step.clean[:2])
    with pytest.raises(ValueError, match="pred and noisy must have the same shape"):
        spectral(step.process, step.noisy[:2], step.pred, step.t, clean=step.clean)
    with pytest.raises(ValueError, match="t is outside the range of VP"):
        spectral(step.process, step.noisy, step.pred, torch.tensor([1, 2, 1000]), clean=step.clean)
    with pytest.raises(TypeError, match="floating"):
        spectral(step.process, step.noisy, step.pred.long(), step.t, clean=step.clean)
    with pytest.raises(ValueError, match="needs the base loss"):
        step.mean(spectral)


def test_not_a_number_is_not_hidden():
    step = Step(VP())
    with torch.no_grad():
        step.pred[1, 0, 0, 0] = math.nan
    values = step(SpectralRegularizer(LOSS, weight="edm", gate=1.5))
    assert values.isnan().tolist() == [False, True, False]
    with torch.no_grad():
        step.pred[2, 0, 0, 0] = math.nan
    assert step(SpectralRegularizer(LOSS, gate=1.5)).isnan().tolist() == [False, True, True]  # gated away, still seen


# Precision, devices, copies and compilation.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("process", [VP(), EDM(), Flow(1, "sample")], ids=["vp", "edm", "flow"])
def test_half_precision_is_computed_in_float32(process, dtype):
    half, spectral = Step(process, dtype), SpectralRegularizer(LOSS, weight="edm", gate=NoiseRatioGate(1.0, 0.5))
    value = half.mean(spectral)
    expected = spectral(process, half.noisy.float(), half.pred.float(), half.t, clean=half.clean.float())
    assert value.dtype == torch.float32
    close(value, expected, rtol=1e-6)
    value.backward()
    assert half.pred.grad.dtype == dtype
    assert half.pred.grad.isfinite().all()


@pytest.mark.parametrize("process", [VP(), EDM(), Flow(1)], ids=["vp", "edm", "flow"])
@pytest.mark.parametrize("weight", [0.1, "edm", GradientShare(0.1)], ids=["number", "edm", "share"])
def test_autocast_changes_nothing(process, weight):
    step = Step(process, torch.float32)
    spectral = SpectralRegularizer(LOSS, weight, gate=NoiseRatioGate(1.0, 0.5))
    base = (step.pred - step.target).square().mean()
    expected = step.mean(spectral, base_loss=base)
    with torch.autocast("cpu", torch.bfloat16):
        value = step.mean(spectral, base_loss=base)
    assert value.dtype == torch.float32
    close(value, expected, rtol=1e-6)


@pytest.mark.parametrize("process", [VP(), RescaledVP(), EDM(), Flow(1)], ids=["vp", "rescaled-vp", "edm", "flow"])
@pytest.mark.parametrize("weight", [0.1, "edm", GradientShare(0.1)], ids=["number", "edm", "share"])
def test_no_value_is_looked_at(process, weight):
    clean, noisy, pred = (torch.randn(3, 2, 8, 8, device="meta") for _ in range(3))
    t = process.sample_times(3).to("meta")
    pred.requires_grad_()
    spectral = SpectralRegularizer(LOSS, weight, gate=NoiseRatioGate(1.0, 0.5))
    value = spectral(process, noisy, pred, t, clean=clean, base_loss=pred.square().mean())
    value.backward()
    assert value.shape == ()
    assert {term.device.type for term in spectral.terms.values()} == {"meta"}


@pytest.mark.parametrize("weight", [0.1, "edm", GradientShare(0.1)], ids=["number", "edm", "share"])
def test_no_state_and_copies(weight):
    step, spectral = Step(VP()), SpectralRegularizer(LOSS, weight, gate=1.5)
    base = step.pred.square().mean()
    expected = step.mean(spectral, base_loss=base)
    assert spectral.state_dict() == {}
    assert list(spectral.parameters()) == []
    for twin in (copy.deepcopy(spectral), pickle.loads(pickle.dumps(spectral))):
        assert torch.equal(step.mean(twin, base_loss=base), expected)
        assert repr(twin) == repr(spectral)
    model = torch.nn.Linear(2, 2)
    names = set(model.state_dict())
    model.spectral = spectral
    assert set(model.state_dict()) == names


def test_text_and_kinds():
    spectral = SpectralRegularizer(AmplitudeLoss(), weight=0.1, gate=2.0)
    assert isinstance(spectral.weight, ConstantWeight)
    assert isinstance(SpectralRegularizer(AmplitudeLoss(), weight="edm").weight, EDMWeight)
    assert "weight=ConstantWeight(0.1), gate=NoiseRatioGate(max_ratio=2.0, softness=0.0)" in repr(spectral)


def test_a_loss_of_ones_own():
    class Sum(SpectralLoss):
        def forward(self, estimate: Tensor, clean: Tensor) -> Tensor:
            return (estimate - clean).flatten(1).sum(1).abs()

    step = Step(VP())
    spectral = SpectralRegularizer(Sum(), weight=1)
    close(step(spectral), (step.estimate() - step.clean).flatten(1).sum(1).abs(), rtol=1e-8)
    assert set(spectral.terms) == {"sum", "total"}


COMPILED = """
import torch
from passband.process import EDM, VP, Flow
from passband.regularization import AmplitudePhaseLoss, FocalFrequencyLoss, FramedLoss, WaveletLoss
from passband.regularization import DDIMEstimate, NoiseRatioGate, SpectralRegularizer

loss = AmplitudePhaseLoss("energy") + 0.5 * WaveletLoss() + FocalFrequencyLoss()
for process, weight in ((VP(), 0.1), (EDM(), "edm"), (Flow(data_at=1), "edm")):
    torch.compiler.reset()
    spectral = SpectralRegularizer(loss, weight, gate=NoiseRatioGate(1.0, 0.5))
    compiled = torch.compile(spectral, backend="eager", fullgraph=True)
    clean, noise, pred = torch.randn(3, 3, 1, 4, 4)
    t = process.time_at(torch.tensor([0.2, 1.0, 3.0]))
    noisy = process.add_noise(clean, noise, t)
    pred.requires_grad_()
    expected = spectral(process, noisy, pred, t, clean=clean)
    logged = dict(spectral.terms)
    value = compiled(process, noisy, pred, t, clean=clean)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(spectral.terms, logged)
    torch.testing.assert_close(*(torch.autograd.grad(v, pred)[0] for v in (value, expected)))

torch.compiler.reset()
process, framed = Flow(data_at=1), FramedLoss(AmplitudePhaseLoss("energy"), (8, 16))
spectral = SpectralRegularizer(framed, 0.1, clean_estimate=DDIMEstimate(3))
terms = spectral, torch.compile(spectral, backend="eager", fullgraph=True)
clean, noise, pred = torch.randn(3, 2, 1, 32)
t = torch.tensor([0.2, 0.7])
noisy = process.add_noise(clean, noise, t)
pred.requires_grad_()
values = [term(process, noisy, pred, t, clean=clean, denoiser=lambda x, t: x.tanh()) for term in terms]
torch.testing.assert_close(*values)
torch.testing.assert_close(*(torch.autograd.grad(v, pred)[0] for v in values))
"""


def test_compiles_without_a_graph_break():
    # In a process of its own: the run-time shape checks of this one are not part of the library and break the graph.
    result = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
