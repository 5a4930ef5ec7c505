"""Power-law fields in a recipe: drawn by training, and the truth of an evaluation."""

import re
from pathlib import Path

import pytest
import torch

from passband.data import PowerLawFields
from passband.training import RecipeError, evaluate, sections
from passband.training.build import build_dataset, build_process
from passband.training.config import make_recipe
from passband.training.grid import load_grid
from passband.training.restore import Restored
from passband.training.sections import SamplingSettings

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "forcing"
DATA = {"name": "power_law", "resolution": 16, "beta": 1.5, "share": 0.3, "kind": "signal", "cutoff": 3, "channels": 3}
DATA |= {"std": 0.2, "length": 50, "seed": 9}


def recipe(**data: object) -> object:
    values = {"name": "fields", "data": {**DATA, **data}, "process": {"name": "flow"}}
    return make_recipe(values | {"model": {"name": "jit", "patch_size": 8}})


def test_every_setting_reaches_the_data_set():
    found = recipe()
    data = build_dataset(found.data)
    expected = PowerLawFields(
        16, 1.5, share=0.3, kind="signal", cutoff=3, channels=3, std=0.2, length=50, seed=9
    )  # fmt: skip
    assert len(data) == 50
    assert torch.equal(data[7], expected[7])
    assert found.sample_shape == tuple(data[7].shape) == (3, 16, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "edges"}, "data.kind: .*'noise' or 'signal'"),
        ({"cutoff": 5}, "data: cutoff must be at most 4 for resolution 16, got 5"),
        ({"share": 1}, "data.share"),
        ({"betta": 1}, "unknown key 'betta'.*did you mean 'beta'"),
    ],
)
def test_faults(changes: dict, message: str):
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        recipe(**changes)


def test_an_evaluation_compares_with_fields_that_training_did_not_see():
    process = build_process(recipe().process)
    found = Restored(torch.nn.Identity(), process, SamplingSettings(), (3, 16, 16), 0, 1, recipe())
    real = evaluate.real_images(found, evaluate.EvaluationSettings(count=20, features=(), metrics=("lsd",)))
    assert (real.count, real.path) == (20, "power_law")
    pixels = PowerLawFields(**{k: v for k, v in DATA.items() if k not in ("name", "seed")}, seed=9 + (1 << 20))[4]
    expected = (pixels * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(real.read(4), expected)
    assert not torch.equal(real.read(4), evaluate.to_uint8(build_dataset(sections.PowerLawData(**DATA))[4]))


def test_the_grid_of_the_question_varies_one_thing_at_a_time():
    grid = load_grid(RECIPES / "question-grid.yaml")
    heat_map = grid.settings.heat_map
    assert heat_map.models == list(grid.settings.models)
    assert len(set(grid.settings.seeds)) >= 3
    for (model, arm, seed), found in grid.recipes.items():
        panel, row, column = re.fullmatch(r"(\w+)-(beta\d)-(\w+)", model).groups()
        assert found.model.patch_size == {"coarse": 8, "fine": 4}[panel]
        assert found.data.beta == int(row[-1])
        assert (found.data.share, found.data.kind) == {
            "plain": (0, "signal"), "noise": (0.2, "noise"), "signal": (0.2, "signal")
        }[column]  # fmt: skip
        assert (found.forcing is None) == (arm == "none")
        assert found.training.seed == seed
        assert found.optimizer.decay_steps == max(grid.steps)
