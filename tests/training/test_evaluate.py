"""Evaluations: numbers of a direct computation, the same for any number of processes, continued where they stopped."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from passband._checks import MissingExtraError
from passband._files import write_file
from passband.data import ImageFolder, from_uint8, save_image
from passband.metrics import (
    FeatureStatistics,
    ModuleFeatures,
    extrapolated_frechet_distance,
    frechet_distance,
    log_spectral_distance,
    polynomial_mmd,
    precision_recall_scores,
)
from passband.reports.compare import finite
from passband.training import RecipeError, evaluate, make_recipe, restore
from passband.training.draw import missing
from passband.training.evaluate import EvaluationSettings, Evaluator, real_images
from passband.training.measure import Measured
from passband.training.ranks import Ranks
from passband.transforms import radial_psd

SIDE = 16


class TwoFeatures(nn.Module):
    """Mean and spread of an image's pixels."""

    def forward(self, x):
        return torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)


class ThreeClasses(nn.Module):
    """Made-up logits."""

    def forward(self, x):
        return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3)), x[:, 0, 0, 0]], 1)


FEATURES = ModuleFeatures(TwoFeatures(), "mean and spread", dim=2)
SCORED = ModuleFeatures(TwoFeatures(), "mean and spread", dim=2, classifier=ThreeClasses())


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 gray images."""
    folder = tmp_path_factory.mktemp("real")
    generator = torch.Generator().manual_seed(0)
    for i in range(70):
        contrast = 0.1 + 0.01 * i
        image = contrast * torch.randn(1, SIDE, SIDE, generator=generator)
        save_image(image.clamp(-1, 1), folder / f"{i:03d}.png")
    return folder


def settings(real: Path | None, **changes) -> EvaluationSettings:
    return EvaluationSettings(real=real, **({"count": 40, "steps": 2, "batch_size": 16} | changes))


def pixels(folder: Path, **options) -> torch.Tensor:
    data = ImageFolder(folder, SIDE, channels=1, **options)
    return torch.stack([data.pixels(i) for i in range(len(data))])


def statistics(features: torch.Tensor) -> FeatureStatistics:
    found = FeatureStatistics()
    found.update(features)
    return found


@pytest.fixture(scope="module")
def evaluated(finished: Path, real: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A finished evaluation, with its page: its folder and its results."""
    out = tmp_path_factory.mktemp("evaluated")
    evaluator = Evaluator(settings(real), real_stats=out / "stats", extractors=[SCORED])
    return out, evaluator.evaluate(finished, out)


@pytest.fixture(autouse=True)
def without_page(evaluated: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further evaluations write their numbers alone: the page and its figures take most of the time."""

    def write(results: dict, spectrum: object, real: object, fake: object, out: Path, **_: object) -> None:
        write_file(out / "results.json", json.dumps(finite(results)).encode())

    monkeypatch.setattr(evaluate, "evaluation_report", write)


def test_numbers_equal_a_direct_computation(evaluated, real: Path):
    out, results = evaluated
    found = {entry["key"]: entry for entry in results["metrics"]}
    a, b = SCORED(pixels(real)), SCORED(pixels(out / "samples"))
    assert (len(a), len(b)) == (70, 40)
    frechet = found["frechet"]
    assert frechet["value"] == pytest.approx(frechet_distance(statistics(a), statistics(b)), rel=1e-9)
    assert frechet["floor"] == pytest.approx(frechet_distance(statistics(a[::2]), statistics(a[1::2])), rel=1e-9)
    assert frechet["floor_counts"] == [35, 35]
    limit = extrapolated_frechet_distance(statistics(a), b)
    assert (frechet["extrapolated"], frechet["extrapolated_error"]) == pytest.approx(
        (limit.distance, limit.error), rel=1e-6
    )
    assert found["kid"]["value"] == pytest.approx(polynomial_mmd(a, b), rel=1e-9)
    expected = precision_recall_scores(a, b)
    assert (found["precision"]["value"], found["recall"]["value"]) == (expected.precision, expected.recall)
    psd_a, psd_b = (radial_psd(from_uint8(x)).double().mean((0, 1)) for x in (pixels(real), pixels(out / "samples")))
    assert found["lsd"]["value"] == pytest.approx(float(log_spectral_distance(psd_b, psd_a)), rel=1e-6)
    assert results["spectrum"]["lsd_db"] == found["lsd"]["value"]
    assert found["lsd"]["floor"] == results["spectrum"]["reference_lsd_db"]
    assert 1 <= found["inception_score"]["value"] <= 3


def test_the_results_say_what_they_are_of(evaluated, finished: Path):
    out, results = evaluated
    assert json.loads((out / "results.json").read_text()) == results
    for entry in results["metrics"]:
        assert (entry["real"], entry["fake"]) == (70, 40)
        assert entry["better"] == ("lower" if entry["metric"] in ("frechet", "kid", "lsd") else "higher")
        if entry["metric"] != "lsd":
            assert (entry["features"], entry["resize"]) == (SCORED.name, "none")
    samples = results["samples"]
    assert samples["run"] == str(finished)
    assert (samples["step"], samples["weights"], samples["seeds"]) == (6, "ema", [0, 39])
    assert (samples["solver"], samples["steps"], samples["nfe"]) == ("euler", 2, 2)
    assert results["seconds"] >= 0
    assert results["versions"]["torch"] == torch.__version__
    assert (out / "index.html").is_file()


def test_it_is_not_repeated(evaluated, finished: Path, real: Path, monkeypatch: pytest.MonkeyPatch):
    out, results = evaluated
    monkeypatch.setattr(evaluate, "measure", pytest.fail)
    again = Evaluator(settings(real), real_stats=out / "stats", extractors=[SCORED]).evaluate(finished, out)
    assert again == results


def changed(results: dict) -> dict:
    return {key: value for key, value in results.items() if key not in ("seconds", "command")}


def test_samples_that_were_deleted_are_drawn_again(evaluated, finished: Path, real: Path, tmp_path: Path):
    out, results = evaluated
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    for seed in (0, 17, 39):
        (copy / "samples" / f"{seed:06d}.png").unlink()
    again = Evaluator(settings(real), real_stats=copy / "stats", extractors=[SCORED]).evaluate(finished, copy)
    assert missing(copy / "samples", range(40)) == set()
    assert changed(again) == changed(results)


@pytest.mark.parametrize("moment", ["drawing samples", "measuring real images", "measuring fake images"])
def test_an_interrupted_evaluation_goes_on(evaluated, finished: Path, real: Path, tmp_path: Path, moment: str):
    _, results = evaluated
    evaluator = Evaluator(settings(real), real_stats=tmp_path / "stats", extractors=[SCORED])

    def interrupt(what: str, done: int, total: int) -> None:
        if what == moment and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(finished, tmp_path / "out", on_progress=interrupt)
    assert not (tmp_path / "out" / "results.json").exists()
    assert changed(evaluator.evaluate(finished, tmp_path / "out")) == changed(results)


def test_other_settings_need_another_folder(evaluated, finished: Path, real: Path):
    out, _ = evaluated
    with pytest.raises(ValueError, match="holds samples drawn with other settings"):
        Evaluator(settings(real, steps=3), real_stats=out / "stats", extractors=[SCORED]).evaluate(finished, out)


def test_real_statistics_are_reused(finished: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "real.safetensors"

    def results(name: str) -> dict:
        evaluator = Evaluator(settings(real, count=10), real_stats=file, extractors=[FEATURES])
        return evaluator.evaluate(finished, tmp_path / name)

    first = results("first")
    read, reads = evaluate.RealImages.read, []
    monkeypatch.setattr(evaluate.RealImages, "read", lambda self, index: reads.append(index) or read(self, index))
    second = results("second")
    assert 0 < len(reads) < 20  # of 70: to tell whether they are the same images
    assert second["metrics"] == first["metrics"]
    assert second["spectrum"] == first["spectrum"]


def test_real_statistics_of_something_else_are_refused(evaluated, finished: Path, real: Path, tmp_path: Path):
    out, _ = evaluated
    (kept,) = (out / "stats").glob("*.safetensors")
    file = Path(shutil.copy(kept, tmp_path / "real.safetensors"))

    def refused(match: str, extractor=SCORED, **changes) -> None:
        evaluator = Evaluator(settings(real, **changes), real_stats=file, extractors=[extractor])
        with pytest.raises(ValueError, match=match):
            evaluator.evaluate(finished, tmp_path / "out")

    other = ModuleFeatures(TwoFeatures(), "something else", dim=2)
    refused("are of other images or features: count 70, not 60; files", limit=60)
    refused("features .*mean and spread.*, not .*something else", extractor=other)
    refused("stored True, not False", metrics=["lsd"])
    file.write_bytes(kept.read_bytes()[:1000])
    refused(r"real\.safetensors' cannot be read .*: delete that file")
    assert not (tmp_path / "out" / "samples").exists()


def test_without_features_nothing_is_loaded(
    finished: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(evaluate, "load_features", pytest.fail)
    results = Evaluator(settings(real, metrics=["lsd"], count=4), real_stats=tmp_path).evaluate(
        finished, tmp_path / "out"
    )
    assert [entry["key"] for entry in results["metrics"]] == ["lsd"]


def test_several_features_are_told_apart(finished: Path, real: Path, tmp_path: Path):
    other = ModuleFeatures(nn.Flatten(), "pixels", resize=2)
    chosen = settings(real, count=6, metrics=["frechet", "lsd"])
    results = Evaluator(chosen, real_stats=tmp_path, extractors=[FEATURES, other]).evaluate(finished, tmp_path / "out")
    assert [entry["key"] for entry in results["metrics"]] == [
        f"frechet ({FEATURES.name})",
        f"frechet ({other.name})",
        "lsd",
    ]
    assert "extrapolated" not in results["metrics"][1]  # too few samples for 12 features


def test_a_missing_package_is_named_with_its_extra(finished: Path, real: Path, tmp_path: Path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("efficientnet_lite")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'passband\[eval\]'"):
        Evaluator(settings(real), real_stats=tmp_path).evaluate(finished, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_score_without_a_classifier_is_refused(finished: Path, real: Path, tmp_path: Path):
    chosen = settings(real, metrics=["inception_score"])
    with pytest.raises(ValueError, match="needs a classifier, which none of the features has"):
        Evaluator(chosen, real_stats=tmp_path, extractors=[FEATURES]).evaluate(finished, tmp_path / "out")


def test_few_samples_leave_out_what_they_cannot_measure(finished: Path, real: Path, tmp_path: Path):
    def evaluator(**changes) -> Evaluator:
        return Evaluator(settings(real, count=3, **changes), real_stats=tmp_path / "stats", extractors=[SCORED])

    results = evaluator().evaluate(finished, tmp_path / "out")
    assert [entry["key"] for entry in results["metrics"]] == ["frechet", "kid", "lsd"]
    for metric, message in (("precision_recall", "more than 3 real"), ("inception_score", "in each of 10 splits")):
        with pytest.raises(ValueError, match=message):
            evaluator(metrics=[metric]).evaluate(finished, tmp_path / "out")


def test_settings_that_measure_nothing():
    with pytest.raises(ValueError, match="metrics must name at least one"):
        settings(None, metrics=[])
    with pytest.raises(ValueError, match="features must name at least one extractor"):
        settings(None, features=[])


def test_the_real_images_of_a_recipe_are_those_that_training_did_not_see(tiny, finished: Path, real: Path):
    data = {
        "name": "images",
        "path": str(real),
        "resolution": SIDE,
        "channels": 1,
        "subset": "train",
        "eval_share": 0.5,
    }
    recipe = tiny().model_dump(mode="json")
    found = restore(finished)._replace(recipe=make_recipe(recipe | {"data": data}))
    held_out, seen = (ImageFolder(real, SIDE, channels=1, subset=part, eval_share=0.5) for part in ("eval", "train"))
    chosen = real_images(found, settings(None))
    assert chosen.data.names == held_out.names
    assert set(chosen.data.names).isdisjoint(seen.names)
    assert real_images(found, settings(None, limit=3)).count == 3
    whole = make_recipe(recipe | {"data": data | {"subset": "all"}})
    assert real_images(found._replace(recipe=whole), settings(None)).count == 70
    assert real_images(found, settings(real)).count == 70


def test_the_held_out_part_of_a_table_is_taken_too(tiny, finished: Path, real: Path, monkeypatch: pytest.MonkeyPatch):
    asked, images = [], ImageFolder(real, SIDE, channels=1)
    monkeypatch.setattr(evaluate, "build_dataset", lambda data: asked.append(data) or images)
    data = {"name": "hub", "path": "table", "resolution": SIDE, "channels": 1, "subset": "train"}
    recipe = make_recipe(tiny().model_dump(mode="json") | {"data": data})
    real_images(restore(finished)._replace(recipe=recipe), settings(None, limit=2))
    assert (asked[0].subset, asked[0].limit) == ("eval", 2)


def test_other_pixels_of_the_same_names_and_sizes_are_other_images(finished: Path, real: Path, tmp_path: Path):
    other = Path(shutil.copytree(real, tmp_path / "other"))
    for file in other.glob("*.png"):
        with Image.open(file) as image:
            flipped = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        flipped.save(file)
    same = Path(shutil.copytree(real, tmp_path / "same"))
    found = restore(finished)
    one, moved, changed = (real_images(found, settings(path)).facts for path in (real, same, other))
    assert one == moved
    assert one != changed


def test_boards_are_compared_with_as_many_fresh_ones(finished: Path):
    found = restore(finished)
    chosen = real_images(found, settings(None))
    assert chosen.count == 40
    trained_on = evaluate.build_dataset(found.recipe.data)
    assert not all(torch.equal(chosen.data[i], trained_on[i]) for i in range(10))


def test_an_imported_network_needs_real_images(finished: Path):
    with pytest.raises(RecipeError, match="give the real images with --real"):
        real_images(restore(finished)._replace(recipe=None), settings(None))


def test_broken_images_count_in_no_set(finished: Path, real: Path, tmp_path: Path):
    folder = Path(shutil.copytree(real, tmp_path / "real"))
    whole = (folder / "001.png").read_bytes()
    (folder / "000.png").write_bytes(whole[: len(whole) // 2])
    evaluator = Evaluator(settings(folder, count=4), real_stats=tmp_path / "stats", extractors=[FEATURES])
    results = evaluator.evaluate(finished, tmp_path / "out")
    assert results["spectrum"]["count"] == {"real": 69, "fake": 4}
    assert len(results["notes"]) == 1
    assert results["notes"][0].startswith("Left out of the real images: 1. 000.png")
    a = FEATURES(torch.stack([ImageFolder(real, SIDE, channels=1).pixels(i) for i in range(1, 70)]))
    b = FEATURES(pixels(tmp_path / "out" / "samples"))
    assert results["metrics"][0]["value"] == pytest.approx(frechet_distance(statistics(a), statistics(b)), rel=1e-9)
    # From the file, the note is still known.
    again = evaluate.Evaluator(settings(folder, count=5), real_stats=tmp_path / "stats", extractors=[FEATURES])
    assert again.evaluate(finished, tmp_path / "again")["notes"] == results["notes"]


def test_measured_images_are_the_same_from_their_file(real: Path, tmp_path: Path):
    data = pixels(real)
    kept = Measured("real", [SCORED], store=True)
    evaluate.measure(kept, [SCORED], lambda i: data[i], 30, batch_size=7, ranks=Ranks())
    kept.notes = ["a note"]
    kept.save(tmp_path / "real.safetensors", {"count": 30})
    found = Measured("real", [SCORED], store=True)
    found.load(tmp_path / "real.safetensors", {"count": 30})
    assert found.count == 30
    assert torch.equal(found.psd[1].psd, kept.psd[1].psd)
    assert torch.equal(found.features[0].statistics.covariance, kept.features[0].statistics.covariance)
    assert torch.equal(found.features[0].store.features, kept.features[0].store.features)
    assert torch.equal(found.thumbnails, kept.thumbnails)
    assert found.notes == ["a note"]


class FromPixels(TwoFeatures):
    """As a TorchScript file has it: from uint8."""

    def forward(self, x):
        return super().forward(x.float())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_two_processes_give_the_numbers_of_one(finished: Path, real: Path, tmp_path: Path, two_processes):
    script = tmp_path / "features.pt"
    torch.jit.trace(FromPixels(), torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)).save(str(script))
    chosen = settings(real, count=30, batch_size=8, features=[str(script)])
    one = Evaluator(chosen, real_stats=tmp_path / "stats-one").evaluate(finished, tmp_path / "one")
    command = ["-m", "passband.cli", "evaluate", finished, "--real", real, "--count=30", "--steps=2"]
    options = [
        "--batch-size=8",
        "--features",
        script,
        "--real-stats",
        tmp_path / "stats-two",
        "--out",
        tmp_path / "two",
    ]
    two_processes(*command, *options)
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert (one["processes"], two["processes"]) == (1, 2)
    files = [{f.name: f.read_bytes() for f in (tmp_path / name / "samples").glob("*.png")} for name in ("one", "two")]
    assert len(files[0]) == 30
    assert files[0] == files[1]
    assert two["metrics"] == one["metrics"]
    assert two["spectrum"] == one["spectrum"]
