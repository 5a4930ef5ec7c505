"""The benchmark of the suggestion: its arms, its split of photographs, its control."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from passband.data import ImageFolder, PowerLawFields, checkerboards, power_law_fields, save_image
from passband.process import Flow
from passband.training.batches import Reading
from passband.training.demo import TERM
from passband.training.diagnosis_data import DiagnosisData
from passband.training.sections import ImagesData
from passband.training.subject import Subject

ROOT = Path(__file__).resolve().parents[1]
SUGGESTED = """
regularizer:
  losses: [{name: amplitude_phase}]
  weight: 0.02
  gate: {max_ratio: 4.0, softness: 0.25}
"""


def subject(model, process, shape, data=None):
    return Subject(
        name="it",
        model=model,
        process=process,
        shape=shape,
        kind="images",
        given=lambda _: {},
        clean=lambda batch: batch.clean,
        move=lambda _: None,
        data=data,
    )


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    names = ("suggestion", "suggestion_arms", "suggestion_data", "suggestion_table")
    return SimpleNamespace(**{name: importlib.import_module(f"benchmarks.{name}") for name in names})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Fourteen photographs of 272 by 264 pixels, which are four tiles each at a quarter of their sides."""
    folder = tmp_path_factory.mktemp("photos")
    for number, field in enumerate(power_law_fields(14, 272, 2.0, seed=0).clamp(-1, 1)):
        save_image(field.expand(3, -1, -1)[:, :264], folder / f"{number}.png")
    return folder


def test_what_each_arm_adds(benchmark):
    arms, said = benchmark.suggestion_arms, yaml.safe_load(SUGGESTED)
    assert arms.lines("none", SUGGESTED) == {}
    assert arms.lines("the demo's", "") == {"regularizer": TERM}
    assert arms.lines("suggested", SUGGESTED) == said
    assert arms.lines("suggested, λ × 3", SUGGESTED) == {"regularizer": said["regularizer"] | {"weight": 0.06}}
    front = {"name": "contour", "beta": 2.0, "k1": 1.0, "size": 32}
    assert arms.lines(arms.FRONT, SUGGESTED, front) == said | {"forcing": {"front": front}}
    for arm in ("suggested", arms.FRONT, "suggested, λ × 3"):
        assert arms.lines(arm, "", front) is None
    assert arms.lines(arms.FRONT, SUGGESTED) is None
    assert arms.lines(arms.FRONT, SUGGESTED + "forcing: {front: {name: linear}}", front) is None


def test_no_photograph_is_on_both_sides(benchmark, photos, tmp_path):
    data = benchmark.suggestion_data.Photographs(photos, tmp_path)
    assert sorted(data.split["train"] + data.split["held-out"]) == sorted(file.name for file in photos.iterdir())
    assert (len(data.split["train"]), len(data.split["held-out"])) == (6, 8)
    trained = ImageFolder(data.lines()["data"]["path"], 32, crop="tile")
    assert len(trained) == 6 * 4
    tiled = ImagesData.model_validate(data.lines()["data"])
    held = data.held_out(subject(lambda x, t: x, Flow(data_at=1), (3, 32, 32), tiled))
    assert (held.count, held.by_sample) == (8 * 4, False)
    keys = {held.key(index) for index in held.indices()}
    assert keys == {name.removesuffix(".png") + ".png" for name in data.split["held-out"]}
    assert not keys & {trained.origin(index)[0].removesuffix(".png") for index in range(len(trained))}


def test_samples_that_are_the_training_tiles(benchmark, photos, tmp_path):
    data = benchmark.suggestion_data.Photographs(photos, tmp_path)
    tiles = ImageFolder(data.folder("train"), 32, crop="tile")
    images = torch.stack([tiles[index] for index in range(len(tiles))])
    same, weak = data.measure(images), data.measure(images / 2)
    assert same["lsd_train"] == pytest.approx(0, abs=1e-5)
    assert weak["lsd_train"] == pytest.approx(6.02, abs=0.03)
    assert weak["octave_difference_train"] == pytest.approx([-6.02] * 5, abs=0.01)
    assert data.facts()["training tiles beside held-out tiles"]["lsd"] == pytest.approx(same["lsd"], abs=1e-5)


def test_true_boards_are_near_the_truth(benchmark):
    data = benchmark.suggestion_data.Boards()
    found = data.measure(checkerboards(64, 32, (2, 4, 8), seed=5))
    assert found["octaves"] == 0
    assert found["pattern_distance"] == pytest.approx(0, abs=1e-6)
    assert found["lsd"] < 3


def test_a_control_as_strong(benchmark):
    """It differs in its loss and weight alone; the pixel loss's gradient is that of L1, of which the norm is known."""
    dataset = PowerLawFields(resolution=32, beta=2.0, share=0.0, length=16, seed=3)
    blank = subject(lambda x, t: torch.zeros_like(x), Flow(data_at=1, prediction="sample"), (1, 32, 32))
    lines, strengths = benchmark.suggestion_arms.as_strong(
        SUGGESTED, blank, DiagnosisData(dataset, Reading(), 16, 0, "it")
    )
    said, weight = yaml.safe_load(SUGGESTED), strengths["pixel"]["weight"]
    assert lines == said | {"regularizer": said["regularizer"] | {"losses": [{"name": "pixel"}], "weight": weight}}
    # The estimate is 0 everywhere: L1's gradient is 1/N at each of N pixels, that of the base loss 2 x / N.
    clean = torch.stack([dataset[i] for i in range(16)])
    pull = (1 / clean.square().mean().sqrt() / 2).item()
    reached = [0.3 if drawn else 0.0 for drawn in strengths["visits"]]
    assert strengths["pixel"]["levels"] == pytest.approx(reached, rel=0.06)  # the weight has two digits
    assert weight == pytest.approx(0.3 / pull, rel=0.06)
    assert benchmark.suggestion_arms.as_strong("", blank, None) is None


def test_tables_pair_the_arms_within_seeds(benchmark):
    table = benchmark.suggestion_table
    values = {"none": (3.0, 5.0, 7.0), "suggested": (2.0, 4.1, 5.9), "a pixel loss as strong": (1.0, 3.0, 8.0)}
    runs = [
        {"arm": arm, "seed": seed, "numbers": {"lsd": value}, "against": {"less": seed, "more": 0}}
        for arm, row in values.items()
        for seed, value in enumerate(row)
    ]
    rows = table.table(runs, {"lsd": "LSD"}).splitlines()
    assert rows[0] == "|  | none | suggested | a pixel loss as strong |"
    assert rows[2] == "| LSD | 5.0 ± 1.2 | 4.0 ± 1.1 | 4.0 ± 2.1 |"
    # Differences −1, −0.9, −1.1 are clear with two degrees of freedom; −2, −2, +1 are not.
    assert rows[3] == "| … difference |  | **−1.000 ± 0.058** | −1.0 ± 1.0 |"
    pair = table.between(runs, {"lsd": "LSD"}, "suggested", "a pixel loss as strong").splitlines()
    assert pair[2] == "| LSD | +0.0 ± 1.1 |"
    assert table.strengths(runs) == ""
