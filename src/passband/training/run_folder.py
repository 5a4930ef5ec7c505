"""The folder of a run: its recipe, log, samples and checkpoints."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from passband._files import write_file
from passband.training.checkpoint import checkpoints, newest_whole
from passband.training.config import AnyRecipe, RecipeError, load_recipe
from passband.training.ema import Snapshot

#: Settings that may change when a run is resumed: they change no weight at a given step.
_FREE = {
    ("name",),
    ("data", "path"),
    ("data", "workers"),
    ("data", "strict"),
    ("sampling",),
    ("training", "steps"),
    ("training", "log_every"),
    ("training", "save_every"),
    ("training", "sample_every"),
    ("training", "monitor"),
    ("training", "keep_checkpoints"),
    ("training", "keep_steps"),
    ("training", "trackers"),
    ("training", "sharding"),
}


class RunFolder:
    """Paths of a run, and its log.

    Args:
        root: the folder.

    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipe_file = root / "recipe.yaml"
        self.log_file = root / "log.jsonl"
        self.spectrum_file = root / "spectrum.jsonl"
        self.spectra = root / "spectra"
        self.samples = root / "samples"
        self.checkpoints = root / "checkpoints"
        self.snapshots = root / "snapshots"

    def latest(self) -> tuple[int, Path] | None:
        """The newest checkpoint that is whole, None without any.

        Raises:
            CheckpointError: if there are checkpoints and none is whole.

        """
        return newest_whole(self.checkpoints)

    def recipe(self) -> AnyRecipe:
        """The recipe with which the run was started.

        Raises:
            RecipeError: if this is no run folder.

        """
        if not self.recipe_file.is_file():
            raise RecipeError(
                f"{str(self.root)!r} is no run folder: "
                f"{'it holds no recipe.yaml' if self.root.exists() else 'there is nothing'}; give one that passband "
                "train, import or average wrote"
            )
        return load_recipe(self.recipe_file)

    def start(self, recipe: AnyRecipe) -> None:
        """Write the resolved recipe into a fresh folder, or one in which a run ended before its first checkpoint.

        Raises:
            RecipeError: if a run is there already.

        """
        if self.root.exists() and not self.root.is_dir():
            raise RecipeError(f"a run's folder is wanted, and {str(self.root)!r} is a file: choose another --out")
        if checkpoints(self.checkpoints):
            raise RecipeError(
                f"{str(self.root)!r} holds a run already: continue it with --resume, or choose another --out"
            )
        # Those of another recipe would be averaged in with this one's.
        shutil.rmtree(self.snapshots, ignore_errors=True)
        shutil.rmtree(self.spectra, ignore_errors=True)
        self.spectrum_file.unlink(missing_ok=True)
        write_file(self.recipe_file, recipe.to_yaml().encode())
        write_file(self.log_file, b"")

    def resume(self, recipe: AnyRecipe) -> None:
        """Check that the recipe continues this run, and cut the log back to its newest checkpoint.

        Raises:
            RecipeError: if a setting that changes the weights differs.

        """
        changed = differences(self.recipe().model_dump(mode="json"), recipe.model_dump(mode="json"))
        if changed:
            raise RecipeError(
                "the run was started with other settings, so it cannot be resumed with these: "
                + "; ".join(changed)
                + "; change them back, or start another run with another --out"
            )
        write_file(self.recipe_file, recipe.to_yaml().encode())
        latest = self.latest()
        step = latest[0] if latest else 0
        _cut_back(self.log_file, step)
        if self.spectrum_file.is_file():
            _cut_back(self.spectrum_file, step)

    def append(self, entry: Mapping[str, float]) -> None:
        """Add a line to the log."""
        _append(self.log_file, entry)

    def append_spectrum(self, entry: Mapping[str, float]) -> None:
        """Add a line to what the monitor measured."""
        _append(self.spectrum_file, entry)

    def log(self) -> list[dict[str, float]]:
        """All whole lines of the log."""
        return _lines(self.log_file)

    def spectrum_log(self) -> list[dict[str, float]]:
        """All whole lines of what the monitor measured."""
        return _lines(self.spectrum_file)


def _append(file: Path, entry: Mapping[str, float]) -> None:
    with file.open("a") as opened:
        opened.write(json.dumps(entry) + "\n")


def _lines(file: Path) -> list[dict[str, float]]:
    if not file.is_file():
        return []
    entries = []
    for line in file.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # A line that was cut off when the run was killed.
        if isinstance(entry, dict):  # The rest of a line that was cut off may be a number.
            entries.append(entry)
    return entries


def _cut_back(file: Path, step: int) -> None:
    """Take out what was written after a step."""
    kept = [entry for entry in _lines(file) if entry["step"] <= step]
    write_file(file, "".join(json.dumps(entry) + "\n" for entry in kept).encode())


def snapshots(root: Path) -> list[Snapshot]:
    """The power-function averages that a run has stored, oldest first.

    Raises:
        RecipeError: if root is no run folder, or its recipe stores none.

    """
    folder = RunFolder(root)
    recipe = folder.recipe()
    found = (_SNAPSHOT.fullmatch(path.name) for path in folder.snapshots.glob("*.safetensors"))
    named = sorted((int(match[1]), float(match[2]), match[0]) for match in found if match)
    if not named:
        raise RecipeError(
            f"{str(root)!r} holds no snapshots of averaged weights: train with training.snapshots set, such as "
            "training.snapshots.every=1000"
        )
    size = recipe.training.batch_size
    return [Snapshot(std, step * size, folder.snapshots / name) for step, std, name in named]


_SNAPSHOT = re.compile(r"step-(\d+)-std-([\d.]+)\.safetensors")


def snapshot_name(step: int, std: float) -> str:
    """The file of a power-function average."""
    return f"step-{step:08d}-std-{std}.safetensors"


def differences(old: Mapping[str, object], new: Mapping[str, object], path: tuple[str, ...] = ()) -> list[str]:
    """What keeps a run of one recipe from going on with another, in words; settings that may change are left out."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        where = (*path, key)
        before, after = old.get(key), new.get(key)
        if before == after or where in _FREE:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, where)
        else:
            found.append(f"{'.'.join(where)} was {before!r}, now {after!r}")
    return found
