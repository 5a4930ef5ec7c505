"""A training step with and without each spectral loss: `python -m benchmarks.training_step [--size 32] [--json FILE]`.

All arms take their steps in turn in one process, on the same batch, and the medians are compared as a ratio to the step
without a term; the spread is half the distance between the quartiles. Beside EDM's U-Net, a diffusers U-Net.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
from torch import Tensor, nn

from passband import __version__
from passband.bench import Call, take_turns
from passband.process import EDM
from passband.training.batches import Batch
from passband.training.build import build_regularizer
from passband.training.denoising import denoising_loss
from passband.training.networks import build_network
from passband.training.sections import EDMUNetModel, Model, RegularizerSettings, UNetModel

LOSSES = {
    "none": None,
    "amplitude": {"name": "amplitude"},
    "amplitude_phase": {"name": "amplitude_phase"},
    "haar": {"name": "wavelet", "wavelet": "haar"},
    "bior1.3": {"name": "wavelet", "wavelet": "bior1.3", "levels": 2},
    "pixel": {"name": "pixel"},
}


def networks(small: bool) -> dict[str, Model]:
    """The networks by name."""
    width = 16 if small else 128
    return {
        "edm_unet (DDPM++)": EDMUNetModel(
            name="edm_unet",
            model_channels=width,
            channel_mult=(1, 2, 4) if small else (2, 2, 2),
            num_blocks=1 if small else 4,
            attn_resolutions=(8,) if small else (16,),
        ),
        "unet (diffusers)": UNetModel(
            block_out_channels=(width, 2 * width, 4 * width), layers_per_block=1 if small else 2, norm_num_groups=8
        ),
    }


class Arm:
    """A network, its optimizer and one loss."""

    def __init__(self, network: nn.Module, loss: dict[str, object] | None) -> None:
        settings = None if loss is None else {"losses": [loss], "weight": 0.01}
        parsed = None if settings is None else RegularizerSettings.model_validate(settings)
        self.network, self.regularizer = network, build_regularizer(parsed)
        self.optimizer = torch.optim.AdamW(network.parameters(), 1e-4)

    def step(self, batch: Batch) -> Call:
        """One step: forward and both losses; backward and update."""

        def update(loss: Tensor) -> None:
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        return Call(lambda: denoising_loss(self.network, EDM(), self.regularizer, batch, 0).total, update)


def measure(model: Model, batch: Batch, repeats: int) -> dict[str, dict[str, float]]:
    """Median, spread and ratio of each arm."""
    shape = tuple(batch.clean.shape[1:])
    network = build_network(model, (shape[0], shape[1], shape[2]), 0).to(batch.clean.device).train()
    steps = {name: Arm(network, loss).step(batch) for name, loss in LOSSES.items()}
    timings = take_turns(steps, 0, repeats, batch.clean.device)
    base = timings["none"].median
    return {
        name: {"ms": timing.median * 1e3, "spread": timing.spread * 1e3, "ratio": timing.median / base}
        for name, timing in timings.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="side of the images")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="networks of the published size")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    clean = torch.randn(options.batch, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    batch = Batch(clean.to(options.device), torch.arange(options.batch))
    facts = {
        "shape": list(clean.shape),
        "device": torch.cuda.get_device_name() if batch.clean.is_cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "passband": __version__,
        "repeats": options.repeats,
    }
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    results = {}
    for name, model in networks(not options.full).items():
        results[name] = measure(model, batch, options.repeats)
        print(f"\n| {name} | ms per step | spread | ratio |\n| --- | --- | --- | --- |")
        for loss, row in results[name].items():
            print(f"| {loss} | {row['ms']:.1f} | {row['spread']:.1f} | {row['ratio']:.3f} |")
    if options.json:
        options.json.write_text(json.dumps({"facts": facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
