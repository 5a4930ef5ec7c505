"""From a pipeline, images and a few wishes to the recipe of a finetuning."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passband._checks import check_choice
from passband.training.config import (
    FinetuneRecipe,
    RecipeError,
    changed_settings,
    make_recipe,
    parse_override,
    read_settings,
)
from passband.training.finetune.info import pipeline_info

#: What the spectral term may be by name.
TERMS = ("amplitude_phase", "amplitude", "wavelet", "focal_frequency", "pixel", "none")

#: Without a recipe: a term that has a tenth of the base loss's gradient, whatever the pipeline's units.
#: The gate leaves out the noisiest times, where an error of predicted noise is many of the image.
_TERM, _WEIGHT, _GATE = "amplitude_phase", {"share": 0.1}, {"max_ratio": 10.0}
_LORA_LR = 1e-4


@dataclass(frozen=True)
class FinetuneRequest:
    """What a finetuning is asked to be: a recipe, or the defaults, with a few settings by short names.

    Args:
        pipeline: the folder of a diffusers pipeline.
        images: a folder or zip of images.
        recipe: a YAML file of a finetuning; None for the defaults.
        prompt: one caption for all images.
        lora: rank of adapters.
        term: the spectral term's name, `none` for none.
        weight: its weight.
        steps: training steps.
        resolution: of the images.
        strict: stop at the first image that cannot be read.
        overrides: further `key=value` settings, which come last.

    """

    pipeline: Path
    images: Path
    recipe: Path | None = None
    prompt: str | None = None
    lora: int | None = None
    term: str | None = None
    weight: float | None = None
    steps: int | None = None
    resolution: int | tuple[int, int] | None = None
    strict: bool = False
    overrides: tuple[str, ...] = ()

    def settings(self) -> FinetuneRecipe:
        """The resolved recipe.

        Raises:
            RecipeError: if a setting is unknown, out of range or does not fit the others; or if the recipe is one of
                another task.
            FileNotFoundError, ValueError: if there is no pipeline in the folder.

        """
        if self.term is not None:
            check_choice("--term", self.term, TERMS)
        if self.weight is not None and self.term == "none":
            raise ValueError("--weight is the spectral term's, and --term none asks for none: leave one of them out")
        values = self._base()
        found = make_recipe(changed_settings(values, self._changes(values)), self._source)
        assert isinstance(found, FinetuneRecipe)
        return found

    @property
    def _source(self) -> str:
        return "the recipe" if self.recipe is None else str(self.recipe)

    def _base(self) -> dict[str, Any]:
        """The recipe's values, or the defaults; what only the pipeline tells is filled in."""
        info = pipeline_info(self.pipeline)
        values = self._defaults() if self.recipe is None else self._read(self.recipe)
        for section in ("pipeline", "data"):
            if not isinstance(values.setdefault(section, {}), dict):
                raise RecipeError(f"{self._source} is not valid:\n  {section}: Input should be a mapping")
        values["data"].setdefault("resolution", info.resolution)
        if self.recipe is None and info.condition == "classes":
            values["data"]["labels"] = "folder"
        return values

    def _read(self, file: Path) -> dict[str, Any]:
        if not file.is_file():
            raise RecipeError(
                f"there is no recipe at {str(file)!r}: give the path of a YAML file, such as one in recipes/finetune"
            )
        values = read_settings(file, ())
        if values.get("task") != "finetune":
            raise RecipeError(
                f"{str(file)!r} is a recipe of the task {values.get('task', 'denoiser')!r}, and one of 'finetune' is "
                "needed: take one of recipes/finetune, or train it with `passband train`"
            )
        return values

    def _defaults(self) -> dict[str, Any]:
        found: dict[str, Any] = {"task": "finetune", "name": "finetune"}
        if self.term != "none":
            found["regularizer"] = {"losses": [{"name": _TERM}], "weight": dict(_WEIGHT), "gate": dict(_GATE)}
        if self.lora is not None:
            found["optimizer"] = {"lr": _LORA_LR}
        return found

    def _changes(self, values: dict[str, Any]) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = [
            ("pipeline.path", str(self.pipeline)),
            ("data.path", str(self.images)),
        ]
        named = {
            "data.prompt": self.prompt,
            "training.steps": self.steps,
            "data.resolution": list(self.resolution) if isinstance(self.resolution, tuple) else self.resolution,
            "data.strict": self.strict or None,
        }
        found += [(key, value) for key, value in named.items() if value is not None]
        found += self._adapters(values) + self._term(values)
        return found + [parse_override(text) for text in self.overrides]

    def _adapters(self, values: dict[str, Any]) -> list[tuple[str, Any]]:
        if self.lora is None:
            return []
        has = isinstance(values["pipeline"].get("lora"), dict)
        return [("pipeline.lora.rank", self.lora)] if has else [("pipeline.lora", {"rank": self.lora})]

    def _term(self, values: dict[str, Any]) -> list[tuple[str, Any]]:
        if self.term == "none":
            return [("regularizer", None)]
        has = isinstance(values.get("regularizer"), dict)
        found: list[tuple[str, Any]] = []
        if self.term is not None:
            losses = [{"name": self.term}]
            new = {"losses": losses, "weight": dict(_WEIGHT), "gate": dict(_GATE)}
            found = [("regularizer.losses", losses)] if has else [("regularizer", new)]
        if self.weight is not None:
            if not has and self.term is None:
                raise ValueError(f"--weight is the spectral term's, and {self._source} has none: name it with --term")
            found.append(("regularizer.weight", self.weight))
        return found
