"""How samples are drawn: what a recipe says of it, or what is asked for instead, as arguments of the samplers."""

from collections.abc import Sequence
from typing import Any

from passband._checks import check_choice
from passband.process import VP, Process
from passband.sampling import FAST_SCHEDULE, SOLVERS, schedule_times, time_grid
from passband.training.sections import SamplingSettings

#: The betas of a schedule for sampling; `fast`, those of DiffWave; or `full`, every step of the process.
Schedule = str | Sequence[float]


def sampler_settings(
    settings: SamplingSettings,
    process: Process,
    *,
    steps: int | None = None,
    solver: str | None = None,
    schedule: Schedule | None = None,
) -> dict[str, Any]:
    """Solver, clip, and either steps and spacing or a noise schedule: plain data, to be noted beside samples.

    Args:
        settings: a recipe's section `sampling`.
        process: the process that is sampled.
        steps: a number of steps instead of what the settings say.
        solver: a solver's name instead of theirs.
        schedule: a schedule instead of what they say: betas, `fast` or `full`.

    Raises:
        TypeError: if the process takes no such schedule.
        ValueError: if the solver or the schedule is unknown, the steps are not possible, or both are given.

    """
    if steps is not None and schedule is not None:
        raise ValueError("a schedule has its own number of steps: give steps, or a schedule, not both")
    found: dict[str, Any] = {"steps": settings.steps if steps is None else steps}
    found |= {"solver": solver or settings.solver, "spacing": settings.spacing, "clip": settings.clip}
    betas = settings.noise_schedule if schedule is None and steps is None else _betas(schedule)
    if schedule == "full":
        found["steps"] = _vp(process).steps
    if betas is not None:
        found |= {"steps": len(betas), "noise_schedule": list(betas)}
    sampler_options(found, process)  # raises where that cannot be sampled
    return found


def sampler_options(settings: dict[str, Any], process: Process) -> dict[str, Any]:
    """The settings of [`sampler_settings`][passband.training.sampler.sampler_settings] as arguments of `sample`.

    Raises:
        TypeError, ValueError: if that cannot be sampled.

    """
    check_choice("solver", settings["solver"], SOLVERS)
    if "noise_schedule" in settings:
        times = schedule_times(_vp(process), settings["noise_schedule"])
        return {"solver": settings["solver"], "clip": settings["clip"], "times": times}
    time_grid(process, settings["steps"], settings["spacing"])
    return dict(settings)


def evaluations(settings: dict[str, Any]) -> int:
    """Steps of the network of one sample (NFE): Heun's take two, but for the last; guidance is not counted."""
    steps = int(settings["steps"])
    return 2 * steps - 1 if settings["solver"] == "heun" else steps


def check_schedule(schedule: Schedule) -> None:
    """Raise if a schedule is neither `fast` nor `full` nor betas between 0 and 1.

    Raises:
        ValueError: if it is none of them.

    """
    betas = _betas(schedule)
    if betas is not None and not (len(betas) and all(0 < beta < 1 for beta in betas)):
        raise ValueError(f"betas must lie between 0 and 1, got {list(betas)}")


def _betas(schedule: Schedule | None) -> Sequence[float] | None:
    if schedule is None or not isinstance(schedule, str):
        return schedule
    if schedule == "full":
        return None
    if schedule == "fast":
        return FAST_SCHEDULE
    try:
        return [float(beta) for beta in schedule.split(",")]
    except ValueError:
        raise ValueError(
            f"a schedule is fast, full, or betas separated by commas, such as 1e-4,0.01,0.3; got {schedule!r}"
        ) from None


def _vp(process: Process) -> VP:
    if not isinstance(process, VP):
        raise TypeError(f"a schedule of betas is for a VP process, got {process!r}: give a number of steps instead")
    return process
