"""An unconditional DDPM with diffusers; the lines that Passband adds are marked.

python examples/diffusers_ddpm.py [PHOTOS --resolution 64 --steps 20000 --device cuda]
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, RandomSampler

import passband
from passband.data import Checkerboard, ImageFolder
from passband.reports import image_grid, psd_figure, to_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", help="folder or zip of images; default: checkerboards")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--weight", type=float, default=0.03, help="of the spectral term; 0: the plain loop")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/diffusers-ddpm"))
    options = parser.parse_args()
    torch.manual_seed(0)
    size, device = options.resolution, options.device
    dataset = (
        ImageFolder(options.images, size, crop="tile") if options.images else Checkerboard(size, (2, 4, 8), channels=3)
    )
    loader = DataLoader(dataset, 16, sampler=RandomSampler(dataset, replacement=True, num_samples=16 * options.steps))
    model = UNet2DModel(
        sample_size=size,
        block_out_channels=(16, 32, 32),
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
    ).to(device)
    noise_scheduler = DDPMScheduler(prediction_type="v_prediction")
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    rate = get_cosine_schedule_with_warmup(optimizer, 20, options.steps)
    spectral = passband.DiffusersTerm(passband.AmplitudePhaseLoss(), weight=options.weight)  # 1

    for step, clean in enumerate(loader, 1):
        clean = clean.to(device)
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(clean),), device=device)
        noisy = noise_scheduler.add_noise(clean, noise, timesteps)
        model_pred = model(noisy, timesteps).sample
        target = noise_scheduler.get_velocity(clean, noise, timesteps)
        loss = mse_loss(model_pred, target)
        loss = loss + spectral(noise_scheduler, model_pred, target, timesteps, clean=clean)  # 2
        loss.backward()
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}  loss {loss.item():.4f}  spectral {spectral.terms['total'].item():.4f}", flush=True)

    DDPMPipeline(model.eval(), noise_scheduler).save_pretrained(options.out)
    shape, process = (3, size, size), passband.process_from_scheduler(noise_scheduler)
    samples = passband.sample(model, process, shape, seeds=range(32), steps=50, clip=1.0, device=device).cpu()
    real = torch.cat([batch for batch, _ in zip(loader, range(4), strict=False)])
    spectra = {name: passband.radial_psd(x).mean((0, 1)) for name, x in (("real", real), ("drawn", samples))}
    (options.out / "samples.png").write_bytes(to_png(image_grid(torch.cat([real[:8], samples[:16]]))))
    (options.out / "spectrum.png").write_bytes(to_png(psd_figure(spectra)))
    print(f"look at samples.png (first row: data) and spectrum.png in {options.out}: where do the curves part?")


if __name__ == "__main__":
    main()
