"""Losses of what latents decode to."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from passband.process import Flow
from passband.regularization import AmplitudeLoss, DecodedLoss, PixelLoss, SpectralRegularizer


class Decoder(nn.Module):
    """Twice the side, three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(4, 3, 2, stride=2)

    def forward(self, latents: Tensor) -> Tensor:
        return self.layer(latents)


def test_compares_what_the_latents_decode_to() -> None:
    decoder, loss = Decoder(), AmplitudeLoss()
    estimate, clean = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(2, 4, 8, 8)
    found = DecodedLoss(loss, decoder)(estimate, clean)
    torch.testing.assert_close(found, loss(decoder(estimate), decoder(clean)))
    found.sum().backward()
    assert bool((estimate.grad != 0).any())


def test_the_clean_side_has_no_gradient() -> None:
    clean = torch.randn(1, 4, 8, 8, requires_grad=True)
    DecodedLoss(PixelLoss(), Decoder())(torch.randn(1, 4, 8, 8, requires_grad=True), clean).sum().backward()
    assert clean.grad is None


def test_the_decoder_is_no_part_of_the_module() -> None:
    spectral = SpectralRegularizer(DecodedLoss(AmplitudeLoss(), Decoder()) + AmplitudeLoss())
    assert list(spectral.parameters()) == []
    assert spectral.state_dict() == {}
    assert [name for name, _, _ in spectral.loss.terms()] == ["decoded_amplitude", "amplitude"]


def test_crops_are_the_same_on_both_sides_and_leave_the_generators_alone() -> None:
    seen = []

    def decode(latents: Tensor) -> Tensor:
        seen.append(latents.detach())
        return latents

    grid = torch.arange(64.0).reshape(1, 1, 8, 8).expand(2, 1, 8, 8)
    loss, state = DecodedLoss(PixelLoss(), decode, crop=3), torch.get_rng_state()
    for _ in range(40):
        assert loss(grid + 1, grid).tolist() == [1.0, 1.0]
    assert torch.equal(torch.get_rng_state(), state)
    assert {tuple(x.shape) for x in seen} == {(2, 1, 3, 3)}
    corners = {int(x[0, 0, 0, 0]) for x in seen[::2]}
    assert {corner % 8 for corner in corners} == set(range(6))
    assert all(torch.equal(a[..., 0, 0] + 1, b[..., 0, 0]) for a, b in zip(seen[::2], seen[1::2], strict=True))
    again = DecodedLoss(PixelLoss(), decode, crop=3)
    seen_before = seen[::2]
    seen.clear()
    for _ in range(40):
        again(grid + 1, grid)
    assert all(torch.equal(a, b) for a, b in zip(seen[::2], seen_before, strict=True))


def test_a_crop_larger_than_the_latent_is_the_latent() -> None:
    x, y = torch.randn(1, 4, 4, 6), torch.randn(1, 4, 4, 6)
    assert DecodedLoss(PixelLoss(), lambda z: z, crop=9)(x, y) == PixelLoss()(x, y)


def test_serves_a_flow_on_latents() -> None:
    process, decoder = Flow(0), Decoder()
    spectral = SpectralRegularizer(DecodedLoss(AmplitudeLoss(), decoder), weight=1.0)
    clean, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([0.2, 0.8])
    pred = noise - clean + 0.1 * torch.randn_like(clean)
    noisy = process.add_noise(clean, noise, t)
    estimate = noisy - t.reshape(-1, 1, 1, 1) * pred
    wanted = AmplitudeLoss()(decoder(estimate), decoder(clean)).mean()
    torch.testing.assert_close(spectral(process, noisy, pred, t, clean=clean), wanted)


def test_copies_share_the_decoder() -> None:
    decoder = Decoder()
    loss = copy.deepcopy(SpectralRegularizer(DecodedLoss(PixelLoss(), decoder), weight=1.0)).loss
    x, y = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    before = loss(x, y)
    decoder.to(torch.float64)
    with torch.no_grad():
        decoder.layer.weight.mul_(2)
    torch.testing.assert_close(loss(x.double(), y.double()), 2 * before.double())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_clean_latents_of_half_precision_are_decoded_in_float32(dtype: torch.dtype) -> None:
    decoder, clean = Decoder(), torch.randn(2, 4, 8, 8).to(dtype)
    pred, target, t = torch.randn(2, 4, 8, 8).to(dtype), torch.randn(2, 4, 8, 8).to(dtype), torch.tensor([0.2, 0.8])
    spectral = SpectralRegularizer(DecodedLoss(AmplitudeLoss(), decoder), weight=1.0)
    found = spectral.of_residual(Flow(0), pred, target, t, clean=clean)
    wanted = spectral.of_residual(Flow(0), pred.float(), target.float(), t, clean=clean.float())
    assert torch.equal(found, wanted)


def test_pickles_with_its_decoder() -> None:
    loss = DecodedLoss(PixelLoss(), Decoder(), crop=2)
    again = pickle.loads(pickle.dumps(loss))
    x, y = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    assert torch.equal(again(x, y), loss(x, y))


def test_wrong_parts_are_errors() -> None:
    with pytest.raises(TypeError, match="loss must be a SpectralLoss"):
        DecodedLoss(nn.L1Loss(), Decoder())
    with pytest.raises(TypeError, match="decode must be a function latents -> samples"):
        DecodedLoss(PixelLoss(), "vae")
    autoencoder = Decoder()
    autoencoder.encode = autoencoder.decode = autoencoder.forward
    with pytest.raises(TypeError, match=r"of a Decoder, latent_decoder\(vae\)"):
        DecodedLoss(PixelLoss(), autoencoder)
    with pytest.raises(ValueError, match="crop is a side in latent positions"):
        DecodedLoss(PixelLoss(), Decoder(), crop=0)
    with pytest.raises(TypeError, match="crop must be an int"):
        DecodedLoss(PixelLoss(), Decoder(), crop=1.5)
