"""The term from a host's residual equals the one from the clean estimate."""

import math

import pytest
import torch
from torch import Tensor

from passband.process import EDM, VP, Flow, Process
from passband.regularization import (
    AmplitudeLoss,
    AmplitudePhaseLoss,
    DDIMEstimate,
    FramedLoss,
    GradientShare,
    PixelLoss,
    SpectralRegularizer,
    WaveletLoss,
    WeightedSum,
)

PROCESSES = [
    *(VP(prediction) for prediction in ("epsilon", "sample", "v_prediction")),
    *(EDM(prediction) for prediction in ("edm", "sample", "epsilon")),
    *(Flow(data_at, "velocity", time_scale=1000.0) for data_at in (0, 1)),
]


def times(process: Process) -> Tensor:
    return process.time_at(torch.tensor([0.1, 1.0, 5.0]))


def draw(process: Process, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, noise, error = (torch.randn(3, 2, 8, 8, generator=generator, dtype=dtype) for _ in range(3))
    t = times(process).to(torch.float64)
    target = process.target(clean, noise, t)
    pred = (target + 0.1 * error).requires_grad_()
    return {"clean": clean, "noisy": process.add_noise(clean, noise, t), "pred": pred, "target": target, "t": t}


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("known", ["clean", "noisy", "both"])
def test_equals_the_term_of_the_clean_estimate(process: Process, known: str) -> None:
    made = draw(process)
    spectral = SpectralRegularizer(AmplitudePhaseLoss() + 0.3 * WaveletLoss("haar", levels=2), weight=0.7, gate=6.0)
    direct = spectral.per_sample(process, made["noisy"], made["pred"], made["t"], clean=made["clean"])
    (wanted,) = torch.autograd.grad(direct.sum(), made["pred"])
    given = {name: made[name] for name in ("clean", "noisy") if known in (name, "both")}
    found = spectral.per_sample_of_residual(process, made["pred"], made["target"], made["t"], **given)
    (gradient,) = torch.autograd.grad(found.sum(), made["pred"])
    torch.testing.assert_close(found, direct, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, wanted, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("loss", [WaveletLoss(), PixelLoss(), WaveletLoss("db2", stationary=True) + 2 * PixelLoss()])
def test_a_loss_of_the_difference_needs_the_residual_alone(process: Process, loss: WeightedSum) -> None:
    made = draw(process)
    spectral = SpectralRegularizer(loss, weight=0.7)
    direct = spectral(process, made["noisy"], made["pred"], made["t"], clean=made["clean"])
    found = spectral.of_residual(process, made["pred"], made["target"], made["t"])
    torch.testing.assert_close(found, direct, rtol=1e-9, atol=0)
    assert spectral.terms["total"] == found


def test_framed_wavelets_are_of_the_difference_and_framed_amplitudes_are_not() -> None:
    assert FramedLoss(WaveletLoss(), (8,)).of_difference
    assert not FramedLoss(AmplitudeLoss(), (8,)).of_difference
    assert not (AmplitudeLoss() + WaveletLoss()).of_difference


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_hosts_rounding_only(dtype: torch.dtype) -> None:
    process = Flow(0)
    made = draw(process, torch.float32)
    pred, target = made["pred"].detach().to(dtype), made["target"].to(dtype)
    spectral = SpectralRegularizer(AmplitudeLoss())
    found = spectral.of_residual(process, pred, target, made["t"].to(dtype), clean=made["clean"].to(dtype))
    exact = spectral.of_residual(
        process, pred.float(), target.float(), made["t"].to(dtype).float(), clean=made["clean"].to(dtype).float()
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)


def test_autocast_changes_nothing() -> None:
    process, spectral = VP(), SpectralRegularizer(AmplitudeLoss())
    made = draw(process, torch.float32)
    plain = spectral.of_residual(process, made["pred"], made["target"], made["t"], clean=made["clean"])
    with torch.autocast("cpu", torch.bfloat16):
        inside = spectral.of_residual(process, made["pred"], made["target"], made["t"], clean=made["clean"])
    assert inside == plain


def test_sample_weights_multiply_each_sample() -> None:
    process, spectral = VP(), SpectralRegularizer(WaveletLoss(), weight=0.5)
    made, weights = draw(process), torch.tensor([0.0, 1.0, 3.0])
    arguments = (process, made["pred"], made["target"], made["t"])
    plain = spectral.per_sample_of_residual(*arguments)
    torch.testing.assert_close(spectral.per_sample_of_residual(*arguments, sample_weight=weights), plain * weights)
    direct = spectral.per_sample(
        process, made["noisy"], made["pred"], made["t"], clean=made["clean"], sample_weight=weights.reshape(3, 1, 1, 1)
    )
    torch.testing.assert_close(direct, plain * weights)
    with pytest.raises(ValueError, match=r"sample_weight must hold one value, or one per sample: got shape \(2,\)"):
        spectral.of_residual(*arguments, sample_weight=weights[:2])


def test_a_weight_by_gradient_share_sees_the_sample_weights() -> None:
    process, spectral = VP(), SpectralRegularizer(WaveletLoss(), weight=GradientShare(0.1))
    made = draw(process)
    base = (made["pred"] - made["target"]).square().mean()
    term = spectral.of_residual(
        process, made["pred"], made["target"], made["t"], base_loss=base, sample_weight=torch.tensor([1.0, 2.0, 0.0])
    )
    (wanted,) = torch.autograd.grad(base, made["pred"])
    (found,) = torch.autograd.grad(term, made["pred"])
    assert (found.norm() / wanted.norm()).item() == pytest.approx(0.1, rel=1e-5)


def test_logged_terms_are_numbers_under_one_prefix() -> None:
    process, spectral = VP(), SpectralRegularizer(WaveletLoss() + PixelLoss(), weight=2.0)
    assert spectral.logged() == {}
    made = draw(process)
    total = spectral.of_residual(process, made["pred"], made["target"], made["t"])
    logged = spectral.logged("train")
    assert set(logged) == {"train/wavelet", "train/pixel", "train/total"}
    assert logged["train/total"] == pytest.approx(total.item())
    assert logged["train/total"] == pytest.approx(2 * (logged["train/wavelet"] + logged["train/pixel"]))
    assert set(spectral.logged("")) == {"wavelet", "pixel", "total"}


def test_not_a_number_stays_one() -> None:
    process, spectral = VP(), SpectralRegularizer(WaveletLoss())
    made = draw(process)
    pred = made["pred"].detach().clone()
    pred[0, 0, 0, 0] = math.nan
    values = spectral.per_sample_of_residual(process, pred, made["target"], made["t"])
    assert values.isnan().tolist() == [True, False, False]


def test_what_a_residual_cannot_do_is_said() -> None:
    process, made = VP(), draw(VP())
    arguments = (process, made["pred"], made["target"], made["t"])
    with pytest.raises(ValueError, match=r"not enough for the loss amplitude, .* pass clean= \(x0\) or noisy="):
        SpectralRegularizer(AmplitudeLoss() + WaveletLoss()).of_residual(*arguments)
    with pytest.raises(ValueError, match=r"DDIMEstimate\(steps=2\) calls the network again"):
        SpectralRegularizer(WaveletLoss(), clean_estimate=DDIMEstimate(2)).of_residual(*arguments)
    with pytest.raises(ValueError, match="pred and target must have the same shape"):
        SpectralRegularizer(WaveletLoss()).of_residual(process, made["pred"], made["target"][:2], made["t"])
    with pytest.raises(ValueError, match="t must hold one value, or one per sample"):
        SpectralRegularizer(WaveletLoss()).of_residual(process, made["pred"], made["target"], made["t"][:2])
    with pytest.raises(TypeError, match="process must be a Process"):
        SpectralRegularizer(WaveletLoss()).of_residual("vp", made["pred"], made["target"], made["t"])
    with pytest.raises(TypeError, match="target must be a real floating-point tensor"):
        SpectralRegularizer(WaveletLoss()).of_residual(process, made["pred"], made["target"].long(), made["t"])
