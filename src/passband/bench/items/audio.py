"""Short-time losses of audio."""

from functools import partial

from passband.bench import bars
from passband.bench.item import Case, Item, Other, Setting, loss_case, named
from passband.bench.items import floors
from passband.bench.items.fourier import CLIPS
from passband.bench.rivals import auraloss, by_hand
from passband.regularization import AmplitudeLoss, AmplitudePhaseLoss, FramedLoss, SpectralLoss

FRAMES = (512, 1024, 2048)
CENTRED = "centred frames, so other ends"


def items() -> list[Item]:
    """Losses of frames, beside auraloss' and the one written with torch.stft."""
    return [
        Item(
            f"framed/amplitude/{named(CLIPS)}", partial(framed, AmplitudeLoss(), 0.75), "L1 of STFT amplitudes, hop ¼"
        ),
        Item(
            f"framed/amplitude-dense/{named(CLIPS)}", partial(framed, AmplitudeLoss(), 0.88), "at about auraloss' hops"
        ),
        Item(f"framed/amplitude-phase/{named(CLIPS)}", partial(framed, AmplitudePhaseLoss(), 0.75), "with phases"),
    ]


def framed(loss: SpectralLoss, overlap: float, setting: Setting) -> Case:
    """Against auraloss' loss of the same frame lengths, which is another quantity."""
    pair = setting.pair(CLIPS)
    others = [Other("auraloss", partial(auraloss.multi_resolution, setting.device), differs=auraloss.DIFFERS)]
    if isinstance(loss, AmplitudeLoss):
        others.append(Other("torch.stft, by hand", lambda: by_hand.stft_l1(FRAMES, overlap), differs=CENTRED))
    run = FramedLoss(loss, FRAMES, overlap)
    return loss_case(run, pair, others, [floors.plain_l1(*pair)], (bars.KEPT,))
