"""Speed and memory of the spectrum report's one pass: `python -m benchmarks.spectrum_report [--count N] [--json FILE]`.

Images are cut at random places out of one large field with a photograph's spectrum, so that reading costs next to
nothing and no data are needed. Measured are `SampleSpectrum` (all that `passband compare` takes: radial power of six
planes, directions, wavelet sub-bands, coherence, periodicity, 200 bootstrap replicates) and a NumPy loop of `fft2`
that computes the radially averaged power of the three channels and nothing else. Each process runs one thread.
Memory is the sum of the largest resident sizes of all processes, Python and torch included: a bound from above, since
what they share counts once in each.
"""

import argparse
import json
import math
import os
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from passband.metrics import SampleSpectrum

LARGE = 1024
BATCH = 16


def large_field() -> np.ndarray:
    """A field of 8-bit colours whose amplitude falls as 1/f."""
    generator = np.random.default_rng(0)
    radius = np.hypot(np.fft.fftfreq(LARGE)[:, None], np.fft.rfftfreq(LARGE))
    radius[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(generator.standard_normal((3, LARGE, LARGE))) / radius, s=(LARGE, LARGE))
    return (127.5 + 50 * field / field.std()).clip(0, 255).astype(np.uint8)


def image(field: np.ndarray, index: int, side: int) -> np.ndarray:
    """Image `index`, channels first."""
    row, column = np.random.default_rng(index).integers(0, LARGE - side + 1, 2)
    return field[:, row : row + side, column : column + side]


def by_passband(share: range, side: int) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Seconds, peak memory in bytes and the state after one pass over a share of the images."""
    torch.set_num_threads(1)
    field, measured = large_field(), SampleSpectrum()
    start = time.perf_counter()
    for first in range(share.start, share.stop, BATCH):
        batch = range(first, min(first + BATCH, share.stop))
        pixels = torch.from_numpy(np.stack([image(field, index, side) for index in batch]))
        measured.update(pixels.float() / 127.5 - 1, [str(index) for index in batch])
    return time.perf_counter() - start, peak(), measured.state_dict()


def by_numpy(share: range, side: int) -> tuple[float, float, np.ndarray]:
    """Seconds, peak memory in bytes and the summed radial power of the channels."""
    field, total = large_field(), np.zeros((3, side // 2 + 1))
    frequency = np.fft.fftfreq(side) * side
    bins = np.floor(np.hypot(frequency[:, None], frequency) + 0.5).astype(int).ravel()
    held = np.bincount(bins)
    start = time.perf_counter()
    for index in share:
        power = np.abs(np.fft.fft2(image(field, index, side) / 127.5 - 1)) ** 2 / side**2
        for channel in range(3):
            total[channel] += (np.bincount(bins, power[channel].ravel()) / held)[: side // 2 + 1]
    return time.perf_counter() - start, peak(), total


def peak() -> float:
    """The largest resident size of this process so far, in bytes."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def spread(measure: Any, count: int, side: int, processes: int) -> tuple[dict[str, float], list[Any]]:
    """One pass in so many new processes: images per second of all, memory, and what each found."""
    step = math.ceil(count / processes)
    shares = [range(first, min(first + step, count)) for first in range(0, count, step)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(partial(measure, side=side), shares))
    seconds = max(each[0] for each in done)
    row = {"images_per_second": round(count / seconds, 1), "mebibytes": round(sum(each[1] for each in done) / 2**20)}
    return row, [each[2] for each in done]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="images for SampleSpectrum")
    parser.add_argument("--numpy-count", type=int, default=1000, help="images for the NumPy loop")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    print(f"{options.side} x {options.side} x 3, images per second (peak memory of all processes)")
    cases = {
        "NumPy fft2 loop, radial power": (by_numpy, options.numpy_count),
        "SampleSpectrum, everything": (by_passband, options.count),
    }
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for case, (measure, count) in cases.items():
        rows[case] = {}
        for processes in options.processes:
            row, found = spread(measure, count, options.side, processes)
            rows[case][processes] = row
            print(
                f"{case:<32}{count:>8} images, {processes} process(es): {row['images_per_second']:>7.1f} per second, "
                f"{row['mebibytes']:>5} MiB",
                flush=True,
            )
            if measure is by_passband:
                check(found, count)
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
        content = {"side": options.side, "images": {case: count for case, (_, count) in cases.items()}, **machine}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**content, "rates": rows}, indent=1) + "\n", encoding="utf-8")


def check(states: list[dict[str, torch.Tensor]], count: int) -> None:
    """Merge what the processes found, and see that nothing is missing."""
    merged = SampleSpectrum()
    for state in states:
        part = SampleSpectrum()
        part.load_state_dict(state)
        merged.merge(part)
    if merged.count != count:
        raise RuntimeError(f"{count} images were measured, {merged.count} are in the merged set")


if __name__ == "__main__":
    main()
