"""The low-pass of Spectral Forcing, and the DCT."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from passband.bench import bars
from passband.bench.bars import Bar
from passband.bench.item import Arm, Case, Item, Setting, named, operator_call, unless_missing
from passband.bench.items import floors
from passband.bench.items.fourier import CLIPS, Shape
from passband.bench.rivals import by_hand, scipy, torch_dct
from passband.bench.timing import Call
from passband.forcing import spectral_low_pass
from passband.transforms import dct, dct_matrix, radial_grid

KAPPA = 30.0
SHAPES: tuple[Shape, ...] = ((16, 3, 64, 64), (8, 3, 256, 256), (4, 3, 512, 512))
LARGEST_MATRIX = 1024


def items() -> list[Item]:
    """The operator by shape and option, and the bare transform."""
    found = [Item(f"low-pass/{named(shape)}", partial(low_pass, shape), "one cutoff per sample") for shape in SHAPES]
    found += [
        Item(f"low-pass/cutoff-0.3/{named(shape)}", partial(low_pass, shape, cutoff=0.3), "all at a cutoff of 0.3", 0.6)
        for shape in SHAPES
    ]
    shape = SHAPES[0]
    found += [
        Item(f"low-pass/{named(CLIPS)}", partial(low_pass, CLIPS), "in 1-d", 0.6),
        Item(f"low-pass/exact/{named(shape)}", partial(variant, shape, {"exact": True}), "exact at both ends", 0.4),
        Item(f"low-pass/window-8/{named(shape)}", partial(variant, shape, {"window": 8}), "in windows of 8", 0.4),
    ]
    for each in SHAPES[:2]:
        found.append(Item(f"transforms/dct/{named(each)}", partial(transform, each), "DCT-II", 0.7))
    return found


def low_pass(shape: Shape, setting: Setting, cutoff: float | None = None) -> Case:
    """Cutoffs spread evenly over a training batch's, 0.05 to 1, or one for all."""
    z, grad = setting.noise(shape).requires_grad_(), setting.noise(shape, 1)
    cutoffs = torch.linspace(0.05, 1.0, shape[0]) if cutoff is None else torch.full((shape[0],), cutoff)
    cutoffs = cutoffs.to(setting.device)
    size = shape[2:]
    radius = radial_grid(size, kind="dct", device=setting.device).float()
    radius = radius / radius.max()

    def rival() -> Arm:
        call = operator_call(torch_dct.low_pass(radius, cutoffs, KAPPA), z, grad)
        return Arm("torch-dct", call, leaf=z, tolerance=1e-3, bars=_bar(shape, cutoff))

    first = Arm(
        "passband",
        operator_call(lambda x: spectral_low_pass(x, cutoffs, kappa=KAPPA), z, grad),
        "ours",
        leaf=z,
        bars=(bars.KEPT_LOW_PASS,),
    )
    arms = [first, unless_missing("torch-dct", rival, _bar(shape, cutoff))]
    if max(size) <= LARGEST_MATRIX:
        matrices = tuple(dct_matrix(n, torch.float32, setting.device) for n in size)
        dense = operator_call(by_hand.low_pass(radius, cutoffs, KAPPA, matrices), z, grad)
        arms.append(Arm("matmuls, by hand", dense, leaf=z, tolerance=1e-3))
        arms.append(floors.there_and_back(z, matrices, bars=_on_a_gpu(setting, shape, cutoff)))
    arms.append(floors.real_ffts_there_and_back(z))
    return Case(tuple(arms), (z, cutoffs, grad), z.untyped_storage().nbytes())


def variant(shape: Shape, options: dict[str, Any], setting: Setting) -> Case:
    """With one option, beside the published operator."""
    z, grad = setting.noise(shape).requires_grad_(), setting.noise(shape, 1)
    cutoffs = torch.linspace(0.05, 1.0, shape[0]).to(setting.device)

    def run(x: Tensor, **chosen: Any) -> Tensor:
        return spectral_low_pass(x, cutoffs, kappa=KAPPA, **chosen)

    first = Arm("passband", operator_call(partial(run, **options), z, grad), "ours", leaf=z, bars=(bars.KEPT_LOW_PASS,))
    plain = Arm("without the option", operator_call(run, z, grad), leaf=z, differs="the published operator")
    return Case((first, plain), (z, cutoffs, grad), z.untyped_storage().nbytes())


def transform(shape: Shape, setting: Setting) -> Case:
    """The bare DCT, forward and backward; SciPy's forward alone."""
    x, grad = setting.noise(shape).requires_grad_(), setting.noise(shape, 1)

    def rival() -> Arm:
        return Arm("torch-dct", operator_call(torch_dct.dct(len(shape) - 2), x, grad), leaf=x, tolerance=1e-3)

    def host() -> Arm:
        return Arm("scipy.fft", Call(partial(scipy.dctn(), x)), tolerance=1e-3, forward_alone=True)

    first = Arm("passband", operator_call(dct, x, grad), "ours", leaf=x)
    arms = [first, unless_missing("torch-dct", rival)]
    if setting.device.type == "cpu":
        arms.append(unless_missing("scipy.fft", host))
    matrices = tuple(dct_matrix(n, torch.float32, setting.device) for n in shape[2:])
    arms.append(floors.there_and_back(x, matrices, times=1))
    return Case(tuple(arms), (x, grad), x.untyped_storage().nbytes())


def _bar(shape: Shape, cutoff: float | None) -> tuple[Bar, ...]:
    return (bars.LOW_PASS[shape[-1]],) if shape in SHAPES and cutoff is None else ()


def _on_a_gpu(setting: Setting, shape: Shape, cutoff: float | None) -> tuple[Bar, ...]:
    """There it should take at most 1.5 times the products at 256 x 256."""
    wanted = setting.device.type == "cuda" and shape[-1] == 256 and cutoff is None
    return (Bar("ratio", 1 / 1.5),) if wanted else ()
