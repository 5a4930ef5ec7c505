"""Networks in shards: two processes with half each train as one with all of it, and runs continue each other."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DistributedType
from safetensors.torch import load_file
from torch import nn

from passband.forcing import attached, recorded
from passband.models import EDMUNet, JiT
from passband.training import RecipeError, RunFolder, Trainer, make_recipe, restore
from passband.training.sharding import Sharding, blocks, divided, gathered, meta_copy

VALUES: dict[str, Any] = {
    "name": "sharded",
    "data": {"name": "checkerboard", "resolution": 16, "cells": [2, 4]},
    "process": {"name": "flow", "data_at": 1, "prediction": "sample", "time_scale": 1.0, "velocity_floor": 0.05},
    "forcing": {"front": {"name": "linear"}},
    "loss": {"space": "velocity"},
    "model": {
        "name": "jit",
        "size": "B/8",
        "hidden_size": 24,
        "depth": 3,
        "num_heads": 2,
        "bottleneck_dim": 6,
        "in_context_len": 3,
        "in_context_start": 1,
        "gradient_checkpointing": True,
    },
    "regularizer": {"losses": [{"name": "amplitude"}], "weight": 0.01},
    # A large eps: that of a weight whose gradient is 0 but for rounding would decide on its sign.
    "optimizer": {"lr": 1e-2, "eps": 1e-4, "clip_norm": 0.5, "weight_decay": 0.01},
    "training": {
        "steps": 4,
        "batch_size": 8,
        "accumulate": 2,
        "ema": [0.5, 0.9],
        "snapshots": {"every": 4, "stds": [0.1]},
        "log_every": 1,
        "save_every": 2,
        "sample_every": 4,
        "trackers": [],
        "sharding": "fsdp",
    },
    "sampling": {"count": 2, "steps": 2, "spacing": "uniform"},
}
UNET = {
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "mid_attention": False,
    "norm_num_groups": 4,
    "class_conditional": False,
}

SCRIPT = """
import shutil, sys
from pathlib import Path
import torch
from torch.distributed.tensor import DTensor
from passband.training import NonFiniteLossError, Trainer, load_recipe

root = Path(sys.argv[1])
recipe = load_recipe(root / "recipe.yaml")
trainer = Trainer(recipe, root / "two")
trainer.train()
for network in (trainer.network, *(average.module for average in trainer.averages.values())):
    parameters = list(network.parameters())
    assert all(isinstance(parameter, DTensor) for parameter in parameters)
    held, whole = sum(p.to_local().numel() for p in parameters), sum(p.numel() for p in parameters)
    assert abs(held / whole - 0.5) < 0.1, (held, whole)
moments = [state["exp_avg"] for state in trainer.task.main.optimizer.state.values()]
assert moments and all(isinstance(moment, DTensor) for moment in moments)

Trainer(recipe, root / "half").train(until=2)
if trainer.accelerator.is_main_process:
    shutil.copytree(root / "half", root / "two-half")
trainer.accelerator.wait_for_everyone()
for start in ("half", "one-half"):  # of two processes and of one
    resumed = Trainer(recipe, root / start, resume=True)
    assert resumed.step == 2
    resumed.train()

plain = load_recipe(root / "unet.yaml")
sharded = plain.model_copy(update={"training": plain.training.model_copy(update={"sharding": "fsdp"})})
Trainer(plain, root / "unet-whole").train()
Trainer(sharded, root / "unet-shards").train()

if trainer.accelerator.process_index == 1:  # what the other does not see
    with torch.no_grad():
        list(trainer.network.parameters())[-1].to_local().view(-1)[-1] = float("nan")
try:
    trainer.save()
except NonFiniteLossError as error:
    print("not saved:", error)
trainer.end()
"""


def changed(**training: Any) -> dict[str, Any]:
    return VALUES | {"training": VALUES["training"] | training}


def same_run(found: Path, expected: Path, rel: float) -> None:
    """The same losses, the same files of the last checkpoint, and the same numbers in them."""
    logs = RunFolder(found).log(), RunFolder(expected).log()
    assert len(logs[0]) == len(logs[1]) > 0
    for one, other in zip(*logs, strict=True):
        assert one == pytest.approx(other, rel=rel)
    folders = [max((root / "checkpoints").iterdir()) for root in (found, expected)]
    names = [sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*")) for folder in folders]
    assert names[0] == names[1]
    for name in (name for name in names[0] if name.endswith("safetensors")):
        one, other = (load_file(folder / name) for folder in folders)
        assert one.keys() == other.keys()
        for key, value in other.items():
            torch.testing.assert_close(one[key], value, rtol=rel, atol=rel, msg=lambda text: f"{name} {key}: {text}")  # noqa: B023


@pytest.fixture(scope="module")
def runs(two_processes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with runs of one process and of two, and what the two printed."""
    root = tmp_path_factory.mktemp("sharded")
    recipe = make_recipe(VALUES)
    (root / "recipe.yaml").write_text(recipe.to_yaml())
    unet = changed(steps=2, sharding="none", ema=0.5, snapshots=None) | {"model": UNET, "forcing": None}
    unet |= {"regularizer": {"losses": [{"name": "amplitude"}], "weight": {"share": 0.5}}}
    (root / "unet.yaml").write_text(make_recipe(unet).to_yaml())
    Trainer(recipe, root / "one-half").train(until=2)
    Trainer(recipe, root / "one").train()
    return root, two_processes("-c", SCRIPT, root)


def test_two_processes_with_half_each_train_as_one(runs: tuple[Path, list[str]]):
    root, _ = runs
    same_run(root / "two", root / "one", 1e-5)
    assert (root / "two" / "samples" / "step-00000004.png").is_file()
    ones, twos = (load_file(next((root / name / "snapshots").iterdir())) for name in ("one", "two"))
    for name, value in ones.items():
        torch.testing.assert_close(twos[name], value, rtol=1e-5, atol=1e-5)


def test_a_run_goes_on_with_another_number_of_processes(runs: tuple[Path, list[str]]):
    root, _ = runs
    same_run(root / "half", root / "two", 0)  # two, then two
    same_run(root / "one-half", root / "one", 1e-5)  # one, then two
    unsharded = make_recipe(changed(sharding="none"))
    Trainer(unsharded, root / "two-half", resume=True).train()  # two, then one
    same_run(root / "two-half", root / "one", 1e-5)


def test_a_gradient_share_is_that_of_unsharded_processes(runs: tuple[Path, list[str]]):
    root, _ = runs
    same_run(root / "unet-shards", root / "unet-whole", 1e-5)


def test_weights_that_are_not_finite_on_one_process_stop_all(runs: tuple[Path, list[str]]):
    _, outputs = runs
    for output in outputs:
        assert "not saved: 1 of the network's weights became NaN or infinite, final_layer.adaLN" in output


def test_the_checkpoint_is_one_that_any_run_reads(runs: tuple[Path, list[str]]):
    root, _ = runs
    two, one = restore(root / "two"), restore(root / "one")
    assert type(two.model) is JiT
    forcing = attached(two.model)
    assert forcing is not None
    assert forcing.config == recorded(one.model)
    x, t = torch.randn(2, *two.sample_shape), torch.rand(2)
    with torch.no_grad():
        torch.testing.assert_close(two.model(x, t), one.model(x, t), rtol=1e-4, atol=1e-5)


# On one process.


def test_a_process_on_its_own_keeps_all(tmp_path: Path):
    for sharding in ("none", "fsdp"):
        Trainer(make_recipe(changed(steps=2, sharding=sharding, snapshots=None)), tmp_path / sharding).train()
    same_run(tmp_path / "fsdp", tmp_path / "none", 0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"precision": "fp16"}, "training.precision 'fp16' does not work .* set precision to bf16 or no, or"),
        ({"compile": True}, "training.compile True does not work with training.sharding 'fsdp': set compile to false"),
        ({"channels_last": True}, "training.channels_last True does not work"),
    ],
)
def test_what_does_not_work_on_shards_is_named(tmp_path: Path, setting: dict[str, Any], message: str):
    with pytest.raises(RecipeError, match=message):
        Trainer(make_recipe(changed(**setting)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_without_blocks_is_named():
    with pytest.raises(RecipeError, match=r"divides a network by its blocks .* and Linear has none"):
        blocks(nn.Linear(2, 2))


def test_accelerates_own_sharding_is_refused():
    accelerator = SimpleNamespace(distributed_type=DistributedType.FSDP, num_processes=2)
    with pytest.raises(RecipeError, match="Accelerate's configuration asks for FSDP"):
        Sharding(nn.Linear(2, 2), accelerator, on=True)  # type: ignore[arg-type]


def test_blocks_are_what_lists_of_modules_hold():
    network = JiT(16, 8, hidden_size=32, depth=3, num_heads=2, in_context_start=1)
    assert blocks(network) == list(network.blocks)
    unet = EDMUNet(16, 1, model_channels=8, channel_mult=(1,), num_blocks=1)
    assert blocks(unet) == [*unet.enc.values(), *unet.dec.values()]


def test_a_copy_without_values_keeps_all_else():
    network = JiT(16, 8, hidden_size=16, depth=2, num_heads=2, in_context_start=1)
    seen: list[nn.Module] = []
    network.register_forward_pre_hook(lambda module, _: seen.append(module))
    copied = meta_copy(network)
    assert {tensor.device.type for tensor in (*copied.parameters(), *copied.buffers())} == {"meta"}
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"cpu"}
    copied.load_state_dict(network.state_dict(), assign=True)
    copied.rotary = network.rotary  # not among the saved
    x, t = torch.randn(1, 3, 16, 16), torch.rand(1)
    assert torch.equal(copied(x, t), network(x, t))
    assert seen == [copied, network]


def test_whole_tensors_stay_whole():
    state = {
        "state": {0: {"step": torch.tensor(3.0), "moment": torch.ones(2)}},
        "groups": [{"lr": 0.1, "betas": (0, 1)}],
    }
    assert gathered(state, keep=True)["groups"] == [{"lr": 0.1, "betas": [0, 1]}]
    assert torch.equal(gathered(state, keep=True)["state"][0]["moment"], torch.ones(2))
    assert gathered(state, keep=False)["state"] == {0: {"step": None, "moment": None}}
    weights = {"w": torch.ones(2)}
    assert divided(weights, {"w": torch.zeros(2)})["w"] is weights["w"]
    assert not Sharding(nn.Linear(2, 2), Accelerator(), on=True).active
