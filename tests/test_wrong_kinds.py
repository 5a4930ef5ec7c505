"""Arguments of the wrong kind: one error that names the argument, none from inside torch."""

import pytest
import torch

from passband import EDM, VP, AmplitudeLoss, Flow, SpectralRegularizer, sample
from passband.data import Checkerboard, from_uint8
from passband.data.images import ImageFolder
from passband.metrics import SpectrumDistance, log_spectral_ratio
from passband.process import RescaledVP
from passband.regularization import EDMWeight, GradientShare, NoiseRatioGate
from passband.sampling import Ancestral, Guidance, Heun, SampleNoise, time_grid
from passband.training.demo import Experiment
from passband.transforms import block_dct, dct, dct_matrix, dwt_max_levels, gaussian_blur, idwt, iswt, radial_grid

X = torch.randn(2, 1, 8, 8)


def regularize(process: object = None, t: object = 5, clean: object = X, base_loss: object = None, **options: object):
    spectral = SpectralRegularizer(AmplitudeLoss(), **options)
    pred = X.clone().requires_grad_()
    return spectral(VP() if process is None else process, X, pred, t, clean=clean, base_loss=base_loss)


def draw(**options: object):
    settings = {"process": VP(), "shape": (1, 8, 8), "seeds": [0], "steps": 2} | options
    return sample(lambda x, t: x, settings.pop("process"), settings.pop("shape"), **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP(alphas_cumprod=[0.9, 0.5]), "alphas_cumprod must be a torch.Tensor, got list"),
        (lambda: EDM(sigma_data="a"), "sigma_data must be a number, got 'a'"),
        (lambda: VP().noise_ratio(None), "t must be a time"),
        (lambda: VP().noise_ratio("a"), "t must be a time"),
        (lambda: GradientShare("a"), "share must be a number"),
        (lambda: EDMWeight(None), "weight must be a number, got None"),
        (lambda: NoiseRatioGate(1, softness="a"), "softness must be a number"),
        (lambda: regularize(process="vp"), "process must be a Process .* got str"),
        (lambda: regularize(clean=None), "clean must be a torch.Tensor"),
        (lambda: regularize(weight=EDMWeight), "got the class EDMWeight"),
        (lambda: regularize(clean_estimate=None), "clean_estimate must be a function"),
        (lambda: regularize(weight=GradientShare(0.1), base_loss=0.5), "base_loss must be a scalar tensor, got float"),
        (lambda: draw(process="vp"), "process must be a Process"),
        (lambda: draw(seeds=4), "seeds must hold one integer per sample"),
        (lambda: draw(seeds=[1.5]), "seeds must hold one integer per sample"),
        (lambda: draw(solver=Heun), "solver must be a name or an object"),
        (lambda: draw(solver=None), "solver must be a name or an object"),
        (lambda: draw(guidance=3.0), "guidance must be Guidance"),
        (lambda: draw(conditioning=torch.ones(1)), "conditioning must map"),
        (lambda: draw(steps=2.5), "steps must be an int, got 2.5"),
        (lambda: time_grid(None, 2), "process must be a Process"),
        (lambda: dct(X, dims=2), r"pass \(2,\)"),
        (lambda: idwt(X), "coefficients must be what dwt returns, got Tensor"),
        (lambda: iswt(X), "coefficients must be what swt returns, got Tensor"),
        (lambda: ImageFolder(".", (16.0, 16)), "resolution must be an int"),
        (lambda: EDM(p_mean="x"), "p_mean must be a number, got 'x'"),
        (lambda: EDM(p_std=None), "p_std must be a number"),
        (lambda: EDM(sigma_min="0.1"), "sigma_min must be a number, got '0.1'"),
        (lambda: EDM(sigma_max="80"), "sigma_max must be a number"),
        (lambda: Flow(1, time_scale="1000"), "time_scale must be a number, got '1000'"),
        (lambda: Flow(1, logit_normal=1.0), "logit_normal must be a pair of numbers, got 1.0"),
        (lambda: Flow(1, logit_normal=(0.0, 1.0, 2.0)), "logit_normal must be a pair of numbers"),
        (lambda: Flow(1, logit_normal="01"), "logit_normal must be a pair of numbers, got '01'"),
        (lambda: Flow(1, logit_normal=("a", 1)), "each value of logit_normal must be a number, got 'a'"),
        (lambda: Guidance(2, None), "unconditional must map .* got None"),
        (lambda: Guidance("2", {}), "scale must be a number, got '2'"),
        (lambda: Guidance(2, {}, interval=0.5), "interval must be a pair of numbers, got 0.5"),
        (lambda: Heun(churn="a"), "churn must be a number, got 'a'"),
        (lambda: Heun(churn_noise=None), "churn_noise must be a number"),
        (lambda: Heun(churn_range=1.0), "churn_range must be a pair of numbers"),
        (lambda: Ancestral("a"), "eta must be a number, got 'a'"),
        (lambda: draw(device=None), "device must be a torch.device or its name"),
        (lambda: draw(batch_size="a"), "batch_size must be an int, got 'a'"),
        (lambda: draw(times="abc"), "times must hold numbers, from noise to clean, got 'abc'"),
        (lambda: draw(times=["a", "b"]), "times must hold numbers"),
        (lambda: time_grid(EDM(), 2, rho="7"), "rho must be a number, got '7'"),
        (lambda: SpectrumDistance(floor="x"), "floor must be a number, got 'x'"),
        (lambda: log_spectral_ratio(torch.ones(4), torch.ones(4), floor=None), "floor must be a number"),
        (lambda: dct_matrix(2.5), "n must be an int, got 2.5"),
        (lambda: dwt_max_levels(4), r"size must be the field's spatial shape, such as \(64, 64\), got 4"),
        (lambda: dwt_max_levels((8, 2.5)), "size must be the field's spatial shape"),
        (lambda: block_dct(X, 2.5), "block must be an int, or one int per axis, got 2.5"),
        (lambda: block_dct(X, (4, 2.5)), "block must be an int, or one int per axis"),
        (lambda: Checkerboard(cells=4), "cells must be a sequence of cell sizes in whole pixels, got 4"),
        (lambda: Checkerboard(size=16.0, cells=(4,)), "size must be an int, got 16.0"),
        (lambda: from_uint8(torch.zeros(2)), "pixels must be a uint8 tensor, got torch.float32; .* to_uint8"),
        (lambda: from_uint8([0, 255]), "pixels must be a uint8 tensor, got list"),
    ],
)
def test_wrong_kind(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP(alphas_cumprod=torch.tensor([])), "at least one value"),
        (lambda: EDM(sigma_data=float("inf")), "sigma_data must be positive, got inf"),
        (lambda: regularize(gate=lambda r: 1.0), "a gate must return a tensor .* got float"),
        (lambda: regularize(gate=lambda r: torch.ones(7)), r"a gate must return .* got shape \(7,\)"),
        (lambda: draw(shape=8), "shape is that of one sample"),
        (lambda: draw(shape=(1, -8, 8)), "shape is that of one sample"),
        (lambda: draw(dtype=torch.int64), "unknown dtype"),
        (lambda: draw(clip=-1), "clip must be positive"),
        (lambda: SampleNoise([2**70]), "64 bits"),
        (lambda: radial_grid(8), "size must be 1 to 3"),
        (lambda: gaussian_blur(X, 1e9), "kernel of more than"),
        (lambda: Experiment(solver="eular"), "unknown solver"),
        (lambda: EDM(p_mean=float("nan")), "p_mean must be finite, got nan"),
        (lambda: EDM(p_std=float("inf")), "p_std must be positive, got inf"),
        (
            lambda: Flow(1, logit_normal=(float("nan"), 1.0)),
            r"logit_normal is \(mean, std\), both finite, .* got \(nan, 1.0\)",
        ),
        (lambda: Guidance(float("nan"), {}), "scale must be finite, got nan"),
        (lambda: draw(device="gpu"), "unknown device: got 'gpu'; expected .* 'cuda'"),
        (lambda: SampleNoise([0], device="gpu"), "unknown device: got 'gpu'"),
        (lambda: draw(times=5.0), r"times must be one row of numbers, .* got shape \(\)"),
        (lambda: dwt_max_levels(()), "size must hold at least one side"),
    ],
)
def test_impossible_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("process", [VP(), RescaledVP(), EDM(), Flow(1), Flow(0, logit_normal=(0.0, 1.0))], ids=repr)
def test_a_number_of_times_that_cannot_be_drawn(process):
    with pytest.raises(ValueError, match="count is the number of times to draw, at least 0; got -1"):
        process.sample_times(-1)
    with pytest.raises(TypeError, match=r"count must be an int, got 2\.5"):
        process.sample_times(2.5)
    assert process.sample_times(0).shape == (0,)
