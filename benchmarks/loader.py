"""Samples per second that reach the training loop: `python -m benchmarks.loader [--photos FOLDER] [--json FILE]`.

A folder of PNGs, an EDM zip and tiles of JPEG photographs, by `passband.training.batches`, for several numbers of
workers. The clock starts at the first batch, so starting the workers does not count. `preloaded`: decoded before the
start. `cache off`: each sample of a photograph decodes the whole of it, as where the cache is too small. Latents, in
half precision, lie in files of 1024: `means` reads the means, `drawn` the standard deviations too, and draws the noise.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from passband.data import ImageFolder, LatentShards, prepare_images
from passband.data._latent_header import FORMAT, LATENTS_FILE
from passband.data._shards import Note, Shard, moments, shard_name, write_shard
from passband.training.batches import Reading, batches

SIDE = 64
LATENTS = ((4, 32, 32), (4, 8, 8))


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


def write_latents(folder: Path, shape: tuple[int, int, int], count: int, per_shard: int = 1024) -> Path:
    """Random latents and their flips, in half precision, as `passband encode` would lay them out."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(count // per_shard):
        names = ("mean", "std", "mean_flipped", "std_flipped")
        arrays = {name: generator.standard_normal((per_shard, *shape)).astype(np.float16) for name in names}
        arrays["index"] = np.arange(per_shard) + number * per_shard
        found = moments([arrays["mean"]], [arrays["std"]])
        write_shard(folder / shard_name(number), arrays, Note("made", number, per_shard, found, [], ""))
        shard = Shard(folder / shard_name(number))
        facts = {"count": per_shard, "nbytes": shard.nbytes, "digest": shard.note.digest}
        records.append({"file": shard.path.name, **facts})
    header = {
        "format": FORMAT, "encoding": "made", "shape": shape, "image_shape": (3, 8 * shape[1], 8 * shape[2]),
        "count": count, "num_classes": 0, "class_names": [], "flips": True, "shift": [0.0] * shape[0],
        "scale": [1.0] * shape[0], "statistics": {}, "autoencoder": {}, "data": None, "images": None, "teachers": {},
        "shards": records,
    }  # fmt: skip
    (folder / LATENTS_FILE).write_text(json.dumps(header), encoding="utf-8")
    return folder


def rate(data: ImageFolder | LatentShards, batch_size: int, steps: int, workers: int, posterior: bool = True) -> float:
    """Samples per second, conversion to float included."""
    reading = Reading(flip=True, posterior=posterior)
    loop = batches(data, 0, steps + 1, batch_size, seed=0, reading=reading, workers=workers)
    next(loop)
    start = time.perf_counter()
    count = sum(len(batch.clean) for batch in loop)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of photographs (default: four made ones of 1280 x 960)")
    parser.add_argument("--images", type=int, default=2000, help="images in the folder and the zip, at most")
    parser.add_argument("--latents", type=int, default=16384, help="latents in their folders, a multiple of 1024")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--latent-batch", type=int, default=256)
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
        for shape in LATENTS:
            folder = scratch / "x".join(map(str, shape))
            folder.mkdir()
            rows |= measure_latents(write_latents(folder, shape, options.latents), options)
            shutil.rmtree(folder)
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__}
        settings = {"images": options.images, "batch": options.batch, "side": SIDE}
        settings |= {"latents": options.latents, "latent_batch": options.latent_batch}
        content = {"unit": "samples per second", **settings, **machine, "rates": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure(photos: Path, archive: Path, folder: Path, options: argparse.Namespace) -> dict[str, dict[int, float]]:
    """Print the table as it comes and give it back."""
    print(f"{SIDE} x {SIDE} pixels, batches of {options.batch}, {os.cpu_count()} cores; samples per second by workers")
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


def measure_latents(folder: Path, options: argparse.Namespace) -> dict[str, dict[int, float]]:
    """The rows of a folder of latents, in batches of their own size."""
    rows: dict[str, dict[int, float]] = {}
    shape, batch = " x ".join(map(str, LatentShards(folder).shape)), options.latent_batch
    for kind in ("means", "drawn"):
        case = f"latents {shape}, {kind}"
        rows[case] = {}
        print(f"{case:<34}", end="", flush=True)
        for workers in options.workers:
            data = LatentShards(folder)
            steps = max(4, round(options.seconds * rate(data, batch, 8, workers, kind == "drawn") / batch))
            rows[case][workers] = round(rate(data, batch, steps, workers, kind == "drawn"), 1)
            print(f"{rows[case][workers]:>9.0f}", end="", flush=True)
        print()
    return rows


def preloaded(data: ImageFolder) -> ImageFolder:
    data.preload()
    return data


if __name__ == "__main__":
    main()
