"""Half precision, compilation, accumulation and two processes give the term of one process in float32."""

import gc
import multiprocessing
from pathlib import Path

import diffusers
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from passband import AmplitudeLoss, AmplitudePhaseLoss, WaveletLoss
from passband.integrations import DiffusersTerm
from passband.regularization import SpectralLoss

TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 2, 3, padding=1))


def make_batch(count: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, count, 2, 8, 8, generator=generator)
    return clean, noise, torch.linspace(20, 700, count).long()


class Step:
    """A training script's step, up to its loss."""

    def __init__(self, prediction: str, loss: SpectralLoss | None = None) -> None:
        flow = prediction == "flow"
        self.scheduler = (
            diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
            if flow
            else diffusers.DDPMScheduler(prediction_type=prediction)
        )
        loss = loss or AmplitudeLoss() + 0.1 * WaveletLoss("haar")
        self.spectral = DiffusersTerm(loss, weight=0.1, gate=5.0)

    def __call__(self, net: nn.Module, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The whole loss, and the term in it."""
        if isinstance(self.scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
            return self.flow(net, clean, noise, t)
        noisy = self.scheduler.add_noise(clean, noise, t)
        epsilon = self.scheduler.config.prediction_type == "epsilon"
        target = noise if epsilon else self.scheduler.get_velocity(clean, noise, t)
        pred = net(noisy)
        loss = (pred.float() - target.float()).square().mean()
        term = self.spectral(self.scheduler, pred, target, t, clean=clean)
        return loss + term, term

    def flow(self, net: nn.Module, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        sigmas = self.scheduler.sigmas[t].reshape(-1, 1, 1, 1)
        pred, target = net((1 - sigmas) * clean + sigmas * noise), noise - clean
        loss = (pred.float() - target.float()).square().mean()
        term = self.spectral(self.scheduler, pred, target, sigmas=sigmas, clean=clean)
        return loss + term, term


def gradients(net: nn.Module, value: Tensor, scale: float = 1.0) -> Tensor:
    found = torch.autograd.grad(scale * value, list(net.parameters()), retain_graph=True)
    return torch.cat([x.flatten() for x in found]) / scale


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.fixture(scope="module", params=["epsilon", "v_prediction", "flow"])
def reference(request):
    """The prediction, and the float32 term, its gradient and that of the whole loss of one process."""
    net, step = make_net(), Step(request.param)
    loss, term = step(net, *make_batch())
    return request.param, term.detach(), gradients(net, term), gradients(net, loss)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("whole", [True, False])  # the loss inside of autocast too, or the network alone
def test_autocast(reference, dtype, whole):
    prediction, expected, expected_gradient, _ = reference
    net, step = make_net(), Step(prediction)

    def network(x):
        with torch.autocast("cpu", dtype):
            return net(x)

    with torch.autocast("cpu", dtype, enabled=whole):
        assert network(make_batch()[0]).dtype == dtype
        _, term = step(network, *make_batch())
    assert term.dtype == torch.float32
    assert_near(term, expected, TOLERANCE[dtype])
    scale = 2.0**12 if dtype == torch.float16 else 1.0  # as a GradScaler does
    assert_near(gradients(net, term, scale), expected_gradient, 4 * TOLERANCE[dtype])


def test_accumulation(reference):
    prediction, expected, _, expected_gradient = reference
    net, step, batch = make_net(), Step(prediction), make_batch()
    halves = list(zip(*(x.chunk(2) for x in batch), strict=True))
    terms = []
    for half in halves:
        loss, term = step(net, *half)
        (loss / 2).backward()  # as accelerate divides it
        terms.append(term)
    assert_near(torch.stack(terms).mean(), expected, TOLERANCE[torch.float32])
    found = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    assert_near(found, expected_gradient, 1e-4)


# The run-time shape checks are not part of the library and break the graph; so do the classes that they wrap, such as
# those of the wavelets, whose compilation is tested elsewhere.
@pytest.mark.bad_input
@pytest.mark.parametrize("prediction", ["v_prediction", "flow"])
def test_compiled_step(prediction):
    """In one graph, so none looks at a value; and compiled only once."""
    net, step = make_net(), Step(prediction, AmplitudePhaseLoss())
    expected = step(net, *make_batch())  # builds the scheduler's process, too
    torch._dynamo.reset()
    compiled = torch.compile(step.__call__, backend="aot_eager", fullgraph=True)
    for number in range(3):
        with torch._dynamo.config.patch(error_on_recompile=number > 0):
            found = compiled(net, *make_batch())
    for one, other in zip(found, expected, strict=True):
        assert_near(one, other, 1e-5)
        assert_near(gradients(net, one), gradients(net, other), 1e-4)


def rank_main(rank: int, folder: Path) -> None:
    """One of two processes: terms and gradients of its half of the batch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for prediction in ("epsilon", "v_prediction", "flow"):
        for dtype in (torch.float32, torch.bfloat16):
            net, step = DistributedDataParallel(make_net()), Step(prediction)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss, term = step(net, *(x.chunk(2)[rank] for x in make_batch()))
            loss.backward()
            gradient = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
            found[prediction, str(dtype)] = term.detach(), gradient
    torch.save(found, folder / f"{rank}.pt")
    # Before the group: a wrapped network that goes last waits for the group's threads under the interpreter's lock.
    del net, step, loss, term
    gc.collect()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    fork = multiprocessing.get_context("fork")  # as a DataLoader's workers: nothing is imported again
    processes = [fork.Process(target=rank_main, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_processes(reference, ranks, dtype):
    prediction, expected, _, expected_gradient = reference
    terms, found = zip(*(rank[prediction, str(dtype)] for rank in ranks), strict=True)
    assert_near(torch.stack(terms).mean(), expected, TOLERANCE[dtype])
    assert found[0].equal(found[1])
    assert_near(found[0], expected_gradient, 4 * TOLERANCE[dtype])
