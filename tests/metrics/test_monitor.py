"""The spectrum's monitor: what it measures against closed forms, and that it leaves the model and the run alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from passband import EDM, VP, Flow
from passband.metrics import SpectrumMonitor, WienerFilter, noise_levels, spectrum_scalars
from passband.metrics.noise_levels import level_name, noise_range
from passband.transforms import dct, idct, radial_grid

SIZE = (32, 32)
RATIO = 0.25


def power() -> Tensor:
    """The power of each DCT coefficient of the fields below."""
    return (radial_grid(SIZE, "dct").clamp_min(1) / 4) ** -2.0


def fields(count: int = 24) -> Tensor:
    noise = torch.randn(count, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    return idct(noise * power().sqrt().float())


class Gains(nn.Module):
    """A denoiser of EDM samples that multiplies each DCT coefficient; it counts its calls."""

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.gain, self.calls, self.modes = gain.float(), 0, []
        self.dropout, self.frozen = nn.Dropout(0.5), nn.BatchNorm2d(1)

    def forward(self, x: Tensor, t: Tensor, scale: Tensor | None = None) -> Tensor:
        self.calls += 1
        self.modes.append((self.training, self.dropout.training, self.frozen.training))
        x = x if scale is None else scale.reshape(-1, 1, 1, 1) * x
        return self.frozen(self.dropout(idct(self.gain * dct(x)))) * math.sqrt(1 + 1e-5)


def wiener() -> Tensor:
    return power() / (power() + RATIO**2)


def monitor(clean: Tensor | None = None, **options: Any) -> SpectrumMonitor:
    known = WienerFilter(power()[None], torch.ones(1, 1).double())
    settings: dict[str, Any] = {"every": 10, "ratios": [RATIO], "wiener": known, **options}
    return SpectrumMonitor(EDM("sample"), fields() if clean is None else clean, **settings)


def cells(values: dict[str, float], kind: str) -> list[float]:
    return [value for name, value in values.items() if f"/{kind}/" in name]


def test_the_wiener_filter_itself_has_no_excess_and_the_right_power():
    values = monitor()(10, Gains(wiener()))
    assert values is not None
    assert cells(values, "excess") == pytest.approx([0, 0, 0, 0], abs=1e-3)
    # A Wiener filter is calibrated by construction; a few samples are so by chance alone, least in the lowest band.
    assert cells(values, "calibration")[1:] == pytest.approx([0, 0, 0], abs=0.2)


def test_a_damped_octave_is_found_there_and_nowhere_else():
    frequency = radial_grid(SIZE, "dct") / (2 * SIZE[0])
    octave = (frequency > 1 / 8) & (frequency <= 1 / 4)
    watching = monitor()
    right, damped = (watching(10, Gains(gain)) for gain in (wiener(), torch.where(octave, 0.8, 1.0) * wiener()))
    assert right is not None
    assert damped is not None
    name = f"noise-{RATIO}/0.125-0.25"
    for key, value in right.items():
        if name not in key:
            assert damped[key] == pytest.approx(value, abs=1e-6)
    # |cX|² / (cX·X) is c times what it was.
    assert damped[f"spectrum/calibration/{name}"] - right[f"spectrum/calibration/{name}"] == pytest.approx(
        10 * math.log10(0.8), abs=0.03
    )
    # E|cWY − X|² of independent coefficients: (1 − cW)² P + c² W² r², in expectation.
    p, w, inside = power(), wiener(), octave
    error = [((1 - c * w) ** 2 * p + (c * w * RATIO) ** 2)[inside].sum() for c in (0.8, 1.0)]
    excess = damped[f"spectrum/excess/{name}"]
    assert excess == pytest.approx(10 * math.log10(float(error[0] / error[1])), abs=0.15)


def test_the_filter_of_the_samples_is_near_the_true_one():
    excess = cells(monitor(wiener=None)(0, Gains(wiener())) or {}, "excess")
    assert excess == pytest.approx([0, 0, 0, 0], abs=0.3)


def test_nothing_is_computed_in_other_steps():
    model, watching = Gains(wiener()), monitor()
    assert [watching(step, model) for step in (1, 5, 9, 11)] == [None] * 4
    assert model.calls == 0
    assert watching.latest is None
    with pytest.raises(TypeError, match="step must be an int"):
        watching(torch.tensor(10), model)  # type: ignore[arg-type]


def test_modes_and_random_state_are_as_before():
    model, watching = Gains(wiener()).train(), monitor()
    model.frozen.eval()
    before = torch.get_rng_state()
    watching(10, lambda x, t: model(x, t) + 0 * torch.rand(()))
    assert model.modes == [(True, True, False)]  # a bare function's modes are its own affair
    watching(10, model)
    assert model.modes[1:] == [(False, False, False)]
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.frozen.num_batches_tracked == 0


def test_modes_are_restored_after_an_error():
    model = Gains(torch.ones(3, 3)).train()
    with pytest.raises(RuntimeError):
        monitor()(10, model)
    assert model.training
    assert model.dropout.training


def test_parts_and_conditions_go_together():
    scale = torch.linspace(0.5, 1.5, 24)
    whole, parts = (monitor(conditioning={"scale": scale}, batch_size=size)(10, Gains(wiener())) for size in (None, 7))
    assert whole is not None
    assert parts == pytest.approx(whole, abs=1e-4)
    assert whole != pytest.approx(monitor()(10, Gains(wiener())), abs=1e-3)


def test_the_samples_follow_a_module_to_its_device():
    """A device of its own name, on which nothing is computed: the network is asked with samples that lie there."""
    seen = []

    def asked(_module, inputs, named):
        seen.extend([inputs[0].device.type, named["scale"].device.type])
        raise KeyboardInterrupt

    model = Gains(wiener()).to("meta")
    model.register_forward_pre_hook(asked, with_kwargs=True)
    with pytest.raises(KeyboardInterrupt):
        monitor(conditioning={"scale": torch.ones(24)}).measure(model)
    assert seen == ["meta", "meta"]


def test_two_measurements_of_one_model_are_equal():
    watching, model = monitor(), Gains(0.9 * wiener())
    assert watching(10, model) == watching(20, model) == monitor()(0, model)


def test_a_band_without_power_is_left_out_or_has_an_end():
    clean = torch.zeros(4, 1, *SIZE)
    clean[:, 0, :, :16] = torch.tensor([0.5, 1.0, -1.0, 2.0]).reshape(-1, 1, 1)  # no vertical frequencies
    clean = clean - clean.mean((-1, -2), keepdim=True)
    values = monitor(clean, wiener=None)(10, lambda x, t: 0.5 * x)
    assert values
    assert not any(math.isnan(value) for value in values.values())


def test_what_is_added_to_an_empty_band_shows_in_its_octave():
    frequency = radial_grid(SIZE, "dct") / (2 * SIZE[0])
    upper = frequency > 0.354
    clean = idct(torch.where(upper, 0, dct(fields())))
    added = idct(torch.where(upper & (frequency <= 0.5), 3.0, 0.0).float()[None, None])
    known = WienerFilter(torch.where(upper, 0, power())[None], torch.ones(1, 1).double())
    right, wrong = (
        monitor(clean, wiener=known)(10, lambda x, t, extra=extra: 0.9 * x + extra) for extra in (0.0, added)
    )
    assert right is not None
    assert wrong is not None
    name = f"spectrum/excess/noise-{RATIO}/0.25-0.5"
    assert wrong[name] > right[name] + 10


def test_an_estimate_of_nothing_is_logged():
    values = monitor()(10, lambda x, t: 0 * x)
    assert values is not None
    assert cells(values, "calibration") == pytest.approx([-20] * 4)


def test_an_estimate_that_shares_nothing_with_the_data_has_20_decibels():
    values = monitor()(10, Gains(-wiener()))
    assert values is not None
    assert cells(values, "calibration") == pytest.approx([20] * 4)


def test_scalars_can_be_pooled_otherwise():
    watching = monitor()
    watching(10, Gains(wiener()))
    assert watching.latest is not None
    values = spectrum_scalars(watching.latest, edges=(0.0, 0.25, 0.5), prefix="val")
    assert sorted(values) == [
        f"val/{kind}/noise-0.25/{band}" for kind in ("calibration", "excess") for band in ("0-0.25", "0.25-0.5")
    ]


@pytest.mark.parametrize("process", [VP(), EDM(), Flow(data_at=0), Flow(data_at=1, noise_scale=2.0)])
def test_levels_have_the_ratios_asked_for(process):
    found = noise_levels(process, [1.0, 0.1])
    assert [level.ratio for level in found] == pytest.approx([0.1, 1.0], rel=0.02)
    for level in found:
        assert float(process.noise_ratio(level.t())) == pytest.approx(level.ratio, rel=1e-5)
    assert found[0].whole == isinstance(process, VP)


def test_a_short_schedule_is_watched_where_it_reaches():
    process = VP("sample", alphas_cumprod=torch.linspace(0.9, 0.6, 4, dtype=torch.float64))
    low, high = noise_range(process)
    watching = SpectrumMonitor(process, fields(2))
    assert watching(0, lambda x, t: x) is not None
    assert watching.latest is not None
    assert all(low <= ratio <= high for ratio in watching.latest.ratios)


def test_names_of_levels_are_short():
    assert [level_name(ratio) for ratio in (0.0302, 0.0993, 0.146, 12.34, 157.0)] == [
        "0.03",
        "0.1",
        "0.15",
        "12",
        "160",
    ]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every is the number of steps between measurements, at least 1; got 0"),
        ({"every": 2.5}, TypeError, "every must be an int"),
        ({"batch_size": 0}, ValueError, "batch_size is the number of samples in one call"),
        ({"ratios": []}, ValueError, "got none: choose levels in between"),
        ({"ratios": ["0.1"]}, TypeError, "each noise ratio must be a number"),
        ({"ratios": [0.0]}, ValueError, "got 0: choose levels in between"),
        ({"clean": torch.zeros(0, 1, 8, 8)}, ValueError, "at least one sample"),
        ({"clean": torch.zeros(2, 1, 8, 8) / 0}, ValueError, r"the samples at \[0, 1\] are not"),
        ({"clean": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, TypeError, "real floating-point tensor"),
    ],
)
def test_wrong_arguments_are_told_at_once(options, error, message):
    with pytest.raises(error, match=message):
        monitor(**{"wiener": None, **options})


def test_estimates_that_are_not_finite_are_an_error():
    with pytest.raises(ValueError, match="estimates must be finite"):
        monitor()(10, lambda x, t: x / 0)
