"""The settings of a grid of runs: what is combined, and how each run is evaluated."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from passband._checks import check_choice
from passband.training.audio_metrics import METRICS as AUDIO_METRICS
from passband.training.evaluate import EvaluationSettings
from passband.training.evaluate_audio import AudioEvaluationSettings
from passband.training.image_metrics import METRICS
from passband.training.sections import Settings


class Selection(Settings):
    """Combinations to run: all that agree with what is given."""

    models: tuple[str, ...] | None = None
    arms: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None


class PaperSettings(Settings):
    """Published numbers, shown beside the measured ones: by model, arm, steps and metric."""

    source: str
    values: dict[str, dict[str, dict[int, dict[str, float]]]]


class GridEvaluationSettings(EvaluationSettings):
    """How each checkpoint of a network of images is evaluated."""

    kind: Literal["images"] = "images"
    keep_samples: bool = True
    known: ClassVar[Collection[str]] = METRICS


class GridAudioEvaluationSettings(AudioEvaluationSettings):
    """How each checkpoint of a network of audio is evaluated."""

    kind: Literal["audio"]
    keep_samples: bool = True
    known: ClassVar[Collection[str]] = AUDIO_METRICS


#: Of what the recipe makes; `load_grid` fills the kind in.
AnyEvaluation = Annotated[
    Annotated[GridEvaluationSettings, Tag("images")] | Annotated[GridAudioEvaluationSettings, Tag("audio")],
    Discriminator(
        lambda found: found.get("kind", "images") if isinstance(found, dict) else getattr(found, "kind", None),
        custom_error_type="kind",
        custom_error_message="evaluate is a mapping of settings, its kind images or audio",
    ),
]


class HeatMapSettings(Settings):
    """How the models lie in a heat map of the arms' differences: a model is named PANEL-ROW-COLUMN, or ROW-COLUMN."""

    rows: tuple[str, ...] = Field(min_length=1)
    columns: tuple[str, ...] = Field(min_length=1)
    panels: tuple[str, ...] = ()

    @property
    def models(self) -> list[str]:
        """The names of the models, panel by panel and row by row."""
        prefixes = [f"{panel}-" for panel in self.panels] or [""]
        return [f"{prefix}{row}-{column}" for prefix in prefixes for row in self.rows for column in self.columns]


class GridSettings(Settings):
    """A grid, whole. Each override is `key=value`, as on the command line of `passband train`."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    recipe: Path
    overrides: tuple[str, ...] = ()
    models: dict[str, tuple[str, ...]] = Field({"model": ()}, min_length=1)
    arms: dict[str, tuple[str, ...]] = Field(min_length=1)
    baseline: str
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    steps: tuple[int, ...] = Field(min_length=1)
    evaluate: AnyEvaluation = GridEvaluationSettings()
    only: tuple[Selection, ...] = ()
    keep_checkpoints: bool = True
    heat_map: HeatMapSettings | None = None
    paper: PaperSettings | None = None

    @field_validator("only", mode="before")
    @classmethod
    def _one(cls, only: object) -> object:
        return [only] if isinstance(only, dict) else only

    @model_validator(mode="after")
    def _fits(self) -> "GridSettings":
        for name, values in (("seeds", self.seeds), ("steps", self.steps)):
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must be distinct, got {list(values)}")
        if min(self.steps) < 1:
            raise ValueError(f"steps must be at least 1, got {list(self.steps)}")
        check_choice("baseline", self.baseline, self.arms)
        for name in (*self.models, *self.arms):
            if not name or Path(name).name != name or name.startswith("."):
                raise ValueError(f"the names of models and arms become folders, which {name!r} cannot be")
        self._check_selections()
        for model in self.heat_map.models if self.heat_map else ():
            check_choice("model in heat_map", model, self.models)
        for model, arms in (self.paper.values if self.paper else {}).items():
            check_choice("model in paper", model, self.models)
            for arm, steps in arms.items():
                check_choice("arm in paper", arm, self.arms)
                for metric in (metric for values in steps.values() for metric in values):
                    check_choice("metric in paper", metric, self.evaluate.known)
        return self

    def _check_selections(self) -> None:
        for selection in self.only:
            for model in selection.models or ():
                check_choice("model in only", model, self.models)
            for arm in selection.arms or ():
                check_choice("arm in only", arm, self.arms)
