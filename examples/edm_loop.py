"""A training loop in EDM's form; the lines that Passband adds are marked.

python examples/edm_loop.py [PHOTOS]
"""

import argparse
from pathlib import Path

import torch
from torch.utils.data import DataLoader, RandomSampler

import passband
from passband.data import ImageFolder, PowerLawFields
from passband.models import EDMDenoiser, EDMUNet
from passband.reports import image_grid, psd_figure, to_png

SIGMA_DATA = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", help="folder or zip of images; default: power-law fields")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--weight", type=float, default=0.02, help="of the spectral term; 0: the plain loop")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/edm-loop"))
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.images:
        data = ImageFolder(options.images, 32, crop="tile", channels=1)
    else:  # clouds, with a fine texture where they are bright or dark
        data = PowerLawFields(32, 2.7, share=0.1, kind="signal", std=SIGMA_DATA)
    loader = DataLoader(data, 16, sampler=RandomSampler(data, replacement=True, num_samples=16 * options.steps))
    network = EDMUNet(32, 1, model_channels=16, channel_mult=(1, 2, 2), num_blocks=1, attn_resolutions=())
    denoise = EDMDenoiser(network.to(options.device))  # D(x, sigma), preconditioned
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    process = passband.EDM("sample")  # 1: the output D is the clean image itself
    spectral = passband.SpectralRegularizer(passband.AmplitudePhaseLoss(), weight={"edm": options.weight})  # 2

    for step, clean in enumerate(loader, 1):
        clean = clean.to(options.device)
        sigma = (1.2 * torch.randn(len(clean), 1, 1, 1, device=clean.device) - 1.2).exp()
        noisy = clean + sigma * torch.randn_like(clean)
        denoised = denoise(noisy, sigma.flatten())
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        loss = (weight * (denoised - clean) ** 2).mean()
        loss = loss + spectral(process, noisy, denoised, sigma.flatten(), clean=clean)  # 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}  loss {loss.item():.4f}  spectral {spectral.terms['total'].item():.4f}", flush=True)

    shape, seeds = (1, 32, 32), range(64)
    samples = passband.sample(
        network.eval(), denoise.process, shape, seeds=seeds, steps=18, solver="heun", device=options.device
    ).cpu()
    real = torch.cat([batch for batch, _ in zip(loader, range(4), strict=False)])
    spectra = {name: passband.radial_psd(x).mean((0, 1)) for name, x in (("real", real), ("drawn", samples))}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "samples.png").write_bytes(to_png(image_grid(torch.cat([real[:8], samples[:16]]))))
    (options.out / "spectrum.png").write_bytes(to_png(psd_figure(spectra)))
    print(f"look at samples.png (first row: data) and spectrum.png in {options.out}: where do the curves part?")


if __name__ == "__main__":
    main()
