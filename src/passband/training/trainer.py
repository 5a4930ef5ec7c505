"""The training loop: Accelerate's devices and precision, averaged weights, checkpoints, and a log."""

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from passband import __version__
from passband._files import write_file
from passband._seeds import seed_for
from passband.data import AudioFolder, Augment, ImageSamples, SampleOrder
from passband.training.averages import power_name, profiles
from passband.training.batches import Batch, batches, check_divides
from passband.training.build import reading_of
from passband.training.checkpoint import (
    CheckpointError,
    checkpoints,
    damaged,
    load_state,
    remove_old,
    save_state,
    write_checkpoint,
)
from passband.training.config import AnyRecipe
from passband.training.ema import WeightAverage
from passband.training.guard import LossGuard, NonFiniteLossError, save_batch
from passband.training.interrupt import TrainingInterrupted, stop_requested
from passband.training.journal import Journal, OnLog
from passband.training.launch import launch
from passband.training.learner import Learner
from passband.training.monitoring import RunMonitor
from passband.training.run_folder import RunFolder, snapshot_name
from passband.training.task import Task, Turn
from passband.training.tasks import build_data, build_task, check_task


class Trainer:
    """One run, from its recipe: built once, trained up to any step, saved, resumed.

    A step's randomness comes from (seed, global sample position), so a resumed run reaches the same weights bit for bit
    and several processes draw what one would (dropout apart, which each draws for its own share of the batch).

    Args:
        recipe: the recipe.
        root: the run's folder; several machines need it on a file system that they share.
        resume: continue from the newest whole checkpoint in it (from the start, if there is none yet).

    Raises:
        RecipeError: if the folder holds a run and resume is off, or a different one and it is on; if the losses do not
            fit the samples, or the process cannot be sampled as the recipe asks.
        CheckpointError: if there are checkpoints to resume from and none is whole.
        FileNotFoundError, ValueError: if the data, a pretrained network or a tracker cannot be used.
        MissingExtraError: if the extra `train` is not installed.

    """

    def __init__(self, recipe: AnyRecipe, root: str | Path, *, resume: bool = False) -> None:
        self.recipe = recipe
        self.folder = RunFolder(Path(root))
        check_task(recipe)
        self.accelerator = launch(recipe, self.folder)
        check_divides(recipe.training.batch_size, self.accelerator.num_processes, recipe.training.accumulate)
        self.dataset: Dataset[Any] = build_data(recipe)
        self.task: Task = build_task(recipe, self.accelerator, self.dataset)
        self._sharding = self.task.main.sharding
        self.averages = {
            name: WeightAverage(self.network, profile, self._sharding.copy)
            for name, profile in profiles(recipe).items()
        }
        self.step = 0
        self._monitor: RunMonitor | None = None
        self._guard = LossGuard(self.accelerator.device)
        self._journal = Journal(self.folder, self.accelerator, recipe.name)
        if self.accelerator.is_main_process:
            if resume and self.folder.recipe_file.is_file():
                self.folder.resume(recipe)
            else:
                self.folder.start(recipe)
            self.task.furnish(self.folder.root)
        self.accelerator.wait_for_everyone()
        if resume:
            self._load_latest()
            self._check_same_step()

    @property
    def network(self) -> nn.Module:
        """The network itself, without Accelerate's wrapping."""
        return self.task.network

    @property
    def averaged(self) -> nn.Module:
        """The network with averaged (EMA) weights; of several averages, the first."""
        return self.averages["ema"].module

    def preload(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decode all files now if they fit in memory: faster, and broken ones are known before the first step."""
        if isinstance(self.dataset, ImageSamples | AudioFolder) and self.dataset.nbytes <= self.dataset.cache_bytes:
            self.dataset.preload(progress)

    def train(self, until: int | None = None, on_log: OnLog | None = None) -> None:
        """Train up to a step (default: the recipe's), logging, sampling and saving as the recipe says.

        Ctrl-C and SIGTERM finish the current step, save a checkpoint and raise TrainingInterrupted; several processes
        stop together, at the next step that is logged.

        Raises:
            TrainingInterrupted: after a clean stop.
            NonFiniteLossError: if the loss is not finite; its batch is saved in the run's folder.
            CheckpointError: if a checkpoint cannot be written.
            ValueError: if a sample of the data is not finite.

        """
        settings = self.recipe.training
        last = settings.steps if until is None else until
        self._prepare_monitor()
        with stop_requested() as stopping:
            for parts in self._steps(self.step, last):
                losses = self._update(parts)
                self.step += 1
                if self.step % settings.log_every == 0 or self.step == last:
                    self._log(losses, on_log)
                stop = self._all_stop(stopping())
                self._write_snapshots()
                if self._is_due(settings.save_every) or self.step in (last, *settings.keep_steps) or stop:
                    self.save()
                if self._is_due(settings.sample_every):
                    self.write_samples()
                self._watch()
                if stop:
                    raise TrainingInterrupted(f"stopped at step {self.step} and saved")

    def save(self) -> None:
        """Write a checkpoint: the network and its averages as their library saves them, and what resuming needs.

        Raises:
            NonFiniteLossError: instead of saving weights that are not finite or that a non-finite loss may have spoilt.
            CheckpointError: if it cannot be written.

        """
        self._check_finite()
        self._check_weights()
        named = {self.task.folder: self.network} | {name: average.module for name, average in self.averages.items()}
        networks = {name: self._sharding.whole(network) for name, network in named.items()}
        state = self._state()
        failure = self._write_checkpoint(networks, state) if self.accelerator.is_main_process else None
        if self._anywhere(failure is not None):
            # In every process, or the others would wait for the main one.
            raise failure or CheckpointError("the main process could not write the checkpoint; its own error says why")

    def sample(self, seeds: range, *, averaged: bool = True) -> Tensor:
        """Draw samples with the recipe's settings, from the averaged weights unless told otherwise.

        Of an autoencoder: the images of these numbers, each followed by its reconstruction. With `training.sharding`
        every process must call it, with the same seeds, and gets the same samples.
        """
        model = self.averaged if averaged else self.network
        was_training = model.training
        model.eval()
        drawn = self.task.draw(model, seeds)
        model.train(was_training)
        return drawn

    def write_samples(self) -> None:
        """Write samples of this step into the run's folder, and show their picture on the trackers."""
        if not self._takes_part:
            return
        drawn = self.sample(self.task.shown_seeds)
        if self.accelerator.is_main_process:
            picture = self.task.show(drawn, self.folder.samples / f"step-{self.step:08d}")
            self._journal.picture(self.step, picture)

    def end(self, *, leave_group: bool = True) -> None:
        """Finish the trackers, and leave the group of processes; the networks stay, the trainer trains no more.

        The wrapped networks go first: one that outlives its group takes it along, and waits for the group's threads
        under the interpreter's lock, which they may need themselves.

        Args:
            leave_group: whether to leave it; off where the processes have more to do together.

        """
        for learner in self.task.learners.values():
            learner.release()
        self.accelerator.free_memory()
        gc.collect()
        if leave_group:
            self.accelerator.end_training()
            return
        for tracker in self.accelerator.trackers:
            tracker.finish()

    # Inside.

    def _write_checkpoint(self, networks: Mapping[str, nn.Module | None], state: object) -> Exception | None:
        """Write one, and remove old ones; what went wrong."""
        settings = self.recipe.training

        def write(folder: Path) -> None:
            for name, network in networks.items():
                _save_network(network, folder / name)
            for name, module in self.task.beside.items():
                # channels_last lays out weights of convolutions as safetensors does not take them.
                tensors = {key: value.contiguous() for key, value in module.state_dict().items()}
                save_file(tensors, folder / f"{name}.safetensors")
            save_state(state, folder, "state")

        try:
            write_checkpoint(self.folder.checkpoints, self.step, write)
            remove_old(self.folder.checkpoints, self.step, settings.keep_checkpoints, settings.keep_steps)
        except (CheckpointError, OSError) as error:
            return error
        return None

    def _prepare_monitor(self) -> None:
        """Read what the monitor looks at: before the first step, so that what is wrong with it is known then."""
        settings = self.recipe.training.monitor
        if settings is None or self._monitor is not None or not self._takes_part:
            return
        self._monitor = RunMonitor(
            settings,
            self.task,
            self.dataset,
            seed=self.recipe.training.seed,
            reading=reading_of(self.recipe),
            device=self.accelerator.device,
            batch_size=self.recipe.training.batch_size,
        )

    def _watch(self) -> None:
        """Measure the spectrum of the network's estimates, where the recipe asks for it."""
        settings = self.recipe.training.monitor
        if settings is None or not self._is_due(settings.every):
            return
        self._check_finite()
        self._check_weights()
        if self._monitor is not None:
            network = self.averaged if settings.weights == "ema" else self.network
            self._monitor(self.step, network, self._journal if self.accelerator.is_main_process else None)

    @property
    def _takes_part(self) -> bool:
        """Whether this process runs networks outside of steps: the main one; all, where networks are divided."""
        return self.accelerator.is_main_process or self._sharding.active

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0

    def _batches(self, start: int, stop: int, *, everything: bool = False) -> Iterator[Batch]:
        """This process' parts of each batch; whole batches on request."""
        data, settings, accelerator = self.recipe.data, self.recipe.training, self.accelerator
        found = batches(
            self.dataset,
            start,
            stop,
            settings.batch_size,
            settings.seed,
            reading=reading_of(self.recipe),
            workers=0 if everything else data.workers,
            rank=0 if everything else accelerator.process_index,
            world_size=1 if everything else accelerator.num_processes,
            accumulate=1 if everything else settings.accumulate,
            device=accelerator.device,
        )
        return found if data.augment is None else self._augmented(found, data.augment.probability)

    def _augmented(self, found: Iterator[Batch], probability: float) -> Iterator[Batch]:
        augment, seed = Augment(probability), self.recipe.training.seed
        for batch in found:
            clean, labels = augment(batch.clean, [seed_for(seed, int(p), "augment") for p in batch.positions])
            yield batch._replace(clean=clean, augment_labels=labels)

    def _steps(self, start: int, stop: int) -> Iterator[list[Batch]]:
        """The parts of each step."""
        found = self._batches(start, stop)
        for _ in range(start, stop):
            yield [next(found) for _ in range(self.recipe.training.accumulate)]

    def _update(self, parts: list[Batch]) -> dict[str, Tensor]:
        """One step of each optimizer; the means of the loss terms over its parts."""
        terms: dict[str, Tensor] = {}
        for turn in self.task.turns(self.step):
            terms |= self._play(turn, parts)
        size = self.recipe.training.batch_size
        for average in self.averages.values():
            average.update(self.network, self.step * size, size)
        return terms

    def _play(self, turn: Turn, parts: list[Batch]) -> dict[str, Tensor]:
        turn.learner.model.train()
        terms = [self._accumulate(turn, batch, len(parts), last=batch is parts[-1]) for batch in parts]
        turn.learner.step(self.step)
        return {name: torch.stack([found[name] for found in terms]).mean() for name in terms[0]}

    def _accumulate(self, turn: Turn, batch: Batch, parts: int, *, last: bool) -> dict[str, Tensor]:
        """Add the gradient of one part; its loss terms."""
        # Dropout draws from the global generator.
        torch.manual_seed(seed_for(self.recipe.training.seed, int(batch.positions[0]), "network"))
        alone: AbstractContextManager[Any] = nullcontext() if last else self.accelerator.no_sync(turn.learner.model)
        with alone:
            with self.accelerator.autocast():
                objective = turn.objective(batch)
            self._guard.note(objective.total.detach(), self.step + 1)
            self.accelerator.backward(objective.total / parts)
        return {name: value.float() for name, value in objective.terms.items()}

    def _all_stop(self, asked: bool) -> bool:
        """Whether to stop now. Several processes agree on it where they look at the losses anyway."""
        if self.accelerator.num_processes == 1:
            return asked
        if self.step % self.recipe.training.log_every:
            return False
        return self._anywhere(asked)

    def _anywhere(self, here: bool) -> bool:
        """Whether it is so in any process; all must ask."""
        flag = torch.tensor([float(here)], device=self.accelerator.device)
        return bool(self.accelerator.gather(flag).any())

    def _check_finite(self) -> None:
        first = self.accelerator.gather(self._guard.first).min().item()
        if math.isfinite(first):
            raise self._diverged(f"the loss was NaN or infinite at step {int(first)}", int(first))

    def _check_weights(self) -> None:
        """A finite loss may have a gradient that is not."""
        for name, learner in self.task.learners.items():
            bad = learner.sharding.not_finite(learner.network)
            if bad:
                raise self._diverged(
                    f"{len(bad)} of the {name}'s weights became NaN or infinite, {bad[0]} first", self.step
                )

    def _diverged(self, what: str, step: int) -> NonFiniteLossError:
        steps = [found for found, _ in checkpoints(self.folder.checkpoints)]
        kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "no checkpoint had been written"
        folder = self.folder.root / f"failed-step-{step:08d}"
        batch = f"the batch of step {step} is in {str(folder)!r}"
        if self.accelerator.is_main_process:
            try:
                self._save_failed(folder, what, step)
            except OSError as error:  # the loss is the news, not the disk
                batch = f"the batch of step {step} could not be saved ({error})"
        return NonFiniteLossError(
            f"{what}, so training stopped at step {self.step}; {kept}, and {batch}. {self.task.remedy}"
        )

    def _save_failed(self, folder: Path, what: str, step: int) -> None:
        (batch,) = self._batches(step - 1, step, everything=True)
        facts: dict[str, Any] = {"what": what, "step": step, "recipe": self.recipe.model_dump(mode="json")}
        if isinstance(self.dataset, ImageSamples | AudioFolder):
            order = SampleOrder(len(self.dataset), self.recipe.training.seed)
            facts["files"] = [self.dataset.origin(order.index(int(p))) for p in batch.positions]
        save_batch(batch, self.task.as_seen(batch), folder, facts)

    def _log(self, losses: dict[str, Tensor], on_log: OnLog | None) -> None:
        """The only look at a loss's value in the loop: means over the whole batch."""
        self._check_finite()
        means = self.accelerator.reduce(torch.stack(list(losses.values())), "mean").tolist()
        if not self.accelerator.is_main_process:
            return
        entry = self._journal.write(self.step, dict(zip(losses, means, strict=True)))
        if on_log is not None:
            on_log(self.step, entry)

    def _write_snapshots(self) -> None:
        settings = self.recipe.training.snapshots
        if settings is None or not self._is_due(settings.every):
            return
        self._check_finite()
        self._check_weights()
        for std in settings.stds:
            network = self._sharding.whole(self.averages[power_name(std)].module)
            if network is not None and self.accelerator.is_main_process:
                state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
                write_file(self.folder.snapshots / snapshot_name(self.step, std), save(state))

    def _state(self) -> dict[str, object]:
        scaler = self.accelerator.scaler
        return {
            "passband": __version__,
            "step": self.step,
            "optimizer": self.task.main.state(),
            "optimizers": {name: learner.state() for name, learner in self._others.items()},
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    @property
    def _others(self) -> dict[str, Learner]:
        """All learners but the main one."""
        return {name: learner for name, learner in self.task.learners.items() if learner is not self.task.main}

    def _load_latest(self) -> None:
        latest = self.folder.latest()
        if latest is None:
            return
        step, folder = latest
        state = load_state(folder, "state")
        try:
            self._sharding.load(self.network, folder / self.task.folder)
            for name, average in self.averages.items():
                self._sharding.load(average.module, folder / name)
            for name, module in self.task.beside.items():
                module.load_state_dict(load_file(folder / f"{name}.safetensors"))
            self.task.main.load_state(state["optimizer"])
            for name, learner in self._others.items():
                learner.load_state(state["optimizers"][name])
            if state["scaler"] and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise damaged(folder, error) from error
        self.step = step

    def _check_same_step(self) -> None:
        found = self.accelerator.gather(torch.tensor([self.step], device=self.accelerator.device)).unique().tolist()
        if len(found) > 1:
            raise CheckpointError(
                f"the processes would resume from different steps, {found}: the run's folder {str(self.folder.root)!r} "
                "must lie on a file system that all machines share"
            )


def _save_network(network: Any, folder: Path) -> None:
    network.save_pretrained(folder)
