"""Lightning's own loop with the mixin and the callback: what is added, and what is logged."""

import pickle
import sys
from types import ModuleType

import pytest
import torch

lightning = pytest.importorskip("lightning")

from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402

from passband import AmplitudePhaseLoss, Flow, SpectralRegularizer, SpectrumMonitor, WaveletLoss  # noqa: E402
from passband.integrations.lightning import SpectralMixin, spectral_logger, spectrum_logger  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of workers, of batch sizes, of loggers: the host's


def regularizer():
    return SpectralRegularizer(AmplitudePhaseLoss() + WaveletLoss("haar"), weight=0.5)


class Denoiser(lightning.LightningModule):
    """A flow on 8 x 8 fields, with a term or without, and the term of each step from x0-hat as oracle."""

    def __init__(self, term=True):
        super().__init__()
        torch.manual_seed(0)
        self.network, self.process = torch.nn.Conv2d(3, 3, 3, padding=1), Flow(data_at=0)
        self.spectral, self.with_term = regularizer(), term
        self.added, self.expected, self.dtypes = [], [], []

    def added_term(self, noisy, pred, t, clean):
        return self.spectral(self.process, noisy, pred, t, clean=clean)

    def training_step(self, batch, index):
        (clean,) = batch
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(index))
        t = torch.linspace(0.2, 0.8, len(clean))
        noisy = self.process.add_noise(clean, noise, t)
        pred = self.network(noisy)
        self.dtypes.append(pred.dtype)
        loss = (pred.float() - (noise - clean)).square().mean()
        if not self.with_term:
            return loss
        term = self.added_term(noisy, pred, t, clean)
        self.added.append(term.detach())
        with torch.autocast("cpu", enabled=False):
            estimate = noisy - t.reshape(-1, 1, 1, 1) * pred.detach().float()
            self.expected.append(0.5 * sum(loss(estimate, clean).mean() for loss in regularizer().loss.losses))
        return loss + term

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Asked(torch.nn.Module):
    """A network that takes the time too, and counts its calls."""

    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, x, t):
        self.calls += 1
        return self.network(x)


class Mixed(SpectralMixin, Denoiser):
    """With the mixin, as a user writes it."""

    def added_term(self, noisy, pred, t, clean):
        return self.spectral_term(self.process, noisy, pred, t, clean=clean)


def data(count=4):
    fields = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(fields), batch_size=2)


def fitted(module, callbacks=(), **options):
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, callbacks=list(callbacks), logger=False, log_every_n_steps=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, data())
    return trainer


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_a_step_has_the_term_of_the_clean_estimate_and_logs_it(precision, dtype):
    module = Mixed()
    trainer = fitted(module, precision=precision)
    assert module.dtypes == [dtype, dtype]
    torch.testing.assert_close(module.added, module.expected, rtol=1e-5, atol=0)
    logged = {name: value.item() for name, value in trainer.logged_metrics.items()}
    assert logged == pytest.approx(module.spectral.logged())
    assert set(logged) == {"spectral/total", "spectral/amplitude_phase", "spectral/wavelet"}
    assert "spectral" not in " ".join(module.state_dict())


def test_accumulated_gradients_are_those_of_the_whole():
    # Two batches of two, one update: the mean of both gradients, term included.
    module = Mixed()
    before = module.network.weight.detach().clone()
    fitted(module, accumulate_grad_batches=2)
    reference = Mixed()
    loss = sum(reference.training_step(batch, index) for index, batch in enumerate(data())) / 2
    (gradient,) = torch.autograd.grad(loss, reference.network.weight)
    torch.testing.assert_close(module.network.weight.detach(), before - 0.1 * gradient)


def test_the_callback_logs_what_a_module_computed_itself():
    module = Denoiser()
    trainer = fitted(module, [spectral_logger(prefix="term")])
    assert {name: value.item() for name, value in trainer.logged_metrics.items()} == pytest.approx(
        module.spectral.logged("term")
    )


def test_several_regularizers_are_told_apart():
    class Two(Denoiser):
        def __init__(self):
            super().__init__()
            self.coarse = SpectralRegularizer("wavelet", weight=0.1)

        def added_term(self, noisy, pred, t, clean):
            return super().added_term(noisy, pred, t, clean) + self.coarse(self.process, noisy, pred, t, clean=clean)

    module = Two()
    module.expected = []
    trainer = fitted(module, [spectral_logger()])
    expected = module.spectral.logged("spectral/spectral") | module.coarse.logged("spectral/coarse")
    assert {name: value.item() for name, value in trainer.logged_metrics.items()} == pytest.approx(expected)


def test_one_regularizer_may_be_named():
    module = Denoiser(term=False)
    elsewhere = SpectralRegularizer("wavelet", weight=0.1)
    elsewhere.terms = {"total": torch.tensor(3.0)}
    trainer = fitted(module, [spectral_logger(elsewhere)])
    assert trainer.logged_metrics == {"spectral/total": 3}


def test_the_callback_survives_pickling():
    copy = pickle.loads(pickle.dumps(spectral_logger(prefix="term")))
    module = Denoiser()
    assert fitted(module, [copy]).logged_metrics.keys() == module.spectral.logged("term").keys()


def test_the_callback_is_of_the_package_that_is_loaded(monkeypatch):
    older = ModuleType("pytorch_lightning")
    older.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "pytorch_lightning", older)
    assert isinstance(spectral_logger(), lightning.Callback)
    monkeypatch.delitem(sys.modules, "lightning")
    assert isinstance(spectral_logger(), older.Callback)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_spectrum_is_watched_and_the_weights_are_the_same(accumulated, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clean = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    monitor = SpectrumMonitor(Flow(data_at=0), clean, every=2 // accumulated, ratios=[0.5])
    module, plain, logger = Denoiser(), Denoiser(), TensorBoardLogger(tmp_path, name="", version="")
    callback = spectrum_logger(monitor, "called")
    module.called = Asked(module.network)
    for one, options in ((module, {"callbacks": [callback], "logger": logger}), (plain, {"logger": False})):
        lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accumulate_grad_batches=accumulated, **options,
        ).fit(one, data())  # fmt: skip
    assert torch.equal(module.network.weight, plain.network.weight)
    # Halves of a batch end in one step; before the first one there is the step 0.
    steps = [2] if accumulated == 1 else [0, 1]
    assert module.called.calls == len(steps)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    name = "spectrum/excess/noise-0.5/0.25-0.5"
    logged = events.Scalars(name)
    assert [event.step for event in logged] == [event.step for event in events.Images("spectrum")] == steps
    assert logged[-1].value == pytest.approx(monitor(steps[-1], module.called)[name], rel=1e-5)
    assert isinstance(pickle.loads(pickle.dumps(callback)), lightning.Callback)


def test_without_a_trainer_the_term_is_computed_and_nothing_logged():
    module = Mixed()
    assert module.training_step(next(iter(data())), 0).isfinite()
    torch.testing.assert_close(module.added, module.expected, rtol=1e-5, atol=0)


def test_a_class_may_say_its_regularizer_and_each_module_has_its_own():
    class Said(Mixed, spectral={"loss": "wavelet", "weight": 0.5}):
        def __init__(self):
            super().__init__()
            del self.spectral

    one, other, batch = Said(), Said(), next(iter(data()))
    one.training_step(batch, 0)
    other.training_step(batch, 1)
    assert one.spectral is not other.spectral
    assert one.spectral.terms["total"] == one.added[0] != other.added[0]
    assert fitted(Said()).logged_metrics.keys() == {"spectral/total", "spectral/wavelet"}
    with pytest.raises(TypeError, match="regularizer must be a SpectralRegularizer or its arguments"):
        type("Wrong", (Mixed,), {}, spectral="wavelet")


def test_a_module_without_regularizer_is_told_how():
    module = Mixed()
    module.spectral = None
    with pytest.raises(
        TypeError, match=r"Mixed.spectral must be a SpectralRegularizer, got NoneType; set it in __init__"
    ):
        module.training_step(next(iter(data())), 0)
