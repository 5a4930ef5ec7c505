"""Variance-preserving diffusion, in its own coordinates and rescaled."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from passband.process.base import Field, Level, Prediction, Process, Time, check_count, fields
from passband.process.schedules import falls, linear_alphas_cumprod


class VP(Process):
    r"""Variance-preserving diffusion (DDPM, and DDIM, which shares its training).

    $\alpha = \sqrt{\bar\alpha_t}$, $\sigma = \sqrt{1-\bar\alpha_t}$. Time is the index 0 ... T-1 of the schedule; -1 is
    the clean end. Between indices, (alpha, sigma) runs along the chord, scaled back to the unit circle, so solvers may
    stop anywhere.

    Args:
        prediction: `epsilon` (default), `sample`, `v_prediction`, ...
        alphas_cumprod: $\bar\alpha$ of each index, decreasing, in [0, 1]; default: linear betas from 1e-4 to 0.02 in
            1,000 steps.
        sigma_data: see [`Process`][passband.process.Process].

    Raises:
        TypeError: if alphas_cumprod is no tensor, or sigma_data no number.
        ValueError: if alphas_cumprod is not a decreasing sequence in [0, 1], the prediction is unknown, or sigma_data
            is not above 0.

    Example:
        >>> import torch
        >>> from passband import VP
        >>> alpha, sigma = VP().level(torch.tensor([-1.0, 0.0, 999.0]))
        >>> [round(value, 3) for value in alpha.tolist()]
        [1.0, 1.0, 0.006]

    Source: Ho et al. 2020 (DDPM, arXiv:2006.11239), Eq. 4.
    """

    clean_time = -1.0

    def __init__(
        self,
        prediction: Prediction = "epsilon",
        *,
        alphas_cumprod: Float[Tensor, " steps"] | None = None,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(prediction, sigma_data)
        table = linear_alphas_cumprod() if alphas_cumprod is None else alphas_cumprod
        if not isinstance(table, Tensor):
            raise TypeError(
                f"alphas_cumprod must be a torch.Tensor, got {type(table).__name__}; convert it with torch.as_tensor"
            )
        table = table.detach().to("cpu", torch.float64)
        if table.numel() == 0:
            raise ValueError(f"alphas_cumprod must hold at least one value, got shape {tuple(table.shape)}")
        inside = bool(((table >= 0) & (table <= 1)).all())
        if table.ndim != 1 or len(table) < 1 or not inside or not falls(table):
            raise ValueError(
                "alphas_cumprod must be a 1-d sequence in [0, 1] that decreases: "
                f"got shape {tuple(table.shape)} and values from {table.max():g} to {table.min():g}"
            )
        clean_end = torch.ones(1, dtype=torch.float64)
        self._alpha = torch.cat([clean_end, table.sqrt()])
        self._sigma = torch.cat([1 - clean_end, (1 - table).sqrt()])
        self._on_device: dict[tuple[torch.device, torch.dtype], Level] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_on_device": {}}

    @property
    def steps(self) -> int:
        """The number of noise levels T."""
        return len(self._alpha) - 1

    @property
    def noise_time(self) -> float:  # type: ignore[override]
        """The last index, T - 1."""
        return float(self.steps - 1)

    def level(self, t: Float[Tensor, "*times"]) -> Level:
        r"""$\sqrt{\bar\alpha}$ and $\sqrt{1 - \bar\alpha}$."""
        alpha, sigma = self._chord(t)
        norm = torch.hypot(alpha, sigma)
        return Level(alpha / norm, sigma / norm)

    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        r"""$\alpha' = -\theta' \sigma$, $\sigma' = \theta' \alpha$; the angle's speed is its rise over t's interval."""
        table = self._table(t)
        angle = torch.atan2(table.sigma, table.alpha)
        after = self._entry(t)
        speed = angle[after] - angle[after - 1]
        alpha, sigma = self.level(t)
        return Level(-speed * sigma, speed * alpha)

    def time_at(self, noise_ratio: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
        """On the chord between the two entries; beyond the table, its end."""
        table = self._table(noise_ratio)
        # As the angle's cosine and sine, so that an infinite ratio is an ordinary value.
        cos, sin = (1 + noise_ratio.square()).rsqrt(), (1 + noise_ratio.square().reciprocal()).rsqrt()
        angles = torch.atan2(table.sigma, table.alpha)
        before = (torch.searchsorted(angles, noise_ratio.atan().contiguous(), right=True) - 1).clamp(0, self.steps - 1)
        alpha, sigma = table.alpha[before], table.sigma[before]
        rise, fall = table.sigma[before + 1] - sigma, table.alpha[before + 1] - alpha
        weight = (sin * alpha - cos * sigma) / (cos * rise - sin * fall)
        return before + weight.clamp(0, 1) - 1

    def sample_times(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> Shaped[Tensor, " count"]:
        """Uniform indices 0 ... T-1."""
        check_count(count)
        return torch.randint(0, self.steps, (count,), generator=generator, device=device)

    def initial(self, noise: Field, t: Time) -> Field:
        """Unit noise, whatever is left of the signal at t (as DDPM's and DDIM's samplers do)."""
        (noise,) = fields(noise=noise)
        self._time(t, noise)
        return noise

    def _chord(self, t: Tensor) -> Level:
        """The table, linear between its entries."""
        table = self._table(t)
        # Comparisons with NaN times would index anywhere; a NaN weight carries the NaN through instead.
        position = (t + 1).clamp(0, self.steps).nan_to_num(0)
        before = position.long().clamp(max=self.steps - 1)
        weight = (t + 1) - before
        return Level(*(torch.lerp(column[before], column[before + 1], weight) for column in table))

    def _entry(self, t: Tensor) -> Tensor:
        """Index into the table of the first entry at or after t, 1 at least: the end of t's interval."""
        return (t + 1).clamp(0, self.steps).nan_to_num(0).ceil().long().clamp(min=1)

    def _table(self, t: Tensor) -> Level:
        key = (t.device, t.dtype)
        if key not in self._on_device:
            self._on_device[key] = Level(self._alpha.to(t.device, t.dtype), self._sigma.to(t.device, t.dtype))
        return self._on_device[key]

    def _range_hint(self) -> str:
        return f" (an index of its {self.steps} noise levels; -1 is the clean end)"


class RescaledVP(VP):
    r"""A VP process in the coordinates $x_t / \alpha = x_0 + r\, \varepsilon$, as Euler-type samplers of VP models use.

    Same times as [`VP`][passband.process.VP], but the noise ratio r is what is linear between indices, as in those
    samplers; the network sees $x / \sqrt{1 + r^2}$, which is the VP sample.

    Args:
        prediction: `epsilon` (default), `sample`, `v_prediction`, ...
        alphas_cumprod: as for [`VP`][passband.process.VP], but above 0.
        sigma_data: see [`Process`][passband.process.Process].

    Raises:
        TypeError: if alphas_cumprod is no tensor, or sigma_data no number.
        ValueError: as [`VP`][passband.process.VP], and if alphas_cumprod reaches 0, where r is infinite.

    Example:
        >>> import torch
        >>> from passband import VP
        >>> from passband.process import RescaledVP
        >>> t = torch.tensor([100.0, 999.0])
        >>> alpha, ratio = RescaledVP().level(t)
        >>> alpha.tolist(), torch.allclose(ratio, VP().noise_ratio(t))
        ([1.0, 1.0], True)

    Source: Song et al. 2021 (DDIM, arXiv:2010.02502), Eq. 13 and 14: these coordinates.
    """

    def __init__(
        self,
        prediction: Prediction = "epsilon",
        *,
        alphas_cumprod: Float[Tensor, " steps"] | None = None,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__(prediction, alphas_cumprod=alphas_cumprod, sigma_data=sigma_data)
        if not bool(self._alpha.all()):
            raise ValueError(
                "alphas_cumprod reaches 0, where x / alpha does not exist: use VP, or end the table at a small value "
                "(diffusers' Euler schedulers take 2**-24)"
            )
        self._alpha, self._sigma = torch.ones_like(self._alpha), self._sigma / self._alpha

    def level(self, t: Float[Tensor, "*times"]) -> Level:
        """1 and r."""
        return self._chord(t)

    def slope(self, t: Float[Tensor, "*times"]) -> Level:
        """The rise of r over the interval that ends at t."""
        ratio, after = self._table(t).sigma, self._entry(t)
        rise = ratio[after] - ratio[after - 1]
        return Level(torch.zeros_like(rise), rise)

    def scale_input(self, noisy: Field, t: Time) -> Field:
        r"""The VP sample, $x / \sqrt{1 + r^2}$."""
        (noisy,) = fields(noisy=noisy)
        return noisy / torch.hypot(*self.level(self._time(t, noisy)))

    def initial(self, noise: Field, t: Time) -> Field:
        """Unit noise of VP, in these coordinates."""
        (noise,) = fields(noise=noise)
        return noise * torch.hypot(*self.level(self._time(t, noise)))
