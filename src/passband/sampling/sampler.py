"""One sampler for every process, prediction and solver."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from passband._checks import check_choice, check_integer, check_number, check_pair, is_integer
from passband._numerics import upcast
from passband.forcing import check_forced
from passband.process import Process
from passband.sampling.grid import Spacing, check_process, time_grid
from passband.sampling.noise import SampleNoise, checked_device, checked_seeds
from passband.sampling.predict import Model, predict
from passband.sampling.solvers import SOLVERS, Denoise, Solver

Conditioning = Mapping[str, object]


@dataclass(frozen=True)
class Guidance:
    r"""Classifier-free guidance within an interval: $p_u + w\, (p_c - p_u)$, the plain prediction outside it.

    Args:
        scale: w, finite; 1 is no guidance.
        unconditional: the model's keyword arguments without the condition.
        interval: (low, high) in flow time, 0 noise and 1 data, in which guidance acts, ends included.

    Raises:
        TypeError: if scale is no number, unconditional no mapping, or interval no pair of numbers.
        ValueError: if scale is not finite, or the interval is not ordered in [0, 1].

    Example:
        >>> import torch
        >>> from passband import Flow, sample
        >>> from passband.sampling import Guidance
        >>> model = lambda x, t, label: torch.full_like(x, label)
        >>> options = dict(seeds=[0], steps=2, conditioning={"label": 1.0})
        >>> guidance = Guidance(3.0, unconditional={"label": 0.0})
        >>> sample(model, Flow(1, "sample"), (1, 4, 4), guidance=guidance, **options).unique().tolist()  # 0 + 3 (1 - 0)
        [3.0]

    Source: Ho & Salimans 2022 (arXiv:2207.12598), Eq. 6; Kynkäänniemi et al. 2024 (arXiv:2404.07724) for the interval.
    """

    scale: float
    unconditional: Conditioning
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_number("scale", self.scale)
        if not math.isfinite(self.scale):
            raise ValueError(f"scale must be finite, got {self.scale}")
        if not isinstance(self.unconditional, Mapping):
            raise TypeError(
                "unconditional must map the model's keyword arguments to their values without the condition, "
                f"got {self.unconditional!r}; pass {{}} if there are none"
            )
        check_pair("interval", self.interval)
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise ValueError(f"interval is (low, high) in flow time within [0, 1], got {self.interval}")

    def active(self, process: Process, t: float) -> bool:
        """Whether guidance acts at time t.

        Args:
            process: the process that t belongs to.
            t: a time in its own unit.

        Returns:
            True where the scale is not 1 and t lies in the interval.

        """
        low, high = self.interval
        return self.scale != 1 and low <= process.flow_time(t).item() <= high


@torch.no_grad()
def sample(
    model: Model,
    process: Process,
    shape: Sequence[int],
    *,
    seeds: Sequence[int],
    steps: int = 50,
    solver: str | Solver = "euler",
    spacing: Spacing | None = None,
    times: Sequence[float] | Tensor | None = None,
    conditioning: Conditioning | None = None,
    guidance: Guidance | None = None,
    clip: float | None = None,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[int, int], None] | None = None,
    unforced_ok: bool = False,
) -> Tensor:
    r"""Draw samples from a trained network.

    Sample i depends on seeds[i] alone: a split of the batch gives the same samples (as far as the network's own
    arithmetic does).

    Args:
        model: a callable of (input, times, \*\*conditioning), such as a diffusers U-Net, in evaluation mode.
        process: the process it was trained with.
        shape: shape of one sample, (channels, \*spatial).
        seeds: one seed per sample; their number is the number of samples.
        steps: number of steps.
        solver: `euler` (DDIM), `heun`, `ancestral` (DDPM), or a solver object.
        spacing: spacing of the times, see [`time_grid`][passband.sampling.time_grid]; default: the process's own.
        times: the times themselves, from noise to clean, in place of steps and spacing.
        conditioning: the model's keyword arguments; tensors with one row per sample are split with the batch.
        guidance: classifier-free guidance.
        clip: clamp each clean estimate to [-clip, clip].
        batch_size: largest number of samples at once; default: all.
        device: where to sample.
        dtype: dtype of the samples between steps, float32 or float64; the network gets its own parameters' dtype.
        on_step: called with (steps done, steps in all) after each step of each batch.
        unforced_ok: sample a model without the Spectral Forcing that its saved configuration names, or with one that
            was made for another process, instead of raising an error.

    Returns:
        The samples on the device, (len(seeds), \*shape).

    Raises:
        TypeError: if an argument is of another kind than above.
        ValueError: on an unknown solver, spacing or device, no seeds, a shape, clip or dtype that is not possible,
            times that do not run from noise towards clean, or a model without the forcing it was trained with.

    Example:
        >>> import torch
        >>> from passband import Flow, sample
        >>> process = Flow(data_at=1, prediction="sample")
        >>> x = sample(lambda x, t: torch.zeros_like(x), process, (1, 8, 8), seeds=range(4), steps=5)
        >>> x.shape, x.abs().max().item()
        (torch.Size([4, 1, 8, 8]), 0.0)

    """
    _check_inputs(process, guidance, conditioning, dtype, clip)
    if not unforced_ok:
        check_forced(model, process)
    shape = _checked_shape(shape)
    grid = _checked_times(process, times) if times is not None else time_grid(process, steps, spacing).tolist()
    if isinstance(solver, str):
        check_choice("solver", solver, SOLVERS)
        solver = SOLVERS[solver]()
    if isinstance(solver, type) or not isinstance(solver, Solver):
        raise TypeError(f"solver must be a name or an object such as Heun(), got {solver!r}")
    device = checked_device(device)
    if batch_size is not None:
        check_integer("batch_size", batch_size)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    seeds = checked_seeds(seeds)
    size = batch_size or max(len(seeds), 1)
    starts = range(0, max(len(seeds), 1), size)
    report = _Progress(on_step, len(starts) * (len(grid) - 1))
    batches = []
    for start in starts:
        rows = slice(start, start + size)
        noise = SampleNoise(seeds[rows])
        denoise = _denoiser(model, process, _rows(conditioning, rows, seeds), _guided(guidance, rows, seeds), clip)

        def normal(noise: SampleNoise = noise) -> Tensor:
            return noise.normal(shape, dtype).to(device)

        x = process.initial(normal(), grid[0])
        for t, s in pairwise(grid):
            x = solver.step(denoise, process, x, t, s, normal, len(grid) - 1)
            report()
        batches.append(x)
    return torch.cat(batches)


def _check_inputs(
    process: object, guidance: object, conditioning: object, dtype: torch.dtype, clip: float | None
) -> None:
    check_process(process)
    if guidance is not None and not isinstance(guidance, Guidance):
        raise TypeError(f"guidance must be Guidance(scale, unconditional=...), got {guidance!r}")
    if conditioning is not None and not isinstance(conditioning, Mapping):
        raise TypeError(
            f"conditioning must map the model's keyword arguments to values, got {type(conditioning).__name__}; "
            "name it: {'class_labels': labels}"
        )
    check_choice("dtype", dtype, (torch.float32, torch.float64))
    if clip is not None:
        check_number("clip", clip)
        if not clip > 0:
            raise ValueError(f"clip must be positive, got {clip}; None leaves clean estimates as they are")


def _checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    sides = tuple(shape) if isinstance(shape, Sequence) else ()
    if len(sides) < 2 or not all(is_integer(side) and side > 0 for side in sides):
        raise ValueError(f"shape is that of one sample, (channels, *spatial), in positive integers, got {shape!r}")
    return sides


def _denoiser(
    model: Model, process: Process, conditioning: Conditioning, guidance: Guidance | None, clip: float | None
) -> Denoise:
    def denoise(x: Tensor, t: float) -> Tensor:
        pred = predict(model, process, x, t, conditioning)
        if guidance is not None and guidance.active(process, t):
            pred, plain = upcast(pred, predict(model, process, x, t, guidance.unconditional))
            pred = plain + guidance.scale * (pred - plain)
        estimate = process.clean_estimate(x, pred, t)
        return process.steered(x, estimate if clip is None else estimate.clamp(-clip, clip), t)

    return denoise


def _rows(conditioning: Conditioning | None, rows: slice, seeds: Sequence[int]) -> Conditioning:
    """The conditioning of some samples: tensors with one row per sample are sliced, all else is passed on."""
    return {
        name: value[rows] if isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(seeds) else value
        for name, value in (conditioning or {}).items()
    }


def _guided(guidance: Guidance | None, rows: slice, seeds: Sequence[int]) -> Guidance | None:
    if guidance is None:
        return None
    return Guidance(guidance.scale, _rows(guidance.unconditional, rows, seeds), guidance.interval)


def _checked_times(process: Process, times: Sequence[float] | Tensor) -> list[float]:
    try:
        values = torch.as_tensor(times, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"times must hold numbers, from noise to clean, got {times!r}") from error
    if values.ndim != 1:
        raise ValueError(f"times must be one row of numbers, from noise to clean, got shape {tuple(values.shape)}")
    if len(values) < 2:
        raise ValueError(f"times must hold at least 2 values, from noise to clean, got {len(values)}")
    grid: list[float] = values.tolist()
    tau = process.flow_time(values.cpu())
    if bool((tau.diff() <= 0).any()):
        low, high = process.noise_time, process.clean_time
        raise ValueError(f"times must run strictly from noise ({low:g}) to clean ({high:g}), got {grid}")
    return grid


class _Progress:
    def __init__(self, on_step: Callable[[int, int], None] | None, total: int) -> None:
        self.on_step, self.total, self.done = on_step, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.on_step is not None:
            self.on_step(self.done, self.total)
