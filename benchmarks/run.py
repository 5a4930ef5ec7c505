"""Speed and memory of the losses beside the version one writes by hand: `python -m benchmarks.run [--size 128]`.

Both versions run in turn in one process, forward and backward, and the medians are compared as a ratio (above 1:
Passband is faster). `kept` is what the graph holds for backward beyond the inputs, in units of the prediction's bytes.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import pywt
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from passband.regularization import amplitude_loss, amplitude_phase_loss, wavelet_loss

Loss = Callable[[Tensor, Tensor], Tensor]
LEVELS = 3


def naive_amplitude(estimate: Tensor, clean: Tensor) -> Tensor:
    """Full complex FFTs of both fields."""
    return (spectrum(estimate).abs() - spectrum(clean).abs()).abs().flatten(1).mean(1)


def naive_amplitude_phase(estimate: Tensor, clean: Tensor) -> Tensor:
    """Phases by `angle`, wrapped by atan2 (its gradient is not safe; it is here for its cost)."""
    x, y = spectrum(estimate), spectrum(clean)
    difference = x.angle() - y.angle()
    wrapped = torch.atan2(difference.sin(), difference.cos()).abs()
    return ((x.abs() - y.abs()).abs() * (1 + wrapped)).flatten(1).mean(1)


def naive_wavelet(estimate: Tensor, clean: Tensor) -> Tensor:
    """One grouped convolution per level, for both fields (Haar, even sides)."""
    total = estimate.new_zeros(len(estimate))
    bank = haar_bank(estimate)
    x, y = estimate, clean
    for level in range(LEVELS):
        x, y = (conv2d(z, bank, stride=2, groups=z.shape[1]).unflatten(1, (-1, 4)) for z in (x, y))
        first = 0 if level == LEVELS - 1 else 1
        total = total + (x - y)[:, :, first:].abs().mean(dim=(1, 3, 4)).sum(1)
        x, y = x[:, :, 0], y[:, :, 0]
    return total


def spectrum(x: Tensor) -> Tensor:
    return torch.fft.fft2(x, norm="ortho")


def haar_bank(x: Tensor) -> Tensor:
    wavelet = pywt.Wavelet("haar")
    low, high = (torch.tensor(taps, dtype=x.dtype, device=x.device) for taps in (wavelet.dec_lo, wavelet.dec_hi))
    filters = [torch.outer(a, b).flip(0, 1) for a in (low, high) for b in (low, high)]
    return torch.stack(filters).unsqueeze(1).repeat(x.shape[1], 1, 1, 1)


def ours_wavelet(estimate: Tensor, clean: Tensor) -> Tensor:
    return wavelet_loss(estimate, clean, "haar", levels=LEVELS)


PAIRS: dict[str, tuple[Loss, Loss]] = {
    "amplitude": (amplitude_loss, naive_amplitude),
    "amplitude_phase": (amplitude_phase_loss, naive_amplitude_phase),
    "wavelet haar": (ours_wavelet, naive_wavelet),
}


def seconds(loss: Loss, estimate: Tensor, clean: Tensor) -> float:
    """One forward and backward."""
    estimate.grad = None
    synchronize(estimate)
    start = time.perf_counter()
    loss(estimate, clean).mean().backward()
    synchronize(estimate)
    return time.perf_counter() - start


def synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def kept_bytes(loss: Loss, estimate: Tensor, clean: Tensor) -> int:
    """Bytes of the storages that the graph holds for backward, the inputs' own excepted."""
    inputs = {x.untyped_storage().data_ptr() for x in (estimate, clean)}
    storages: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        value = loss(estimate, clean).mean()
    total = sum(x.untyped_storage().nbytes() for address, x in storages.items() if address not in inputs)
    value.backward()
    return total


def compare(name: str, ours: Loss, naive: Loss, estimate: Tensor, clean: Tensor, repeats: int) -> str:
    if name != "amplitude_phase":  # there the naive form has no fade-out at zero amplitude
        torch.testing.assert_close(ours(estimate, clean), naive(estimate, clean), rtol=1e-4, atol=1e-6)
    for loss in (ours, naive):
        seconds(loss, estimate, clean)
    times = [(seconds(ours, estimate, clean), seconds(naive, estimate, clean)) for _ in range(repeats)]
    fast, slow = (statistics.median(column) for column in zip(*times, strict=True))
    unit = estimate.untyped_storage().nbytes()
    kept, naive_kept = (kept_bytes(loss, estimate, clean) / unit for loss in (ours, naive))
    return f"{name:<16}{fast * 1e3:9.2f}{slow * 1e3:11.2f}{slow / fast:9.2f}{kept:9.2f}{naive_kept:13.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="side of the images")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, 3, options.size, options.size)
    clean, noise = (torch.randn(shape, generator=generator).to(options.device) for _ in range(2))
    estimate = (clean + 0.1 * noise).requires_grad_()
    print(f"shape {shape}, {options.device}, {torch.get_num_threads()} threads, median of {options.repeats}")
    print(f"{'loss':<16}{'ms':>9}{'naive ms':>11}{'ratio':>9}{'kept':>9}{'naive kept':>13}")
    for name, (ours, naive) in PAIRS.items():
        print(compare(name, ours, naive, estimate, clean, options.repeats))


if __name__ == "__main__":
    main()
