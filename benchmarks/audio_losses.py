"""What the 1-d losses cost on audio: `python -m benchmarks.audio_losses [--samples 16384] [--json FILE]`.

Every loss of a batch of clips, forward and backward, beside auraloss' MultiResolutionSTFTLoss and plain L1; all in turn
in one process, on one thread. Medians in ms, their ratio to auraloss' (below 1: faster), and the bytes that the graph
holds for backward beyond the inputs, in units of the prediction's. Framed losses have auraloss' frames (1024, 2048 and
512 samples); their overlap of 0.75 compares with its hops of about 0.88 (120, 240, 50), which is given too.
"""

import argparse
import json
import platform
import warnings
from pathlib import Path

import torch
from torch import Tensor

from passband import AmplitudeLoss, AmplitudePhaseLoss, WaveletLoss, __version__
from passband.bench import kept_bytes, take_turns
from passband.bench.item import Loss, loss_call
from passband.regularization import FramedLoss, PixelLoss

REFERENCE = "auraloss MR-STFT"
FRAMES = (512, 1024, 2048)


def mean_l1(estimate: Tensor, clean: Tensor) -> Tensor:
    """What one writes by hand."""
    return (estimate - clean).abs().mean()


def losses() -> dict[str, Loss]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from auraloss.freq import MultiResolutionSTFTLoss

        reference = MultiResolutionSTFTLoss()
    return {
        REFERENCE: reference,
        "L1": mean_l1,
        "pixel": PixelLoss(),
        "amplitude": AmplitudeLoss(),
        "amplitude_phase": AmplitudePhaseLoss(),
        "wavelet haar": WaveletLoss("haar"),
        "wavelet bior1.3": WaveletLoss("bior1.3"),
        "stft amplitude": FramedLoss(AmplitudeLoss(), FRAMES),
        "stft amplitude_phase": FramedLoss(AmplitudePhaseLoss(), FRAMES),
        "stft amplitude, overlap 0.88": FramedLoss(AmplitudeLoss(), FRAMES, overlap=0.88),
    }


def measure(estimate: Tensor, clean: Tensor, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds (median and half the distance of the quartiles), ratio to auraloss and bytes kept, by loss."""
    calls = {name: loss_call(loss, estimate, clean) for name, loss in losses().items()}
    timings = take_turns(calls, 0, repeats, estimate.device)
    unit, slow = estimate.untyped_storage().nbytes(), timings[REFERENCE].median
    results = {}
    for name, timing in timings.items():
        numbers = {"ms": 1e3 * timing.median, "spread": 1e3 * timing.spread, "ratio": timing.median / slow}
        results[name] = {**numbers, "kept": kept_bytes(calls[name], (estimate, clean)) / unit}
    return results


def table(results: dict[str, dict[str, float]]) -> str:
    rows = [f"{'loss':<30}{'ms':>9}{'±':>7}{'of auraloss':>13}{'kept':>8}"]
    for name, row in results.items():
        rows.append(f"{name:<30}{row['ms']:9.2f}{row['spread']:7.2f}{row['ratio']:13.3f}{row['kept']:8.2f}")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--samples", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="keep the numbers in this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator, shape = torch.Generator().manual_seed(0), (options.batch, 1, options.samples)
    clean, noise = (0.1 * torch.randn(shape, generator=generator).to(options.device) for _ in range(2))
    estimate = (clean + 0.1 * noise).requires_grad_()
    results = measure(estimate, clean, options.repeats)
    print(f"shape {shape}, {options.device}, {options.threads} thread(s), median of {options.repeats}")
    print(table(results))
    if options.json:
        machine = {"torch": torch.__version__, "passband": __version__, "processor": platform.machine()}
        record = {"shape": shape, "device": options.device, "threads": options.threads, "repeats": options.repeats}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**record, **machine, "losses": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
