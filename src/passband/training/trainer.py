"""The training loop: Accelerate's devices and precision, averaged weights, checkpoints, and a log."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

from passband import __version__
from passband._checks import import_extra
from passband._seeds import seed_for
from passband.data import ImageFolder, from_uint8, save_image
from passband.process import Process
from passband.regularization import SpectralRegularizer
from passband.reports import image_mosaic
from passband.sampling import sample, time_grid
from passband.training.batches import Batch, batches
from passband.training.build import build_dataset, build_model, build_process, build_regularizer, load_network
from passband.training.checkpoint import (
    checkpoint_folder,
    damaged,
    load_state,
    remove_old,
    save_state,
    write_folder,
)
from passband.training.config import ImagesData, Recipe, RecipeError
from passband.training.images import Losses, denoising_loss
from passband.training.run_folder import RunFolder

if TYPE_CHECKING:
    from diffusers import UNet2DModel
    from torch.utils.tensorboard import SummaryWriter

#: Called with (step, log entry) after each logged step.
OnLog = Callable[[int, dict[str, float]], None]


class TrainingInterrupted(Exception):  # noqa: N818  (no error: the run is whole)
    """The run was asked to stop (Ctrl-C, SIGTERM) and has saved a checkpoint."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; nothing after the last checkpoint was saved."""


class Trainer:
    """One run, from its recipe: built once, trained up to any step, saved, resumed.

    A step's randomness comes from (seed, global sample position), so a resumed run reaches the same weights bit for bit
    and several processes draw what one would (dropout apart, which each draws for its own share of the batch).

    Args:
        recipe: the recipe.
        root: the run's folder.
        resume: continue from the newest checkpoint in it (from the start, if there is none yet).

    Raises:
        RecipeError: if the folder holds a run and resume is off, or a different one and it is on; if the losses do not
            fit the samples, or the process cannot be sampled as the recipe asks.
        FileNotFoundError, ValueError: if the data cannot be used.
        MissingExtraError: if the extra `train` is not installed.

    """

    def __init__(self, recipe: Recipe, root: str | Path, *, resume: bool = False) -> None:
        accelerate = import_extra("accelerate", "train")
        if recipe.training.tensorboard:
            import_extra("tensorboard", "train")
        self.recipe = recipe
        self.folder = RunFolder(Path(root))
        self.process, self.regularizer = _fitting_parts(recipe)
        self.accelerator = accelerate.Accelerator(mixed_precision=recipe.training.precision)
        self.dataset: Dataset[Tensor] = build_dataset(recipe.data)
        network = build_model(recipe.model, recipe.sample_shape, seed_for(recipe.training.seed, 0, "model"))
        settings = recipe.optimizer
        optimizer = AdamW(network.parameters(), settings.lr, settings.betas, weight_decay=settings.weight_decay)
        self.model, self.optimizer = self.accelerator.prepare(network, optimizer)
        average = get_ema_multi_avg_fn(recipe.training.ema_decay)  # type: ignore[no-untyped-call]
        self.ema = AveragedModel(self.network, multi_avg_fn=average)
        self.step = 0
        self._board: SummaryWriter | None = None
        self._first_bad_step = torch.full((), math.inf, device=self.accelerator.device)
        if self.accelerator.is_main_process:
            if resume and self.folder.recipe_file.is_file():
                self.folder.resume(recipe)
            else:
                self.folder.start(recipe)
        self.accelerator.wait_for_everyone()
        if resume:
            self._load_latest()

    @property
    def network(self) -> "UNet2DModel":
        """The network itself, without Accelerate's wrapping."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def averaged(self) -> "UNet2DModel":
        """The network with averaged (EMA) weights."""
        return self.ema.module

    def preload(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decode all images now if they fit in memory: faster, and broken ones are known before the first step."""
        if isinstance(self.dataset, ImageFolder) and self.dataset.nbytes <= self.dataset.cache_bytes:
            self.dataset.preload(progress)

    def train(self, until: int | None = None, on_log: OnLog | None = None) -> None:
        """Train up to a step (default: the recipe's), logging, sampling and saving as the recipe says.

        Ctrl-C and SIGTERM finish the current step, save a checkpoint and raise TrainingInterrupted; several processes
        stop together, at the next step that is logged.

        Raises:
            TrainingInterrupted: after a clean stop.
            NonFiniteLossError: if the loss is not finite.
            CheckpointError: if a checkpoint cannot be written.
            ValueError: if a sample of the data is not finite.

        """
        settings = self.recipe.training
        last = settings.steps if until is None else until
        with _stop_requested() as stopping:
            for batch in self._batches(self.step, last):
                losses = self._update(batch)
                self.step += 1
                if self.step % settings.log_every == 0 or self.step == last:
                    self._log(losses, on_log)
                stop = self._all_stop(stopping())
                if self.step % settings.save_every == 0 or self.step == last or stop:
                    self.save()
                if settings.sample_every is not None and self.step % settings.sample_every == 0:
                    self.write_samples()
                if stop:
                    raise TrainingInterrupted(f"stopped at step {self.step}; continue with --resume")

    def save(self) -> None:
        """Write a checkpoint: `unet` and `ema` as diffusers models, and what resuming needs.

        Raises:
            NonFiniteLossError: instead of saving weights that are not finite or that a non-finite loss may have spoilt.
            CheckpointError: if it cannot be written.

        """
        self._check_finite()
        self._check_weights()
        if self.accelerator.is_main_process:
            write_folder(checkpoint_folder(self.folder.checkpoints, self.step), self._write)
            remove_old(self.folder.checkpoints, self.recipe.training.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def sample(self, seeds: range, *, averaged: bool = True) -> Tensor:
        """Draw samples with the recipe's settings, from the averaged weights unless told otherwise."""
        settings = self.recipe.sampling
        model = self.averaged if averaged else self.network
        was_training = model.training
        model.eval()
        drawn = sample(
            model,
            self.process,
            self.recipe.sample_shape,
            seeds=seeds,
            steps=settings.steps,
            solver=settings.solver,
            spacing=settings.spacing,
            clip=settings.clip,
            device=self.accelerator.device,
        )
        model.train(was_training)
        return drawn

    def write_samples(self) -> None:
        """Write a grid of samples of this step into the run's folder."""
        if self.accelerator.is_main_process:
            settings = self.recipe.sampling
            mosaic = image_mosaic(self.sample(range(settings.seed, settings.seed + settings.count)))
            grid = from_uint8(torch.from_numpy(mosaic).permute(2, 0, 1))
            save_image(grid, self.folder.samples / f"step-{self.step:08d}.png")

    # Inside.

    def _batches(self, start: int, stop: int) -> Iterator[Batch]:
        data, settings, accelerator = self.recipe.data, self.recipe.training, self.accelerator
        flip, workers = (data.flip, data.workers) if isinstance(data, ImagesData) else (False, 0)
        found = batches(
            self.dataset,
            start,
            stop,
            settings.batch_size,
            settings.seed,
            flip=flip,
            workers=workers,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )
        for clean, positions in found:
            yield Batch(clean.to(accelerator.device, non_blocking=True), positions)

    def _update(self, batch: Batch) -> Losses:
        settings = self.recipe.optimizer
        # Dropout draws from the global generator.
        torch.manual_seed(seed_for(self.recipe.training.seed, int(batch.positions[0]), "network"))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * min(1.0, (self.step + 1) / max(settings.warmup_steps, 1))
        self.model.train()
        with self.accelerator.autocast():
            losses = denoising_loss(self.model, self.process, self.regularizer, batch, self.recipe.training.seed)
        self._note_if_bad(losses.total.detach())
        self.accelerator.backward(losses.total)
        if settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.network)
        return losses

    def _all_stop(self, asked: bool) -> bool:
        """Whether to stop now. Several processes agree on it where they look at the losses anyway."""
        if self.accelerator.num_processes == 1:
            return asked
        if self.step % self.recipe.training.log_every:
            return False
        flag = torch.tensor([float(asked)], device=self.accelerator.device)
        return bool(self.accelerator.gather(flag).any())

    def _note_if_bad(self, loss: Tensor) -> None:
        """Remember the first step with a non-finite loss, on the device: looking at it each step would stall it."""
        bad_step = self._first_bad_step.clamp(max=self.step + 1)
        self._first_bad_step = torch.where(torch.isfinite(loss), self._first_bad_step, bad_step)

    def _check_finite(self) -> None:
        first = self.accelerator.gather(self._first_bad_step.reshape(1)).min().item()
        if math.isfinite(first):
            raise self._diverged(f"the loss was NaN or infinite at step {int(first)}")

    def _check_weights(self) -> None:
        """A finite loss may have a gradient that is not."""
        bad = [name for name, weight in self.network.named_parameters() if not bool(torch.isfinite(weight).all())]
        if bad:
            raise self._diverged(f"{len(bad)} of the network's weights became NaN or infinite, {bad[0]} first")

    def _diverged(self, what: str) -> NonFiniteLossError:
        latest = self.folder.latest()
        kept = f"the checkpoint of step {latest[0]} is whole" if latest else "no checkpoint had been written"
        return NonFiniteLossError(
            f"{what}, so training stopped at step {self.step}; {kept}. Lower optimizer.lr or regularizer.weight, set "
            "optimizer.clip_norm, or gate the term with regularizer.gate"
        )

    def _log(self, losses: Losses, on_log: OnLog | None) -> None:
        """The only look at a loss's value in the loop: means over the whole batch."""
        self._check_finite()
        found = {"base": losses.base.detach()}
        if self.regularizer is not None and losses.spectral is not None:
            found["spectral"] = losses.spectral.detach()
            found |= {f"spectral/{name}": value for name, value in self.regularizer.terms.items() if name != "total"}
        means = self.accelerator.reduce(torch.stack([value.float() for value in found.values()]), "mean").tolist()
        if not self.accelerator.is_main_process:
            return
        entry = {"step": self.step} | dict(zip(found, means, strict=True))
        self.folder.append(entry)
        self._show(entry)
        if on_log is not None:
            on_log(self.step, entry)

    def _show(self, entry: dict[str, float]) -> None:
        """The entry on TensorBoard, if the recipe asks for it."""
        if not self.recipe.training.tensorboard:
            return
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            # Purged: what an interrupted run wrote after its checkpoint.
            self._board = SummaryWriter(str(self.folder.root / "tensorboard"), purge_step=self.step)
        for name, value in entry.items():
            if name != "step":
                self._board.add_scalar(name, value, self.step)
        self._board.flush()

    def _write(self, folder: Path) -> None:
        self.network.save_pretrained(folder / "unet")
        self.averaged.save_pretrained(folder / "ema")
        save_state(self._state(), folder, "state")

    def _state(self) -> dict[str, object]:
        scaler = self.accelerator.scaler
        return {
            "passband": __version__,
            "step": self.step,
            "averaged": int(self.ema.n_averaged),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def _load_latest(self) -> None:
        latest = self.folder.latest()
        if latest is None:
            return
        step, folder = latest
        state = load_state(folder, "state")
        try:
            self.network.load_state_dict(load_network(folder / "unet").state_dict())
            self.averaged.load_state_dict(load_network(folder / "ema").state_dict())
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"] and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.ema.n_averaged.fill_(state["averaged"])
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise damaged(folder, error) from error
        self.step = step


def _fitting_parts(recipe: Recipe) -> tuple[Process, SpectralRegularizer | None]:
    """The process and the spectral term, tried out now, not at the first step or the first samples, hours later."""
    try:
        process, regularizer = build_process(recipe.process), build_regularizer(recipe.regularizer)
        if regularizer is not None:
            blank = torch.zeros(1, *recipe.sample_shape)
            regularizer.loss(blank, blank)
        time_grid(process, recipe.sampling.steps, recipe.sampling.spacing)
    except ValueError as error:
        raise RecipeError(f"the recipe's parts do not fit each other: {error}") from error
    return process, regularizer


@contextmanager
def _stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag: no step is cut in two. A second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
