"""JiT's training step with fused attention and with attention written out: `python -m benchmarks.jit [--json FILE]`.

Both arms take their steps in turn in one process, with the same network, optimizer and batch: AdamW on the velocity
loss of a clean prediction. The written-out attention has its scores and softmax in float32, as the published code. The
medians are compared as a ratio, written out over fused; the spread is half the distance between the quartiles.

    python -m benchmarks.jit                                                    # a small JiT, on the CPU
    python -m benchmarks.jit --model B/16 --size 256 --batch 64 --device cuda   # in bfloat16
"""

import argparse
import contextlib
import json
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from passband import __version__
from passband.models import JIT_SIZES, JiT
from passband.process import Flow

PROCESS = Flow(1, "sample", logit_normal=(-0.8, 0.8), velocity_floor=0.05)
SMALL = {"patch_size": 8, "hidden_size": 192, "depth": 6, "num_heads": 6, "in_context_start": 2}


def written_out(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Attention with its scores and softmax in float32, all of them kept."""
    with torch.autocast(q.device.type, enabled=False):
        weights = (q.float() @ k.float().transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
    weights = torch.dropout(weights, dropout_p, dropout_p > 0)
    return weights @ v


@contextlib.contextmanager
def attention(arm: str) -> Iterator[None]:
    """Let JiT compute its attention that way."""
    if arm == "fused":
        yield
    else:
        with mock.patch("torch.nn.functional.scaled_dot_product_attention", written_out):
            yield


class Step:
    """A network and what a training step needs."""

    def __init__(self, network: JiT, clean: Tensor, half: bool) -> None:
        self.network, self.clean, self.half = network, clean, half
        self.labels = torch.arange(len(clean), device=clean.device) % 1000
        self.optimizer = torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.9, 0.95), weight_decay=0)

    def loss(self) -> Tensor:
        """The velocity's squared error, from a clean prediction."""
        t = PROCESS.sample_times(len(self.clean), device=self.clean.device)
        noise = torch.randn_like(self.clean)
        tau = t[:, None, None, None]
        noisy = tau * self.clean + (1 - tau) * noise
        with torch.autocast(self.clean.device.type, torch.bfloat16, enabled=self.half):
            estimate = self.network(noisy, t, self.labels)
        return ((estimate - self.clean) / (1 - tau).clamp(min=PROCESS.velocity_floor)).square().mean()

    def seconds(self, arm: str) -> float:
        """One step: forward, backward, update."""
        cuda = self.clean.is_cuda
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        with attention(arm):
            self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start


def measure(step: Step, repeats: int) -> dict[str, dict[str, float]]:
    """Median and spread of each arm in milliseconds, and of the ratio of neighbouring steps."""
    times: dict[str, list[float]] = {"fused": [], "written out": []}
    for arm in times:
        for _ in range(2):
            step.seconds(arm)
    for _ in range(repeats):
        for arm, values in times.items():
            values.append(step.seconds(arm) * 1e3)
    times["ratio"] = [slow / fast for fast, slow in zip(times["fused"], times["written out"], strict=True)]
    result = {}
    for arm, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        result[arm] = {"median": middle, "spread": (high - low) / 2}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["small", *JIT_SIZES], default="small")
    parser.add_argument("--size", type=int, default=64, help="side of the images")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--float32", action="store_true", help="no bfloat16; always so on the CPU")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = JiT(options.size, **SMALL) if options.model == "small" else JiT.from_size(options.model, options.size)
    clean = torch.rand(options.batch, 3, options.size, options.size, device=options.device) * 2 - 1
    half = clean.is_cuda and not options.float32
    facts = {
        "model": options.model,
        "shape": list(clean.shape),
        "precision": "bfloat16" if half else "float32",
        "device": torch.cuda.get_device_name() if clean.is_cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "passband": __version__,
        "repeats": options.repeats,
    }
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    results = measure(Step(network.to(options.device).train(), clean, half), options.repeats)
    print("\n| attention | median | spread |\n| --- | --- | --- |")
    for arm, row in results.items():
        digits, unit = (3, "") if arm == "ratio" else (1, " ms")
        print(f"| {arm} | {row['median']:.{digits}f}{unit} | {row['spread']:.{digits}f} |")
    if options.json:
        options.json.write_text(json.dumps({"facts": facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
