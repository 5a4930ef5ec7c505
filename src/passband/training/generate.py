"""Images of a benchmark's prompts in the folders that its scorer reads, shared among processes and continued."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from passband._checks import check_choice, import_extra
from passband._files import written_whole
from passband._seeds import seed_for
from passband.integrations.text_to_image import Generator, GeneratorSettings
from passband.training.draw import OnDrawn, claim
from passband.training.prompts import BENCHMARKS, Prompt, Wanted, tiled
from passband.training.ranks import Ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Generation:
    """A benchmark's prompts, and how their images are drawn.

    Args:
        benchmark: `geneval` or `dpg`.
        prompts: the benchmark's prompts.
        model: where the model is, noted beside the images.
        settings: how images are drawn; noted too.
        images_per_prompt: number of images of each prompt.
        seed: image i of a prompt has the seed of (seed, i, the prompt's name).
        batch_size: images at once; changes no image (beyond the network's own rounding).

    Raises:
        ValueError: if the benchmark is unknown, or a number out of range.

    """

    benchmark: str
    prompts: Sequence[Prompt]
    model: str
    settings: GeneratorSettings
    images_per_prompt: int = 4
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_choice("benchmark", self.benchmark, BENCHMARKS)
        most = BENCHMARKS[self.benchmark].most
        if self.images_per_prompt < 1 or (most is not None and self.images_per_prompt > most):
            limit = "" if most is None else f" and at most {most}, which one picture shows"
            raise ValueError(f"images_per_prompt must be at least 1{limit}, got {self.images_per_prompt}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def note(self) -> dict[str, Any]:
        """What tells these images from others; kept in their folder as settings.json."""
        whole = json.dumps([[prompt.name, prompt.text] for prompt in self.prompts])
        return {
            "benchmark": self.benchmark,
            "prompts": len(self.prompts),
            "prompts_sha256": hashlib.sha256(whole.encode()).hexdigest(),
            "model": self.model,
            "images_per_prompt": self.images_per_prompt,
            "seed": self.seed,
            **json.loads(json.dumps(vars(self.settings))),
        }

    def files(self, share: tuple[int, int] = (1, 1)) -> list[Wanted]:
        """The image files of a share of the prompts: (I, N) is the I-th of N, from 1."""
        index, count = share
        if not 1 <= index <= count:
            raise ValueError(f"a share is I of N with I from 1 to N, got {index} of {count}")
        lay_out = BENCHMARKS[self.benchmark].files
        return [
            wanted for prompt in self.prompts[index - 1 :: count] for wanted in lay_out(prompt, self.images_per_prompt)
        ]

    def seed_of(self, prompt: Prompt, image: int) -> int:
        """The seed of a prompt's image, whatever the other prompts and however many images it has."""
        return seed_for(self.seed, image, f"prompt {prompt.name}")

    def write(
        self,
        generator: Generator,
        out: Path,
        share: tuple[int, int] = (1, 1),
        ranks: Ranks | None = None,
        on_drawn: OnDrawn | None = None,
    ) -> int:
        """Draw what the folder lacks; files that are there are kept.

        Args:
            generator: the model.
            out: the folder.
            share: (I, N): only the I-th of N shares of the prompts.
            ranks: the processes that share the work, of which this is one; all must call this.
            on_drawn: called with the number of images that are there and that are wanted, after each batch.

        Returns:
            The number of images of the share.

        Raises:
            ValueError: if the folder holds images of other settings, or the model returns no such images.

        """
        ranks = Ranks() if ranks is None else ranks
        wanted = self.files(share)
        claim(out, self.note, ranks)
        if ranks.is_first:
            _describe(wanted, out)
        # Files are drawn in the same company after an interruption: the same bits.
        together = max(1, self.batch_size // len(wanted[0].images)) if wanted else 1
        lacking = ranks.first({file.path for file in wanted if not (out / file.path).is_file()})
        groups = [group for group in _split(wanted, together) if any(file.path in lacking for file in group)]
        total = sum(len(file.images) for file in wanted)
        done = total - sum(len(file.images) for file in wanted if file.path in lacking)
        for turn in range(0, len(groups), ranks.count):
            if on_drawn is not None:
                on_drawn(done, total)
            fault = None
            for place, group in enumerate(groups[turn : turn + ranks.count]):
                if place == ranks.index:
                    fault = self._draw(generator, group, lacking, out)
                done += sum(len(file.images) for file in group if file.path in lacking)
            # In every process, or the others would wait for this one.
            for found in ranks.gather(fault):
                if found is not None:
                    raise found
        if on_drawn is not None:
            on_drawn(done, total)
        ranks.wait()
        return total

    def _draw(
        self, generator: Generator, group: Sequence[Wanted], lacking: set[Path], out: Path
    ) -> ValueError | TypeError | None:
        """Draw a group of files and write what lacks; or nothing, and say why."""
        pairs = [(file.prompt, image) for file in group for image in file.images]
        images: list[Tensor] = []
        try:
            for batch in _split(pairs, self.batch_size):
                texts, seeds = [prompt.text for prompt, _ in batch], [self.seed_of(*pair) for pair in batch]
                images += generator(texts, seeds)
        except (ValueError, TypeError) as error:
            return error
        found = iter(images)
        for file in group:
            own = [next(found) for _ in file.images]
            if file.path in lacking:
                _write(tiled(own), out / file.path)
        return None


def _describe(wanted: Sequence[Wanted], out: Path) -> None:
    """GenEval's line beside its images."""
    for prompt in {file.prompt.name: file.prompt for file in wanted}.values():
        file = out / prompt.name / "metadata.jsonl"
        if prompt.metadata is not None and not file.is_file():
            with written_whole(file, synced=False) as partial:
                partial.write_text(json.dumps(prompt.metadata) + "\n", encoding="utf-8")


def _write(image: Tensor, path: Path) -> None:
    picture = import_extra("PIL.Image", "train").fromarray(image.permute(1, 2, 0).contiguous().numpy())
    with written_whole(path) as partial:
        picture.save(partial, format="PNG")


def _split(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
