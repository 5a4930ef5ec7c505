"""The latents of a data set, written in shards: shared among processes and continued."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import Dataset

from passband._checks import check_integer
from passband._files import replace_folder, write_file
from passband.data._latent_header import AUTOENCODER_FOLDER, LATENTS_FILE, SETTINGS_FILE, read_header
from passband.data._shards import DamagedShardError, Moments, Note, Shard, moments, shard_name, write_shard
from passband.integrations.autoencoder import Autoencoder
from passband.integrations.teachers import Teacher
from passband.training.encode_job import DTYPES, EncodingJob, identity, latents_header
from passband.training.encode_shard import Encoder, Read, batches_of, encode_shard, read_batches
from passband.training.ranks import Ranks

#: Called with (images done, images in all), about: other processes' are estimated.
OnProgress = Callable[[int, int], None]


class Encoded(NamedTuple):
    """What was written.

    Attributes:
        path: the folder.
        header: all that latents.json says.
        nbytes: the size of the shards.
        skipped: images that were left out, with the reasons.
        resumed: how many of the images had been encoded before.
        seconds: how long this run encoded.

    """

    path: Path
    header: dict[str, Any]
    nbytes: int
    skipped: list[tuple[str, str]]
    resumed: int
    seconds: float


def encode(
    dataset: Dataset[Tensor],
    autoencoder: Autoencoder,
    out: str | Path,
    *,
    flips: bool = False,
    teachers: Sequence[Teacher] = (),
    dtype: str = "float16",
    scale: str = "global",
    batch_size: int = 32,
    shard_size: int = 1024,
    workers: int = 0,
    data: Mapping[str, Any] | None = None,
    ranks: Ranks | None = None,
    on_progress: OnProgress | None = None,
) -> Encoded:
    """Write the latents of a data set for [`LatentShards`][passband.data.LatentShards].

    A shard is written whole; what an interrupted or killed run has finished stays, and the same call goes on. Each
    shard is encoded by one process in batches that depend on nothing else, so its bytes are the same however many
    processes there are. Images that cannot be decoded are left out, and named.

    The latents are stored as the autoencoder gives them, mean and standard deviation; `shift` and `scale` bring drawn
    ones to mean 0 and standard deviation 1, over everything or per channel.

    Args:
        dataset: images in [-1, 1], all of one size.
        autoencoder: what encodes them.
        out: the folder.
        flips: the latents of the images flipped left to right, too.
        teachers: whose features to write beside the latents.
        dtype: of what is stored, "float16" or "float32".
        scale: "global", one shift and one scale for all, or "channel".
        batch_size: images at once in a process; changes the latents in their rounding only.
        shard_size: images of a shard.
        workers: processes that read images, for each process that encodes.
        data: the settings that made the data set, as a recipe's section `data`, to open it again.
        ranks: the processes that share the work, of which this is one; all must call this.
        on_progress: called after each batch.

    Raises:
        FileExistsError: if out holds something else.
        NonFiniteLatentsError: if a latent or a feature is not finite.
        OSError: if the disk is full; nothing that is finished is lost.
        ValueError: if images and autoencoder do not go together, or out holds latents of other settings.

    """
    job = EncodingJob(
        dataset, autoencoder, Path(out).expanduser(), flips, tuple(teachers), dtype, scale, shard_size, data
    )
    for option, number, least in (
        ("batch_size", batch_size, 1),
        ("shard_size", shard_size, 1),
        ("workers", workers, 0),
    ):
        check_integer(option, number)
        if number < least:
            raise ValueError(f"{option} must be at least {least}, got {number}")
    ranks = Ranks() if ranks is None else ranks
    job.check()
    settings = job.settings()
    name = identity(settings)
    _raise(ranks.first(_claim(job, settings) if ranks.is_first else None))
    missing: list[int] = ranks.first(_missing(job, name) if ranks.is_first else [])
    start = time.perf_counter()
    _encode_missing(job, name, missing, batch_size, workers, ranks, on_progress)
    seconds = time.perf_counter() - start
    ranks.wait()
    _raise(ranks.first(_finish(job, settings) if ranks.is_first else None))
    header = read_header(job.out)
    skipped = [(name, reason) for name, reason in header["skipped"]]
    resumed = job.length - sum(len(job.indices(number)) for number in missing)
    return Encoded(job.out, header, sum(shard["nbytes"] for shard in header["shards"]), skipped, resumed, seconds)


def _raise(error: Exception | None) -> None:
    """What went wrong in the first process, in every process."""
    if error is not None:
        raise error


def _claim(job: EncodingJob, settings: dict[str, Any]) -> Exception | None:
    """Note the settings in the folder, and put the autoencoder there; refuse to mix latents of different ones."""
    file, folder = job.out / SETTINGS_FILE, str(job.out)
    try:
        if not file.is_file() and job.out.is_dir() and any(map(_foreign, job.out.iterdir())):
            return FileExistsError(f"{folder!r} holds other files: choose another folder for the latents")
        changed = _changes(job, settings)
        if changed and any(job.out.glob("shard-*")):
            return ValueError(
                f"the latents in {folder!r} are encoded with other settings: {'; '.join(changed)}. Encode with the "
                "same to continue, or choose another folder"
            )
        if changed:
            replace_folder(job.out / AUTOENCODER_FOLDER, lambda target: _save(job.autoencoder.network, target))
            write_file(file, json.dumps(settings, indent=1).encode())
    except (OSError, ValueError) as error:
        return error
    return None


def _foreign(path: Path) -> bool:
    return path.name != AUTOENCODER_FOLDER and not path.name.startswith(".")


def _changes(job: EncodingJob, settings: dict[str, Any]) -> list[str]:
    """What is other than it was when the folder was begun; everything in a new folder."""
    file = job.out / SETTINGS_FILE
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    before = before if isinstance(before, dict) else {}
    if (job.out / LATENTS_FILE).is_file():
        before["scale"], settings = read_header(job.out)["scaled"], settings | {"scale": job.scale}
    return [_changed(name, before.get(name), now) for name, now in settings.items() if before.get(name) != now]


def _changed(name: str, before: object, now: object) -> str:
    told = {"autoencoder": "another autoencoder", "images": "other images, or they have changed since"}
    return told.get(name, f"{name} {before!r} then, {now!r} now")


def _save(network: Any, target: Path) -> None:
    if not hasattr(network, "save_pretrained"):
        raise ValueError(f"a {type(network).__name__} cannot be saved beside its latents: it has no save_pretrained")
    try:
        network.save_pretrained(target)
    except SafetensorError as error:  # a full disk is no OSError there
        raise OSError(f"the copy of the autoencoder cannot be written to {str(target.parent)!r} ({error})") from error


def _missing(job: EncodingJob, encoding: str) -> list[int]:
    """The shards that are not there, or cannot be used."""
    found = []
    for number in range(job.shards):
        try:
            note = Shard(job.out / shard_name(number)).note
        except DamagedShardError:
            found.append(number)
            continue
        if (note.encoding, note.number) != (encoding, number):
            found.append(number)
    return found


def _encode_missing(
    job: EncodingJob,
    encoding: str,
    missing: Sequence[int],
    batch_size: int,
    workers: int,
    ranks: Ranks,
    on_progress: OnProgress | None,
) -> None:
    job.autoencoder.to(ranks.device).network.eval()
    teachers = [teacher.to(ranks.device) for teacher in job.teachers]
    encoder = Encoder(job.autoencoder, teachers, job.flips, DTYPES[job.dtype], ranks.device)
    own = missing[ranks.index :: ranks.count]
    reads = read_batches(job.dataset, [job.indices(number) for number in own], batch_size, workers, ranks.device)
    done = job.length - sum(len(job.indices(number)) for number in missing)

    def show(images: int) -> None:
        nonlocal done
        done = min(done + images * ranks.count, job.length)
        if on_progress is not None:
            on_progress(done, job.length)

    show(0)
    for turn in range(math.ceil(len(missing) / ranks.count)):
        error = None
        if turn < len(own):
            try:
                _encode_one(job, encoding, own[turn], encoder, reads, batch_size, show)
            except (ValueError, OSError) as found:
                error = found
        # In every process, or the others would wait for this one.
        _raise(next((found for found in ranks.gather(error) if found is not None), None))


def _encode_one(
    job: EncodingJob,
    encoding: str,
    number: int,
    encoder: Encoder,
    reads: Iterator[Read],
    batch_size: int,
    show: Callable[[int], None],
) -> None:
    batches = len(batches_of(job.indices(number), batch_size))
    arrays, skipped = encode_shard(encoder, job.dataset, islice(reads, batches), show)
    pairs = [(arrays[f"mean{end}"], arrays[f"std{end}"]) for end in ("", "_flipped") if f"mean{end}" in arrays]
    found = moments(*zip(*pairs, strict=True)) if pairs else Moments(0, (), (), ())
    note = Note(encoding, number, len(arrays.get("index", ())), found, skipped, "")
    write_shard(job.out / shard_name(number), arrays, note)


def _finish(job: EncodingJob, settings: dict[str, Any]) -> Exception | None:
    """Write latents.json, last of all."""
    try:
        shards = [Shard(job.out / shard_name(number)) for number in range(job.shards)]
        write_file(job.out / LATENTS_FILE, json.dumps(latents_header(job, settings, shards), indent=1).encode())
        for leftover in job.out.glob(".*.partial"):  # of killed processes
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    except (OSError, ValueError) as error:
        return error
    return None
