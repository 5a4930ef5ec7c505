"""Images per second that reach the training loop: `python -m benchmarks.loader [--photos FOLDER] [--json FILE]`.

A folder of PNGs, an EDM zip and tiles of JPEG photographs, by `passband.training.batches`, for several numbers of
workers. The clock starts at the first batch, so starting the workers does not count. `preloaded`: decoded before the
start. `cache off`: each sample of a photograph decodes the whole of it, as where the cache is too small.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from passband.data import ImageFolder, prepare_images
from passband.training.batches import Reading, batches

SIDE = 64


def photographs(folder: Path, count: int = 4, height: int = 960, width: int = 1280) -> None:
    """Images with a photograph's spectrum, amplitude 1/f, as JPEG."""
    folder.mkdir()
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    radius[0, 0] = np.inf
    generator = np.random.default_rng(0)
    for number in range(count):
        spectrum = np.fft.rfft2(generator.standard_normal((3, height, width))) / radius
        field = np.fft.irfft2(spectrum, s=(height, width)).transpose(1, 2, 0)
        pixels = (127.5 + 50 * field / field.std()).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)


def folder_of(archive: Path, folder: Path) -> None:
    """The zip's images as files."""
    data = ImageFolder(archive, SIDE)
    for number in range(len(data)):
        path = folder / f"{number // 1000:05d}" / f"{number:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.pixels(number).permute(1, 2, 0).numpy()).save(path)


def rate(data: ImageFolder, batch_size: int, steps: int, workers: int) -> float:
    """Images per second, conversion to float included."""
    loop = batches(data, 0, steps + 1, batch_size, seed=0, reading=Reading(flip=True), workers=workers)
    next(loop)
    start = time.perf_counter()
    count = sum(len(batch.clean) for batch in loop)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photographs (default: four made ones of 1280 x 960)")
    parser.add_argument("--images", type=int, default=2000, help="images in the folder and the zip, at most")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long to measure each")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        photos = options.photos or scratch / "photos"
        if options.photos is None:
            photographs(photos)
        archive = prepare_images([photos], scratch / "edm.zip", SIDE, crop="tile", limit=options.images).path
        folder_of(archive, scratch / "folder")
        rows = measure(photos, archive, scratch / "folder", options)
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
        settings = {"images": options.images, "batch": options.batch, "side": SIDE}
        content = {"unit": "images per second", **settings, **machine, "rates": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure(photos: Path, archive: Path, folder: Path, options: argparse.Namespace) -> dict[str, dict[int, float]]:
    """Print the table as it comes and give it back."""
    print(f"{SIDE} x {SIDE} pixels, batches of {options.batch}, {os.cpu_count()} cores; images per second by workers")
    print(f"{'':<34}" + "".join(f"{workers:>9}" for workers in options.workers))
    cases = {
        "folder of PNG": lambda: ImageFolder(folder, SIDE, cache_bytes=0),
        "EDM zip": lambda: ImageFolder(archive, SIDE, cache_bytes=0),
        "EDM zip, preloaded": lambda: preloaded(ImageFolder(archive, SIDE)),
        "tiles of photographs, preloaded": lambda: preloaded(ImageFolder(photos, SIDE, crop="tile")),
        "tiles of photographs, cache off": lambda: ImageFolder(photos, SIDE, crop="tile", cache_bytes=0),
    }
    rows: dict[str, dict[int, float]] = {}
    for case, make in cases.items():
        rows[case] = {}
        print(f"{case:<34}", end="", flush=True)
        for workers in options.workers:
            data = make()
            batch = 4 if case.endswith("off") else options.batch
            trial = rate(data, batch, 4, workers)
            steps = max(4, round(options.seconds * trial / batch))
            rows[case][workers] = round(rate(data, batch, steps, workers), 1)
            print(f"{rows[case][workers]:>9.0f}", end="", flush=True)
        print()
    return rows


def preloaded(data: ImageFolder) -> ImageFolder:
    data.preload()
    return data


if __name__ == "__main__":
    main()
