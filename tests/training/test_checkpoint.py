"""Checkpoints: what is read is what was written, whole or not at all, and nothing is unpickled."""

import errno
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from passband.training import CheckpointError
from passband.training.checkpoint import (
    MANIFEST,
    checkpoint_folder,
    checkpoints,
    load_state,
    newest_whole,
    remove_old,
    save_state,
    torn,
    write_checkpoint,
)


def equal(one: Any, other: Any) -> bool:
    """Equality of nested states, dtypes and key types included; a tuple counts as a list."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        keys = [(type(key), key) for key in one] == [(type(key), key) for key in other]
        return keys and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def optimizer_state(kind: type[torch.optim.Optimizer]) -> dict[str, Any]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = kind(network.parameters(), lr=0.1)
    for _ in range(2):
        network(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
    return optimizer.state_dict()


STATES = {
    "nested": {
        "a": [1, 2.5, "text", None, True, {"b": torch.arange(3)}],
        0: {1: torch.zeros(2, 2, dtype=torch.bfloat16), 2: []},
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": {},
        "tensor": "a name that the format uses",
        "tiny": 1e-300,
        "infinite": -math.inf,
    },
    "view": {"x": torch.arange(12).reshape(3, 4).T[1:]},
    "empty tensor": [torch.empty(0, 3)],
    "no tensor": [1, [2, [3]]],
    "adamw": optimizer_state(torch.optim.AdamW),
    "sgd": optimizer_state(torch.optim.SGD),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_comes_back_as_it_was(tmp_path: Path, name: str):
    save_state(STATES[name], tmp_path, "state")
    assert equal(load_state(tmp_path, "state"), STATES[name])
    assert {file.name for file in tmp_path.iterdir()} == {"state.safetensors", "state.json"}


def test_an_optimizer_continues_from_its_state(tmp_path: Path):
    def steps(network: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            network(torch.ones(1, 3)).square().mean().backward()
            optimizer.step()

    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    copy = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    steps(network, optimizer, 3)
    save_state(optimizer.state_dict(), tmp_path, "optimizer")
    copy.load_state_dict(network.state_dict())
    resumed = torch.optim.AdamW(copy.parameters(), lr=1.0)
    resumed.load_state_dict(load_state(tmp_path, "optimizer"))
    steps(network, optimizer, 3)
    steps(copy, resumed, 3)
    assert torch.equal(network.weight, copy.weight)


def test_other_objects_are_refused(tmp_path: Path):
    with pytest.raises(TypeError, match=r"holds tensors, numbers, strings, lists and dicts, not .*Path"):
        save_state({"path": [Path()]}, tmp_path, "state")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a checkpoint was unpickled",))


def damage(folder: Path, kind: str) -> None:
    tensors, rest = folder / "state.safetensors", folder / "state.json"
    match kind:
        case "no tensors":
            tensors.unlink()
        case "no rest":
            rest.unlink()
        case "truncated tensors":
            tensors.write_bytes(tensors.read_bytes()[:-3])
        case "empty tensors":
            tensors.write_bytes(b"")
        case "truncated rest":
            rest.write_text(rest.read_text()[:-3])
        case "binary rest":
            rest.write_bytes(b"\xff\xfe\x00")
        case "other format":
            rest.write_text('{"one": 1, "two": 2}')
        case "no pairs":
            rest.write_text('{"dict": 3}')
        case "tensor is missing":
            rest.write_text('{"tensor": "99"}')
        case "tensor has no name":
            rest.write_text('{"tensor": []}')
        case "pickle":
            tensors.write_bytes(pickle.dumps(Bomb()))
            rest.write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize(
    "kind",
    [
        "no tensors",
        "no rest",
        "truncated tensors",
        "empty tensors",
        "truncated rest",
        "binary rest",
        "other format",
        "no pairs",
        "tensor is missing",
        "tensor has no name",
        "pickle",
    ],
)
def test_damaged_states(tmp_path: Path, kind: str):
    folder = tmp_path / "step-00000003"
    folder.mkdir()
    save_state({"x": torch.ones(3)}, folder, "state")
    damage(folder, kind)
    with pytest.raises(CheckpointError, match=r"step-00000003' cannot be read .*delete that folder to resume"):
        load_state(folder, "state")


# Folders.


def fill(text: str):
    def write(folder: Path) -> None:
        (folder / "a.txt").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text(text)

    return write


def contents(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root)): file.read_text() for file in sorted(root.rglob("*")) if file.is_file()}


def listed(root: Path) -> dict[str, str]:
    return {name: text for name, text in contents(root).items() if not name.endswith(MANIFEST)}


def test_a_checkpoint_is_written_and_replaced(tmp_path: Path):
    for text in ("old", "new"):
        folder = write_checkpoint(tmp_path / "run", 3, fill(text))
        assert folder == checkpoint_folder(tmp_path / "run", 3)
        assert listed(tmp_path) == {"run/step-00000003/a.txt": text, "run/step-00000003/sub/b.txt": text}
        assert torn(folder) is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CheckpointError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (TypeError("no number"), TypeError),
    ],
)
def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path: Path, error: BaseException, expected):
    write_checkpoint(tmp_path, 3, fill("old"))

    def fail(folder: Path) -> None:
        fill("new")(folder)
        raise error

    with pytest.raises(expected):
        write_checkpoint(tmp_path, 3, fail)
    assert listed(tmp_path) == {"step-00000003/a.txt": "old", "step-00000003/sub/b.txt": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("passband.training.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match=r"disk is full.*earlier checkpoints are untouched: make room"):
        write_checkpoint(tmp_path, 1, lambda folder: save_state({"x": torch.ones(1)}, folder, "state"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: (folder / "a.txt").unlink(), "a.txt cannot be read"),
        (lambda folder: (folder / "sub" / "b.txt").write_text("txet"), "sub/b.txt is not as it was written"),
        (lambda folder: (folder / "a.txt").write_text("text and more"), "a.txt is not as it was written"),
        (lambda folder: (folder / MANIFEST).unlink(), "its manifest.json cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "its manifest.json cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "its manifest.json is damaged"),
    ],
)
def test_what_is_torn_is_seen_and_the_one_before_taken(tmp_path: Path, damage, fault: str):
    assert newest_whole(tmp_path) is None
    for step in (1, 2):
        write_checkpoint(tmp_path, step, fill("text"))
    assert newest_whole(tmp_path) == (2, checkpoint_folder(tmp_path, 2))
    damage(checkpoint_folder(tmp_path, 2))
    assert str(torn(checkpoint_folder(tmp_path, 2))).startswith(fault)
    assert newest_whole(tmp_path) == (1, checkpoint_folder(tmp_path, 1))


def test_no_whole_checkpoint_is_an_error_that_names_each_fault(tmp_path: Path):
    for step in (1, 2):
        (write_checkpoint(tmp_path, step, fill("text")) / "a.txt").unlink()
    with pytest.raises(CheckpointError, match=r"is whole \(step-00000002: a\.txt .*; step-00000001: a\.txt "):
        newest_whole(tmp_path)


def test_checkpoints_are_found_oldest_first_and_the_newest_are_kept(tmp_path: Path):
    for step in (100, 20, 3, 123456789):
        checkpoint_folder(tmp_path, step).mkdir()
    (tmp_path / ".step-00000007.partial").mkdir()
    (tmp_path / "step-best").mkdir()
    assert [step for step, _ in checkpoints(tmp_path)] == [3, 20, 100, 123456789]
    assert all(checkpoint_folder(tmp_path, step) == folder for step, folder in checkpoints(tmp_path))
    remove_old(tmp_path, 123456789, keep=2, kept_steps=[3, 4])
    assert [step for step, _ in checkpoints(tmp_path)] == [3, 100, 123456789]
    remove_old(tmp_path, 123456789, keep=2)
    assert [step for step, _ in checkpoints(tmp_path)] == [100, 123456789]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []
    remove_old(tmp_path, 123456789, keep=5)
    assert [step for step, _ in checkpoints(tmp_path)] == [100, 123456789]
    assert checkpoints(tmp_path / "nowhere") == []


def test_a_torn_checkpoint_ahead_takes_no_whole_one_s_place(tmp_path: Path):
    for step in (10, 20, 15):  # 20 is torn, so the run goes on from 10 and saves at 15
        write_checkpoint(tmp_path, step, fill("text"))
    (checkpoint_folder(tmp_path, 20) / "a.txt").unlink()
    remove_old(tmp_path, 15, keep=1)
    assert newest_whole(tmp_path) == (15, checkpoint_folder(tmp_path, 15))
    assert not checkpoint_folder(tmp_path, 10).exists()


def test_the_rest_is_plain_json(tmp_path: Path):
    save_state({"step": 3, "x": torch.ones(1)}, tmp_path, "state")
    json.loads((tmp_path / "state.json").read_text())
