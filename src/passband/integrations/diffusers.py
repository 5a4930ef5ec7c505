r"""The process that a diffusers scheduler stands for, and the loading of forced models.

Everything is read from the scheduler object, so diffusers itself is never imported here.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from passband.forcing.attach import CONFIG_KEY
from passband.process import EDM, VP, Flow, Prediction, Process, RescaledVP


class _Support(NamedTuple):
    """What is known of one scheduler class."""

    build: Callable[[Any, Prediction], Process]
    #: The scheduler's prediction types and our names for them.
    predictions: Mapping[str, Prediction]
    #: Options that cut the tie between its timesteps and its noise levels.
    untied_by: tuple[str, ...] = ()


def process_from_scheduler(scheduler: Any, prediction: Prediction | None = None) -> Process:
    r"""Build the process of a diffusers scheduler: its noise levels, prediction, timesteps and input scaling.

    | schedulers | process | noisy sample | prediction types |
    |---|---|---|---|
    | `DDPM`, `DDIM`, `DPMSolverMultistep`, `DPMSolverSinglestep`, `DEISMultistep`, `UniPCMultistep` | `VP` | $\sqrt{\bar\alpha}\, x_0 + \sqrt{1-\bar\alpha}\, \varepsilon$ | `epsilon`, `sample`, `v_prediction` |
    | `PNDM` | `VP` | the same | `epsilon`, `v_prediction` |
    | `EulerDiscrete`, `HeunDiscrete`, `LMSDiscrete` | `RescaledVP` | $x_0 + r\, \varepsilon$ | `epsilon`, `sample`, `v_prediction` |
    | `EulerAncestralDiscrete` | `RescaledVP` | the same | `epsilon`, `v_prediction` |
    | `EulerDiscrete` with `timestep_type="continuous"` and `v_prediction` | `EDM`, $\sigma_d = 1$ | $x_0 + \sigma\, \varepsilon$ | `v_prediction` |
    | `EDMEuler`, `EDMDPMSolverMultistep` | `EDM` | $x_0 + \sigma\, \varepsilon$ | `epsilon` (our `edm`), `v_prediction` (our `edm_negated`) |
    | `FlowMatchEulerDiscrete`, `FlowMatchHeunDiscrete` | `Flow(data_at=0)` | $(1-\sigma)\, x_0 + \sigma\, \varepsilon$ | the velocity, $\varepsilon - x_0$ |

    Times are the scheduler's own `timesteps`, as a training script holds them: the index for VP, $\ln(\sigma)/4$ for EDM,
    $\sigma$ times `num_train_timesteps` for flows, whatever their shift; -1 is the clean end of VP. Sub-classes work.
    Clipping and thresholding of the clean estimate, learned variances (pass the half that is the mean) and the choice of
    sampling steps are the scheduler's business and no part of the process.

    Where diffusers disagrees with itself, the process is the one of `step`: `add_noise` of the multistep and single-step
    VP solvers reads its table backwards until `set_timesteps` is called, and `EulerDiscrete.get_velocity` always does.

    Refused, because a timestep then does not tell its noise level: Karras, exponential, beta, Lu and log-linear spacing
    (flows and EDM excepted), flow sigmas in the VP solvers, inverted sigmas.

    Args:
        scheduler: a scheduler object (of a pipeline: its `scheduler`).
        prediction: what the network's output is, by our names, where the scheduler's config does not say it, such as
            `sample` where a script preconditions the output; default: the scheduler's.

    Returns:
        A process whose `add_noise`, `scale_input` and `clean_estimate` equal what the scheduler does at each of its
        timesteps.

    Raises:
        TypeError: if this is no scheduler, or one of an unsupported class.
        ValueError: if its prediction type or one of its options is not supported.

    Example:
        >>> from diffusers import DDPMScheduler
        >>> from passband import process_from_scheduler
        >>> process = process_from_scheduler(DDPMScheduler(prediction_type="v_prediction"))
        >>> process, round(process.noise_ratio(999).item())
        (VP(prediction='v_prediction', sigma_data=0.5), 157)

    """  # noqa: E501  (table rows)
    name, support = _support(scheduler)
    if prediction is None:
        prediction = _prediction(name, scheduler.config, support)
    for option in support.untied_by:
        _check_tied(name, scheduler.config, option)
    return support.build(scheduler, prediction)


@contextlib.contextmanager
def expecting_forcing() -> Iterator[None]:
    """Load models without diffusers' warning that a recorded forcing will be ignored: it is kept in their config."""
    log = logging.getLogger("diffusers.configuration_utils")
    log.addFilter(_says_nothing_of_forcing)
    try:
        yield
    finally:
        log.removeFilter(_says_nothing_of_forcing)


def _says_nothing_of_forcing(record: logging.LogRecord) -> bool:
    return repr(CONFIG_KEY) not in record.getMessage()


def _support(scheduler: Any) -> tuple[str, _Support]:
    if isinstance(scheduler, type):
        raise TypeError(f"expected a diffusers scheduler, got the class {scheduler.__name__}: pass an object of it")
    if not hasattr(scheduler, "config") or hasattr(scheduler, "scheduler"):
        raise TypeError(
            f"expected a diffusers scheduler, got {type(scheduler).__name__}; of a pipeline, pass pipeline.scheduler"
        )
    for name in (cls.__name__ for cls in type(scheduler).__mro__):
        if name == "EulerDiscreteScheduler" and _is_continuous(scheduler.config):
            return name, _CONTINUOUS_EULER
        if name in _SUPPORTED:
            return name, _SUPPORTED[name]
    name = type(scheduler).__name__
    raise TypeError(
        f"unsupported scheduler {name}; supported are {', '.join(_SUPPORTED)} "
        "and their sub-classes. Of another one, write the process yourself, e.g. "
        "passband.VP('epsilon', alphas_cumprod=scheduler.alphas_cumprod)"
    )


def _prediction(name: str, config: Any, support: _Support) -> Prediction:
    if support is _FLOW_MATCH:
        return "velocity"
    found = config.get("prediction_type")
    if found in support.predictions:
        return support.predictions[found]
    hint = "; for a flow, use a FlowMatch scheduler" if found == "flow_prediction" else ""
    raise ValueError(
        f"{name} with prediction_type={found!r} is not supported; expected one of "
        f"{', '.join(map(repr, support.predictions))}{hint}"
    )


def _check_tied(name: str, config: Any, option: str) -> None:
    value, tied = config.get(option), "linear" if option == "interpolation_type" else False
    if not value or value == tied:
        return
    raise ValueError(
        f"{name} with {option}={value!r} is not supported: its timesteps then do not tell its noise levels. "
        f"{_WAYS_OUT.get(option, _WITHOUT_OPTION).format(option=option, tied=tied)}"
    )


def _is_continuous(config: Any) -> bool:
    # For other prediction types diffusers ignores timestep_type.
    return (config.get("timestep_type"), config.get("prediction_type")) == ("continuous", "v_prediction")


def _vp(scheduler: Any, prediction: Prediction) -> Process:
    return VP(prediction, alphas_cumprod=scheduler.alphas_cumprod)


def _rescaled_vp(scheduler: Any, prediction: Prediction) -> Process:
    return RescaledVP(prediction, alphas_cumprod=scheduler.alphas_cumprod)


def _edm(scheduler: Any, prediction: Prediction) -> Process:
    config = scheduler.config
    return EDM(
        prediction,
        sigma_data=config.sigma_data,
        sigma_min=config.sigma_min,
        sigma_max=config.sigma_max,
        time="c_noise",
    )


def _continuous_euler(scheduler: Any, prediction: Prediction) -> Process:
    # x / sqrt(1 + sigma^2) as input and v as output are EDM's preconditioning, negated, at sigma_data = 1.
    config, sigmas = scheduler.config, RescaledVP(alphas_cumprod=scheduler.alphas_cumprod)
    return EDM(
        prediction,
        sigma_data=1.0,
        sigma_min=config.sigma_min or sigmas.noise_ratio(0).item(),
        sigma_max=config.sigma_max or sigmas.noise_ratio(sigmas.noise_time).item(),
        time="c_noise",
    )


def _flow(scheduler: Any, prediction: Prediction) -> Process:
    return Flow(0, prediction, time_scale=float(scheduler.config.num_train_timesteps))


_ANY: dict[str, Prediction] = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v_prediction"}
_NOISE_OR_V: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v_prediction"}
_EDM_NAMES: dict[str, Prediction] = {"epsilon": "edm", "v_prediction": "edm_negated"}

_SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")

_EDM = _Support(_edm, _EDM_NAMES)
_CONTINUOUS_EULER = _Support(_continuous_euler, {"v_prediction": "edm_negated"})
_FLOW_MATCH = _Support(_flow, {}, ("invert_sigmas",))
_VP_SOLVER = _Support(_vp, _ANY, ("use_flow_sigmas", *_SPACINGS))

_SUPPORTED: dict[str, _Support] = {
    "DDPMScheduler": _Support(_vp, _ANY),
    "DDIMScheduler": _Support(_vp, _ANY),
    "PNDMScheduler": _Support(_vp, _NOISE_OR_V),
    "DPMSolverMultistepScheduler": _VP_SOLVER._replace(untied_by=(*_VP_SOLVER.untied_by, "use_lu_lambdas")),
    "DPMSolverSinglestepScheduler": _VP_SOLVER,
    "DEISMultistepScheduler": _VP_SOLVER,
    "UniPCMultistepScheduler": _VP_SOLVER,
    "EulerDiscreteScheduler": _Support(
        _rescaled_vp, {**_ANY, "original_sample": "sample"}, (*_SPACINGS, "interpolation_type")
    ),
    "EulerAncestralDiscreteScheduler": _Support(_rescaled_vp, _NOISE_OR_V),
    "HeunDiscreteScheduler": _Support(_rescaled_vp, _ANY, _SPACINGS),
    "LMSDiscreteScheduler": _Support(_rescaled_vp, _ANY, _SPACINGS),
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": _EDM,
    "FlowMatchEulerDiscreteScheduler": _FLOW_MATCH,
    "FlowMatchHeunDiscreteScheduler": _FLOW_MATCH,
}

_WITHOUT_OPTION = (
    "It changes sampling only: train with the process of a scheduler without it, "
    "process_from_scheduler(type(scheduler).from_config(scheduler.config, {option}={tied!r}))"
)
_WAYS_OUT = {
    "use_flow_sigmas": "For a flow, pass a FlowMatchEulerDiscreteScheduler",
    "invert_sigmas": (
        "If the model's time runs from noise at 0 to data at num_train_timesteps, its process is "
        "passband.Flow(data_at=1, time_scale=num_train_timesteps)"
    ),
}
