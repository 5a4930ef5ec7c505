"""Latents, as the network sees them, decode as in diffusers' pipelines, with gradients to the latents alone."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler

from passband import AmplitudeLoss
from passband.integrations import DiffusersTerm, latent_decoder
from passband.regularization import DecodedLoss

SMALL = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 2,
}


def make_vae(**options):
    torch.manual_seed(0)
    return AutoencoderKL(**SMALL, **options)


def latents(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 2, 4, 4, generator=generator).to(dtype).requires_grad_()


def test_scaling_of_the_encoder_is_undone():
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(2, 2, 4, 4, generator=generator)
    vae = make_vae(scaling_factor=0.3, shift_factor=0.1)
    expected = copy.deepcopy(vae).decode(z).sample
    torch.testing.assert_close(latent_decoder(vae)((z - 0.1) * 0.3), expected, rtol=1e-4, atol=1e-5)
    vae = make_vae(scaling_factor=0.5)
    torch.testing.assert_close(latent_decoder(vae)(z * 0.5), expected, rtol=1e-4, atol=1e-5)
    vae = make_vae(scaling_factor=0.5, latents_mean=(1.0, -2.0), latents_std=(3.0, 4.0))
    mean, std = torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1), torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(latent_decoder(vae)((z - mean) * 0.5 / std), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_the_gradient_reaches_the_latents_and_not_the_vae(checkpointing):
    plain, vae = make_vae(), make_vae()
    before = copy.deepcopy(vae.state_dict())
    z, same = latents(), latents()
    found = latent_decoder(vae, checkpointing)(z)
    found.square().sum().backward()
    plain.decode(same / 0.18215).sample.square().sum().backward()
    torch.testing.assert_close(z.grad, same.grad, rtol=1e-4, atol=1e-5)
    assert vae.is_gradient_checkpointing == checkpointing
    assert not vae.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in vae.parameters())
    for name, value in vae.state_dict().items():
        assert value.equal(before[name])


def test_checkpointing_keeps_no_activations_of_the_blocks():
    def kept(checkpointing):
        count, decode, z = [], latent_decoder(make_vae(), checkpointing), latents()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: count.append(x.numel()) or x, lambda x: x):
            decode(z)
        return sum(count)

    assert kept(True) < kept(False) / 2


@pytest.mark.parametrize("own", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_precision_is_the_vaes_or_the_one_asked_for_and_never_autocasts(own, dtype):
    vae = make_vae().to(own)
    expected_dtype = torch.float32 if dtype is not None or own == torch.float16 else own
    decode = latent_decoder(vae, dtype=dtype)
    assert next(vae.parameters()).dtype == own
    z = latents(torch.bfloat16 if own == torch.float32 else own)
    with torch.autocast("cpu", torch.bfloat16):
        found = decode(z)
    assert found.dtype == expected_dtype
    exact = make_vae().to(own).float().decode(z.float() / 0.18215).sample
    tolerance = 1e-5 if expected_dtype == torch.float32 else 0.05
    assert (found.float() - exact).norm() <= tolerance * exact.norm()
    found.float().sum().backward()
    assert z.grad.dtype == z.dtype
    assert z.grad.isfinite().all()


def test_an_autoencoder_that_cannot_checkpoint():
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=2,
    )
    vae._supports_gradient_checkpointing = False
    z = latents()
    torch.testing.assert_close(latent_decoder(vae)(z), vae.decode(z / vae.config.scaling_factor).sample)


def test_any_vae_with_decode_and_config():
    class Twice(torch.nn.Module):
        config = SimpleNamespace(scaling_factor=0.5, shift_factor=None)

        def decode(self, z):
            return z * 2

    z = latents()
    torch.testing.assert_close(latent_decoder(Twice())(z), 4 * z)


def test_as_the_decode_of_a_loss_in_pixel_space():
    scheduler, vae, clean = DDPMScheduler(clip_sample=False), make_vae(), latents().detach()
    noise, t = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(3)), torch.tensor([100, 400])
    pred = (noise + 0.3 * clean).requires_grad_()
    noisy = scheduler.add_noise(clean, noise, t)
    rows = zip(pred, t, noisy, strict=True)
    estimate = torch.stack([scheduler.step(p, int(i), x).pred_original_sample for p, i, x in rows])
    plain = copy.deepcopy(vae)
    expected = AmplitudeLoss()(plain.decode(estimate / 0.18215).sample, plain.decode(clean / 0.18215).sample)
    spectral = DiffusersTerm(DecodedLoss(AmplitudeLoss(), latent_decoder(vae)), weight=1.0)
    found = spectral.per_sample(scheduler, pred, noise, t, clean=clean)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
    gradients = [torch.autograd.grad(x.sum(), pred, retain_graph=True)[0] for x in (found, expected)]
    assert (gradients[0] - gradients[1]).norm() <= 1e-3 * gradients[1].norm()
    assert not spectral.state_dict()


def test_a_vae_that_is_cast_afterwards_is_an_error_that_says_so():
    vae = make_vae()
    decode = latent_decoder(vae)
    vae.to(torch.float64)
    with pytest.raises(ValueError, match=r"turned to torch\.float64 after latent_decoder\(vae\), which decodes in"):
        decode(latents())


def test_it_pickles_with_its_vae():
    decode = latent_decoder(make_vae(), checkpointing=False)
    z = latents()
    torch.testing.assert_close(pickle.loads(pickle.dumps(decode))(z), decode(z))


def test_what_is_no_autoencoder():
    with pytest.raises(TypeError, match=r"got SimpleNamespace; of a pipeline, pass pipeline\.vae"):
        latent_decoder(SimpleNamespace(vae=make_vae()))
    with pytest.raises(TypeError, match="dtype must be floating"):
        latent_decoder(make_vae(), dtype=torch.int8)
