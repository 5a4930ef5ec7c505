"""Samples of a trained network as PNG files named by their seeds, shared among processes and continued."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from passband._checks import check_choice, import_extra
from passband._files import write_file
from passband.data import save_image
from passband.sampling import SOLVERS, sample, time_grid
from passband.training.conditioning import CLASS_RULES, sampling_options
from passband.training.ranks import Ranks
from passband.training.restore import Restored

#: Called with (samples there, samples in all).
OnDrawn = Callable[[int, int], None]


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

    Raises:
        ValueError: if the solver is unknown or the number of steps is not possible.

    """

    found: Restored
    run: Path
    steps: int | None = None
    solver: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        # Before a folder is claimed for these settings.
        settings = self.settings
        check_choice("solver", settings["solver"], SOLVERS)
        time_grid(self.found.process, settings["steps"], settings["spacing"])

    @property
    def settings(self) -> dict[str, Any]:
        """Steps, solver and other arguments of [`sample`][passband.sampling.sample]."""
        settings: dict[str, Any] = self.found.sampling.model_dump(exclude={"count", "seed", "guidance", "classes"})
        return settings | {k: v for k, v in {"steps": self.steps, "solver": self.solver}.items() if v is not None}

    @property
    def evaluations(self) -> int:
        """Steps of the network of one sample (NFE): Heun's take two, but for the last; guidance is not counted."""
        steps = int(self.settings["steps"])
        return 2 * steps - 1 if self.settings["solver"] == "heun" else steps

    @property
    def note(self) -> dict[str, Any]:
        """What tells samples of one kind from others; kept in the folder as settings.json."""
        found = self.found
        note = {"run": str(self.run.resolve()), "step": found.step, "weights": found.weights, **self.settings}
        if found.forcing is not None:
            note["forcing"] = found.forcing
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
            folder: where the PNG files lie, or shall lie.
            seeds: one for each sample.
            ranks: the processes that share the work, of which this is one; all must call this.
            on_drawn: called after each batch of this process.

        Raises:
            ValueError: if the folder holds samples drawn with other settings, or a sample is not finite.

        """
        ranks = Ranks() if ranks is None else ranks
        claim(folder, self.note, ranks)
        lacking = ranks.first(missing(folder, seeds))
        batches = [batch for batch in split(seeds, self.batch_size) if lacking.intersection(batch)]
        self.found.model.to(ranks.device)
        if self.found.decode is not None:
            self.found.decode.to(ranks.device)
        done = len(seeds) - len(lacking)
        for turn in range(0, len(batches), ranks.count):
            if on_drawn is not None:
                on_drawn(done, len(seeds))
            bad: list[int] = []
            for place, batch in enumerate(batches[turn : turn + ranks.count]):
                if place == ranks.index:
                    bad = self._draw(batch, lacking, ranks.device, folder)
                done += len(lacking.intersection(batch))
            # In every process, or the others would wait for this one.
            _refuse([seed for part in ranks.gather(bad) for seed in part])
        if on_drawn is not None:
            on_drawn(done, len(seeds))
        ranks.wait()

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
            **self.settings,
            **sampling_options(found.model, found.sampling, seeds, found.num_classes, device),
        )
        images = (drawn if found.decode is None else found.decode(drawn)).cpu()
        bad = [seed for seed, image in zip(seeds, images, strict=True) if not bool(torch.isfinite(image).all())]
        for seed, image in zip(seeds, images, strict=True):
            if seed in lacking and not bad:
                save_image(image, folder / sample_name(seed))
        return bad


def _refuse(bad: Sequence[int]) -> None:
    if bad:
        raise NonFiniteSamplesError(
            f"the samples of seeds {list(bad)} are not finite: the network diverged in training, or needs another "
            "--solver or more --steps"
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


def missing(folder: Path, seeds: Sequence[int]) -> set[int]:
    """The seeds whose samples the folder lacks."""
    there = {file.name for file in folder.glob("*.png")}
    return {seed for seed in seeds if sample_name(seed) not in there}


def sample_name(seed: int) -> str:
    """The name of a sample's file."""
    return f"{seed:06d}.png"


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
