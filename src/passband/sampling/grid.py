"""The times at which a sampler calls the network."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from passband._checks import check_choice, check_integer, check_number
from passband.process import EDM, VP, Process

Spacing = Literal["leading", "trailing", "uniform", "karras"]


def time_grid(process: Process, steps: int, spacing: Spacing | None = None, rho: float = 7.0) -> Tensor:
    r"""The steps + 1 times from noise to the clean end, in float64 on the CPU.

    - `trailing` (default of VP): every T/steps-th index counted from the last; diffusers' spacing of that name.
    - `leading`: every (T // steps)-th index from 0, which leaves out the last; diffusers' default for DDIM.
    - `uniform` (default of Flow): evenly spaced in the process's own time; for VP diffusers' `linspace`.
    - `karras` (default of EDM): noise ratios
      $r_i = (r_{max}^{1/\rho} + \frac{i}{n-1} (r_{min}^{1/\rho} - r_{max}^{1/\rho}))^\rho$, then clean. Not for Flow,
      whose noise ratio has no largest value.

    Args:
        process: the process.
        steps: number of steps, at least 1 (VP: at most T).
        spacing: see above; None: the process's own.
        rho: exponent of `karras`, above 0.

    Returns:
        Times in the process's own unit, (steps + 1,), float64 on the CPU; the last is the clean end (-inf for EDM with
        time `c_noise`).

    Raises:
        TypeError: if process is no Process, steps no integer, or rho no number.
        ValueError: on an unknown spacing, one that the process does not have, or steps or rho out of range.

    Example:
        >>> from passband import VP, Flow
        >>> from passband.sampling import time_grid
        >>> time_grid(VP(), 4).tolist(), time_grid(Flow(data_at=1), 2).tolist()
        ([999.0, 749.0, 499.0, 249.0, -1.0], [0.0, 0.5, 1.0])

    Source: Karras et al. 2022 (arXiv:2206.00364), Eq. 5; Lin et al. 2024 (arXiv:2305.08891), Table 2, for VP's
    spacings.
    """
    check_process(process)
    check_integer("steps", steps)
    check_number("rho", rho)
    spacing = spacing or default_spacing(process)
    check_choice("spacing", spacing, get_args(Spacing))
    if steps < 1 or (isinstance(process, VP) and spacing != "karras" and steps > process.steps):
        most = f" and at most {process.steps}" if isinstance(process, VP) else ""
        raise ValueError(f"steps must be at least 1{most}, got {steps}")
    if spacing == "karras":
        times = _karras(process, steps, rho)
    elif isinstance(process, VP):
        times = _indices(process.steps, steps, spacing)
    elif spacing == "uniform":
        if not math.isfinite(process.clean_time):
            raise ValueError(f"spacing 'uniform' needs a finite time without noise, which {process!r} does not have")
        times = torch.linspace(process.noise_time, process.clean_time, steps + 1, dtype=torch.float64)[:-1]
    else:
        raise ValueError(f"spacing {spacing!r} counts the indices of a VP process; use 'uniform' for {process!r}")
    return torch.cat([times, times.new_tensor([process.clean_time])])


def check_process(process: object) -> None:
    """Raise TypeError unless process is one."""
    if not isinstance(process, Process):
        raise TypeError(
            f"process must be a Process such as VP(), got {type(process).__name__}; "
            "of a diffusers scheduler, pass process_from_scheduler(scheduler)"
        )


def default_spacing(process: Process) -> Spacing:
    """The spacing of a process's own paper.

    Args:
        process: the process.

    Returns:
        `trailing` for VP, `karras` for EDM, `uniform` for Flow and any other.

    Example:
        >>> from passband import EDM, VP
        >>> from passband.sampling import default_spacing
        >>> default_spacing(VP()), default_spacing(EDM())
        ('trailing', 'karras')

    """
    if isinstance(process, VP):
        return "trailing"
    return "karras" if isinstance(process, EDM) else "uniform"


def _indices(count: int, steps: int, spacing: Spacing) -> Tensor:
    if spacing == "leading":
        return (torch.arange(steps, dtype=torch.float64) * (count // steps)).flip(0)
    if spacing == "trailing":
        return (count - torch.arange(steps, dtype=torch.float64) * count / steps).round() - 1
    return torch.linspace(0, count - 1, steps, dtype=torch.float64).round().flip(0)


def _karras(process: Process, steps: int, rho: float) -> Tensor:
    if not rho > 0:
        raise ValueError(f"rho must be positive, got {rho}")
    ratio = torch.as_tensor(_ratio_range(process), dtype=torch.float64) ** (1 / rho)
    largest, smallest = ratio
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return process.time_at((largest + ramp * (smallest - largest)) ** rho)


def _ratio_range(process: Process) -> tuple[float, float]:
    if isinstance(process, EDM):
        return process.sigma_max, process.sigma_min
    if isinstance(process, VP):
        largest, smallest = process.noise_ratio(torch.tensor([process.noise_time, 0.0], dtype=torch.float64)).tolist()
        if largest != float("inf"):
            return largest, smallest
    raise ValueError(f"spacing 'karras' needs a largest noise ratio, which {process!r} does not have; use 'uniform'")
