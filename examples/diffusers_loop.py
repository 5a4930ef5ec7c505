"""An unconditional diffusers training loop with a spectral term; the three lines that Passband adds are marked.

python examples/diffusers_loop.py IMAGES --steps 1000
"""

import argparse

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader

import passband
from passband.data import ImageFolder


def train(images: str, steps: int, resolution: int, batch_size: int) -> UNet2DModel:
    dataset = ImageFolder(images, resolution, crop="tile")
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
    model = UNet2DModel(
        sample_size=resolution,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
    )
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4)
    noise_scheduler = DDPMScheduler(prediction_type="v_prediction")
    process = passband.process_from_scheduler(noise_scheduler)  # 1
    spectral = passband.SpectralRegularizer(passband.AmplitudePhaseLoss(), weight=0.01)  # 2
    step = 0
    while step < steps:
        for clean in loader:
            noise = torch.randn_like(clean)
            timesteps = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(clean),))
            noisy = noise_scheduler.add_noise(clean, noise, timesteps)
            model_pred = model(noisy, timesteps).sample
            loss = mse_loss(model_pred, noise_scheduler.get_velocity(clean, noise, timesteps))
            loss = loss + spectral(process, noisy, model_pred, timesteps, clean=clean)  # 3
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % 10 == 0 or step == steps:
                print(f"step {step}  loss {loss.item():.4f}  spectral {spectral.terms['total'].item():.4f}")
            if step == steps:
                break
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="folder or zip of images")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--save", default="runs/diffusers-loop")
    options = parser.parse_args()
    train(options.images, options.steps, options.resolution, options.batch_size).save_pretrained(options.save)


if __name__ == "__main__":
    main()
