"""How a network is called."""

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import EDMEulerScheduler, UNet2DModel
from torch import Tensor, nn

from passband.process import EDM, VP, Flow, Process, RescaledVP
from passband.sampling import predict


class Recorder:
    """A network that notes what it was given."""

    def __call__(self, x: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        self.x, self.t, self.conditioning = x, t, conditioning
        return 2 * x


def called(process: Process, t, x: Tensor | None = None) -> Recorder:
    model = Recorder()
    predict(model, process, torch.ones(3, 1, 2) if x is None else x, t)
    return model


def test_input_and_time_of_each_process():
    assert called(VP(), 999.0).x.unique().tolist() == [1]
    assert called(VP(), 999.0).t.tolist() == [999] * 3
    assert called(Flow(0, time_scale=1000.0), 250.0).t.tolist() == [250] * 3
    assert called(EDM(), 2.0).t.tolist() == pytest.approx([math.log(2) / 4] * 3)
    assert called(EDM(), 2.0).x.unique().tolist() == pytest.approx([1 / math.sqrt(4 + 0.25)])
    assert called(EDM("sample"), 2.0).x.unique().tolist() == [1]
    ratio = VP().noise_ratio(500.0).item()
    assert called(RescaledVP(), 500.0).x.unique().tolist() == pytest.approx([1 / math.hypot(1, ratio)])


def test_edm_input_is_diffusers():
    scheduler = EDMEulerScheduler(sigma_data=0.7)
    scheduler.set_timesteps(5)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = called(EDM(sigma_data=0.7), scheduler.sigmas[0], x)
    torch.testing.assert_close(model.x, scheduler.scale_model_input(x, scheduler.timesteps[0]))
    torch.testing.assert_close(model.t[0], scheduler.timesteps[0])


def test_one_time_per_sample():
    t = torch.tensor([0.25, 0.5, 0.75])
    assert torch.equal(called(Flow(1), t).t, t)
    assert torch.equal(called(Flow(1), t.reshape(3, 1, 1)).t, t)
    assert called(VP(), torch.tensor([1, 2, 3])).t.tolist() == [1, 2, 3]
    assert called(VP(), torch.tensor([1, 2, 3])).t.dtype == torch.int64
    assert called(VP(), 7).t.tolist() == [7, 7, 7]


def test_times_have_the_precision_of_the_samples():
    single, double = called(Flow(1), 0.1), called(Flow(1), 0.1, torch.ones(2, 1, 4, dtype=torch.float64))
    assert single.t.dtype == torch.float32
    assert double.t.dtype == torch.float64
    assert double.t.tolist() == [0.1, 0.1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_module_gets_its_parameters_dtype(dtype):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.Parameter(torch.zeros(1, dtype=torch.int64), requires_grad=False)
            self.gain = nn.Parameter(torch.ones(1, dtype=dtype))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            assert x.dtype == dtype
            assert t.dtype == torch.float32
            return self.gain * x

    assert predict(Net(), Flow(1), torch.ones(2, 1, 4), 0.5).dtype == dtype


def test_a_module_without_parameters_gets_the_samples_dtype():
    assert predict(_First(), Flow(1), torch.ones(2, 1, 4), 0.5).dtype == torch.float32


class _First(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x


def test_conditioning_is_passed_on():
    model, labels = Recorder(), torch.tensor([1, 2, 3])
    predict(model, VP(), torch.ones(3, 1, 2), 5.0, {"class_labels": labels, "return_dict": False})
    assert model.conditioning == {"class_labels": labels, "return_dict": False}


def test_wrapped_outputs():
    x = torch.ones(2, 1, 4)
    for wrap in (lambda y: SimpleNamespace(sample=y), lambda y: (y,), lambda y: (y, "more"), lambda y: y):
        assert torch.equal(predict(lambda x, t, wrap=wrap: wrap(3 * x), VP(), x, 5.0), 3 * x)


def test_diffusers_outputs():
    model = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8,), norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    ).eval()  # fmt: skip
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(x, 500).sample
        torch.testing.assert_close(predict(model, VP(), x, 500.0), expected)
        torch.testing.assert_close(predict(model, VP(), x, 500.0, {"return_dict": False}), expected)


def test_gradients_flow():
    x = torch.ones(2, 1, 4, requires_grad=True)
    predict(lambda x, t: x**2, EDM(), x, 1.0).sum().backward()
    assert x.grad.abs().min() > 0


def test_wrong_outputs():
    x = torch.ones(2, 3, 4, 4)
    with pytest.raises(
        ValueError, match=r"returned shape \(2, 6, 4, 4\) for an input of shape \(2, 3, 4, 4\).*learned variance"
    ):
        predict(lambda x, t: torch.cat([x, x], 1), VP(), x, 5.0)
    for output, name in [
        (None, "NoneType"),
        ({"sample": x}, "dict"),
        ((), "tuple"),
        (SimpleNamespace(sample=1), "SimpleNamespace"),
    ]:
        with pytest.raises(TypeError, match=f"must return a tensor or an output with .sample, got {name}"):
            predict(lambda x, t, output=output: output, VP(), x, 5.0)
    with pytest.raises(ValueError, match="t is outside the range of VP"):
        predict(lambda x, t: x, VP(), x, 1000.0)
    with pytest.raises(ValueError, match="one time, or one per sample"):
        predict(lambda x, t: x, EDM(), x, torch.tensor([1.0, 2.0, 3.0]))
