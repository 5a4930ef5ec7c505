"""The learning rate over a run."""

import math

from passband.training.sections import OptimizerSettings


def learning_rate(settings: OptimizerSettings, step: int) -> float:
    r"""The learning rate of a step: a linear warm-up times the schedule.

    With s steps done before, W warm-up steps and D = `decay_steps`, the schedule is 1 (`constant`),
    $\frac12 (1 + \cos \pi u)$ (`cosine`) or $1 - u$ (`linear`) with $u = (s - W) / (D - W)$ in [0, 1], or
    $1 / \sqrt{\max(s / D, 1)}$ (`inverse_sqrt`).

    Args:
        settings: a recipe's section `optimizer`.
        step: number of steps done before this one.

    Example:
        >>> from passband.training.schedule import learning_rate
        >>> from passband.training.sections import OptimizerSettings
        >>> settings = OptimizerSettings(lr=1.0, warmup_steps=4, schedule="linear", decay_steps=12)
        >>> [learning_rate(settings, step) for step in (0, 3, 8, 12)]
        [0.25, 1.0, 0.5, 0.0]

    Source: `inverse_sqrt` is Karras et al. 2024 (arXiv:2312.02696), Eq. 67.
    """
    warm_up = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    return settings.lr * warm_up * _factor(settings, step)


def _factor(settings: OptimizerSettings, step: int) -> float:
    end, start = settings.decay_steps, settings.warmup_steps
    if settings.schedule == "constant" or end is None:
        return 1.0
    if settings.schedule == "inverse_sqrt":
        return 1 / math.sqrt(max(step / end, 1.0))
    done = min(max((step - start) / max(end - start, 1), 0.0), 1.0)
    return 1 - done if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
