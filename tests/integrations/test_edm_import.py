"""Checkpoints of NVLabs' EDM: what is read of them, and that nothing in them is ever run."""

import contextlib
import copyreg
import encodings.raw_unicode_escape  # noqa: F401  # which pickletools loads at its first use
import functools
import hashlib
import http.server
import io
import json
import os
import pickle
import struct
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from passband.integrations.checkpoints.import_folder import FILES
from passband.integrations.edm import (
    CheckpointFormatError,
    UnsafeCheckpointError,
    import_edm,
    read_edm,
)
from passband.models import load_model

NETWORKS = ("ddpmpp_vp", "ncsnpp_ve", "vpprecond", "veprecond")

#: What happens when Python imports, compiles, unpickles or starts anything.
FORBIDDEN = ("exec", "compile", "import", "pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.remove")
_watched: list[str] | None = None


def _hook(event: str, arguments: tuple) -> None:
    if _watched is not None and (event in FORBIDDEN or event.startswith("subprocess.")):
        _watched.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_hook)
"".encode("cp437")  # the codec of names in ZIP archives, which Python would else load while a test watches


@contextlib.contextmanager
def nothing_runs():
    global _watched
    _watched = []
    try:
        yield
        assert _watched == []
    finally:
        _watched = None


@pytest.fixture
def written(tmp_path):
    """The file of some bytes."""

    def write(data: bytes) -> Path:
        path = tmp_path / "network.pkl"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("name", NETWORKS)
class TestReference:
    def test_tensors_and_configuration_are_those_of_the_reference(self, shared, name):
        folder = shared / "parity"
        expected = json.loads((folder / f"edm_{name}_config_dev.json").read_text())
        assert expected.pop("model_type") == "SongUNet"
        with nothing_runs():
            found = read_edm(folder / f"edm_{name}_dev.pkl")
        assert found.key == "ema"
        assert json.loads(json.dumps(found.config)) == expected
        with np.load(folder / f"edm_{name}_dev.npz") as archive:
            weights = {key.removeprefix("w:model."): archive[key] for key in archive if key.startswith("w:")}
        assert weights.keys() == found.state.keys()
        for key, value in weights.items():
            assert found.state[key].dtype == torch.float32
            np.testing.assert_array_equal(found.state[key].numpy(), value, strict=True)

    def test_the_folder_holds_the_same_network(self, shared, tmp_path, name):
        folder = shared / "parity"
        import_edm(folder / f"edm_{name}_dev.pkl", tmp_path / "out")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
        model = load_model(tmp_path / "out")
        assert not model.training
        with np.load(folder / f"edm_{name}_dev.npz") as archive:
            weights = {key.removeprefix("w:model."): archive[key] for key in archive if key.startswith("w:")}
        assert weights.keys() == model.state_dict().keys()
        for key, value in model.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), weights[key])


@pytest.mark.parametrize(
    ("name", "process"),
    [
        ("ddpmpp_vp", {"name": "edm", "sigma_data": 0.5}),
        ("vpprecond", {"name": "edm_vp", "beta_d": 19.9, "beta_min": 0.1, "steps": 1000, "epsilon_t": 1e-5}),
        ("veprecond", {"name": "edm_ve", "sigma_min": 0.02, "sigma_max": 100}),
    ],
)
def test_the_preconditioning_is_kept(shared, tmp_path, name, process):
    import_edm(shared / "parity" / f"edm_{name}_dev.pkl", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "process.json").read_text()) == process


def test_the_origin_is_noted(small, written, tmp_path):
    path = written(small)
    import_edm(path, tmp_path / "out")
    origin = json.loads((tmp_path / "out" / "import.json").read_text())
    assert origin["source"] == str(path)
    assert origin["sha256"] == hashlib.sha256(small).hexdigest()
    assert (origin["key"], origin["class"]) == ("ema", "EDMPrecond")


def test_source_texts_are_set_aside(pickles, network, written, tmp_path):
    sentinel = tmp_path / "ran"
    source = f"open({str(sentinel)!r}, 'w').close()\nraise SystemExit\n"
    path = written(pickles.dumps({"ema": pickles.checkpoint(network, source)}))
    with nothing_runs():
        found = read_edm(path)
    assert (found.sources, found.source_characters) == (1, len(source))
    assert not sentinel.exists()
    import_edm(path, tmp_path / "out")
    assert not sentinel.exists()
    assert source not in "".join((tmp_path / "out" / name).read_text() for name in FILES if name.endswith("json"))


def test_numbers_of_numpy(pickles, network, written):
    """As published files hold them, under either of NumPy's names."""
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        for order in "<>":
            dtype = pickles.call(pickles.name("numpy", "dtype"), ("f8", False, True))
            built = pickles.raw(
                pickles.dumps(dtype)[2:-1] + pickles.dumps((3, order, None, None, None, -1, -1, 0))[2:-1] + b"b"
            )
            scalar = pickles.call(pickles.name(module, "scalar"), (built, struct.pack(f"{order}d", 0.25)))
            content = {"ema": pickles.checkpoint(network, sigma_data=scalar)}
            assert read_edm(written(pickles.dumps(content, 3))).process == {"name": "edm", "sigma_data": 0.25}


def test_arrays_of_numpy(pickles, network, written):
    """Recorded arguments may be arrays."""
    dtype = pickles.call(pickles.name("numpy", "dtype"), ("i8", False, True))
    made = pickles.call(
        pickles.name("numpy.core.multiarray", "_reconstruct"), (pickles.name("numpy", "ndarray"), (0,), b"b")
    )
    state = (1, (2,), dtype, False, struct.pack("<2q", 1, 3))
    array = pickles.raw(pickles.dumps(made)[2:-1] + pickles.dumps(state)[2:-1] + b"b")
    content = {"ema": changed(pickles, network, resample_filter=array)}
    assert read_edm(written(pickles.dumps(content, 3))).config["resample_filter"] == (1, 3)


def test_networks_beside_others_that_are_no_networks(pickles, network, written):
    easy = pickles.raw(pickles.dumps(pickles.name("dnnlib.util", "EasyDict"))[2:-1] + b")\x81" + b"\x8c\x01aK\x01s")
    content = {
        "net": pickles.checkpoint(network),
        "loss_fn": pickles.persistent("EDMLoss", {"P_mean": -1.2}),
        "dataset_kwargs": easy,
        "augment_pipe": None,
        "ids": {1, 2},
    }
    found = read_edm(written(pickles.dumps(content)))
    assert (found.key, found.keys) == ("net", tuple(content))


@pytest.mark.parametrize("keys", [("ema", "net", "G_ema"), ("net", "G_ema"), ("G_ema", "other")])
def test_the_averaged_network_comes_first(pickles, network, written, keys):
    path = written(pickles.dumps({key: pickles.checkpoint(network) for key in reversed(keys)}))
    assert read_edm(path).key == keys[0]
    assert read_edm(path, key=keys[-1]).key == keys[-1]


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_protocol_and_layout(pickles, network, written, protocol, channels_last):
    if channels_last:
        network = type(network)(**network.config).to(memory_format=torch.channels_last)
    found = read_edm(written(pickles.dumps({"ema": pickles.checkpoint(network)}, protocol)))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found.state[name], value, rtol=0, atol=0)


def test_the_newer_form_of_a_storage(pickles, network, written):
    def newer(_storage):
        stream = io.BytesIO()
        torch.save(_storage, stream)
        return stream.getvalue()

    path = written(pickles.dumps({"ema": with_storages(pickles, network, newer)}))
    found = read_edm(path)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found.state[name], value, rtol=0, atol=0)


def with_storages(pickles, network, convert):
    """The checkpoint with each storage's bytes made by `convert(storage)`."""
    load, build = pickles.name("torch.storage", "_load_from_bytes"), pickles.name("torch._utils", "_rebuild_tensor_v2")

    def tensor(value):
        value = value.detach()
        storage = pickles.call(load, (convert(value._typed_storage()),))
        return pickles.call(build, (storage, 0, tuple(value.shape), tuple(value.stride()), False, {}))

    def replaced(item):
        if isinstance(item, torch.Tensor):
            return tensor(item)
        if isinstance(item, dict):
            return {key: replaced(value) for key, value in item.items()}
        if hasattr(item, "_fields"):
            return type(item)(*map(replaced, item))
        return tuple(map(replaced, item)) if type(item) is tuple else item

    return replaced(pickles.checkpoint(network))


@pytest.mark.bad_input
class TestHostile:
    """Each asks for something to be run. The command must not, and must say what was asked."""

    def refused(self, path: Path, match: str) -> None:
        with nothing_runs(), pytest.raises(UnsafeCheckpointError, match=match) as caught:
            read_edm(path)
        assert "nothing in it was run" in str(caught.value)

    def test_a_command(self, written, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'ran'}",)

        self.refused(written(pickle.dumps({"ema": Evil()})), r"names the global '(posix|nt)\.system'.*at byte \d+")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("os", "system"),
            ("builtins", "eval"),
            ("builtins", "exec"),
            ("builtins", "getattr"),
            ("builtins", "__import__"),
            ("__builtin__", "eval"),
            ("torch", "load"),
            ("torch.storage", "_load_from_bytes.__globals__"),
            ("torch._utils", "_rebuild_tensor_v2.__globals__"),
            ("collections", "OrderedDict.__init__"),
            ("collections", "namedtuple"),
            ("torch_utils.persistence", "import_hook"),
            ("torch_utils.persistence", "_src_to_module"),
            ("training.networks", "EDMPrecond"),
            ("numpy", "load"),
            ("numpy.core.multiarray", "fromfile"),
            ("copyreg", "_reconstructor"),
            ("", ""),
        ],
    )
    @pytest.mark.parametrize("instruction", ["GLOBAL", "STACK_GLOBAL"])
    def test_a_global_off_the_list(self, pickles, written, module, name, instruction):
        named = pickles.name(module, name)
        if instruction == "STACK_GLOBAL":
            named = pickles.raw(pickles.dumps(module)[11:-2] + pickles.dumps(name)[11:-2] + pickle.STACK_GLOBAL)
        data = pickles.dumps({"ema": pickles.call(named, ("1",))})
        self.refused(written(data), r"names the global .*not on the list")

    def test_a_pickle_in_the_bytes_of_a_tensor(self, pickles, network, written, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'ran'}",)

        for evil in (pickle.dumps(Evil(), 2), pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(Evil(), 2)):
            data = pickles.dumps({"ema": with_storages(pickles, network, lambda _, evil=evil: evil)})
            self.refused(written(data), r"tensor whose bytes are a pickle of their own that names the global")
        assert not (tmp_path / "ran").exists()

    def test_a_pickle_in_the_newer_form_of_a_storage(self, pickles, network, written, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'ran'}",)

        stream = io.BytesIO()
        torch.save(Evil(), stream)
        path = written(pickles.dumps({"ema": with_storages(pickles, network, lambda _: stream.getvalue())}))
        with pytest.raises(UnsafeCheckpointError, match="PyTorch refuses to load as tensors only"):
            read_edm(path)
        assert not (tmp_path / "ran").exists()

    def test_a_bomb_in_the_newer_form_of_a_storage(self, pickles, network, written):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(1 << 20))
        path = written(pickles.dumps({"ema": with_storages(pickles, network, lambda _: stream.getvalue())}))
        self.refused(path, "is compressed")

    @pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"])
    def test_registered_extensions(self, written, code):
        copyreg.add_extension("os", "system", 1)
        try:
            pickle.loads(b"\x80\x04\x82\x01.")  # now in the cache, which Python's unpickler asks no find_class for
            self.refused(written(b"\x80\x04}\x8c\x03ema" + code + b"\x8c\x04true\x85Rs."), "instruction EXT")
        finally:
            copyreg.remove_extension("os", "system", 1)
            copyreg.clear_extension_cache()

    @pytest.mark.parametrize(
        ("code", "match"),
        [
            (b"(ios\nsystem\n.", "instruction INST"),
            (b"(cos\nsystem\n\x8c\x04trueo.", r"global 'os\.system'"),
            (b"(ccollections\nOrderedDict\n\x8c\x04trueo.", "instruction OBJ"),
            (b"Phttp://example.com\n.", "instruction PERSID"),
            (b"K\x01Q.", "outside the file"),
            (b"\x97.", "instruction NEXT_BUFFER"),
            (b"ccollections\nOrderedDict\n)}\x92.", "instruction NEWOBJ_EX"),
            (b"ccollections\nOrderedDict\nK\x01\x85\x81.", "makes an object of something"),
            (b"cnumpy\nndarray\n)\x81.", "makes an object of something"),
            (b"cnumpy\nndarray\n)R.", "calls something"),
            (b"ccollections\nOrderedDict\nK\x01R.", "calls something"),
            (b"ccollections\nOrderedDict\n]\x85R.", "makes a dictionary of something"),
            (b"K\x01)R.", "calls something that is not to be called: a value of type int"),
            (b"}}b.", "sets the state of something that has none: a value of type dict"),
            (b"ccollections\nOrderedDict\n}b.", "sets the state of something that has none"),
            (b"cnumpy\ndtype\n\x8c\x01O\x85R.", "NumPy data of type 'O'"),
            (b"cnumpy\ndtype\n\x8c\x03V99\x85R.", "NumPy data of type 'V99'"),
        ],
    )
    def test_other_ways_into_code(self, written, code, match):
        self.refused(written(b"\x80\x04" + code), match)

    def test_arrays_of_objects(self, pickles, written):
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            dtype = pickles.raw(pickles.dumps(pickles.call(pickles.name("numpy", "dtype"), ("f8",)))[2:-1])
            array = pickles.call(pickles.name(module, "_reconstruct"), (pickles.name("numpy", "ndarray"), (0,), b"b"))
            state = pickles.dumps((1, (1,), dtype, False, [1]))[2:-1]
            path = written(pickles.dumps({"ema": pickles.raw(pickles.dumps(array)[2:-1] + state + b"b")}))
            self.refused(path, "array of something other than numbers")

    def test_types_with_fields(self, written):
        code = b"cnumpy\ndtype\n\x8c\x02f8\x85R(K\x03\x8c\x01<N\x8c\x01a\x85}tb."
        self.refused(written(b"\x80\x04" + code), "more than a number type")

    def test_states_that_set_attributes_set_none(self, pickles, network, written):
        """Class, dictionary and methods of a stand-in are out of a pickle's reach: a state is only kept."""
        container = pickles.name("torch.nn.modules.container", "ModuleDict")
        state = {"__class__": 1, "set_state": 2, "__dict__": 3, "class_name": "x", "state": 4}
        content = {"ema": pickles.checkpoint(network), "other": pickles.new(container, state)}
        assert read_edm(written(pickles.dumps(content))).key == "ema"

    def test_too_many_instructions(self, written, monkeypatch):
        monkeypatch.setattr("passband.integrations.checkpoints.plain_pickle.MAX_INSTRUCTIONS", 100)
        self.refused(written(b"\x80\x04" + b"N0" * 100 + b"}."), "more than 100 pickle instructions")

    def test_one_storage_given_a_thousand_times(self, pickles, network, written):
        data = pickle.dumps(torch.zeros(1000))
        big = next(a for o, a, _ in __import__("pickletools").genops(data) if o.name == "BINBYTES")
        load = pickles.name("torch.storage", "_load_from_bytes")
        path = written(pickles.dumps([pickles.call(load, (big,)) for _ in range(50)]))
        self.refused(path, "more tensors than the file has room for")

    @pytest.mark.parametrize("kind", ["in itself", "shared"])
    def test_modules_without_end(self, pickles, written, kind):
        """A cycle, and a network of 2^20 paths in a few hundred bytes."""
        container = pickles.name("torch.nn.modules.container", "ModuleDict")
        state: dict = {}
        if kind == "shared":
            for _ in range(20):
                state = {"_modules": {name: pickles.new(container, state) for name in "ab"}}
        else:
            state["_modules"] = {"a": pickles.new(container, state)}
        state |= {"_init_args": (), "_init_kwargs": {"in_channels": 1, "out_channels": 1}}
        content = {
            "ema": pickles.persistent("EDMPrecond", {"_modules": {"model": pickles.persistent("SongUNet", state)}})
        }
        self.refused(written(pickles.dumps(content)), "in itself, twice, or too deep")

    @pytest.mark.parametrize("what", ["class", "argument", "entry"])
    def test_lists_without_end_are_not_printed(self, pickles, network, written, what):
        bomb: object = "x"
        for _ in range(100):
            bomb = [bomb, bomb]
        content: object = {"ema": bomb}
        if what == "class":
            content = pickles.call(pickles.name("numpy", "dtype"), (bomb,))
        elif what == "argument":
            content = {"ema": pickles.checkpoint(network, sigma_data=bomb)}
        with nothing_runs(), pytest.raises(CheckpointFormatError) as caught:
            read_edm(written(pickles.dumps(content)))
        assert len(str(caught.value)) < 1000

    def test_keys_nested_without_end(self, written):
        """Hashing such a tuple would end the process."""
        for instruction in (b"Ns", b"\x91"):
            start = b"}" if instruction == b"Ns" else b"\x8f("
            with pytest.raises(CheckpointFormatError, match="neither text nor a number"):
                read_edm(written(b"\x80\x04" + start + b")" + b"\x85" * 30_000 + instruction + b"."))


@pytest.mark.bad_input
class TestBroken:
    """Each is no checkpoint, or a damaged one."""

    def broken(self, path: Path, match: str, **options: object) -> None:
        with nothing_runs(), pytest.raises(CheckpointFormatError, match=match) as caught:
            read_edm(path, **options)
        assert not isinstance(caught.value, UnsafeCheckpointError)
        assert str(path) in str(caught.value)

    def test_cut_off_anywhere(self, small, written):
        for length in (1, 2, 11, 100, len(small) // 3, len(small) // 2, len(small) - 100, len(small) - 1):
            self.broken(written(small[:length]), r"is broken: .*\(at byte \d+\)|is broken: it has no end")

    def test_lengths_that_nothing_follows(self, written):
        for code in (b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 6 + b"\x00\x00", b"\x8d" + b"\xff" * 6 + b"\x00\x00"):
            self.broken(written(b"\x80\x04" + code + b"xx."), "is broken")

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"", "is empty: the download failed"),
            (b"\n <!DOCTYPE html><html>Not found</html>", "is a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
            (b"PK\x03\x04...", r"is a ZIP archive, such as torch\.save writes"),
            (b'{"a": 1}', "is JSON"),
            (b"(dp0\n.", "no pickle of protocol 2 or later"),
            (b"\x80\x63}.", "is broken: protocol 99"),
            (b"\x80\x04].", "holds no dictionary of networks, but a value of type list"),
            (b"\x80\x04}.", "has none of the entries ema, net, G_ema: choose one by --key of none"),
            (b"\x80\x04}\x8c\x03emaNs.", "has under 'ema' no network but a value of type NoneType"),
            (b"\x80\x04.", "finds nothing|pop from empty list"),
            (b"\x80\x04h\x07.", "it refers to 7, which it did not give before"),
            (b"\x80\x04u.", "is broken"),
            (b"\x80\x04]]]s.", "neither text nor a number|no dictionary"),
            (b"\x80\x04}Na.", "no list"),
            (b"\x80\x04}(N\x90.", "no set"),
            (b"\x80\x04}(Nu.", "is broken"),
            (b"\x80\x04\xff.", "is broken.*unknown"),
            (b"\x80\x04ctorch._utils\n_rebuild_parameter\n)R.", "is broken"),
        ],
    )
    def test_other_files(self, written, data, match):
        self.broken(written(data), match)

    def test_files_of_torch_save(self, network, tmp_path):
        path = tmp_path / "network.pt"
        torch.save(network.state_dict(), path)
        self.broken(path, "ZIP archive, such as torch.save writes")
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
        self.broken(path, "older file of torch.save")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_numbers_that_are_none(self, pickles, network, written, value):
        broken = type(network)(**network.config)
        with torch.no_grad():
            broken.map_layer0.weight[1, 2] = value
        path = written(pickles.dumps({"ema": pickles.checkpoint(broken)}))
        self.broken(path, "NaN or infinity in the tensor 'model.map_layer0.weight'")

    def test_no_file(self, tmp_path):
        with pytest.raises(CheckpointFormatError, match="is a folder"):
            read_edm(tmp_path)
        with pytest.raises(FileNotFoundError):
            read_edm(tmp_path / "missing.pkl")

    def test_another_hash(self, small, written):
        digest = hashlib.sha256(small).hexdigest()
        assert read_edm(written(small), sha256=digest.upper()).sha256 == digest
        self.broken(written(small), f"has the SHA-256 {digest}, expected 00", sha256="00")

    def test_an_entry_that_is_not_there(self, pickles, network, written):
        path = written(pickles.dumps({"student": pickles.checkpoint(network), "teacher": None}))
        self.broken(path, "none of the entries.*choose one by --key of 'student', 'teacher'")
        self.broken(
            path, r"no entry 'studnet' \(did you mean 'student'\?\); it has 'student', 'teacher'", key="studnet"
        )
        self.broken(path, "under 'teacher' no network", key="teacher")
        assert read_edm(path, key="student").key == "student"

    def test_unsupported_networks(self, pickles, network, written):
        path = written(pickles.dumps({"ema": pickles.checkpoint(network, precond="iDDPMPrecond")}))
        self.broken(path, "has under 'ema' a 'iDDPMPrecond', which is not supported; supported are EDMPrecond")
        model = pickles.persistent("DhariwalUNet", {"_init_args": (), "_init_kwargs": {}})
        path = written(pickles.dumps({"ema": pickles.persistent("EDMPrecond", {"_modules": {"model": model}})}))
        self.broken(path, "the network 'DhariwalUNet', which is not supported; supported is SongUNet")
        self.broken(written(pickles.dumps({"ema": pickles.persistent("EDMPrecond", {})})), "without a network in it")

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"model_channels": 2**40}, "model_channels = 1099511627776, which is not possible"),
            ({"num_blocks": -1}, "num_blocks = -1"),
            ({"wings": 2}, "unknown arguments: 'wings'"),
            ({"dropout": None}, "dropout = None"),
            ({"img_channels": 1}, "unknown arguments: 'img_channels'"),
        ],
    )
    def test_impossible_arguments(self, pickles, network, written, change, match):
        self.broken(written(pickles.dumps({"ema": changed(pickles, network, **change)})), match)

    @pytest.mark.parametrize(
        ("precond", "numbers"),
        [
            ("EDMPrecond", {"sigma_data": -1.0}),
            ("EDMPrecond", {"sigma_data": "half"}),
            ("EDMPrecond", {"sigma_min": 2.0, "sigma_max": 1.0}),
            ("EDMPrecond", {"sigma_max": 10**400}),
            ("VPPrecond", {"M": 1.5}),
            ("VPPrecond", {"epsilon_t": 3.0}),
            ("VEPrecond", {"sigma_min": float("nan")}),
        ],
    )
    def test_impossible_preconditionings(self, pickles, network, written, precond, numbers):
        content = {"ema": pickles.checkpoint(network, precond=precond, **numbers)}
        self.broken(written(pickles.dumps(content)), f"has a {precond} that is not possible: ")

    @pytest.mark.parametrize(
        ("offset", "size", "stride"),
        [
            (0, (5,), (1,)),
            (1, (4,), (1,)),
            (0, (2, 2), (1, 4)),
            (0, (2**40,), (0,)),
            (-1, (1,), (1,)),
            (0, (2,), (-1,)),
            (0, (2,), (1, 1)),
            (0, (1.5,), (1,)),
            (0, (True,), (1,)),
            (0, (1,) * 9, (1,) * 9),
        ],
    )
    def test_tensors_beyond_their_storage(self, pickles, written, offset, size, stride):
        build = pickles.name("torch._utils", "_rebuild_tensor_v2")
        storage = torch.zeros(4)._typed_storage()
        tensor = pickles.call(build, (storage, offset, size, stride, False, {}))
        self.broken(written(pickles.dumps({"ema": tensor})), r"holds a (tensor|size)")

    def test_storages_that_are_cut_off_or_wrong(self, pickles, network, written):
        whole = torch.zeros(4)._typed_storage().__reduce__()[1][0]
        for data in (whole[:-1], whole + b"1", whole[:50], b"", whole[:-24] + struct.pack("<q", 3) + whole[-16:]):
            path = written(pickles.dumps(pickles.call(pickles.name("torch.storage", "_load_from_bytes"), (data,))))
            self.broken(path, "holds a tensor whose bytes are a pickle of their own that")


def changed(pickles, network, **change):
    """The checkpoint of a network with other recorded arguments."""
    outer = pickles.checkpoint(network)
    outer.arguments[0]["state"]["_modules"]["model"].arguments[0]["state"]["_init_kwargs"].update(change)
    return outer


@pytest.mark.parametrize(
    "change",
    [
        {"model_channels": 16},
        {"label_dim": 0},
        {"num_blocks": 2},
        {"num_blocks": 2**20},
        {"channel_mult": [1] * 30},
        {"channel_mult": 3},
        {"encoder_type": "nosuch"},
        {"img_resolution": 0},
        {"model_channels": 2**20, "channel_mult": [2**20]},
    ],
)
def test_tensors_that_do_not_fit(pickles, network, written, tmp_path, change):
    path = written(pickles.dumps({"ema": changed(pickles, network, **change)}))
    with pytest.raises(CheckpointFormatError, match="do not fit the network that it describes"):
        import_edm(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.bad_input
class TestDamage:
    """Whatever bytes change, the error is a documented one and nothing runs."""

    def check(self, data: bytes, path: Path) -> None:
        path.write_bytes(data)
        with nothing_runs(), contextlib.suppress(CheckpointFormatError):
            read_edm(path)

    @given(st.data())
    def test_anywhere(self, small, tmp_path_factory, data):
        changed = bytearray(small)
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(small) - 1))] = data.draw(st.integers(0, 255))
        self.check(bytes(changed), tmp_path_factory.getbasetemp() / "damaged.pkl")

    def test_in_the_instructions(self, small, tmp_path):
        """Most bytes are those of tensors, so here each change hits an instruction or what is right behind it."""
        import pickletools

        positions = [position for _, _, position in pickletools.genops(small)]
        generator = np.random.default_rng(0)
        for _ in range(60):
            changed = bytearray(small)
            position = int(generator.choice(positions)) + int(generator.integers(0, 2))
            changed[min(position, len(small) - 1)] = int(generator.integers(0, 256))
            self.check(bytes(changed), tmp_path / "damaged.pkl")

    @given(st.binary(max_size=200))
    def test_any_bytes(self, tmp_path_factory, data):
        self.check(b"\x80\x04" + data, tmp_path_factory.getbasetemp() / "damaged.pkl")


class TestFolder:
    def test_an_earlier_import_is_replaced(self, small, written, tmp_path):
        import_edm(written(small), tmp_path / "out")
        (tmp_path / "out" / "config.json").write_text("damaged")
        import_edm(written(small), tmp_path / "out")
        load_model(tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["network.pkl", "out"]

    @pytest.mark.parametrize("others", [["notes.txt"], ["config.json"], ["import.json", "samples"]])
    def test_anything_else_is_kept(self, small, written, tmp_path, others):
        out = tmp_path / "out"
        out.mkdir()
        for name in others:
            (out / name).write_text("mine")
        with pytest.raises(FileExistsError, match=r"holds something else.*choose another --out"):
            import_edm(written(small), out)
        assert [(out / name).read_text() for name in others] == ["mine"] * len(others)

    def test_a_refused_file_leaves_nothing(self, written, tmp_path):
        with pytest.raises(CheckpointFormatError):
            import_edm(written(b"\x80\x04}."), tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["network.pkl"]

    def test_a_failed_write_leaves_the_earlier_import(self, small, written, tmp_path, monkeypatch):
        import safetensors.torch

        import_edm(written(small), tmp_path / "out")
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

        def full(*_, **__):
            raise safetensors.SafetensorError("No space left on device")

        monkeypatch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(OSError, match=r"could not be written.*No space left.*choose another --out"):
            import_edm(written(small), tmp_path / "out")
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


class _Server(http.server.BaseHTTPRequestHandler):
    def __init__(self, content: bytes, *arguments: object) -> None:
        self.content = content
        super().__init__(*arguments)

    def do_GET(self):
        if self.path == "/missing.pkl":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[:-100] if self.path == "/torn.pkl" else self.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def address(small):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Server, small))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class TestAddress:
    def test_download(self, address, small, network, tmp_path):
        told = []
        import_edm(f"{address}/network.pkl", tmp_path / "out", progress=lambda *counts: told.append(counts))
        assert told[-1] == (len(small), len(small))
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        for name, value in load_model(tmp_path / "out").state_dict().items():
            torch.testing.assert_close(value, network.state_dict()[name], rtol=0, atol=0)
        assert json.loads((tmp_path / "out" / "import.json").read_text())["source"] == f"{address}/network.pkl"

    def test_a_file_address(self, small, written, tmp_path):
        path = written(small)
        import_edm(path.as_uri(), tmp_path / "out")
        assert path.read_bytes() == small

    @pytest.mark.parametrize(
        ("name", "match"),
        [("torn.pkl", "broke off after|Incomplete|incomplete"), ("missing.pkl", "cannot download.*Not Found")],
    )
    def test_what_cannot_be_had(self, address, tmp_path, name, match):
        with pytest.raises(OSError, match=match):
            import_edm(f"{address}/{name}", tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_nobody_there(self, tmp_path):
        with pytest.raises(OSError, match="check the address and the connection"):
            import_edm("http://127.0.0.1:9/network.pkl", tmp_path / "out")

    def test_a_hash_that_is_none_is_said_before_the_download(self, tmp_path):
        with pytest.raises(ValueError, match="64 hexadecimal digits, got 'abc'"):
            import_edm("http://127.0.0.1:9/network.pkl", tmp_path / "out", sha256="abc")

    def test_other_kinds_of_address(self, tmp_path):
        with pytest.raises(ValueError, match="begins with http, https or file"):
            import_edm("ftp://example.com/network.pkl", tmp_path / "out")

    def test_another_hash(self, address, tmp_path):
        with pytest.raises(CheckpointFormatError, match=f"'{address}/network.pkl' has the SHA-256"):
            import_edm(f"{address}/network.pkl", tmp_path / "out", sha256="00" * 32)
        assert list(tmp_path.iterdir()) == []
