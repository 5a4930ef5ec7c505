"""Averaged weights put together after the training (post-hoc EMA), saved as a network of their own."""

import shutil
from pathlib import Path

from passband._files import replace_folder, write_file
from passband.training.config import RecipeError, denoiser_recipe
from passband.training.decode import AUTOENCODER
from passband.training.ema import reconstruct, snapshot_mix
from passband.training.families import family_named
from passband.training.networks import load_network
from passband.training.run_folder import RunFolder, snapshots


def write_average(root: str | Path, std: float, out: str | Path, *, step: int | None = None) -> float:
    """Put together the average of a width from a run's snapshots and save it as a network folder.

    The folder holds the network as its library saves it, `process.json`, the run's `recipe.yaml` and, for a network on
    latents, the autoencoder that decodes them, so that
    [`restore`][passband.training.restore], `passband sample` and a recipe's `model.pretrained` take it.

    Args:
        root: the folder of a run with `training.snapshots`.
        std: width of the average, as a share of the training up to the step.
        out: folder to write; an earlier one gives way.
        step: the average's end; default: the last snapshot's.

    Returns:
        How far the mix of snapshots is from the average asked for, as a share of that average's profile: 0 is exact.

    Raises:
        RecipeError: if root is no run folder, holds no snapshots or no checkpoint.
        ValueError: if std or step is out of its range, or a snapshot is damaged.

    Source: Karras et al. 2024 (arXiv:2312.02696), Section 3.2.
    """
    folder, stored = RunFolder(Path(root)), snapshots(Path(root))
    recipe, latest = denoiser_recipe(folder.recipe(), "averaging snapshots"), folder.latest()
    if latest is None:
        raise RecipeError(f"{str(root)!r} has no checkpoint to take the network's layout from: train it first")
    at = max(found.images for found in stored) if step is None else step * recipe.training.batch_size
    error = snapshot_mix([found.std for found in stored], [found.images for found in stored], std, at).error
    network = load_network(latest[1] / family_named(recipe.model).folder)
    network.load_state_dict(reconstruct(stored, std, at))

    def fill(target: Path) -> None:
        network.save_pretrained(target)  # type: ignore[operator]
        write_file(target / "process.json", recipe.process.model_dump_json(indent=1).encode())
        write_file(target / "recipe.yaml", recipe.to_yaml().encode())
        if (folder.root / AUTOENCODER).is_dir():
            # Of a network on latents: what decodes its samples.
            shutil.copytree(folder.root / AUTOENCODER, target / AUTOENCODER)

    replace_folder(out, fill)
    return error
