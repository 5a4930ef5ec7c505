"""What Spectral Forcing costs: `python -m benchmarks.forcing [--batch 16] [--json FILE]`.

1. A training step of a small diffusers U-Net at 64 x 64 with and without forcing, the arms in turn in one process. The
   difference is smaller than the noise of such a ratio, so the operator is timed alone too, within the same turns; bar:
   it takes at most 0.6 % of the step.
2. Bytes kept for the backward pass, as a share of the input's; bar: 0.01.
3. On a GPU: the operator's share of a training step of JiT-B/16 at 256 x 256 in bfloat16; bar: 0.5 %.

Medians; the spread is half the distance between the quartiles.
"""

import argparse
import copy
import json
import platform
import statistics
from pathlib import Path

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from passband import Flow, SpectralForcing, __version__
from passband.bench import Call, half_quartile_distance, kept_bytes, take_turns
from passband.models import JiT

PROCESS = Flow(data_at=1, prediction="sample")


def small_unet(size: int) -> nn.Module:
    return UNet2DModel(
        sample_size=size,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
    ).train()


class Training:
    """A network, its optimizer and a batch."""

    def __init__(self, network: nn.Module, clean: Tensor, autocast: torch.dtype | None) -> None:
        self.network, self.clean, self.autocast = network, clean, autocast
        self.optimizer = torch.optim.AdamW(network.parameters(), 1e-5)
        self.t = torch.full((len(clean),), 0.4, device=clean.device)
        self.noisy = PROCESS.add_noise(clean, torch.randn_like(clean), self.t)

    def loss(self) -> Tensor:
        """Forward pass and mean squared error."""
        with torch.autocast(self.clean.device.type, self.autocast, enabled=self.autocast is not None):
            output = self.network(self.noisy, self.t)
        return (getattr(output, "sample", output).float() - self.clean).square().mean()

    def update(self, loss: Tensor) -> None:
        """Backward pass and update."""
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def step(self) -> Call:
        """Both."""
        return Call(self.loss, self.update)


def measure(training: Training, repeats: int) -> dict[str, float]:
    """Step with and without forcing, and the operator alone, in milliseconds."""
    forcing = SpectralForcing(PROCESS)
    # A copy, since attaching between the steps would disturb what is measured.
    forced = copy.deepcopy(training)
    forcing.attach(forced.network)
    operator = Call(lambda: forcing(training.noisy, training.t))
    calls = {"plain": training.step, "forced": forced.step, "operator": operator}
    timings = take_turns(calls, 0, repeats, training.clean.device)
    result = {}
    for name, timing in timings.items():
        result[name], result[f"{name} spread"] = timing.median * 1e3, timing.spread * 1e3
    # Turn by turn, so that what slows a whole turn does not count.
    plain, forced_times, alone = (timings[name].total for name in ("plain", "forced", "operator"))
    result["share"] = statistics.median(o / p for o, p in zip(alone, plain, strict=True))
    ratios = [f / p for f, p in zip(forced_times, plain, strict=True)]
    result["ratio"], result["ratio spread"] = statistics.median(ratios), half_quartile_distance(ratios)
    return result


def kept_share(z: Tensor) -> float:
    """Bytes kept for the backward pass over the input's bytes."""
    z = z.detach().clone().requires_grad_()
    t = torch.full((len(z),), 0.4, device=z.device)
    return kept_bytes(Call(lambda: SpectralForcing(PROCESS)(z, t)), [z]) / z.nbytes


def report(title: str, row: dict[str, float], bar: float) -> None:
    print(f"\n| {title} | ms | spread |\n| --- | --- | --- |")
    for name in ("plain", "forced", "operator"):
        print(f"| {name} | {row[name]:.3f} | {row[f'{name} spread']:.3f} |")
    print(f"\nforced over plain: {row['ratio']:.3f} ± {row['ratio spread']:.3f}")
    print(f"the operator takes {100 * row['share']:.3f} % of the plain step (bar: {bar} %)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--gpu-batch", type=int, default=32)
    parser.add_argument("--compile", action="store_true", help="compile JiT")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    torch.manual_seed(0)
    cuda = torch.cuda.is_available()
    facts = {
        "cpu": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "torch": torch.__version__,
        "passband": __version__,
        "repeats": options.repeats,
    }
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    clean = torch.randn(options.batch, 3, 64, 64)
    results: dict[str, object] = {"kept share": kept_share(clean)}
    print(f"\nkept for the backward pass: {results['kept share']:.6f} of the input's bytes (bar: 0.01)")
    row = measure(Training(small_unet(64), clean, None), options.repeats)
    results["unet, cpu"] = row
    report(f"small U-Net, {tuple(clean.shape)}, CPU", row, 0.6)
    if cuda:
        clean = torch.randn(options.gpu_batch, 3, 256, 256, device="cuda")
        network = JiT.from_size("B/16", input_size=256, num_classes=0).cuda().train()
        if options.compile:
            network.compile()
        row = measure(Training(network, clean, torch.bfloat16), options.repeats)
        results["JiT-B/16, gpu"] = row
        report(f"JiT-B/16, {tuple(clean.shape)}, bfloat16", row, 0.5)
    if options.json:
        options.json.write_text(json.dumps({"facts": facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
