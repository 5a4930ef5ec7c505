"""Wavelet losses and transforms."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from passband.bench import bars
from passband.bench.bars import Bar
from passband.bench.item import Arm, Case, Item, Loss, Other, Setting, loss_case, named, operator_call, unless_missing
from passband.bench.items import floors
from passband.bench.items.fourier import CLIPS, IMAGES, VOLUMES, Shape
from passband.bench.rivals import by_hand, ptwt, pytorch_wavelets, wavelet_loss
from passband.bench.timing import Call
from passband.regularization import wavelet_loss as ours
from passband.transforms import WaveletCoefficients, dwt, idwt, swt

LEVELS = 3


def items() -> list[Item]:
    """Losses by wavelet and shape, and the transforms."""
    found = []
    for wavelet in ("haar", "bior1.3"):
        for shape in (*IMAGES, CLIPS):
            title = f"L1 of {wavelet} sub-bands, {LEVELS} levels"
            found.append(Item(f"{wavelet}/{named(shape)}", partial(loss, wavelet, shape), title))
    shape = IMAGES[0]
    found += [
        Item(f"haar/{named(VOLUMES)}", partial(loss, "haar", VOLUMES), "L1 of Haar sub-bands in 3-d", 0.5),
        Item(f"db4/{named(shape)}", partial(loss, "db4", shape), "L1 of db4 sub-bands", 0.7),
        Item(f"haar/stationary/{named(shape)}", partial(stationary_loss, shape), "undecimated, 2 levels", 0.5),
        Item(f"transforms/dwt/{named(shape)}", partial(decimated, shape), "DWT, bior1.3, forward and backward", 0.7),
        Item(f"transforms/idwt/{named(shape)}", partial(inverse, shape), "its inverse", 0.4),
        Item(f"transforms/swt/{named(CLIPS)}", partial(stationary, CLIPS), "SWT, Haar, 3 levels", 0.5),
    ]
    return found


def loss(wavelet: str, shape: Shape, setting: Setting) -> Case:
    """Against the packages' transforms of both fields, which is how they are used."""
    pair = setting.pair(shape)
    dims = len(shape) - 2
    others = []
    if dims < 3:
        bar = _bar(wavelet, shape)
        package = partial(pytorch_wavelets.l1, wavelet, LEVELS, dims, setting.device)
        others.append(_by_package("pytorch-wavelets", package, wavelet, bar))
        if dims == 2:
            haar_bar = bar if wavelet == "haar" else None
            package = partial(wavelet_loss.l1, wavelet, LEVELS, setting.device)
            others.append(_by_package("wavelet-loss", package, wavelet, haar_bar))
        others.append(Other("ptwt", partial(ptwt.l1, wavelet, LEVELS)))
        if wavelet == "haar":
            others.append(Other("convolutions, by hand", partial(by_hand.haar, LEVELS)))
    kept = bars.KEPT_HAAR if wavelet == "haar" else bars.KEPT
    floor = [floors.plain_l1(*pair), *_copy(setting, *pair)]
    return loss_case(partial(ours, wavelet=wavelet, levels=LEVELS), pair, others, floor, (kept,))


def stationary_loss(shape: Shape, setting: Setting) -> Case:
    """Nothing of the kind is at hand for images."""
    pair = setting.pair(shape)
    run = partial(ours, wavelet="haar", levels=2, stationary=True)
    return loss_case(run, pair, [], [floors.plain_l1(*pair)], (bars.KEPT,))


def decimated(shape: Shape, setting: Setting) -> Case:
    """The sum of all coefficients' moduli, so that forms with other containers can be compared."""
    x = setting.noise(shape).requires_grad_()

    def arm(name: str, bands: Any, kind: Any = "rival", **options: Any) -> Arm:
        return Arm(name, operator_call(lambda z: _size(bands(z)), x, _one(x)), kind, leaf=x, **options)

    def package() -> Arm:
        analyse = pytorch_wavelets.transform("bior1.3", LEVELS, 2, setting.device)

        def bands(z: Tensor) -> list[Tensor]:
            low, high = analyse(z)
            return [low, *high]

        return arm("pytorch-wavelets", bands, same_gradient=False, remark=pytorch_wavelets.WRONG_AT_BORDERS)

    def toolbox() -> Arm:
        ptwt.l1("bior1.3", LEVELS)
        return arm("ptwt", partial(ptwt.coefficients, wavelet="bior1.3", levels=LEVELS))

    first = arm("passband", lambda z: _bands(dwt(z, "bior1.3", LEVELS)), "ours")
    arms = (first, unless_missing("pytorch-wavelets", package), unless_missing("ptwt", toolbox))
    return Case(arms, (x,), x.untyped_storage().nbytes())


def inverse(shape: Shape, setting: Setting) -> Case:
    """From the coefficients back, forward and backward."""
    coefficients = dwt(setting.noise(shape), "bior1.3", LEVELS)
    low = coefficients.approximation.requires_grad_()
    grad = setting.noise(shape, 1)
    call = operator_call(lambda z: idwt(coefficients._replace(approximation=z)), low, grad)
    return Case((Arm("passband", call, "ours", leaf=low),), (low,), grad.untyped_storage().nbytes())


def stationary(shape: Shape, setting: Setting) -> Case:
    """Along one axis, where the toolbox has it."""
    x = setting.noise(shape).requires_grad_()

    def arm(name: str, bands: Any, kind: Any = "rival") -> Arm:
        return Arm(name, operator_call(lambda z: _size(bands(z)), x, _one(x)), kind, leaf=x)

    def toolbox() -> Arm:
        ptwt.l1("haar", LEVELS)
        return arm("ptwt", partial(ptwt.stationary, wavelet="haar", levels=LEVELS))

    first = arm("passband", lambda z: _bands(swt(z, "haar", LEVELS)), "ours")
    return Case((first, unless_missing("ptwt", toolbox)), (x,), x.untyped_storage().nbytes())


def _by_package(name: str, make: Callable[[], Loss], wavelet: str, bar: Bar | None) -> Other:
    right = wavelet == "haar"
    remark = "" if right else pytorch_wavelets.WRONG_AT_BORDERS
    return Other(name, make, bar, same_gradient=right, remark=remark)


def _bar(wavelet: str, shape: Shape) -> Bar | None:
    if shape not in IMAGES:
        return None
    return bars.HAAR[shape[-1]] if wavelet == "haar" else bars.BIOR if wavelet == "bior1.3" else None


def _bands(coefficients: WaveletCoefficients) -> list[Tensor]:
    return [band for _, _, band in coefficients.subbands()]


def _size(bands: list[Tensor]) -> Tensor:
    return sum((band.abs().sum() for band in bands[1:]), start=bands[0].abs().sum())


def _one(x: Tensor) -> Tensor:
    return torch.ones((), device=x.device)


def _copy(setting: Setting, estimate: Tensor, clean: Tensor) -> list[Arm]:
    """Two reads and one write, which is what bounds a kernel on a GPU: 70 % of that speed is wanted there."""
    if setting.device.type != "cuda":
        return []
    x, out = estimate.detach(), torch.empty_like(clean)
    return [Arm("x − y into memory", Call(lambda: torch.sub(x, clean, out=out)), "floor", bars=(Bar("ratio", 0.7),))]
