"""The training loss is the textbook's, with noise that depends on (seed, global position) alone."""

import pytest
import torch
from torch import Tensor

from passband._seeds import seed_for
from passband.process import EDM, VP, Flow, Process
from passband.regularization import AmplitudeLoss, EDMWeight, SpectralRegularizer
from passband.training import denoising_loss
from passband.training.batches import Batch

SEED = 11


def network(x: Tensor, t: Tensor) -> Tensor:
    """Depends on its input and on its time, as a network does."""
    return x.roll(1, -1) * 0.5 + (t.float() / 1000).cos().reshape(-1, 1, 1, 1)


def batch(count: int = 4, start: int = 20) -> Batch:
    clean = torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(clean, torch.arange(start, start + count))


def draws(process: Process, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The times and the noise of a batch: each sample's generator gives its time first, then its noise."""
    times, noises = [], []
    for position in positions.tolist():
        generator = torch.Generator().manual_seed(seed_for(SEED, position, "noise"))
        times.append(process.sample_times(1, generator=generator))
        noises.append(torch.randn(2, 8, 8, generator=generator))
    return torch.cat(times), torch.stack(noises)


def column(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, 1, 1)


def vp_by_hand(process: Process, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    kept = column(alphas[t]).float()
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    return (network(noisy, t) - noise).square().mean()


def edm_by_hand(process: Process, clean: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    # EDM's own form: lambda * |D - x0|^2 with the preconditioned denoiser D.
    s, d = column(sigma), 0.5
    noisy = clean + s * noise
    norm = (s**2 + d**2).sqrt()
    denoised = d**2 / norm**2 * noisy + s * d / norm * network(noisy / norm, sigma.log() / 4)
    return ((s**2 + d**2) / (s * d) ** 2 * (denoised - clean).square()).mean()


def flow_by_hand(process: Process, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    u = column(t) / 1000
    return (network((1 - u) * clean + u * noise, t) - (noise - clean)).square().mean()


@pytest.mark.parametrize(
    ("process", "by_hand"),
    [(VP(), vp_by_hand), (EDM(), edm_by_hand), (Flow(data_at=0, time_scale=1000.0), flow_by_hand)],
    ids=["vp", "edm", "flow"],
)
def test_equals_a_hand_written_loss(process: Process, by_hand):
    data = batch()
    losses = denoising_loss(network, process, None, data, SEED)
    assert losses.spectral is None
    assert losses.total is losses.base
    torch.testing.assert_close(losses.base, by_hand(process, data.clean, *draws(process, data.positions)))


def test_the_regularizer_sees_the_same_noise_and_is_added():
    process, data = VP("v_prediction"), batch()
    losses = denoising_loss(network, process, SpectralRegularizer(AmplitudeLoss(), weight=0.3), data, SEED)
    t, noise = draws(process, data.positions)
    alpha, sigma = (column(level.float()) for level in process.level(t.double()))
    noisy = alpha * data.clean + sigma * noise
    estimate = alpha * noisy - sigma * network(noisy, t)
    amplitudes = [torch.fft.fft2(x, norm="ortho").abs() for x in (estimate, data.clean)]
    expected = 0.3 * (amplitudes[0] - amplitudes[1]).abs().mean()
    assert losses.spectral is not None
    torch.testing.assert_close(losses.spectral, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses.total, losses.base + expected, rtol=1e-4, atol=1e-6)


def test_a_split_batch_gives_the_mean():
    process, data = EDM(), batch()
    regularizer = SpectralRegularizer(AmplitudeLoss(), weight=EDMWeight(0.01))
    whole = denoising_loss(network, process, regularizer, data, SEED)
    parts = [
        denoising_loss(network, process, regularizer, Batch(data.clean[rows], data.positions[rows]), SEED)
        for rows in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(whole.base, (parts[0].base + parts[1].base) / 2)
    torch.testing.assert_close(whole.total, (parts[0].total + parts[1].total) / 2)


def test_noise_depends_on_seed_and_position():
    process = VP()
    losses = {
        denoising_loss(network, process, None, batch(start=start), seed).base.item()
        for seed, start in [(0, 0), (0, 4), (1, 0)]
    }
    assert len(losses) == 3


def test_a_non_finite_network_output_is_not_hidden():
    losses = denoising_loss(lambda x, t: x * float("nan"), VP(), SpectralRegularizer(AmplitudeLoss()), batch(), SEED)
    assert losses.spectral is not None
    assert losses.base.isnan()
    assert losses.total.isnan()
