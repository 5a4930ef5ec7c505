"""Alignment of a transformer's tokens with a teacher: which tokens, which gradients, which features."""

import subprocess
import sys
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from passband.data import from_uint8
from passband.matching import AlignmentLoss, alignment_loss
from passband.models import EDMUNet, JiT
from passband.training import alignment as module
from passband.training.alignment import AlignedDenoiser, Teachers, build_alignment
from passband.training.batches import Batch
from passband.training.families import family_of
from passband.training.networks import build_network
from passband.training.sections import AlignmentSettings, DiTModel, DoGTarget, JiTModel, NormalizeTarget, PlainTarget

WIDTH, TEACHER = 16, 6
DIT, JIT = (4, 8, 8), (4, 8, 12)  # a DiT is square


def stirred(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return network


def dit() -> nn.Module:
    settings = DiTModel(name="dit", patch_size=2, num_layers=4, num_heads=2, head_dim=8)
    return stirred(build_network(settings, DIT, 0))


def jit(context: int = 3, **changes: object) -> nn.Module:
    sizes = {"patch_size": 2, "hidden_size": WIDTH, "depth": 4, "num_heads": 2, "bottleneck_dim": 8}
    settings = JiTModel(name="jit", **sizes, in_context_len=context, in_context_start=1, **changes)
    return stirred(build_network(settings, JIT, 0))


def inputs(network: nn.Module) -> tuple[Tensor, Tensor]:
    shape = JIT if isinstance(network, JiT) else DIT
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(2)), torch.tensor([0.25, 0.75])


def aligned(network: nn.Module, depth: int = 2, **options: object) -> AlignedDenoiser:
    torch.manual_seed(3)
    return AlignedDenoiser(network, AlignmentLoss(WIDTH, {"a": TEACHER, "b.2": 5}, hidden=8, **options), depth)


def whole(output: object) -> Tensor:
    return getattr(output, "sample", output)


NETWORKS = pytest.mark.parametrize(
    "make", [dit, jit, lambda: jit(context=0)], ids=["dit", "jit", "jit without context"]
)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_tokens_of_jit_are_those_of_a_forward_by_hand(depth: int) -> None:
    network = jit()
    x, t = inputs(network)
    labels = network.y_embedder(torch.zeros(2, dtype=torch.long))
    condition = network.t_embedder(t) + labels
    tokens, rotary = network.x_embedder(x) + network.pos_embed, network.rotary[:, 3:]
    for index, block in enumerate(network.blocks[:depth]):
        if index == 1:
            tokens = torch.cat([labels[:, None] + network.in_context_posemb, tokens], dim=1)
            rotary = network.rotary
        tokens = block(tokens, condition, rotary)
    patches = tokens[:, (3 if depth > 1 else 0) :]
    assert patches.shape == (2, 24, WIDTH)
    wrapped = aligned(network, depth)
    _, projected = wrapped(x, t)
    expected = wrapped.alignment.project(patches.transpose(1, 2).reshape(2, WIDTH, 4, 6))
    assert projected.keys() == expected.keys()
    assert all(torch.allclose(projected[name], expected[name], atol=1e-6) for name in expected)
    field = family_of(network).tap(network, depth).to_field(tokens)
    assert torch.equal(field[1, :, 2, 5], patches[1, 2 * 6 + 5])


@NETWORKS
def test_the_output_is_the_networks_own(make) -> None:
    network = make()
    x, t = inputs(network)
    expected = whole(network(x, t))
    output, projected = aligned(network)(x, t)
    assert torch.equal(whole(output), expected)
    grid = (x.shape[2] // 2, x.shape[3] // 2)
    assert {name: tuple(found.shape) for name, found in projected.items()} == {"a": (2, 6, *grid), "b.2": (2, 5, *grid)}


@NETWORKS
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_blocks_up_to_the_depth_and_the_heads(make, checkpointing: bool) -> None:
    network = make().train()
    if checkpointing:
        network.enable_gradient_checkpointing()
    wrapped = aligned(network, depth=2)
    x, t = inputs(network)
    _, projected = wrapped(x, t)
    features = {name: torch.randn_like(found) for name, found in projected.items()}
    wrapped.alignment.compare(projected, features).backward()
    blocks = network.blocks if isinstance(network, JiT) else network.transformer_blocks
    reached = [all(p.grad is not None and bool(p.grad.any()) for p in _weights(block)) for block in blocks[:2]]
    assert reached == [True, True]
    assert all(p.grad is None for block in blocks[2:] for p in block.parameters())
    assert all(p.grad is not None for p in wrapped.alignment.parameters())


def _weights(block: nn.Module) -> list[Tensor]:
    """The parameters that any input uses: no rows of embeddings, no bias of keys, which attention cancels."""
    return [p for name, p in block.named_parameters() if name.endswith("weight") and "embedding_table" not in name]


@NETWORKS
def test_gradient_checkpointing_changes_no_gradient(make) -> None:
    found = []
    for checkpointing in (False, True):
        network = make().train()
        if checkpointing:
            network.enable_gradient_checkpointing()
        wrapped = aligned(network, depth=2)
        output, projected = wrapped(*inputs(network))
        features = {name: torch.ones_like(value).cumsum(1) for name, value in projected.items()}
        (whole(output).square().mean() + wrapped.alignment.compare(projected, features)).backward()
        assert wrapped._kept.output is None
        found.append([torch.zeros(()) if p.grad is None else p.grad for p in wrapped.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


@NETWORKS
def test_a_copy_of_the_network_is_the_network_alone(make) -> None:
    network = make()
    wrapped = aligned(network)
    copied = deepcopy(wrapped.network)
    whole(copied(*inputs(network)))
    assert wrapped._kept.output is None
    assert set(copied.state_dict()) == set(network.state_dict())
    twin = deepcopy(wrapped)
    expected, found = wrapped(*inputs(network))[1], twin(*inputs(network))[1]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# Without the run-time shape checks, which Dynamo cannot follow.
_COMPILED = """
import torch
from passband.matching import AlignmentLoss
from passband.models import JiT
from passband.training.alignment import AlignedDenoiser
network = JiT((4, 6), 2, in_channels=4, hidden_size=16, depth=2, num_heads=2, in_context_len=2, in_context_start=1)
for parameter in network.parameters():
    torch.nn.init.normal_(parameter, std=0.2)
aligned = AlignedDenoiser(network, AlignmentLoss(16, 6, hidden=8), 2).train()
x, t, found = torch.randn(2, 4, 4, 6), torch.rand(2), []
for forward in (aligned, torch.compile(aligned, backend="eager", fullgraph=True)):
    output, projected = forward(x, t)
    aligned.zero_grad()
    (output.mean() + projected["teacher"].square().mean()).backward()
    found.append([parameter.grad for parameter in aligned.parameters() if parameter.grad is not None])
assert found[0] and all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))
print("same", len(found[0]))
"""


def test_it_compiles_to_the_same_gradients() -> None:
    done = subprocess.run([sys.executable, "-c", _COMPILED], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("same"), done.stderr


def test_it_runs_under_autocast() -> None:
    network = jit()
    wrapped = aligned(network)
    with torch.autocast("cpu", torch.bfloat16):
        _, projected = wrapped(*inputs(network))
        loss = wrapped.alignment.compare(projected, {name: torch.ones_like(v).float() for name, v in projected.items()})
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in wrapped.alignment.parameters())


@pytest.mark.parametrize("target", [PlainTarget(), NormalizeTarget(name="normalize", gamma=0.5), DoGTarget(name="dog")])
def test_settings_become_the_loss_they_name(target) -> None:
    settings = AlignmentSettings(teachers=("stored:a",), depth=3, hidden=8, weight=0.25, target=target, stop_step=10)
    network = jit()
    first, again = (build_alignment(settings, network, {"a": TEACHER}, seed=4) for _ in range(2))
    assert all(
        torch.equal(p, q) for p, q in zip(first.alignment.parameters(), again.alignment.parameters(), strict=True)
    )
    other = build_alignment(settings, network, {"a": TEACHER}, seed=5)
    pairs = zip(first.alignment.parameters(), other.alignment.parameters(), strict=True)
    assert any(not torch.equal(p, q) for p, q in pairs)
    _, projected = first(*inputs(network))
    features = torch.randn(projected["a"].shape, generator=torch.Generator().manual_seed(6))
    options = target.model_dump()
    by_hand = AlignmentLoss(WIDTH, {"a": TEACHER}, hidden=8, target=options.pop("name"), weight=1.0, **options)
    expected = 0.25 * by_hand.compare(projected, {"a": features})
    assert torch.allclose(first.alignment.compare(projected, {"a": features}, 9), expected)
    assert first.alignment.compare(projected, {"a": features}, 10) == 0


def test_building_leaves_the_global_generator() -> None:
    network, settings = jit(), AlignmentSettings(teachers=("stored:a",), depth=1, hidden=8)
    state = torch.get_rng_state()
    build_alignment(settings, network, {"a": TEACHER})
    assert torch.equal(torch.get_rng_state(), state)


def test_a_depth_beyond_the_blocks() -> None:
    with pytest.raises(ValueError, match=r"one of the network's 4 blocks, counted from 1, got 8"):
        build_alignment(AlignmentSettings(), jit(), {"a": TEACHER})


def test_a_network_without_tokens() -> None:
    unet = EDMUNet(16, 1, model_channels=8, channel_mult=(1, 2), num_blocks=1)
    with pytest.raises(ValueError, match=r"reads the tokens of a transformer, and EDMUNet is none: set model.name"):
        AlignedDenoiser(unet, AlignmentLoss(8, 8), 1)


class _Means:
    """A teacher that tells the mean of each 4 x 4 cell."""

    name, width = "means", 3

    def __call__(self, pixels: Tensor) -> Tensor:
        assert pixels.dtype == torch.uint8
        return nn.functional.avg_pool2d(pixels.float(), 4)


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_teacher", lambda spec, device: _Means())


LATENTS = SimpleNamespace(teachers={"kept": (5, 4, 6), "other": (7, 4, 6)})


@pytest.mark.usefixtures("means")
def test_features_are_those_stored_and_those_of_the_images() -> None:
    teachers = Teachers(AlignmentSettings(teachers=("stored:kept", "means")), "cpu", LATENTS)
    assert teachers.widths == {"kept": 5, "means": 3}
    assert teachers.stored == ("kept",)
    images = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    stored = torch.randn(2, 5, 4, 6)
    batch = Batch(torch.randn(2, *JIT), torch.arange(2), images=images, features={"kept": stored})
    found = teachers(batch)
    assert torch.equal(found["kept"], stored)
    assert torch.equal(found["means"], _Means()(images))


@pytest.mark.usefixtures("means")
def test_pixel_data_are_their_own_images() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    teachers = Teachers(AlignmentSettings(teachers=("means",)), "cpu", object())
    found = teachers(Batch(from_uint8(images), torch.arange(2)))
    assert torch.equal(found["means"], _Means()(images))


@pytest.mark.usefixtures("means")
def test_a_teacher_of_latents_needs_their_images() -> None:
    teachers = Teachers(AlignmentSettings(teachers=("means",)), "cpu", LATENTS)
    with pytest.raises(ValueError, match=r"has to see the images of these latents.*name it stored:NAME"):
        teachers(Batch(torch.randn(2, *JIT), torch.arange(2)))


@pytest.mark.usefixtures("means")
@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (("stored:none",), r"no stored features of 'none' \(it holds those of kept, other\)"),
        (("means", "means"), r"names 'means' twice"),
    ],
)
def test_teachers_that_cannot_be(specs: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Teachers(AlignmentSettings(teachers=specs), "cpu", LATENTS)


def test_a_perfect_projection_has_the_least_loss() -> None:
    """The sign: aligned tokens are minus one, opposed ones one."""
    tokens = torch.randn(2, 3, 4, 6)
    assert alignment_loss(tokens, tokens).item() == pytest.approx(-1, abs=1e-6)
    assert alignment_loss(tokens, -tokens).item() == pytest.approx(1, abs=1e-6)
