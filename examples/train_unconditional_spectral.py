"""Train an unconditional diffusion model on a folder of images, in the shape of diffusers' own example script.

accelerate launch examples/train_unconditional.py --train_data_dir IMAGES --output_dir OUT
"""

# isort: skip_file
import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel, compute_snr
from PIL import Image, ImageOps
from passband.integrations import DiffusersTerm
from torch.utils.data import DataLoader, Dataset

OPTIONS = {
    "output_dir": "ddpm-model", "resolution": 64, "layers_per_block": 2, "train_batch_size": 16, "num_epochs": 100,
    "gradient_accumulation_steps": 1, "learning_rate": 1e-4, "lr_warmup_steps": 50, "log_epochs": 10,
    "eval_batch_size": 4, "ddpm_num_inference_steps": 100, "seed": 0,
}  # fmt: skip


class Images(Dataset):
    """The central squares of a folder's images, read once; mirrored by chance, in [-1, 1]."""

    def __init__(self, folder: str, resolution: int) -> None:
        kinds, size = (".jpg", ".jpeg", ".png", ".webp"), (resolution, resolution)
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in kinds)
        images = [np.array(ImageOps.fit(Image.open(path).convert("RGB"), size)) for path in paths]
        self.images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels = self.images[index] / 127.5 - 1
        return pixels.flip(-1) if torch.rand(()) < 0.5 else pixels


def main(args: argparse.Namespace) -> None:
    accumulation = args.gradient_accumulation_steps
    accelerator = Accelerator(mixed_precision=args.mixed_precision, gradient_accumulation_steps=accumulation)
    set_seed(args.seed)
    blocks = len(args.block_out_channels) - 1
    model = UNet2DModel(
        sample_size=args.resolution,
        layers_per_block=args.layers_per_block,
        block_out_channels=tuple(args.block_out_channels),
        norm_num_groups=8,
        down_block_types=(*("DownBlock2D",) * blocks, "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", *("UpBlock2D",) * blocks),
    )
    ema_model = EMAModel(model.parameters(), use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)
    noise_scheduler = DDPMScheduler(prediction_type=args.prediction_type)
    optimizer = torch.optim.AdamW(model.parameters(), args.learning_rate, betas=(0.95, 0.999), weight_decay=1e-6)
    train_dataloader = DataLoader(Images(args.train_data_dir, args.resolution), args.train_batch_size, shuffle=True)
    steps = args.num_epochs * -(-len(train_dataloader) // accumulation)
    rates = {"num_warmup_steps": args.lr_warmup_steps, "num_training_steps": steps}
    lr_scheduler = get_scheduler("cosine", optimizer, **rates)
    parts = accelerator.prepare(model, optimizer, train_dataloader, lr_scheduler)
    model, optimizer, train_dataloader, lr_scheduler = parts
    ema_model.to(accelerator.device)
    spectral = DiffusersTerm("amplitude", weight=0.05, gate=10.0)
    for epoch in range(1, args.num_epochs + 1):
        for clean_images in train_dataloader:
            noise = torch.randn_like(clean_images)
            timesteps = torch.randint(len(noise_scheduler), (len(clean_images),), device=clean_images.device)
            noisy_images = noise_scheduler.add_noise(clean_images, noise, timesteps)
            with accelerator.accumulate(model):
                model_output = model(noisy_images, timesteps).sample
                target = noise if args.prediction_type == "epsilon" else clean_images
                loss = F.mse_loss(model_output.float(), target.float(), reduction="none").mean((1, 2, 3))
                if args.prediction_type == "sample":
                    loss = loss * compute_snr(noise_scheduler, timesteps)  # the error of the noise, again
                loss = loss.mean()
                loss = loss + spectral(noise_scheduler, model_output, target, timesteps, clean=clean_images)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                ema_model.step(model.parameters())
        if epoch % args.log_epochs == 0 or epoch == args.num_epochs:
            accelerator.print(f"epoch {epoch}  loss {loss.item():.4f}  lr {lr_scheduler.get_last_lr()[0]:.2e}")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        unet = accelerator.unwrap_model(model)
        ema_model.copy_to(unet.parameters())
        pipeline = DDPMPipeline(unet, noise_scheduler)
        pipeline.save_pretrained(args.output_dir)
        generator = torch.Generator().manual_seed(args.seed)
        drawn = pipeline(args.eval_batch_size, generator, args.ddpm_num_inference_steps).images
        for number, image in enumerate(drawn):
            image.save(Path(args.output_dir) / f"sample-{number}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_data_dir", required=True)
    parser.add_argument("--prediction_type", default="epsilon", choices=["epsilon", "sample"])
    parser.add_argument("--mixed_precision", default="no", choices=["no", "fp16", "bf16"])
    parser.add_argument("--block_out_channels", type=int, nargs="+", default=[64, 128, 128])
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    main(parser.parse_args())
