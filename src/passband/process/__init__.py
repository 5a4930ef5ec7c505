r"""One equation for every diffusion and flow process.

A process noises a clean sample as $x_t = \alpha(t)\, x_0 + \sigma(t)\, \varepsilon$, $\varepsilon \sim N(0, I)$, and
every network output is a linear combination $p = a\, x_0 + b\, \varepsilon$. One formula recovers the clean estimate
for all:

$$\hat{x}_0 = \frac{b\, x_t - \sigma\, p}{\alpha b - \sigma a}$$

A process object knows $\alpha$ and $\sigma$ and carries its prediction, which fixes $a$ and $b$. Times are per sample:
a number, or a tensor of one value or of (batch,) values (any shape with that many elements, so EDM's (batch, 1, 1, 1)
too).
"""

from passband.process.base import Level, Prediction, PredictionMix, Process, Time
from passband.process.edm import EDM
from passband.process.flow import Flow
from passband.process.interpolant import Coefficients, Interpolant
from passband.process.preconditioning import VEPreconditioned, VPPreconditioned
from passband.process.record import process_from_record, process_record
from passband.process.schedules import cosine_alphas_cumprod, linear_alphas_cumprod
from passband.process.vp import VP, RescaledVP

__all__ = [
    "EDM",
    "VP",
    "Coefficients",
    "Flow",
    "Interpolant",
    "Level",
    "Prediction",
    "PredictionMix",
    "Process",
    "RescaledVP",
    "Time",
    "VEPreconditioned",
    "VPPreconditioned",
    "cosine_alphas_cumprod",
    "linear_alphas_cumprod",
    "process_from_record",
    "process_record",
]
