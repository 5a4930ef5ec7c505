"""Seconds and memory of importing a checkpoint of NVLabs' EDM with 60 million parameters.

Run: python benchmarks/edm_import.py [--file FILE.pkl]. Without a file, one of the size of the published ones is made
first, in a process of its own. Memory is the peak of the importing process less what it holds after its imports.
"""

import argparse
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

NETWORK = {
    "label_dim": 0,
    "augment_dim": 9,
    "model_channels": 128,
    "channel_mult": [1, 2, 2, 2],
    "dropout": 0.05,
    "channel_mult_noise": 1,
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": [1, 1],
}


class Persistent:
    """Pickles as torch_utils.persistence does."""

    def __init__(self, name: str, state: dict[str, object]) -> None:
        self.name, self.state = name, state

    def __reduce__(self) -> tuple[Callable[..., object], tuple[dict[str, object]]]:
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.name, "state": self.state}
        return vars(sys.modules["torch_utils.persistence"])["_reconstruct_persistent_obj"], (meta,)


SOURCE = "raise SystemExit('source text of a checkpoint was run')\n" * 500


def as_records(module: torch.nn.Module, name: str) -> Persistent:
    """The module as the records of such a pickle, its own arguments left out."""
    state = {
        "training": False,
        "_parameters": dict(module.named_parameters(recurse=False)),
        "_buffers": dict(module.named_buffers(recurse=False)),
        "_non_persistent_buffers_set": vars(module)["_non_persistent_buffers_set"],
        "_forward_hooks": OrderedDict(),
        "_modules": {key: as_records(child, type(child).__name__) for key, child in module.named_children()},
        "_init_args": (),
        "_init_kwargs": {},
    }
    return Persistent(name, state)


def make(path: Path) -> None:
    from passband.models import EDMUNet

    # Under the name that pickle is to write.
    def _reconstruct_persistent_obj(meta: object) -> None:
        raise NotImplementedError

    function = _reconstruct_persistent_obj
    function.__module__, function.__qualname__ = "torch_utils.persistence", function.__name__
    for name in ("torch_utils", "torch_utils.persistence"):
        sys.modules[name] = types.ModuleType(name)
    vars(sys.modules["torch_utils.persistence"])["_reconstruct_persistent_obj"] = function
    network = EDMUNet(64, 3, **NETWORK)
    inner = as_records(network, "SongUNet")
    inner.state["_init_kwargs"] = {"img_resolution": 64, "in_channels": 3, "out_channels": 3, **NETWORK}
    outer = Persistent("EDMPrecond", {"_parameters": {}, "_buffers": {}, "_modules": {"model": inner}})
    outer.state |= {"sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5, "_init_args": (), "_init_kwargs": {}}
    with path.open("wb") as file:
        pickle.dump({"ema": outer}, file)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux


def measure(path: Path, folder: Path) -> None:
    import safetensors.torch

    from passband.integrations.edm import import_edm

    _ = safetensors.torch.save_file, torch.zeros(1)
    before = peak()
    start = time.perf_counter()
    found = import_edm(path, folder / "out")
    seconds = time.perf_counter() - start
    size = path.stat().st_size
    print(
        json.dumps(
            {
                "parameters": found.parameters,
                "megabytes": round(size / 1e6, 1),
                "seconds": round(seconds, 2),
                "memory_over_size": round((peak() - before) / size, 2),
                "whole_process_over_size": round(peak() / size, 2),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--step", choices=("make", "measure"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.step == "make":
        make(options.file)
    elif options.step == "measure":
        measure(options.file, options.folder)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = options.file or Path(folder) / "network.pkl"
            for step in ("measure",) if options.file else ("make", "measure"):
                command = [sys.executable, __file__, "--step", step, "--file", str(path), "--folder", folder]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
