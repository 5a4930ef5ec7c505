"""The loops on the page of spectrum matching run as written, and do what the page says."""

import re
from pathlib import Path
from textwrap import indent

import pytest
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel

import passband.matching
from passband.data import power_law_fields
from passband.matching import DSM, AlignmentLoss, draw_corner, dsm_mask, esm_loss

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "matching.md").read_text(encoding="utf-8")
FINE_TUNING, MASKING, ALIGNING = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """A small autoencoder as diffusers saves it."""
    torch.manual_seed(0)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
        layers_per_block=1,
    )
    network.save_pretrained(tmp_path / "pretrained")
    return tmp_path / "pretrained"


def divergence(folder, images):
    network = AutoencoderKL.from_pretrained(folder).eval()
    with torch.no_grad():
        return esm_loss(images, network.encode(images).latent_dist.mode()).item()


def test_ten_lines_fine_tune_an_autoencoder(folder, tmp_path):
    loop = FINE_TUNING[FINE_TUNING.index("autoencoder =") :]
    assert len(loop.strip().splitlines()) == 10
    images = power_law_fields(8, 32, beta=2.7, channels=3)
    for out, page in (("tuned", FINE_TUNING), ("plain", FINE_TUNING.replace("0.01 *", "0.0 *"))):
        torch.manual_seed(0)
        exec(page, {"folder": folder, "loader": [images] * 20, "out": tmp_path / out})
    before, plain, tuned = (divergence(path, images) for path in (folder, tmp_path / "plain", tmp_path / "tuned"))
    assert tuned < plain - 0.005
    assert tuned < before - 0.02


def test_three_lines_make_it_dsm(folder, tmp_path):
    start = FINE_TUNING.index("    latent =")
    end = FINE_TUNING.index("    loss.backward()")
    loop = FINE_TUNING[:start] + indent(MASKING, "    ") + FINE_TUNING[end:]
    loop = loop.replace("for images in", "for step, images in enumerate(").replace("loader:", "loader):")
    seen = []

    class Watched(DSM):
        def forward(self, image, latent, step=None):
            masked = super().forward(image, latent, step)
            expected = dsm_mask(image, latent, draw_corner(0, step))
            assert all(torch.equal(*pair) for pair in zip(masked, expected, strict=True))
            seen.append(step)
            return masked

    images = power_law_fields(2, 32, beta=2.7, channels=3)
    exec(loop, {"folder": folder, "loader": [images] * 3, "out": tmp_path / "tuned", "dsm": Watched(seed=0)})
    assert seen == [0, 1, 2]
    before, after = (AutoencoderKL.from_pretrained(path).state_dict() for path in (folder, tmp_path / "tuned"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_denoiser_is_aligned():
    torch.manual_seed(0)
    denoiser = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=9, sample_size=16, patch_size=2, norm_num_groups=1
    )
    latents, labels = torch.randn(2, 4, 16, 16), torch.tensor([1, 2])
    features = torch.randn(2, 24, 12, 12)
    names = {"denoiser": denoiser, "loader": [(latents, labels, features)] * 12, "passband": passband}
    losses = []

    class Watched(AlignmentLoss):
        def compare(self, projected, features, step=None):
            assert projected["dino"].shape == (2, 24, 8, 8)
            loss = super().compare(projected, features, step)
            losses.append(self.terms["dino"].item())
            return loss

    exec(ALIGNING.replace("align = AlignmentLoss", "align = Watched"), names | {"Watched": Watched})
    assert len(losses) == 12
    assert losses[-1] < losses[0]
