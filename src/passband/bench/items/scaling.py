"""How cost grows with size and batch, beside the naive form at every point: nowhere may it be slower."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from passband.bench import bars
from passband.bench.item import Arm, Case, Item, Loss, Other, Setting, loss_case, named, operator_call, unless_missing
from passband.bench.items.fourier import NO_FADE, Shape
from passband.bench.rivals import by_hand, focal_frequency_loss, pytorch_wavelets, torch_dct
from passband.forcing import spectral_low_pass
from passband.regularization import amplitude_loss, amplitude_phase_loss, wavelet_loss
from passband.regularization import focal_frequency_loss as ours_focal
from passband.transforms import radial_grid

Build = Callable[[Shape, Setting], Case]

SIDES = (8, 16, 32, 64, 128, 256, 512)
BATCHES = (1, 16, 64)
LENGTHS = (1024, 16384, 262144)
SHARE = 0.4
KAPPA = 30.0

IMAGES: tuple[Shape, ...] = (*((4, 3, n, n) for n in SIDES), *((b, 3, 64, 64) for b in BATCHES))
CLIPS: tuple[Shape, ...] = tuple((4, 1, n) for n in LENGTHS)


def items() -> list[Item]:
    """Each loss over sides, batches and lengths; the low-pass over images."""
    found = []
    for name, build in {"amplitude": amplitude, "amplitude-phase": phase, "haar": haar}.items():
        found += _grid(name, build, (*IMAGES, *CLIPS))
    for name, build in {"focal": focal, "low-pass": low_pass}.items():
        found += _grid(name, build, IMAGES)
    found += _grid("bior1.3", bior, IMAGES[1:])  # its filters are too long for the smallest
    return found


def amplitude(shape: Shape, setting: Setting) -> Case:
    """Complex FFTs."""
    return _case(
        amplitude_loss, Other("torch.fft, by hand", lambda: by_hand.amplitude, bars.NOT_SLOWER), shape, setting
    )


def phase(shape: Shape, setting: Setting) -> Case:
    """Two angles."""
    other = Other(
        "two angles, by hand",
        lambda: by_hand.two_angles,
        bars.NOT_SLOWER,
        tolerance=0.05,
        same_gradient=False,
        remark=NO_FADE,
    )
    return _case(amplitude_phase_loss, other, shape, setting)


def haar(shape: Shape, setting: Setting) -> Case:
    """Convolutions of both fields."""
    other = Other("convolutions, by hand", lambda: by_hand.haar(3), bars.NOT_SLOWER)
    return _case(partial(wavelet_loss, wavelet="haar", levels=3), other, shape, setting)


def bior(shape: Shape, setting: Setting) -> Case:
    """pytorch-wavelets, since the extension at the border is not written in a line."""
    levels = 3 if shape[-1] > 32 else 1
    make = partial(pytorch_wavelets.l1, "bior1.3", levels, len(shape) - 2, setting.device)
    loss = partial(wavelet_loss, wavelet="bior1.3", levels=levels)
    wrong = pytorch_wavelets.WRONG_AT_BORDERS
    other = Other("pytorch-wavelets", make, bars.NOT_SLOWER, same_gradient=False, remark=wrong)
    return _case(loss, other, shape, setting)


def focal(shape: Shape, setting: Setting) -> Case:
    """Its authors' package."""
    return _case(ours_focal, Other("focal-frequency-loss", focal_frequency_loss.focal, bars.NOT_SLOWER), shape, setting)


def low_pass(shape: Shape, setting: Setting) -> Case:
    """torch-dct, one cutoff per sample."""
    z, grad = setting.noise(shape).requires_grad_(), setting.noise(shape, 1)
    cutoffs = torch.linspace(0.05, 1.0, shape[0]).to(setting.device)
    radius = radial_grid(shape[2:], kind="dct", device=setting.device).float()
    radius = radius / radius.max()

    def rival() -> Arm:
        call = operator_call(torch_dct.low_pass(radius, cutoffs, KAPPA), z, grad)
        return Arm("torch-dct", call, leaf=z, tolerance=1e-3, bars=(bars.NOT_SLOWER,))

    ours = operator_call(lambda x: spectral_low_pass(x, cutoffs, kappa=KAPPA), z, grad)
    arms = (Arm("passband", ours, "ours", leaf=z), unless_missing("torch-dct", rival, (bars.NOT_SLOWER,)))
    return Case(arms, (z, cutoffs, grad), z.untyped_storage().nbytes())


def _grid(name: str, build: Build, shapes: Sequence[Shape]) -> list[Item]:
    return [Item(f"scaling/{name}/{named(shape)}", partial(build, shape), share=SHARE) for shape in shapes]


def _case(ours: Loss, other: Other, shape: Shape, setting: Setting) -> Case:
    case = loss_case(ours, setting.pair(shape), [other])
    return Case(case.arms[:2], case.inputs, case.unit)
