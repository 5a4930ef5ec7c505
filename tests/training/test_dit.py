"""diffusers' DiT as we build, load and train it: its labels, its null class, its files."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from passband._seeds import seed_for
from passband.forcing import SpectralForcing
from passband.process import Flow
from passband.sampling import predict
from passband.training import Trainer, make_recipe, restore
from passband.training.conditioning import Conditioner, no_classes
from passband.training.draw import Drawing
from passband.training.families import family_of
from passband.training.networks import build_network, class_inputs, data_classes, load_network, network_shape
from passband.training.sections import DiTModel
from passband.training.sharding import blocks

diffusers = pytest.importorskip("diffusers")

SHAPE, CLASSES = (4, 8, 8), 5


def settings(**changes: object) -> DiTModel:
    values = {"patch_size": 2, "num_layers": 3, "num_heads": 2, "head_dim": 8, "class_conditional": True}
    return DiTModel(name="dit", **{**values, "label_dropout": 0.1, **changes})


def stirred(network: nn.Module) -> nn.Module:
    """The network with weights that leave nothing at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return network


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return stirred(build_network(settings(), SHAPE, 0, CLASSES)).train()


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2)), torch.tensor([1.0, 250.5, 999.0])


def test_it_tells_its_shape_and_classes(network: nn.Module) -> None:
    assert network_shape(network) == SHAPE
    assert class_inputs(network) == CLASSES + 1  # the null class is the last
    assert data_classes(network, settings()) == CLASSES
    assert no_classes(network, 2).tolist() == [CLASSES, CLASSES]


def test_labels_are_dropped_by_the_trainer_alone(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    labels = torch.tensor([0, 1, 2])
    state = torch.get_rng_state()
    outputs = [network(*batch, class_labels=labels).sample for _ in range(4)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    assert Conditioner.of(network, 0.1, 0).classes == CLASSES + 1


def test_untouched_it_would_draw(batch: tuple[Tensor, Tensor]) -> None:
    """The reason for the test above."""
    raw = diffusers.DiTTransformer2DModel(2, 8, 4, 4, 1, sample_size=8, num_embeds_ada_norm=CLASSES).train()
    state = torch.get_rng_state()
    raw(*batch, class_labels=torch.tensor([0, 1, 2]))
    assert not torch.equal(torch.get_rng_state(), state)


def test_without_labels_it_takes_the_null_class(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    none = network(*batch).sample
    null = network(*batch, class_labels=torch.full((3,), CLASSES)).sample
    first = network(*batch, class_labels=torch.zeros(3, dtype=torch.long)).sample
    assert torch.equal(none, null)
    assert torch.equal(network(*batch, None, return_dict=False)[0], null)
    assert not torch.allclose(first, null, atol=1e-3)
    assert torch.equal(deepcopy(network)(*batch).sample, null)


def test_without_classes_there_is_the_null_class_alone(batch: tuple[Tensor, Tensor]) -> None:
    alone = stirred(build_network(settings(class_conditional=False, label_dropout=0.0), SHAPE, 0, CLASSES))
    assert class_inputs(alone) == 0
    assert torch.isfinite(alone(*batch).sample).all()
    assert alone.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight.shape[0] == 1


def test_times_are_not_rounded(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, _ = batch
    near, far = (network(x, torch.full((3,), t)).sample for t in (250.0, 250.5))
    assert not torch.allclose(near, far, atol=1e-5)


def test_predict_gives_it_the_process_own_time(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    process = Flow(0, "velocity", time_scale=1000.0)
    found = predict(network, process, batch[0], batch[1])
    assert torch.equal(found, network(*batch).sample)


def test_diffusers_loads_what_we_save(network: nn.Module, batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    labels = torch.tensor([0, 3, CLASSES])
    theirs = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path).eval()
    expected = network(*batch, class_labels=labels).sample
    assert torch.equal(theirs(*batch, class_labels=labels).sample, expected)
    ours = load_network(tmp_path).train()  # as fine-tuning has it
    state = torch.get_rng_state()
    assert torch.equal(ours(*batch, class_labels=labels).sample, expected)
    assert torch.equal(ours(*batch).sample, network(*batch).sample)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_pretrained_one_is_taken(network: nn.Module, batch: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    network.save_pretrained(tmp_path)
    found = build_network(settings(pretrained=tmp_path, gradient_checkpointing=True), SHAPE, 0, CLASSES)
    assert torch.equal(found(*batch).sample, network(*batch).sample)
    assert found.gradient_checkpointing


def test_gradient_checkpointing_changes_no_gradient(batch: tuple[Tensor, Tensor]) -> None:
    found = []
    for checkpointing in (False, True):
        network = stirred(build_network(settings(gradient_checkpointing=checkpointing), SHAPE, 0, CLASSES)).train()
        network(*batch, class_labels=torch.tensor([0, 1, 2])).sample.square().mean().backward()
        found.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


def test_a_new_one_starts_as_dit_does(batch: tuple[Tensor, Tensor]) -> None:
    fresh = build_network(settings(), SHAPE, 0, CLASSES)
    assert torch.equal(fresh(*batch).sample, torch.zeros(3, *SHAPE))
    tokens = fresh.pos_embed(batch[0])
    after = fresh.transformer_blocks[0](tokens, timestep=batch[1], class_labels=torch.zeros(3, dtype=torch.long))
    assert torch.equal(after, tokens)  # every block is the identity
    assert not torch.equal(
        fresh.pos_embed.proj.weight, build_network(settings(), SHAPE, 1, CLASSES).pos_embed.proj.weight
    )
    same = build_network(settings(), SHAPE, 0, CLASSES)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), same.parameters(), strict=True))


def test_the_tokens_after_a_block_are_those_of_a_forward_by_hand(
    network: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, t = batch
    labels = torch.tensor([0, 3, CLASSES])
    tap, kept = family_of(network).tap(network, 2), []
    handle = tap.module.register_forward_hook(lambda module, args, output: kept.append(output))
    network(x, t, class_labels=labels)
    handle.remove()
    tokens = network.pos_embed(x)
    for block in network.transformer_blocks[:2]:
        tokens = block(tokens, timestep=t, class_labels=labels)
    field = tap.to_field(kept[0])
    assert field.shape == (3, 16, 4, 4)
    assert tap.width == 16
    assert torch.equal(field[1, :, 2, 3], tokens[1, 2 * 4 + 3])


def test_it_can_be_forced(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    process = Flow(0, "velocity", time_scale=1000.0)
    copied = deepcopy(network)
    SpectralForcing(process).attach(copied)
    forced = SpectralForcing(process)(batch[0], batch[1])
    assert torch.allclose(copied(*batch).sample, network(forced, batch[1]).sample, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({}, (4, 8, 12), r"square samples, got 8 x 12: take model.name jit with patch_size 1 or 2"),
        ({"patch_size": 3}, SHAPE, r"patch_size 3 does not divide the samples, 8 x 8"),
        ({"head_dim": 3, "num_heads": 2}, SHAPE, r"multiple of 4, .* got 2 x 3"),
    ],
)
def test_what_makes_no_dit(changes: dict[str, object], shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(settings(**changes), shape, 0, CLASSES)


@pytest.mark.parametrize(
    ("made_for", "outputs", "shape", "message"),
    [
        (8, 8, SHAPE, r"gives 8 channels for 4, expected 4: one that learns the variance too"),
        (16, 4, SHAPE, r"made for 16 x 16 pixels, the data has 8 x 8"),
        (8, 4, (4, 8, 12), r"square samples, got 8 x 12"),
        (8, 4, (16, 8, 8), r"has 4 channels, the data 16"),
    ],
)
def test_a_pretrained_one_must_fit(
    made_for: int, outputs: int, shape: tuple[int, int, int], message: str, tmp_path: Path
) -> None:
    raw = diffusers.DiTTransformer2DModel(2, 8, 4, outputs, 1, sample_size=made_for, num_embeds_ada_norm=CLASSES)
    raw.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        build_network(settings(pretrained=tmp_path), shape, 0, CLASSES)


def test_a_depth_that_is_none(network: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"one of the network's 3 blocks, counted from 1, got 4"):
        family_of(network).tap(network, 4)


def test_a_run_with_classes_is_trained_restored_and_guided(labelled: Path, tmp_path: Path) -> None:
    recipe = make_recipe(
        {
            "name": "dit",
            "data": {"name": "images", "path": str(labelled), "resolution": 16, "labels": "folder"},
            "process": {"name": "flow"},
            "model": {
                **settings(patch_size=4, gradient_checkpointing=True).model_dump(mode="json"),
                "label_dropout": 0.5,
            },
            # The first steps reach what starts at zero alone.
            "training": {"steps": 4, "batch_size": 4, "ema": 0.5, "sample_every": None, "trackers": []},
            "sampling": {"steps": 2, "guidance": {"scale": 2.0}},
        }
    )
    Trainer(recipe, tmp_path / "run").train()
    found = restore(tmp_path / "run", weights="last")
    assert (found.num_classes, found.sample_shape) == (3, (3, 16, 16))
    Drawing(found, tmp_path).draw(tmp_path / "samples", range(2))
    assert len(list((tmp_path / "samples").glob("*.png"))) == 2
    tables = [block.norm1.emb.class_embedder.embedding_table.weight for block in found.model.transformer_blocks]
    start = build_network(recipe.model, (3, 16, 16), seed_for(0, 0, "model"), 3).transformer_blocks
    moved = [
        (a - block.norm1.emb.class_embedder.embedding_table.weight).abs().amax(1)
        for a, block in zip(tables, start, strict=True)
    ]
    assert all(bool(rows[3] > 0) for rows in moved)  # labels were dropped: the null class has learned


def test_in_shards_the_first_block_stays_with_the_network(network: nn.Module) -> None:
    """Its embedding of time and class is called from outside the block, where its shards would not be gathered."""
    assert [*blocks(network)] == [*network.transformer_blocks[1:]]
