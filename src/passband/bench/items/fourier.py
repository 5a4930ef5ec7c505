"""Amplitude, amplitude and phase, focal frequency, pixel."""

from collections.abc import Sequence
from functools import partial

from passband.bench import bars
from passband.bench.bars import Bar
from passband.bench.item import Case, Item, Other, Setting, loss_case, named
from passband.bench.items import floors
from passband.bench.rivals import by_hand, focal_frequency_loss
from passband.regularization import (
    Coupling,
    amplitude_loss,
    amplitude_phase_loss,
    pixel_loss,
)
from passband.regularization import focal_frequency_loss as ours_focal

Shape = tuple[int, ...]

IMAGES: tuple[Shape, ...] = ((16, 3, 64, 64), (8, 4, 128, 128), (8, 3, 256, 256))
CLIPS: Shape = (16, 1, 16384)
VOLUMES: Shape = (2, 1, 32, 64, 64)

NO_FADE = "no fade-out at zero amplitude: its gradient is not bounded"
OF_ANOTHER_KIND = "another loss: squared, weighted"


def items() -> list[Item]:
    """Every Fourier loss at every shape, and the plain L1."""
    everywhere, flat = (*IMAGES, CLIPS, VOLUMES), (*IMAGES, CLIPS)
    couplings: Sequence[Coupling] = ("energy", "norm")
    first = IMAGES[0]
    return [
        *(Item(f"amplitude/{named(s)}", partial(amplitude, s), "L1 of Fourier amplitudes") for s in everywhere),
        *(Item(f"amplitude-phase/{named(s)}", partial(amplitude_phase, s), "phases stabilised") for s in everywhere),
        *(
            Item(
                f"amplitude-phase/{c}/{named(first)}", partial(amplitude_phase, first, coupling=c), f"coupling {c}", 0.5
            )
            for c in couplings
        ),
        *(Item(f"focal/{named(s)}", partial(focal, s), "focal frequency loss", 0.7) for s in flat),
        *(Item(f"pixel/{named(s)}", partial(pixel, s), "L1 of samples, one value each", 0.3) for s in flat),
    ]


def amplitude(shape: Shape, setting: Setting) -> Case:
    """Against complex FFTs, and against the focal frequency loss, the usual Fourier loss."""
    pair = setting.pair(shape)
    promised = shape in (*IMAGES, CLIPS)
    bar = bars.AMPLITUDE_1D if len(shape) == 3 else bars.AMPLITUDE
    others = [Other("torch.fft, by hand", lambda: by_hand.amplitude, bar if promised else None)]
    if len(shape) == 4:
        focal_bar = bars.AMPLITUDE_FOCAL if promised else None
        others.append(Other("focal-frequency-loss", focal_frequency_loss.focal, focal_bar, OF_ANOTHER_KIND))
    floor = floors.real_ffts(*pair, bars=_on_a_gpu(setting))
    return loss_case(amplitude_loss, pair, others, [floor], (bars.KEPT,))


def amplitude_phase(shape: Shape, setting: Setting, coupling: Coupling = "frequency") -> Case:
    """Against two angles by autograd."""
    pair = setting.pair(shape)
    bar = bars.PHASE_1D if len(shape) == 3 else bars.PHASE
    promised = shape in (*IMAGES, CLIPS) and coupling == "frequency"
    differs = "" if coupling == "frequency" else "coupling frequency; " + NO_FADE
    other = Other(
        "two angles, by hand",
        lambda: by_hand.two_angles,
        bar if promised else None,
        differs,
        tolerance=1e-2,
        same_gradient=False,
        remark="" if differs else NO_FADE,
    )
    loss = partial(amplitude_phase_loss, coupling=coupling)
    return loss_case(loss, pair, [other], [floors.real_ffts(*pair)], (bars.KEPT,))


def focal(shape: Shape, setting: Setting) -> Case:
    """Against its authors' package."""
    pair = setting.pair(shape)
    others = [Other("torch.fft, by hand", lambda: by_hand.focal)]
    if len(shape) == 4:
        others.append(Other("focal-frequency-loss", focal_frequency_loss.focal))
    return loss_case(ours_focal, pair, others, [floors.real_ffts(*pair, count=2)], (bars.KEPT,))


def pixel(shape: Shape, setting: Setting) -> Case:
    """Against PyTorch's mean over everything."""
    pair = setting.pair(shape)
    return loss_case(pixel_loss, pair, [], [floors.plain_l1(*pair)], (bars.KEPT,))


def _on_a_gpu(setting: Setting) -> tuple[Bar, ...]:
    """There the loss should take at most 1.5 times the three FFTs."""
    return (Bar("ratio", 1 / 1.5),) if setting.device.type == "cuda" else ()
