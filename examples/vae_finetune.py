"""Fine-tune an AutoencoderKL with Spectrum Matching; the lines that Passband adds are marked.

python examples/vae_finetune.py [PHOTOS --autoencoder FOLDER]
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.utils.data import DataLoader, RandomSampler

import passband
from passband.data import ImageFolder, PowerLawFields
from passband.matching import DSM, anti_aliased, dsm_low_pass
from passband.reports import image_grid, psd_figure, to_png


def new_autoencoder() -> AutoencoderKL:
    """A small one, to be trained from nothing, which takes the place of a pretrained one."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 32),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", help="folder or zip of images; default: power-law fields")
    parser.add_argument("--autoencoder", help="folder of an AutoencoderKL in diffusers' format; default: a new one")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--weight", type=float, default=0.01, help="of ESM; 0: without")
    parser.add_argument("--out", type=Path, default=Path("runs/vae-finetune"))
    options = parser.parse_args()
    torch.manual_seed(0)
    data = ImageFolder(options.images, 64, crop="tile") if options.images else PowerLawFields(64, 2.7, channels=3)
    loader = DataLoader(data, 8, sampler=RandomSampler(data, replacement=True, num_samples=8 * options.steps))
    autoencoder = AutoencoderKL.from_pretrained(options.autoencoder) if options.autoencoder else new_autoencoder()
    optimizer = torch.optim.AdamW(autoencoder.parameters(), 1e-3 if options.autoencoder is None else 5e-5)
    shown = next(iter(loader))
    before = autoencoder.encode(shown).latent_dist.mean.detach()
    dsm = DSM(seed=0)  # 1

    for step, images in enumerate(loader, 1):
        posterior = autoencoder.encode(images).latent_dist
        target, latent = dsm(images, posterior.sample(), step)  # 2: of some steps, both without their high frequencies
        reconstruction = autoencoder.decode(latent).sample
        loss = (reconstruction - target).abs().mean()  # a real run adds a perceptual and an adversarial term
        spectral = passband.esm_loss(images, posterior.mean)  # 3: takes the place of the KL term
        optimizer.zero_grad()
        (loss + options.weight * spectral).backward()
        optimizer.step()
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}  loss {loss.item():.4f}  spectral {spectral.item():.4f}", flush=True)

    autoencoder.eval().save_pretrained(options.out)
    with torch.no_grad():
        after = autoencoder.encode(shown).latent_dist.mean
        rows = [shown, autoencoder.decode(after).sample]
        rows += [dsm_low_pass(shown, 10), autoencoder.decode(dsm_low_pass(after, 10)).sample]
    (options.out / "images.png").write_bytes(to_png(image_grid(torch.cat(rows))))
    fields = {"image": anti_aliased(shown, after.shape[2:]), "latent before": before, "latent after": after}
    spectra = {name: passband.radial_psd(x / x.std()).mean((0, 1)) for name, x in fields.items()}
    (options.out / "spectrum.png").write_bytes(to_png(psd_figure(spectra)))
    print(
        f"look at spectrum.png in {options.out}: is the latent's spectrum the image's, flattened? And at images.png: "
        "images, reconstructions, images without high frequencies, and what is decoded from such latents"
    )


if __name__ == "__main__":
    main()
