"""Flow matching from scratch, in plain PyTorch; the lines that Passband adds are marked.

python examples/flow_from_scratch.py [PHOTOS] [--forcing]
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

import passband
from passband.data import ImageFolder, PowerLawFields
from passband.reports import image_grid, psd_figure, to_png


class Network(nn.Module):
    """Residual convolutions on patches of 4 x 4 pixels; each is told the time by a shift of its channels."""

    def __init__(self, width: int = 128, depth: int = 6) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(48, width, 3, padding=1), nn.Conv2d(width, 48, 3, padding=1)
        layers = ((nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)) for _ in range(depth))
        self.blocks = nn.ModuleList(nn.Sequential(*three) for three in layers)
        self.times = nn.ModuleList(nn.Linear(64, width) for _ in range(depth))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction, of x's shape."""
        angles = t[:, None] * torch.logspace(0, 2, 32, device=t.device)
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        x = self.first(nn.functional.pixel_unshuffle(x, 4))
        for block, time in zip(self.blocks, self.times, strict=True):
            x = x + block(x + time(waves)[:, :, None, None])
        return nn.functional.pixel_shuffle(self.last(x), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="?", help="folder or zip of images; default: power-law fields")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--forcing", action="store_true", help="low-pass the input, and predict the clean image")
    parser.add_argument("--weight", type=float, default=0.002, help="of the spectral term; 0: the plain loop")
    parser.add_argument("--out", type=Path, default=Path("runs/flow"))
    options = parser.parse_args()
    torch.manual_seed(0)
    data = ImageFolder(options.images, 32, crop="tile") if options.images else PowerLawFields(32, 2.7, channels=3)
    loader = DataLoader(data, 16, sampler=RandomSampler(data, replacement=True, num_samples=16 * options.steps))
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    process = passband.Flow(1, "sample" if options.forcing else "velocity", velocity_floor=0.05)  # 1
    spectral = passband.SpectralRegularizer(passband.WaveletLoss("haar"), weight=options.weight)  # 2
    if options.forcing:
        passband.SpectralForcing(process).attach(network)  # 3
    for step, clean in enumerate(loader, 1):
        t, noise = torch.rand(len(clean), 1, 1, 1), torch.randn_like(clean)
        noisy = t * clean + (1 - t) * noise
        pred = network(noisy, t.flatten())
        error = (pred - clean) / (1 - t).clamp(min=0.05) if options.forcing else pred - (clean - noise)
        loss = error.square().mean()  # the velocity's in both cases
        loss = loss + spectral(process, noisy, pred, t.flatten(), clean=clean)  # 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if step % 50 == 0 or step == options.steps:
            print(f"step {step}  loss {loss.item():.4f}  spectral {spectral.terms['total'].item():.4f}", flush=True)
    samples = passband.sample(network.eval(), process, (3, 32, 32), seeds=range(64), steps=50)  # 5
    real = torch.cat([batch for batch, _ in zip(loader, range(4), strict=False)])
    spectra = {name: passband.radial_psd(x).mean((0, 1)) for name, x in (("real", real), ("drawn", samples))}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "samples.png").write_bytes(to_png(image_grid(torch.cat([real[:8], samples[:16]]))))
    (options.out / "spectrum.png").write_bytes(to_png(psd_figure(spectra)))
    print(f"look at samples.png (first row: data) and spectrum.png in {options.out}: where do the curves part?")


if __name__ == "__main__":
    main()
