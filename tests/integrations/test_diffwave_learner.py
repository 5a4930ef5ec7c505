"""lmnt's DiffWave learner: its train_step, by a stand-in, against the term of the clean estimate."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from passband import VP, AmplitudePhaseLoss, SpectralRegularizer, WaveletLoss
from passband.integrations.diffwave_learner import attach_term
from passband.regularization import GradientShare

BETAS = np.linspace(1e-4, 0.05, 50).tolist()


class Network(nn.Module):
    """Predicts noise from audio, step and spectrogram, in the order of a version."""

    def __init__(self, order):
        super().__init__()
        self.convolution, self.order = nn.Conv1d(1, 1, 9, padding=4), order
        self.embedding = nn.Embedding(len(BETAS), 1)

    def forward(self, *inputs):
        audio, step = inputs[0], inputs[self.order.index("step")]
        self.seen = audio.detach(), step
        return self.convolution(audio.unsqueeze(1) + self.embedding(step).unsqueeze(1))


class Wrapped(nn.Module):
    """As DistributedDataParallel does: calls the module that it holds."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs, **named):
        return self.module(*inputs, **named)


class DiffWaveLearner:
    """One step of the learner: the same draws, calls and order of arguments; no optimizer."""

    def __init__(self, order, dtype=None, wrapped=False):
        torch.manual_seed(0)
        self.network = Network(order)
        self.model = Wrapped(self.network) if wrapped else self.network
        self.order, self.params = order, SimpleNamespace(noise_schedule=BETAS)
        self.autocast = torch.autocast("cpu", dtype) if dtype else nullcontext()
        self.noise_level = torch.tensor(np.cumprod(1 - np.array(BETAS)).astype(np.float32))
        self.loss_fn = nn.L1Loss()

    def train_step(self, features):
        audio = features["audio"]
        with self.autocast:
            step = torch.randint(0, len(BETAS), [audio.shape[0]])
            level = self.noise_level[step].unsqueeze(1)
            noise = torch.randn_like(audio)
            noisy = level**0.5 * audio + (1.0 - level) ** 0.5 * noise
            given = {"step": step, "spectrogram": features["spectrogram"]}
            predicted = self.model(noisy, *(given[name] for name in self.order[1:]))
            self.said = noise, predicted.detach().squeeze(1)
            loss = self.loss_fn(noise, predicted.squeeze(1))
        loss.backward()
        return loss.detach()


NEW, OLD = ("audio", "step", "spectrogram"), ("audio", "spectrogram", "step")


def features(dtype=torch.float32):
    audio = torch.randn(3, 512, generator=torch.Generator().manual_seed(1))
    return {"audio": audio.to(dtype), "spectrogram": torch.zeros(3, 80, 2)}


def regularizer():
    return SpectralRegularizer(AmplitudePhaseLoss() + WaveletLoss("haar"), weight=0.5)


@pytest.mark.parametrize(("dtype", "rtol"), [(None, 1e-4), (torch.bfloat16, 1e-4), (torch.float16, 1e-4)])
@pytest.mark.parametrize("order", [NEW, OLD])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_loss_has_the_term_of_the_clean_estimate(dtype, rtol, order, wrapped):
    learner, batch = DiffWaveLearner(order, dtype, wrapped), features()
    handle = attach_term(learner, regularizer())
    torch.manual_seed(4)
    loss = learner.train_step(batch)
    (noise, predicted), (noisy, step) = learner.said, learner.network.seen
    assert predicted.dtype == (dtype or torch.float32)
    process = VP(alphas_cumprod=learner.noise_level.double())
    expected = regularizer()(process, noisy[:, None], predicted.float()[:, None], step, clean=batch["audio"][:, None])
    base = nn.functional.l1_loss(predicted, noise)
    torch.testing.assert_close(loss - base, expected, rtol=5e-3 if dtype else rtol, atol=0)
    assert learner.network.convolution.weight.grad.isfinite().all()
    assert set(handle.spectral.terms) == {"amplitude_phase", "wavelet", "total"}


def test_a_distributed_model_gives_the_gradient_of_the_plain_one(group):
    plain, distributed = DiffWaveLearner(NEW), DiffWaveLearner(NEW)
    distributed.model = nn.parallel.DistributedDataParallel(distributed.network)
    for learner in (plain, distributed):
        attach_term(learner, regularizer())
        torch.manual_seed(4)
        learner.train_step(features())
    weights = [learner.network.convolution.weight.grad for learner in (plain, distributed)]
    assert torch.equal(*weights)


def test_removed_the_learner_is_as_it_was():
    learner, untouched = DiffWaveLearner(NEW), DiffWaveLearner(NEW)
    before = learner.loss_fn
    handle = attach_term(learner, {"loss": "amplitude", "weight": 1e-4})
    assert learner.network.state_dict().keys() == untouched.network.state_dict().keys()
    handle.remove()
    assert learner.loss_fn is before
    losses = []
    for each in (learner, untouched):
        torch.manual_seed(4)
        losses.append(each.train_step(features()))
    assert losses[0] == losses[1]
    assert not learner.model._forward_pre_hooks


def test_of_two_terms_either_may_be_removed_first():
    for first in (0, 1):
        learner, untouched = DiffWaveLearner(NEW), DiffWaveLearner(NEW)
        handles = [attach_term(learner, {"loss": name, "weight": 0.1}) for name in ("amplitude", "wavelet")]
        handles[first].remove()
        torch.manual_seed(4)
        left = learner.train_step(features())
        other = attach_term(untouched, {"loss": ("wavelet", "amplitude")[first], "weight": 0.1})
        torch.manual_seed(4)
        assert left == untouched.train_step(features())
        handles[1 - first].remove()
        other.remove()
        torch.manual_seed(4)
        plain = untouched.train_step(features())
        torch.manual_seed(4)
        assert plain == learner.train_step(features())


def test_a_weight_by_gradient_share_sees_the_base_loss():
    learner = DiffWaveLearner(NEW)
    attach_term(learner, SpectralRegularizer("wavelet", weight=GradientShare(0.1)))
    torch.manual_seed(4)
    loss = learner.train_step(features())
    noise, predicted = learner.said
    assert loss > nn.functional.l1_loss(predicted, noise)


def test_what_is_no_learner_is_an_error():
    with pytest.raises(TypeError, match="SimpleNamespace has no loss_fn: expected a DiffWaveLearner"):
        attach_term(SimpleNamespace(model=None, params=None), regularizer())
    learner = DiffWaveLearner(NEW)
    attach_term(learner, regularizer())
    with pytest.raises(RuntimeError, match="without a call of the model before it"):
        learner.loss_fn(torch.zeros(1, 8), torch.zeros(1, 8))
    with pytest.raises(TypeError, match="called with 0 integer tensors"):
        learner.model(torch.zeros(1, 8), torch.zeros(1), None)
