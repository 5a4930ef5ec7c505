"""A process as plain values, as checkpoints keep it beside a network."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from passband._checks import check_choice
from passband.process.base import Process
from passband.process.edm import EDM
from passband.process.flow import Flow
from passband.process.preconditioning import VEPreconditioned, VPPreconditioned
from passband.process.schedules import cosine_alphas_cumprod, linear_alphas_cumprod
from passband.process.vp import VP

_PROCESSES: dict[str, type[Process]] = {
    "vp": VP,
    "edm": EDM,
    "edm_vp": VPPreconditioned,
    "edm_ve": VEPreconditioned,
    "flow": Flow,
}
_SCHEDULES: dict[str, Callable[..., Tensor]] = {"linear": linear_alphas_cumprod, "cosine": cosine_alphas_cumprod}


def process_record(process: Process) -> dict[str, Any]:
    """A process as plain JSON values: its name and its constructor arguments.

    Args:
        process: VP, EDM (either preconditioning too) or Flow.

    Returns:
        What [`process_from_record`][passband.process.process_from_record] reads.

    Raises:
        TypeError: if it is of another class.

    Example:
        >>> from passband import Flow
        >>> from passband.process import process_from_record, process_record
        >>> record = process_record(Flow(data_at=1, prediction="sample", time_scale=1000))
        >>> record["name"], process_from_record(record).time_scale
        ('flow', 1000)

    """
    name = next((name for name, known in _PROCESSES.items() if type(process) is known), None)
    if name is None:
        raise TypeError(f"cannot record a process of class {type(process).__name__}: known are {', '.join(_PROCESSES)}")
    arguments = [name for name in inspect.signature(type(process)).parameters if name != "alphas_cumprod"]
    record = {"name": name, **{argument: getattr(process, argument) for argument in arguments}}
    return record | _schedule(process) if isinstance(process, VP) else record


def _schedule(process: VP) -> dict[str, Any]:
    """A VP process's table: by its name and range of betas if it has one, else the numbers."""
    table = process.level(torch.arange(process.steps, dtype=torch.float64)).alpha.square()
    for name, betas in (("linear", {}), ("cosine", {}), ("linear", _beta_range(table))):
        if torch.allclose(_table(name, process.steps, betas), table, rtol=1e-12, atol=1e-15):
            return {"schedule": name, "steps": process.steps, **betas}
    return {"alphas_cumprod": table.tolist()}


def _beta_range(table: Tensor) -> dict[str, float]:
    """The betas of a table's ends, rounded to what the table tells of them."""
    first = round(1 - table[0].item(), 12)
    last = round(1 - (table[-1] / table[-2]).item(), 12) if len(table) > 1 else first
    # Those of another kind of table may fall, or reach 1: a linear schedule has none of that, so it is not found.
    possible = 0 <= first <= last < 1
    return {"beta_start": first, "beta_end": last} if possible else {}


def _table(schedule: str, steps: int, betas: Mapping[str, float]) -> Tensor:
    check_choice("schedule", schedule, _SCHEDULES)
    if betas and schedule != "linear":
        raise ValueError(f"beta_start and beta_end are the linear schedule's, got schedule {schedule!r}")
    return _SCHEDULES[schedule](steps, **betas)


def process_from_record(record: Mapping[str, Any]) -> Process:
    """The process of a record.

    Args:
        record: what [`process_record`][passband.process.process_record] made: `name` (vp, edm, edm_vp, edm_ve or flow)
            and arguments of the constructor; of `vp`, `alphas_cumprod`, or `schedule` (linear or cosine), `steps` and,
            of linear, `beta_start` and `beta_end`.

    Returns:
        The process.

    Raises:
        ValueError, TypeError: if it names no process, or arguments that are not possible.

    """
    arguments = dict(record)
    name = arguments.pop("name", None)
    check_choice("process", name, _PROCESSES)
    if name == "vp" and "schedule" in arguments:
        schedule, steps = arguments.pop("schedule"), arguments.pop("steps", 1000)
        given = {beta: arguments.pop(beta, None) for beta in ("beta_start", "beta_end")}
        betas = {beta: value for beta, value in given.items() if value is not None}
        arguments["alphas_cumprod"] = _table(schedule, steps, betas)
    elif "alphas_cumprod" in arguments:
        arguments["alphas_cumprod"] = torch.tensor(arguments["alphas_cumprod"], dtype=torch.float64)
    if isinstance(arguments.get("logit_normal"), list):
        arguments["logit_normal"] = tuple(arguments["logit_normal"])
    return _PROCESSES[name](**arguments)
