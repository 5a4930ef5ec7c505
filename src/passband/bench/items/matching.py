"""Spectrum Matching: ESM, DSM, DoG, alignment."""

from functools import partial

import torch
from torch import Tensor

from passband.bench import bars
from passband.bench.item import Arm, Case, Item, Setting, loss_call, named, operator_call, unless_missing
from passband.bench.rivals import scipy, torch_dct
from passband.bench.timing import Call
from passband.matching import alignment_loss, dog, dsm_low_pass, eq_transform, esm_loss

IMAGE, LATENT, TOKENS = (8, 3, 128, 128), (8, 4, 32, 32), (16, 384, 16, 16)
CORNER, SIGMAS = 10, (1 / 16, 1 / 4)


def items() -> list[Item]:
    """One item each."""
    return [
        Item(f"esm/{named(LATENT)}", esm, "spectrum of a latent against its image's, 128 x 128", 0.5),
        Item(f"dsm/{named(IMAGE)}", dsm, "block-DCT low-pass of an image", 0.7),
        Item(f"dog/{named(TOKENS)}", band_pass, "difference of Gaussians on tokens", 0.5),
        Item(f"alignment/{named(TOKENS)}", alignment, "minus the mean cosine", 0.4),
        Item(f"eq/{named(IMAGE)}", equivariance, "image and latent scaled by ½ and turned", 0.4),
    ]


def esm(setting: Setting) -> Case:
    """Nothing of the kind can be installed."""
    image, latent = setting.noise(IMAGE), setting.noise(LATENT, 1).requires_grad_()
    first = Arm("passband", loss_call(lambda z, x: esm_loss(x, z), latent, image), "ours", leaf=latent)
    squared = loss_call(lambda z, _: z.square().mean(), latent, image)
    return Case((first, Arm("MSE", squared, "floor")), (image, latent), latent.untyped_storage().nbytes())


def dsm(setting: Setting) -> Case:
    """Against torch-dct on blocks."""
    x, grad = setting.noise(IMAGE).requires_grad_(), setting.noise(IMAGE, 1)
    index = torch.arange(8, device=setting.device)
    mask = (index[:, None] + index < 15 - CORNER).float()

    def rival() -> Arm:
        return Arm("torch-dct", operator_call(torch_dct.block_low_pass(mask), x, grad), leaf=x, tolerance=1e-3)

    first = Arm(
        "passband", operator_call(lambda z: dsm_low_pass(z, CORNER), x, grad), "ours", leaf=x, bars=(bars.KEPT,)
    )
    return Case((first, unless_missing("torch-dct", rival)), (x, grad, mask), x.untyped_storage().nbytes())


def band_pass(setting: Setting) -> Case:
    """Against SciPy's blur, forward alone."""
    tokens, grad = setting.noise(TOKENS).requires_grad_(), setting.noise(TOKENS, 1)

    def host() -> Arm:
        widths = [sigma * TOKENS[-1] for sigma in SIGMAS]
        call = Call(partial(scipy.band_pass(*widths), tokens))
        return Arm("scipy.ndimage", call, tolerance=1e-3, forward_alone=True)

    first = Arm("passband", operator_call(lambda z: dog(z, *SIGMAS), tokens, grad), "ours", leaf=tokens)
    arms = [first, *([unless_missing("scipy.ndimage", host)] if setting.device.type == "cpu" else [])]
    return Case(tuple(arms), (tokens, grad), tokens.untyped_storage().nbytes())


def alignment(setting: Setting) -> Case:
    """Against the same by hand."""
    student, teacher = setting.pair(TOKENS)

    def cosine(x: Tensor, y: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize
        return -(unit(x, dim=1) * unit(y, dim=1)).sum(1).mean()

    first = Arm("passband", loss_call(alignment_loss, student, teacher), "ours", leaf=student)
    other = Arm("normalize, by hand", loss_call(cosine, student, teacher), leaf=student)
    return Case((first, other), (student, teacher), student.untyped_storage().nbytes())


def equivariance(setting: Setting) -> Case:
    """The resizing is PyTorch's."""
    image, latent = setting.noise(IMAGE), setting.noise(LATENT, 1).requires_grad_()

    def run(z: Tensor, x: Tensor) -> Tensor:
        return eq_transform(x, z, 0.5, 1)[1].square().mean()

    return Case((Arm("passband", loss_call(run, latent, image), "ours", leaf=latent),), (image, latent), 0)
