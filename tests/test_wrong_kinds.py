"""Arguments of the wrong kind: one error that names the argument, none from inside torch."""

import pytest
import torch

from passband import EDM, VP, AmplitudeLoss, SpectralRegularizer, sample
from passband.data.images import ImageFolder
from passband.regularization import EDMWeight, GradientShare, NoiseRatioGate
from passband.sampling import Heun, SampleNoise, time_grid
from passband.training.demo import Experiment
from passband.transforms import dct, gaussian_blur, idwt, iswt, radial_grid

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
        (lambda: ImageFolder(".", (16, 16)), "resolution must be an int"),
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
    ],
)
def test_impossible_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()
