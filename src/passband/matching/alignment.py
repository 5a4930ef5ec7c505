"""Representation alignment (REPA): a denoiser's tokens, projected, point where a teacher's do."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from passband._checks import check_batch, check_choice, check_integer, check_number, check_same_shape
from passband._numerics import no_autocast, upcast
from passband.matching._heads import build_head
from passband.matching._tokens import check_tokens, resampled
from passband.matching.targets import check_gamma, check_sigmas, dog, spatial_normalize

Tokens = Float[Tensor, "batch channels *grid"]
Features = Tensor | Mapping[str, Tensor]
Target = Callable[[Tensor], Tensor]
Head = Literal["mlp", "conv"]
TargetName = Literal["plain", "normalize", "dog"]

ONE_TEACHER = "teacher"
"""The name of a teacher that was given by its width alone."""


def alignment_loss(projected: Tokens, features: Tokens) -> Float[Tensor, ""]:
    r"""Minus the mean cosine of two fields of tokens, $-\operatorname{mean}_i \cos(h_i, y_i)$.

    Args:
        projected: the student's tokens, projected to the teacher's width, (batch, channels, \*grid).
        features: the teacher's, of the same shape.

    Returns:
        A scalar, -1 to 1.

    Raises:
        TypeError: if an input is not floating.
        ValueError: if shapes differ.

    Example:
        >>> import torch
        >>> from passband.matching import alignment_loss
        >>> tokens = torch.randn(2, 16, 4, 6)
        >>> round(alignment_loss(tokens, 3 * tokens).item(), 4)
        -1.0

    Source: REPA (arXiv:2410.06940).
    """
    check_batch("projected", projected)
    check_batch("features", features)
    check_same_shape("projected", projected, "features", features)
    projected, features = upcast(projected, features)
    with no_autocast(projected):
        return -nn.functional.cosine_similarity(projected, features, dim=1).mean()


class AlignmentLoss(nn.Module):
    r"""Heads from a denoiser's tokens to teachers' features, and the loss that aligns them.

    $-w(s) \operatorname{mean}_i \cos(\text{head}(h)_i, T(y)_i)$, the mean over teachers too; s is the step, T what the
    teacher's features are made into. Its parameters train with the denoiser's; sampling does not need them.

    Args:
        width: the denoiser's channels.
        teachers: the teacher's channels, or those of several by name.
        head: `mlp` (three linear layers with SiLU, per token; REPA) or `conv` (one 3 x 3 convolution; iREPA).
        hidden: channels between the layers of `mlp`.
        target: T: `plain` (as they are), `normalize` ([`spatial_normalize`][passband.matching.spatial_normalize],
            iREPA), `dog` ([`dog`][passband.matching.dog], REPA-DoG) or any function of a field that keeps its shape.
        gamma: of `normalize`.
        sigma1: of `dog`.
        sigma2: of `dog`.
        weight: the weight w, at least 0.
        decay_steps: let w fall linearly to 0 over so many steps; None: constant.
        stop_step: w is 0 from this step on; None: never.

    Raises:
        TypeError: if an argument is of another kind than above.
        ValueError: if a width is not positive, a choice unknown, a number out of range, or a teacher's name is taken.

    Example:
        >>> import torch
        >>> from passband import AlignmentLoss
        >>> align = AlignmentLoss(64, {"dino": 384, "lite": 40}, hidden=128, target="dog", stop_step=100_000)
        >>> tokens = torch.randn(2, 64, 6, 8)  # a denoiser's block 8, as a field
        >>> features = {"dino": torch.randn(2, 384, 12, 16), "lite": torch.randn(2, 40, 6, 8)}
        >>> loss = align(tokens, features, step=0)
        >>> sorted(align.terms)
        ['dino', 'lite']

    Source: REPA (arXiv:2410.06940), iREPA (arXiv:2512.10794), Spectrum Matching (arXiv:2603.14645).
    """

    #: Detached losses of the last call before the weight, by teacher, on their device.
    terms: dict[str, Tensor]

    def __init__(
        self,
        width: int,
        teachers: int | Mapping[str, int],
        *,
        head: Head = "mlp",
        hidden: int = 2048,
        target: TargetName | Target = "plain",
        gamma: int | float = 1.0,
        sigma1: int | float = 0.0,
        sigma2: int | float = 0.125,
        weight: int | float = 0.5,
        decay_steps: int | None = None,
        stop_step: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("head", head, get_args(Head))
        for name, size in (("width", width), ("hidden", hidden)):
            _check_positive(name, size)
        self.width = width
        self.teachers = _teachers(teachers)
        self.target = _target(target, gamma, sigma1, sigma2)
        self._target_name = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
        check_number("weight", weight)
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight must be finite and at least 0, got {weight}")
        for name, steps in (("decay_steps", decay_steps), ("stop_step", stop_step)):
            if steps is not None:
                _check_positive(name, steps)
        self.weight, self.decay_steps, self.stop_step = float(weight), decay_steps, stop_step
        self.heads = nn.ModuleDict(
            {_key(name): build_head(head, width, hidden, channels) for name, channels in self.teachers.items()}
        )
        self.terms = {}

    def forward(self, tokens: Tokens, features: Features, step: int | None = None) -> Float[Tensor, ""]:
        r"""Project the tokens and compare them.

        Args:
            tokens: the denoiser's, (batch, width, \*grid).
            features: the teacher's, (batch, channels, \*grid), or those of each by name.
            step: the training step; needed with `decay_steps` or `stop_step`.

        Returns:
            The weighted loss, a scalar.

        Raises:
            TypeError: if an input is not floating.
            ValueError: if shapes or names do not fit, or the step is missing.

        """
        return self.compare(self.project(tokens), features, step)

    def project(self, tokens: Tokens) -> dict[str, Tensor]:
        r"""Each head's output.

        Args:
            tokens: the denoiser's, (batch, width, \*grid); 1 or 2 grid axes for `conv`, 1 to 3 for `mlp`.

        Returns:
            By teacher, (batch, channels, \*grid).

        """
        check_tokens("tokens", tokens, self.width)
        return {name: self.heads[_key(name)](tokens) for name in self.teachers}

    def compare(
        self, projected: Mapping[str, Tensor], features: Features, step: int | None = None
    ) -> Float[Tensor, ""]:
        r"""The weighted loss of what `project` returned.

        Args:
            projected: by teacher, (batch, channels, \*grid).
            features: the teacher's, or those of each by name; one of another grid is resampled to the student's. No
                gradient reaches them.
            step: the training step; needed with `decay_steps` or `stop_step`.

        Returns:
            The weighted loss, a scalar; the values by teacher, before the weight, are in `terms`.

        """
        weight = self.weight_at(step)
        given = self._by_teacher(features)
        values = {name: self._one(name, projected[name], given[name]) for name in self.teachers}
        self.terms = {name: value.detach() for name, value in values.items()}
        return weight * torch.stack(list(values.values())).mean()

    def weight_at(self, step: int | None = None) -> float:
        """The weight at a step; where it is 0, the teachers need not run.

        Args:
            step: the training step; may be None without `decay_steps` and `stop_step`.

        Returns:
            The weight.

        Raises:
            TypeError: if step is not an integer.
            ValueError: if step is missing or negative.

        """
        if self.decay_steps is None and self.stop_step is None:
            return self.weight
        if step is None:
            raise ValueError("the weight changes over training (decay_steps or stop_step): pass step")
        check_integer("step", step)
        if step < 0:
            raise ValueError(f"step must be at least 0, got {step}")
        if self.stop_step is not None and step >= self.stop_step:
            return 0.0
        left = 1.0 if self.decay_steps is None else max(0.0, 1.0 - step / self.decay_steps)
        return self.weight * left

    def extra_repr(self) -> str:
        """Options, for the text of the module."""
        return (
            f"teachers={self.teachers}, target={self._target_name!r}, weight={self.weight}, "
            f"decay_steps={self.decay_steps}, stop_step={self.stop_step}"
        )

    def _one(self, name: str, projected: Tensor, features: Tensor) -> Tensor:
        label = f"features of {name!r}"
        check_tokens(label, features, self.teachers[name], batch=projected.shape[0])
        with torch.no_grad():
            target = self.target(resampled(label, features.detach(), tuple(projected.shape[2:])))
        return alignment_loss(projected, target)

    def _by_teacher(self, features: Features) -> Mapping[str, Tensor]:
        if isinstance(features, Tensor):
            if len(self.teachers) > 1:
                raise ValueError(
                    f"there are several teachers: pass their features by name, one of each of {[*self.teachers]}"
                )
            return dict.fromkeys(self.teachers, features)
        if not isinstance(features, Mapping):
            raise TypeError(f"features must be a tensor, or a dict of them by teacher, got {type(features).__name__}")
        if set(features) != set(self.teachers):
            raise ValueError(f"features must be those of {[*self.teachers]}, got those of {[*features]}")
        return features


def _teachers(teachers: int | Mapping[str, int]) -> dict[str, int]:
    named = dict(teachers) if isinstance(teachers, Mapping) else {ONE_TEACHER: teachers}
    if not named:
        raise ValueError("there must be at least one teacher, got none")
    for name, channels in named.items():
        if not isinstance(name, str):
            raise TypeError(f"a teacher's name must be a string, got {name!r}")
        _check_positive(f"the width of teacher {name!r}", channels)
    if len({_key(name) for name in named}) < len(named):
        raise ValueError(f"teachers' names must differ in more than dots, got {[*named]}")
    return named


def _key(name: str) -> str:
    """The name of a teacher's head in the state dict; torch allows no dots there, nor its own attributes' names."""
    return "to_" + name.replace(".", "_")


def _target(target: TargetName | Target, gamma: float, sigma1: float, sigma2: float) -> Target:
    if callable(target):
        return target
    check_choice("target", target, get_args(TargetName))
    if target == "normalize":
        check_gamma(gamma)
        return partial(spatial_normalize, gamma=gamma)
    if target == "dog":
        check_sigmas(sigma1, sigma2)
        return partial(dog, sigma1=sigma1, sigma2=sigma2)
    return _plain


def _plain(features: Tensor) -> Tensor:
    return features


def _check_positive(name: str, value: int) -> None:
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
