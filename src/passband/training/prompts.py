"""The prompt sets of text-to-image benchmarks, and the folders that their scorers read."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor


class PromptError(ValueError):
    """A prompt set that cannot be used; the message names file and line."""


class Prompt(NamedTuple):
    """One prompt.

    Attributes:
        name: what the scorer knows it by: the number of its line in five digits (GenEval), or its file (DPG-Bench).
        text: what the model is given.
        metadata: GenEval's line, None for DPG-Bench.

    """

    name: str
    text: str
    metadata: dict[str, Any] | None = None


class Wanted(NamedTuple):
    """A file of images that a scorer reads.

    Attributes:
        path: below the folder of the results.
        prompt: its prompt.
        images: which of the prompt's images it shows.

    """

    path: Path
    prompt: Prompt
    images: tuple[int, ...]


class Benchmark(NamedTuple):
    """How a benchmark's prompts are read and its images laid out.

    Attributes:
        read: from a path to the prompts.
        files: the image files of a prompt, given how many images it has.
        most: largest number of images per prompt, None without a limit.
        scorer: how its own scorer is called, {out} and {resolution} to be filled in.

    """

    read: Callable[[Path], list[Prompt]]
    files: Callable[[Prompt, int], list[Wanted]]
    most: int | None
    scorer: str


def read_geneval(path: Path) -> list[Prompt]:
    """The prompts of GenEval's `evaluation_metadata.jsonl`.

    Args:
        path: a file with one JSON object per line: `prompt`, `tag`, and what must be in the picture, `include`, a list
            of objects with `class` and `count`; or the folder that holds the file under that name.

    Returns:
        The prompts by the number of their line, from 00000.

    Raises:
        PromptError: if it is not there, or a line is no such object.

    Source: Ghosh et al. 2023 (arXiv:2310.11513).
    """
    file = path / "evaluation_metadata.jsonl" if path.is_dir() else path
    lines = _text(file).rstrip().splitlines()
    if not lines:
        raise PromptError(f"{str(file)!r} is empty: expected one JSON object per line")
    return [_geneval_line(f"{str(file)!r}, line {i + 1}", f"{i:05d}", line) for i, line in enumerate(lines)]


def _geneval_line(where: str, name: str, line: str) -> Prompt:
    if not line.strip():
        raise PromptError(f"{where} is blank: take it out, since the scorer counts lines")
    try:
        found = json.loads(line)
    except ValueError as error:
        raise PromptError(f"{where} is no JSON ({error}): correct it, or get the file anew") from error
    if not isinstance(found, dict):
        raise PromptError(f"{where} is no JSON object, got {line[:40]!r}")
    for key in ("prompt", "tag"):
        if not isinstance(found.get(key), str) or not found[key].strip():
            raise PromptError(f"{where} has no {key}: expected a text under {key!r}, got {found.get(key)!r}")
    for key in ("include", "exclude"):
        wanted = found.get(key, [] if key == "exclude" else None)
        if not isinstance(wanted, list) or not all(map(_is_object, wanted)):
            raise PromptError(f"{where}: {key!r} must be a list of objects with class and count, got {wanted!r}")
    return Prompt(name, found["prompt"], found)


def _is_object(wanted: object) -> bool:
    return isinstance(wanted, dict) and isinstance(wanted.get("class"), str) and type(wanted.get("count")) is int


def read_dpg(path: Path) -> list[Prompt]:
    """The prompts of DPG-Bench: a folder of text files, one prompt each.

    Args:
        path: the folder; the images are named as its files.

    Returns:
        The prompts in the order of their names, numbers by their value.

    Raises:
        PromptError: if the folder is not there or holds no text file, a file is empty or no text, or the scorer could
            not tell two of them apart.

    Source: Hu et al. 2024 (ELLA, arXiv:2403.05135).
    """
    if not path.is_dir():
        raise PromptError(f"{str(path)!r} is no folder: DPG-Bench's prompts are a folder of .txt files, one each")
    files = sorted((file for file in path.iterdir() if file.suffix == ".txt" and file.is_file()), key=_order)
    if not files:
        raise PromptError(f"{str(path)!r} holds no .txt file: DPG-Bench's prompts are such files, one prompt each")
    known: dict[str, Path] = {}
    prompts = []
    for file in files:
        # The scorer takes what stands before a name's first dot; some file systems do not tell cases apart.
        key = file.name.partition(".")[0].lower()
        if not key or key in known:
            other = f" as {known[key].name!r} has" if key else ""
            raise PromptError(f"{str(file)!r} has no name of its own before its first dot{other}: rename it")
        known[key] = file
        text = " ".join(_text(file).split())
        if not text:
            raise PromptError(f"{str(file)!r}, line 1 is empty: expected a prompt")
        prompts.append(Prompt(file.name.partition(".")[0], text))
    return prompts


def _order(file: Path) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"([0-9]+)", file.stem) if part]


def _text(file: Path) -> str:
    if not file.is_file():
        raise PromptError(f"there is no file {str(file)!r}: give the path of the benchmark's prompts")
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(f"{str(file)!r}, line {line} is no UTF-8 text: get the file anew") from error


def _geneval_files(prompt: Prompt, count: int) -> list[Wanted]:
    return [Wanted(Path(prompt.name) / "samples" / f"{i:04d}.png", prompt, (i,)) for i in range(count)]


def _dpg_files(prompt: Prompt, count: int) -> list[Wanted]:
    return [Wanted(Path(f"{prompt.name}.png"), prompt, tuple(range(count)))]


BENCHMARKS = {
    "geneval": Benchmark(
        read_geneval,
        _geneval_files,
        None,
        "python evaluation/evaluate_images.py {out} --outfile results.jsonl --model-path DETECTOR",
    ),
    "dpg": Benchmark(read_dpg, _dpg_files, 4, "PIC_NUM={images} bash dpg_bench/dist_eval.sh {out} {resolution}"),
}


def tiled(images: Sequence[UInt8[Tensor, "channels height width"]]) -> UInt8[Tensor, "channels rows columns"]:
    """Up to four images as one, left to right, then top to bottom, with black where one is missing.

    Args:
        images: of one size.

    Example:
        >>> import torch
        >>> from passband.training.prompts import tiled
        >>> tiled([torch.full((1, 1, 1), i, dtype=torch.uint8) for i in range(1, 5)]).tolist()
        [[[1, 2], [3, 4]]]

    """
    if len(images) == 1:
        return images[0]
    filled = [*images, *[torch.zeros_like(images[0])] * (len(images) % 2)]
    return torch.cat([torch.cat(filled[start : start + 2], 2) for start in range(0, len(filled), 2)], 1)
