"""The README's lines, run as written, give the numbers that they should. (That all blocks run: tests/docs.)"""

import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, FlowMatchEulerDiscreteScheduler

import passband
from passband.forcing import attached
from passband.matching import esm_loss
from passband.models import EDMUNet
from passband.regularization import amplitude_phase_loss

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SPECTRAL, FORCING, MATCHING = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_three_lines_run_as_written_in_a_diffusers_loop(prediction: str) -> None:
    noise_scheduler = DDPMScheduler(prediction_type=prediction)
    images, noise = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    timesteps = torch.tensor([100, 500])
    noisy = noise_scheduler.add_noise(images, noise, timesteps)
    model_pred = torch.randn(2, 3, 16, 16, requires_grad=True)
    loss = torch.zeros(())
    names = {"noise_scheduler": noise_scheduler, "noisy": noisy, "model_pred": model_pred, "timesteps": timesteps}
    names |= {"images": images, "loss": loss}
    exec(SPECTRAL, names)
    # The scheduler's own clean estimate, one sample at a time.
    scheduler = DDPMScheduler(prediction_type=prediction, clip_sample=False)
    estimates = [
        scheduler.step(model_pred[i : i + 1], int(timesteps[i]), noisy[i : i + 1]).pred_original_sample
        for i in range(2)
    ]
    expected = 0.01 * amplitude_phase_loss(torch.cat(estimates), images).mean()
    torch.testing.assert_close(names["loss"], expected, rtol=1e-4, atol=1e-6)
    names["loss"].backward()
    assert model_pred.grad is not None
    assert bool(torch.isfinite(model_pred.grad).all())
    assert bool((model_pred.grad != 0).any())


def test_the_three_lines_also_serve_a_flow() -> None:
    noise_scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    images, noise = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)
    timesteps = noise_scheduler.timesteps[torch.tensor([10, 900])]
    noisy = noise_scheduler.scale_noise(images, timesteps, noise)
    names = {"noise_scheduler": noise_scheduler, "noisy": noisy, "model_pred": noise - images, "timesteps": timesteps}
    names |= {"images": images, "loss": torch.zeros(())}
    exec(SPECTRAL, names)
    assert names["loss"].item() == pytest.approx(0, abs=1e-6)  # a perfect velocity gives the clean sample


def test_the_latent_term_serves_an_autoencoders_loop() -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    autoencoder = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, **blocks)
    names = {"passband": passband, "autoencoder": autoencoder, "images": torch.randn(2, 3, 16, 16), "loss": 0.0}
    exec(MATCHING, names)
    names["loss"].backward()
    assert names["loss"].item() == pytest.approx(0.01 * esm_loss(names["images"], names["latent"]).item())
    assert any(bool((p.grad != 0).any()) for p in autoencoder.encoder.parameters() if p.grad is not None)


def test_the_one_line_forces_a_denoiser() -> None:
    names = {"passband": passband, "process": passband.Flow(data_at=1), "model": EDMUNet(16, 1, model_channels=8)}
    exec(FORCING, names)
    assert attached(names["model"]) is not None
