"""Pickles of any kind, written without the classes and functions that they name."""

import gc
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch

from passband.models import EDMUNet

CONFIG = {"label_dim": 2, "model_channels": 8, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []}


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: object
    arguments: tuple


class New(NamedTuple):
    cls: Global
    state: object


class Raw(NamedTuple):
    """Instructions as they are."""

    code: bytes


class Writer(pickle._Pickler):
    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Raw):
            self.write(obj.code)
        elif isinstance(obj, Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, New):
            self.save(obj.cls)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.save(obj.state)
            self.write(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)


def dumps(content: object, protocol: int = 4) -> bytes:
    stream = io.BytesIO()
    Writer(stream, protocol).dump(content)
    return stream.getvalue()


RECONSTRUCT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")


def persistent(class_name: str, state: dict, source: str = "") -> Call:
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}
    return Call(RECONSTRUCT, (meta,))


def record(module: torch.nn.Module, source: str, **arguments: object) -> object:
    """A module as NVLabs' persistence pickles it; dictionaries of modules are PyTorch's own."""
    state = {
        "training": False,
        "_parameters": module._parameters,
        "_buffers": module._buffers,
        "_non_persistent_buffers_set": module._non_persistent_buffers_set,
        "_forward_hooks": OrderedDict(),
        "_modules": {name: child and record(child, source) for name, child in module._modules.items()},
    }
    if isinstance(module, torch.nn.ModuleDict):
        return New(Global("torch.nn.modules.container", "ModuleDict"), state)
    name = "SongUNet" if isinstance(module, EDMUNet) else type(module).__name__
    return persistent(name, state | {"_init_args": (), "_init_kwargs": arguments}, source)


def checkpoint(network: EDMUNet, source: str = "", precond: str = "EDMPrecond", **outer: object) -> object:
    config = {name: value for name, value in network.config.items() if name != "img_channels"}
    channels = network.config["img_channels"]
    inner = record(network, source, in_channels=channels, out_channels=channels, **config)
    state = {"_parameters": {}, "_buffers": {}, "_modules": {"model": inner}, "_init_args": (), "_init_kwargs": {}}
    return persistent(precond, state | outer, source)


class Pickles(NamedTuple):
    """What the tests need to write pickles."""

    dumps: Callable[..., bytes]
    checkpoint: Callable[..., object]
    persistent: Callable[..., Call]
    call: type[Call] = Call
    new: type[New] = New
    name: type[Global] = Global
    raw: type[Raw] = Raw


@pytest.fixture(scope="session")
def pickles() -> Pickles:
    return Pickles(dumps, checkpoint, persistent)


@pytest.fixture(scope="session")
def network() -> EDMUNet:
    """The smallest network, filled with seeded numbers."""
    network = EDMUNet(8, 1, **CONFIG)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture(scope="session")
def small(network: EDMUNet) -> bytes:
    """A whole checkpoint of it."""
    return dumps({"ema": checkpoint(network)})


@pytest.fixture
def group() -> Iterator[None]:
    """A gloo group of this process alone.

    It outlives the networks that a test wraps: one that goes last would take the group with it, and wait for the
    group's threads while it holds the interpreter's lock.
    """
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    gc.collect()
    torch.distributed.destroy_process_group()
