"""The processes of the schedulers that a training script passes at each step, each built once."""

from copy import copy
from typing import Any, NamedTuple

from torch import Tensor

from passband.integrations.diffusers import process_from_scheduler
from passband.process import Prediction, Process

#: Entries of a scheduler's config that decide its process, beside its table of noise levels.
_DECIDING = (
    "prediction_type",
    "num_train_timesteps",
    "timestep_type",
    "sigma_data",
    "sigma_min",
    "sigma_max",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_flow_sigmas",
    "use_lu_lambdas",
    "interpolation_type",
    "invert_sigmas",
)
#: How many schedulers are remembered: a script has one or two.
_MOST = 4


class Known(NamedTuple):
    """A scheduler, what its process followed from, and the process."""

    scheduler: Any
    config: tuple[object, ...]
    table: Tensor | None
    process: Process


class KnownSchedulers:
    """Look-up of a scheduler's process; one whose config or table was replaced since is built again.

    Args:
        prediction: what the network's output is, where it is not what the scheduler says.

    """

    def __init__(self, prediction: Prediction | None = None) -> None:
        self.prediction = prediction
        self._known: list[Known] = []

    def __call__(self, scheduler: Any) -> tuple[Process, bool]:
        """The process of a scheduler (or of a process: itself), and whether it is a new one."""
        config, table = _deciding(scheduler)
        for known in self._known:
            if known.scheduler is scheduler and known.table is table and known.config == config:
                return known.process, False
        process = self._build(scheduler)
        others = [known for known in self._known if known.scheduler is not scheduler]
        self._known = [Known(scheduler, config, table, process), *others][:_MOST]
        return process, True

    def _build(self, scheduler: Any) -> Process:
        if not isinstance(scheduler, Process):
            return process_from_scheduler(scheduler, self.prediction)
        if self.prediction is None:
            return scheduler
        process = copy(scheduler)
        process.prediction = self.prediction
        return process

    def __getstate__(self) -> dict[str, object]:
        return {"prediction": self.prediction, "_known": []}


def _deciding(scheduler: Any) -> tuple[tuple[object, ...], Tensor | None]:
    if isinstance(scheduler, Process):
        return (scheduler.prediction,), None
    config = getattr(scheduler, "config", None)
    if config is None or not hasattr(config, "get"):
        return (), None  # no scheduler: the building of its process says so
    return tuple(config.get(name) for name in _DECIDING), getattr(scheduler, "alphas_cumprod", None)
