"""Noise schedules of inference, on a process that was trained with another one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from passband.process import VP
from passband.sampling.grid import check_process

#: DiffWave's schedule of six steps: the betas, from the least noise to the most.
FAST_SCHEDULE = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)


def schedule_times(process: VP, betas: Sequence[float] | Tensor = FAST_SCHEDULE) -> Float[Tensor, " times"]:
    r"""The times of a process that have the noise levels of an inference schedule.

    Step n of the schedule has $\bar\alpha_n = \prod_{i \le n} (1 - \beta_i)$; its time is the one at which the process
    has that $\bar\alpha$, in general between two of its indices. The `ancestral` solver at these times is DDPM's
    sampler with the schedule's own betas.

    DiffWave's published code interpolates linearly in $\sqrt{\bar\alpha}$; here (alpha, sigma) lies on the chord of
    [`VP`][passband.process.VP]. On the fast schedule the times differ by less than 0.05 of an index.

    Args:
        process: the VP process that the network was trained with.
        betas: $\beta_n$ in (0, 1), from the least noise to the most, as inference schedules are written.

    Returns:
        Times from noise to clean for `sample(times=...)`, (betas + 1,), float64 on the CPU; the last is the clean end.

    Raises:
        TypeError: if process is no VP, or betas hold no numbers.
        ValueError: if betas is no row of numbers in (0, 1), or reaches more noise, or less, than the process has.

    Example:
        >>> from passband import VP
        >>> from passband.process import linear_alphas_cumprod
        >>> from passband.sampling import schedule_times
        >>> process = VP(alphas_cumprod=linear_alphas_cumprod(50, 1e-4, 0.05))
        >>> [round(t, 2) for t in schedule_times(process).tolist()]
        [42.92, 22.99, 10.46, 4.1, 0.93, 0.0, -1.0]

    Source: Kong et al. 2021 (arXiv:2009.09761), section 3.2 and appendix B, fast sampling.
    """
    check_process(process)
    if not isinstance(process, VP):
        raise TypeError(f"an inference schedule of betas is for a VP process, got {process!r}: give steps instead")
    try:
        values = torch.as_tensor(betas, dtype=torch.float64).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"betas must hold numbers, from the least noise to the most, got {betas!r}") from error
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"betas must be one row of numbers, got shape {tuple(values.shape)}")
    if not bool(((values > 0) & (values < 1)).all()):
        raise ValueError(f"betas must lie between 0 and 1, got {values.tolist()}")
    kept = (1 - values).cumprod(0)
    ratios = ((1 - kept) / kept).sqrt()
    least, most = process.noise_ratio(torch.tensor([0.0, process.noise_time], dtype=torch.float64)).tolist()
    within = 1e-6
    if ratios[-1] > most * (1 + within) or ratios[0] < least * (1 - within):
        raise ValueError(
            f"betas reach noise ratios from {ratios[0]:.4g} to {ratios[-1]:.4g}, and the network was trained from "
            f"{least:.4g} to {most:.4g}: choose betas whose products stay within"
        )
    times = process.time_at(ratios.clamp(least, most)).clamp(0, process.noise_time)
    return torch.cat([times.flip(0), times.new_tensor([process.clean_time])])
