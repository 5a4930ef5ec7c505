"""Whether Spectral Forcing might mend a denoiser: a front where it invents what noise hides."""

from typing import Any

import torch
from torch import Tensor

from passband.metrics import DenoiserSpectrum, PowerLawResult

#: Where the Wiener filter leaves this share of the data's power, there is next to nothing but noise to see.
_DROWNED = 0.9
#: Spectral Forcing has been seen to hurt on data whose power falls slower than this.
_FLAT = 1.5


def _invented(result: DenoiserSpectrum) -> Tensor:
    """Cells with power that is not the data's: too much of it, or so much that an estimate of zero would err less."""
    return result.rough | (result.under & (result.relative > 1))


def _cut(result: DenoiserSpectrum) -> Tensor:
    """Cells that a low-pass can take without loss: noise hides this band and all above it. The mean always passes."""
    hidden = (result.wiener > _DROWNED).flip(1).cumprod(1).flip(1).bool()
    above_mean: Tensor = hidden & torch.tensor([high > 0 for _, high in result.bands])
    return above_mean


def contour(law: PowerLawResult) -> dict[str, Any]:
    """The front along which noise and data of a power law are equal, as a recipe names it.

    Example:
        >>> from passband.data import power_law_fields
        >>> from passband.metrics import measure_power_law
        >>> from passband.training.suggest_front import contour
        >>> front = contour(measure_power_law(power_law_fields(64, 32, 2.0, seed=0)))
        >>> front["name"], round(front["beta"]), front["size"]
        ('contour', 2, 32)

    """
    size = law.size[0] if len(set(law.size)) == 1 else list(law.size)
    return {"name": "contour", "beta": round(law.beta, 3), "k1": round(law.k1, 3), "size": size}


def suggest_front(
    result: DenoiserSpectrum, law: PowerLawResult | str, prediction: str = "sample"
) -> tuple[dict[str, Any] | None, str]:
    """A front as a recipe names it, None without; and why.

    Args:
        result: what was measured.
        law: the power law of the data, or why there is none.
        prediction: what the network predicts; all but the clean sample has noise in it, which a low-pass on the input
            hides from the network.

    """
    drowned = _invented(result) & _cut(result)
    if isinstance(law, str) or law.front is None:
        why = law if isinstance(law, str) else "the data's power does not fall with frequency"
        return None, f"No front can be given: {why.rstrip('.')}."
    if not bool(drowned.any()):
        return None, (
            "No Spectral Forcing: the model invents nothing where noise hides the data at a frequency and at all above "
            "it, which is what a low-pass on its input could keep from it."
        )
    if prediction != "sample":
        return None, (
            f"No Spectral Forcing: what the model predicts ({prediction}) has the noise in it, which it could not see "
            "behind a low-pass on its input; only networks that predict the clean sample can be trained with one."
        )
    cells = f"{int(drowned.sum())} cell{'s' * (int(drowned.sum()) > 1)}"
    if law.beta < _FLAT:
        return None, (
            f"No Spectral Forcing, though the model invents what noise hides in {cells}: the data's "
            f"power falls only as frequency^−{law.beta:.1f}, and on such data it has been seen to hurt."
        )
    why = (
        f"In {cells} the model invents what noise hides (a Wiener filter leaves more than {100 * _DROWNED:.0f} % "
        "of the data's power there). Spectral Forcing takes these frequencies from its input; this front is "
        f"the contour of your own data, power as frequency^−{law.beta:.2f}. A network has to be trained with it, and "
        "it has helped transformers with coarse patches alone so far."
    )
    return contour(law), why
