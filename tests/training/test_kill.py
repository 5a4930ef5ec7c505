"""A run that is killed in the middle of writing a checkpoint, again and again, ends at the bits of one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 20

# One process that has everything imported forks the runs, so that each starts in a blink.
SCRIPT = """
import json, os, random, signal, sys, time
from pathlib import Path

import torch
torch.set_num_threads(1)
from passband.training import Trainer, load_recipe

recipe, root, kills = load_recipe(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
steps = recipe.training.steps

def forked(target):
    child = os.fork()
    if child == 0:
        try:
            target()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child

def train(folder, slow):
    if slow:
        real = os.fsync
        # A disk slow enough that a kill lands in the middle of a write.
        os.fsync = lambda descriptor: (time.sleep(0.002), real(descriptor))[1]
    Trainer(recipe, folder, resume=True).train()

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert ended(forked(lambda: train(root / "whole", False))) == 0

chance = random.Random(0)
moments = []
while len(moments) < kills:
    folder = root / f"killed-{len(moments) % 4}"
    child = forked(lambda: train(folder, True))
    checkpoints = folder / "checkpoints"
    while not list(checkpoints.glob(".*.partial")):
        if os.waitpid(child, os.WNOHANG)[0]:
            break
        time.sleep(0.0005)
    else:
        time.sleep(chance.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        if ended(child) == -signal.SIGKILL:
            left = sorted(path.name for path in checkpoints.iterdir())
            moments.append(left)
        continue
    # It came through: begin again from nothing, so that every kill finds work left to do.
    import shutil
    shutil.rmtree(folder)

for number in range(min(kills, 4)):
    assert ended(forked(lambda: train(root / f"killed-{number}", False))) == 0
print(json.dumps(moments))
"""


def result(root: Path) -> dict[str, bytes]:
    last = max((root / "checkpoints").glob("step-*"))
    found = {path.relative_to(last).as_posix(): path.read_bytes() for path in last.rglob("*") if path.is_file()}
    return found | {"log": (root / "log.jsonl").read_bytes()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks its runs")
def test_killed_while_it_writes(tiny, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    settings = {"steps": 12, "save_every": 1, "sample_every": None, "keep_checkpoints": 2}
    recipe.write_text(tiny(training=settings).to_yaml())
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", SCRIPT, str(recipe), str(tmp_path), str(KILLS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    moments = json.loads(done.stdout)
    assert len(moments) == KILLS
    # Most kills must have come while a folder was half written, or this shows nothing.
    assert sum(any(".partial" in name for name in left) for left in moments) > KILLS // 2, moments
    whole = result(tmp_path / "whole")
    assert all(result(tmp_path / f"killed-{number}") == whole for number in range(4))
