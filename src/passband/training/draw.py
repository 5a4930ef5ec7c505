"""Samples of a trained network as files named by their seeds, shared among processes and continued."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from passband._checks import import_extra
from passband._files import write_file
from passband.data import save_audio, save_image
from passband.sampling import sample
from passband.training.conditioning import CLASS_RULES, sampling_options
from passband.training.ranks import Ranks
from passband.training.restore import Restored
from passband.training.sampler import Schedule, evaluations, sampler_options, sampler_settings

#: Called with (samples there, samples in all).
OnDrawn = Callable[[int, int], None]
Job = TypeVar("Job")


class NonFiniteSamplesError(ValueError):
    """Samples hold NaN or infinity; nothing of their batch was written."""


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn from a network; what is not given is as the network's settings say.

    Args:
        found: the network.
        run: where it came from, noted beside the samples.
        steps: sampling steps.
        solver: the solver's name.
        batch_size: samples at once; changes no sample (beyond the network's own rounding).
        schedule: a schedule of betas instead of steps.

    Raises:
        TypeError: if there is a schedule, and the process takes none.
        ValueError: if the solver is unknown or the number of steps is not possible.

    """

    found: Restored
    run: Path
    steps: int | None = None
    solver: str | None = None
    batch_size: int = 32
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        _ = self.settings  # raises before a folder is claimed for them

    @property
    def settings(self) -> dict[str, Any]:
        """Steps, solver and what else says how samples are drawn, as plain data."""
        return sampler_settings(
            self.found.sampling, self.found.process, steps=self.steps, solver=self.solver, schedule=self.schedule
        )

    @property
    def suffix(self) -> str:
        """Of the samples' files."""
        return ".wav" if self.found.is_audio else ".png"

    @property
    def evaluations(self) -> int:
        """Steps of the network of one sample (NFE): Heun's take two, but for the last; guidance is not counted."""
        return evaluations(self.settings)

    @property
    def note(self) -> dict[str, Any]:
        """What tells samples of one kind from others; kept in the folder as settings.json."""
        found = self.found
        note = {"run": str(self.run.resolve()), "step": found.step, "weights": found.weights, **self.settings}
        if found.forcing is not None:
            note["forcing"] = found.forcing
        if found.mel is not None:
            note |= {"sample_rate": found.mel.sample_rate}
            note |= {} if found.is_vocoder else {"samples": found.sample_shape[-1]}
        if not found.num_classes:
            return note
        note |= {"classes": found.num_classes, "class": CLASS_RULES[found.sampling.classes]}
        guidance = found.sampling.guidance
        return note if guidance is None else note | {"guidance": guidance.model_dump(mode="json")}

    def draw(
        self, folder: Path, seeds: Sequence[int], ranks: Ranks | None = None, on_drawn: OnDrawn | None = None
    ) -> None:
        """Draw the samples of these seeds that the folder lacks.

        The seeds are split into batches, and a batch is drawn whole where a sample of it is missing: so each sample
        is the same bits however many processes draw, and however often they were interrupted.

        Args:
            folder: where the files lie, or shall lie: PNG, or WAV for audio.
            seeds: one for each sample.
            ranks: the processes that share the work, of which this is one; all must call this.
            on_drawn: called after each batch of this process.

        Raises:
            ValueError: if the folder holds samples drawn with other settings, or a sample is not finite.

        """
        ranks = Ranks() if ranks is None else ranks
        claim(folder, self.note, ranks)
        lacking = ranks.first(missing(folder, seeds, self.suffix))
        batches = [batch for batch in split(seeds, self.batch_size) if lacking.intersection(batch)]
        self.found.model.to(ranks.device)
        if self.found.decode is not None:
            self.found.decode.to(ranks.device)
        there = len(seeds) - len(lacking)
        in_turns(
            batches,
            lambda batch: self._draw(batch, lacking, ranks.device, folder),
            ranks,
            lambda batch: len(lacking.intersection(batch)),
            None if on_drawn is None else lambda done: on_drawn(there + done, len(seeds)),
        )

    def _draw(self, seeds: Sequence[int], lacking: set[int], device: torch.device, folder: Path) -> list[int]:
        """Draw a batch and write what lacks; or nothing, where samples are not finite: their seeds."""
        found = self.found
        drawn = sample(
            found.model,
            found.process,
            found.sample_shape,
            seeds=seeds,
            device=device,
            unforced_ok=found.forcing is None,  # as it was restored: without a recorded one on insistence alone
            **sampler_options(self.settings, found.process),
            **sampling_options(found.model, found.sampling, seeds, found.num_classes, device),
        )
        made = (drawn if found.decode is None else found.decode(drawn)).cpu()
        bad = [seed for seed, one in zip(seeds, made, strict=True) if not bool(torch.isfinite(one).all())]
        for seed, one in zip(seeds, made, strict=True):
            if seed in lacking and not bad:
                self._write(one, folder / sample_name(seed, self.suffix))
        return bad

    def _write(self, one: Tensor, file: Path) -> None:
        if self.found.mel is None:
            save_image(one, file)
        else:
            save_audio(file, one, self.found.mel.sample_rate)


def in_turns(
    jobs: Sequence[Job],
    draw: Callable[[Job], Sequence[int | str]],
    ranks: Ranks,
    size: Callable[[Job], int] = lambda _: 1,
    on_done: Callable[[int], None] | None = None,
) -> None:
    """Let the processes draw jobs in turns; all of them stop where samples of one are not finite.

    Args:
        jobs: what there is to draw, the same in every process.
        draw: draws a job and writes it, or nothing where samples are not finite: their seeds or names.
        ranks: the processes that share the work.
        size: how many samples a job has.
        on_done: called with the number of samples that are done.

    Raises:
        NonFiniteSamplesError: if samples are not finite.

    """
    done, report = 0, on_done or (lambda _: None)
    for turn in range(0, len(jobs), ranks.count):
        report(done)
        now = jobs[turn : turn + ranks.count]
        bad = draw(now[ranks.index]) if ranks.index < len(now) else ()
        done += sum(map(size, now))
        # In every process, or the others would wait for this one.
        _refuse([name for part in ranks.gather(bad) for name in part])
    report(done)
    ranks.wait()


def _refuse(bad: Sequence[int | str]) -> None:
    if bad:
        what = "samples of seeds" if isinstance(bad[0], int) else "audio of"
        raise NonFiniteSamplesError(
            f"the {what} {list(bad)} {'are' if isinstance(bad[0], int) else 'is'} not finite: the network diverged in "
            "training, or needs another --solver or more --steps"
        )


def claim(folder: Path, note: dict[str, Any], ranks: Ranks) -> None:
    """Note the settings in the folder, and refuse to mix samples of different ones."""
    file = folder / "settings.json"
    ranks.wait()  # so that no process reads what another is about to write
    if file.is_file() and json.loads(file.read_text()) != note:
        raise ValueError(f"{str(folder)!r} holds samples drawn with other settings ({file}): choose another --out")
    ranks.wait()
    if ranks.is_first:
        write_file(file, json.dumps(note, indent=1).encode())


def missing(folder: Path, seeds: Sequence[int], suffix: str = ".png") -> set[int]:
    """The seeds whose samples the folder lacks."""
    there = {file.name for file in folder.glob(f"*{suffix}")}
    return {seed for seed in seeds if sample_name(seed, suffix) not in there}


def sample_name(seed: int, suffix: str = ".png") -> str:
    """The name of a sample's file."""
    return f"{seed:06d}{suffix}"


def read_sample(folder: Path, seed: int, channels: int) -> UInt8[Tensor, "channels height width"]:
    """The pixels of a sample that was drawn.

    Raises:
        ValueError: if its file is missing or damaged.

    """
    file = folder / sample_name(seed)
    try:
        with import_extra("PIL.Image", "train").open(file) as image:
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"the sample {str(file)!r} cannot be read ({error}): delete it, and run the command again"
        ) from error
    return torch.from_numpy(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy())


def split(items: Sequence[int], size: int) -> list[Sequence[int]]:
    """The items in order, in batches of a size (the last one may be smaller)."""
    return [items[start : start + size] for start in range(0, len(items), size)]
