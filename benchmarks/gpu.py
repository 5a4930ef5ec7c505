"""Everything about speed that needs an NVIDIA GPU, in one call: checks, times. Needs torch, numpy, triton.

Run: python benchmarks/gpu.py [--out FOLDER] [--only NAME] [--minutes M]. It writes results.json and table.md, and says
what it does. Each part is guarded: an error is written down, and the next one starts. `--device cpu --quick` runs the
same code in Triton's interpreter at toy sizes, to test this script; its times mean nothing.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if "cpu" in " ".join(sys.argv).replace("=", " ").split():
    os.environ["TRITON_INTERPRET"] = "1"  # before the first import of Triton

import torch  # noqa: E402
from benchmarks._bare import use_this_tree  # noqa: E402
from torch import Tensor  # noqa: E402

use_this_tree()

import passband  # noqa: E402
from passband.forcing import spectral_low_pass  # noqa: E402
from passband.models import EDMUNet, JiT  # noqa: E402
from passband.regularization import amplitude_loss, amplitude_phase_loss, wavelet_loss  # noqa: E402

Row = dict[str, Any]
Call = Callable[[], Any]
Term = Callable[[Tensor, Tensor], Tensor]

TERMS: dict[str, Term] = {
    "amplitude": amplitude_loss,
    "amplitude_phase": amplitude_phase_loss,
    "amplitude_phase norm": lambda x, y: amplitude_phase_loss(x, y, "norm"),
    "haar": lambda x, y: wavelet_loss(x, y, "haar", levels=3),
    "bior1.3": lambda x, y: wavelet_loss(x, y, "bior1.3", levels=2),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def say(text: str) -> None:
    print(f"[{time.perf_counter() - START:6.1f} s] {text}", flush=True)


START = time.perf_counter()


class Machine:
    """Where to run, at which sizes, and for how long."""

    def __init__(self, device: str, quick: bool, minutes: float) -> None:
        self.device, self.quick = torch.device(device), quick
        self.cuda = self.device.type == "cuda"
        self.backend: Any = "auto" if self.cuda else "triton"
        self.seconds = 0.02 if quick else 0.5 * minutes / 8
        self.end = START + 60 * minutes

    def field(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """White noise."""
        return torch.randn(shape, device=self.device, dtype=dtype)

    def wait(self) -> None:
        """Until the device has done all that was asked for."""
        if self.cuda:
            torch.cuda.synchronize()

    def late(self) -> bool:
        """Whether the time for all parts is over."""
        return time.perf_counter() > self.end

    def medians(self, calls: dict[str, Call], seconds: float | None = None) -> dict[str, float]:
        """Seconds per call: all take turns, each a few calls in a row so that the device's queue stays full."""
        loops = {name: self._loops(call) for name, call in calls.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        end = time.perf_counter() + (self.seconds if seconds is None else seconds) * len(calls)
        while min(map(len, times.values())) < 3 or (
            time.perf_counter() < end and len(next(iter(times.values()))) < 200
        ):
            for name, call in calls.items():
                times[name].append(self._time(call, loops[name]))
        return {name: statistics.median(values) for name, values in times.items()}

    def _loops(self, call: Call) -> int:
        for _ in range(1 if self.quick else 3):
            call()
        self.wait()
        return 1 if self.quick else max(1, min(50, int(0.01 / max(self._time(call, 3), 1e-6))))

    def _time(self, call: Call, loops: int) -> float:
        if not self.cuda:
            start = time.perf_counter()
            for _ in range(loops):
                call()
            return (time.perf_counter() - start) / loops
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(loops):
            call()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000 / loops

    def captured(self, call: Call) -> Call:
        """The same as a CUDA graph: the device's time, without the host's."""
        if not self.cuda:
            return call
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay


def gradient_of(term: Term, x: Tensor, y: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(term(x, y).mean(), x)
    return gradient


def facts(machine: Machine) -> Row:
    def git(*arguments: str) -> str | None:
        try:
            return subprocess.run(
                ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = None
    return {
        "gpu": torch.cuda.get_device_name() if machine.cuda else None,
        "device": str(machine.device),
        "quick": machine.quick,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": version,
        "python": platform.python_version(),
        "passband": passband.__version__,
        "commit": git("rev-parse", "HEAD"),
        "changed_files": len((git("status", "--porcelain") or "").splitlines()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def check_terms(machine: Machine) -> Iterator[Row]:
    """Every term by Triton against the plain formula in float64: value, and gradient."""
    shapes = (
        [(2, 2, 8, 12), (1, 2, 40)]
        if machine.quick
        else [(5, 3, 64, 64), (3, 3, 96, 160), (2, 3, 250, 123), (4, 1, 16384)]
    )
    for name, term in TERMS.items():
        for shape in shapes:
            if (name == "haar" and shape[-1] % 8) or (name == "bior1.3" and machine.quick):
                continue
            for label, dtype in DTYPES.items():
                x, y = machine.field(*shape, dtype=dtype).requires_grad_(), machine.field(*shape, dtype=dtype)
                with passband.backend(machine.backend):
                    value, gradient = term(x, y).detach().double(), gradient_of(term, x, y).double()
                exact = x.detach().double().requires_grad_()
                with passband.backend("plain"):
                    expected, slope = term(exact, y.double()).detach(), gradient_of(term, exact, y.double())
                off = float(((value - expected).abs() / expected.abs()).max())
                # Halves tie, and a sign of 0 is rounding's choice: the share of far entries says more than the worst.
                far = float(((gradient - slope).abs() > TOLERANCE[dtype] * slope.abs().max()).double().mean())
                good = off < 1e-5 and far < (1e-3 if dtype == torch.float32 else 0.2)
                yield {
                    "term": name,
                    "shape": list(shape),
                    "dtype": label,
                    "value off": off,
                    "gradient far": far,
                    "ok": good,
                }


def check_layouts(machine: Machine) -> Iterator[Row]:
    """channels_last and expanded fields give what contiguous ones do."""
    shape = (2, 3, 8, 8) if machine.quick else (4, 3, 64, 64)
    x, y = machine.field(*shape), machine.field(*shape)
    some = y[:1].expand(shape)
    for name, term in TERMS.items():
        if machine.quick and name == "bior1.3":
            continue
        with passband.backend(machine.backend):
            plain = gradient_of(term, x.clone().requires_grad_(), y)
            last = x.clone(memory_format=torch.contiguous_format).to(memory_format=torch.channels_last).requires_grad_()
            off = float((gradient_of(term, last, y) - plain).abs().max() / plain.abs().max())
            expanded = gradient_of(term, x.clone().requires_grad_(), some)
            repeated = gradient_of(term, x.clone().requires_grad_(), some.clone())
            off = max(off, float((expanded - repeated).abs().max() / plain.abs().max()))
        yield {"term": name, "layout": "channels_last, expanded", "gradient off": off, "ok": off < 1e-4}


def check_low_pass(machine: Machine) -> Iterator[Row]:
    cases: list[tuple[tuple[int, ...], int | None]] = [((2, 3, 16, 24), None), ((2, 3, 16, 24), 8), ((3, 1, 45), None)]
    for shape, window in cases:
        for exact in (False, True):
            z, cutoff = machine.field(*shape), torch.linspace(0.1, 1, shape[0], device=machine.device)
            with passband.backend(machine.backend):
                found = spectral_low_pass(z, cutoff, window=window, exact=exact).double()
            with passband.backend("plain"):
                expected = spectral_low_pass(z.double(), cutoff.double(), window=window, exact=exact)
            off = float((found - expected).abs().max())
            yield {
                "term": "low pass",
                "shape": list(shape),
                "window": window,
                "exact": exact,
                "off": off,
                "ok": off < 2e-5,
            }


def check_graphs(machine: Machine) -> Iterator[Row]:
    """A captured step gives for new inputs what an eager one does. To wait for the device would be an error."""
    if not machine.cuda:
        return
    x, y = machine.field(8, 3, 64, 64).requires_grad_(), machine.field(8, 3, 64, 64)
    cutoff = torch.rand(8, device=machine.device)
    steps: dict[str, Call] = {name: (lambda term=term: gradient_of(term, x, y)) for name, term in TERMS.items()}
    steps["low pass"] = lambda: spectral_low_pass(x, cutoff, exact=True).detach()
    for name, step in steps.items():
        out = torch.empty_like(x)
        replay = machine.captured(lambda step=step, out=out: out.copy_(step()))
        with torch.no_grad():
            x.normal_()
            y.normal_()
        replay()
        off = float((out - step()).abs().max())
        yield {"term": name, "graph": "captured and replayed", "off": off, "ok": off <= 1e-6 * float(out.abs().max())}


def check_large(machine: Machine) -> Iterator[Row]:
    """Over 2^31 elements: the last samples come out as they do alone."""
    if not machine.cuda:
        return
    if torch.cuda.get_device_properties(machine.device).total_memory < 45e9:
        yield {"note": "needs 45 GB"}
        return
    from passband.regularization.kernels.triton_spectrum import amplitude_

    size = 512
    batch = 2**31 // (3 * size * size) + 3
    x, y = (torch.empty(batch, 3, size, size, device=machine.device, dtype=torch.bfloat16).normal_() for _ in range(2))
    for name in ("haar", "bior1.3"):
        from passband.regularization.kernels import triton_lifted, triton_wavelet

        weights = [[1.0] * 3, [1.0]]
        kernel = triton_wavelet.haar_l1 if name == "haar" else triton_lifted.bior13_l1
        values, gradient = kernel(x, y, 1, weights, True)
        alone, slope = kernel(x[-2:].clone(), y[-2:].clone(), 1, weights, True)
        off = float((values[-2:] - alone).abs().max() / alone.abs().max())
        same = bool(torch.equal(gradient[-2:], slope))
        yield {"term": name, "elements": x.numel(), "value off": off, "gradient same": same, "ok": off < 1e-6 and same}
        del values, gradient
    del x, y
    torch.cuda.empty_cache()
    batch = 2**31 // (3 * size * 257) + 3
    spectra = [torch.empty(batch, 3, size, 257, device=machine.device, dtype=torch.complex64) for _ in range(2)]
    for s in spectra:
        torch.view_as_real(s).normal_()
    alone = [s[-2:].clone() for s in spectra]
    values = amplitude_(spectra[0], spectra[1], size, True)[-2:]
    expected = amplitude_(alone[0], alone[1], size, True)
    off = float((values - expected).abs().max() / expected.abs().max())
    same = bool(torch.equal(spectra[0][-2:], alone[0]))
    yield {
        "term": "amplitude_",
        "elements": spectra[0].numel(),
        "value off": off,
        "gradient same": same,
        "ok": off < 1e-6 and same,
    }


def bandwidth(machine: Machine) -> Iterator[Row]:
    """The wavelet kernels, value and gradient, as a share of what a copy reaches for the same bytes."""
    from passband.regularization.kernels.triton_lifted import bior13_l1
    from passband.regularization.kernels.triton_wavelet import haar_l1

    source = torch.empty(2**16 if machine.quick else 2**28, device=machine.device).normal_()
    target = torch.empty_like(source)
    shapes = (
        [(1, 1, 16, 16)]
        if machine.quick
        else [(2048, 3, 64, 64), (512, 3, 128, 128), (128, 3, 256, 256), (1024, 4, 16384)]
    )
    for shape in shapes:
        for label, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            x, y = machine.field(*shape, dtype=dtype), machine.field(*shape, dtype=dtype)
            for levels in (1, 3, 4 if machine.quick else 6):
                weights = [[1.0] * (2 ** (x.ndim - 2) - 1)] * levels + [[1.0]]
                calls: dict[str, Call] = {"copy": lambda: target.copy_(source)}
                calls["haar"] = lambda x=x, y=y, n=levels, w=weights: haar_l1(x, y, n, w, True)
                if levels == 1 or (levels == 3 and not machine.quick):
                    calls["bior1.3"] = lambda x=x, y=y, n=levels, w=weights: bior13_l1(x, y, n, w, True)
                times = machine.medians(calls)
                rate = 2 * source.numel() * 4 / times["copy"]
                for name in list(calls)[1:]:
                    share = 3 * x.numel() * x.element_size() / times[name] / rate
                    met = share >= 0.7 if name == "haar" else None
                    row = {
                        "kernel": name,
                        "shape": list(shape),
                        "dtype": label,
                        "levels": levels,
                        "ms": 1e3 * times[name],
                    }
                    yield {**row, "copy GB/s": rate / 1e9, "share of copy": share, "met": met}


def ffts(machine: Machine) -> Iterator[Row]:
    """Amplitude losses with their gradient over three bare real FFTs, and against the naive form."""
    shapes = (
        [(2, 1, 8, 8)]
        if machine.quick
        else [
            (16, 3, 64, 64),
            (128, 3, 64, 64),
            (1024, 3, 64, 64),
            (64, 3, 256, 256),
            (32, 3, 512, 512),
            (256, 1, 16384),
        ]
    )
    for shape in shapes:
        x, y = machine.field(*shape).requires_grad_(), machine.field(*shape)
        dims = tuple(range(2, x.ndim))

        def bare(x: Tensor = x, y: Tensor = y, dims: tuple[int, ...] = dims) -> Tensor:
            with torch.no_grad():
                torch.fft.rfftn(y, dim=dims)
                return torch.fft.irfftn(torch.fft.rfftn(x, dim=dims), s=x.shape[2:], dim=dims)

        def naive(a: Tensor, b: Tensor, dims: tuple[int, ...] = dims) -> Tensor:
            return (
                (torch.fft.fftn(a, dim=dims, norm="ortho").abs() - torch.fft.fftn(b, dim=dims, norm="ortho").abs())
                .abs()
                .mean()
            )

        calls: dict[str, Call] = {"bare": bare, "naive": lambda x=x, y=y, f=naive: gradient_of(f, x, y)}
        names = ("amplitude", "amplitude_phase", "amplitude_phase norm")
        for name in names:
            calls[name] = lambda x=x, y=y, term=TERMS[name]: gradient_of(term, x, y)
        for kind, wrap in (("eager", lambda call: call), ("graph", machine.captured)):
            if kind == "graph" and not machine.cuda:
                continue
            with passband.backend(machine.backend):
                times = machine.medians({name: wrap(call) for name, call in calls.items()})
            for name in names:
                ratio = times[name] / times["bare"]
                row = {
                    "term": name,
                    "shape": list(shape),
                    "kind": kind,
                    "ms": 1e3 * times[name],
                    "over three FFTs": ratio,
                }
                yield {
                    **row,
                    "naive over it": times["naive"] / times[name],
                    "met": ratio <= 1.5 if name == "amplitude" else None,
                }


def low_pass(machine: Machine) -> Iterator[Row]:
    """The operator forward over its four bare products with the DCT's matrix, one per axis and direction."""
    shapes = [(2, 1, 16, 16)] if machine.quick else [(64, 3, 64, 64), (64, 3, 256, 256), (16, 3, 512, 512)]
    for shape in shapes:
        z, cutoff = machine.field(*shape), torch.rand(shape[0], device=machine.device)
        matrix = passband.transforms.dct_matrix(shape[-1], torch.float32, machine.device)

        def floor(z: Tensor = z, c: Tensor = matrix) -> Tensor:
            return c.T @ ((c @ (z @ c.T)) @ c)

        def plain(z: Tensor = z, cutoff: Tensor = cutoff) -> Tensor:
            with passband.backend("plain"):
                return spectral_low_pass(z, cutoff)

        calls: dict[str, Call] = {"floor": floor, "plain": plain}
        calls["ours"] = lambda z=z, cutoff=cutoff: spectral_low_pass(z, cutoff)
        calls["exact"] = lambda z=z, cutoff=cutoff: spectral_low_pass(z, cutoff, exact=True)
        with torch.no_grad(), passband.backend(machine.backend):
            times = machine.medians(calls)
        for name in ("ours", "exact"):
            ratio = times[name] / times["floor"]
            row = {"form": name, "shape": list(shape), "ms": 1e3 * times[name], "over matmuls": ratio}
            yield {
                **row,
                "plain over it": times["plain"] / times[name],
                "met": ratio <= 1.5 if shape[-1] == 256 else None,
            }


def train(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, y: Tensor, t: Tensor, term: Term | None = None
) -> None:
    """A training step in bfloat16 of a network that predicts clean samples."""
    with torch.autocast(y.device.type, dtype=torch.bfloat16):
        estimate = network(y + torch.randn_like(y), t)
    loss = (estimate.float() - y).square().mean()
    if term is not None:
        loss = loss + 0.01 * term(estimate, y).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def steps(machine: Machine) -> Iterator[Row]:
    """Each term's share of a bf16 training step."""
    quick = machine.quick
    unet = (
        {"img_resolution": 16, "model_channels": 16, "channel_mult": (1, 2), "num_blocks": 1}
        if quick
        else {"img_resolution": 64}
    )
    jit = {"patch_size": 8, "hidden_size": 32, "depth": 1, "num_heads": 4, "in_context_len": 0} if quick else None
    networks: list[tuple[str, Callable[[], torch.nn.Module], tuple[int, ...]]] = [
        ("EDM U-Net, 64 x 64", lambda: EDMUNet(img_channels=3, **unet), (2, 3, 16, 16) if quick else (128, 3, 64, 64)),
        (
            "JiT-B/16, 256 x 256",
            lambda: JiT(16, **jit) if jit else JiT.from_size("B/16", 256),
            (2, 3, 16, 16) if quick else (64, 3, 256, 256),
        ),
    ]
    for title, build, shape in networks:
        try:
            yield from shares(machine, title, build(), shape)
        except torch.OutOfMemoryError:
            yield {"network": title, "shape": list(shape), "note": "out of memory"}


def shares(machine: Machine, title: str, network: torch.nn.Module, shape: tuple[int, ...]) -> Iterator[Row]:
    """For one network."""
    network.to(machine.device).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    y, t = machine.field(*shape), torch.rand(shape[0], device=machine.device)

    step = partial(train, network, optimizer, y, t)
    names = [name for name in TERMS if not (machine.quick and name == "bior1.3")]
    calls: dict[str, Call] = {"step": step}
    for name in names:
        calls[f"with {name}"] = partial(step, TERMS[name])
    with passband.backend(machine.backend):
        times = machine.medians(calls, None if machine.quick else 3.0)
        alone: dict[str, Call] = {}
        for name in names:
            leaf = machine.field(*shape).requires_grad_()
            call = partial(gradient_of, TERMS[name], leaf, y)
            alone[name] = machine.captured(call)
            alone[f"{name}, eager"] = call
        single = machine.medians(alone)
    for name in names:
        share = single[name] / times["step"]
        row = {"network": title, "shape": list(shape), "term": name, "step ms": 1e3 * times["step"]}
        row |= {
            "alone ms": 1e3 * single[name],
            "share": share,
            "eager share": single[f"{name}, eager"] / times["step"],
        }
        yield {**row, "step with it": times[f"with {name}"] / times["step"], "met": share < 0.005}


def grid(machine: Machine) -> Iterator[Row]:
    """Nothing slower than the plain form: value and gradient, by size, batch and dtype."""
    sizes = (
        [(8, 8)]
        if machine.quick
        else [(16, 16), (32, 32), (64, 64), (96, 96), (128, 128), (256, 256), (512, 512), (4096,), (65536,)]
    )
    for size in sizes:
        for batch in (2,) if machine.quick else (1, 16, 256):
            for label in ("fp32", "bf16"):
                if machine.late():
                    raise TimeoutError("the time for all parts is over")
                x = machine.field(batch, 3, *size, dtype=DTYPES[label]).requires_grad_()
                y = machine.field(batch, 3, *size, dtype=DTYPES[label])
                for name, term in TERMS.items():
                    if machine.quick and name == "bior1.3":
                        continue

                    def plain(x: Tensor = x, y: Tensor = y, term: Term = term) -> Tensor:
                        with passband.backend("plain"):
                            return gradient_of(term, x, y)

                    def ours(x: Tensor = x, y: Tensor = y, term: Term = term) -> Tensor:
                        with passband.backend(machine.backend):
                            return gradient_of(term, x, y)

                    row = {"term": name, "shape": [batch, 3, *size], "dtype": label}
                    try:
                        times = machine.medians({"plain": plain, "ours": ours}, 0 if machine.quick else 0.1)
                    except torch.OutOfMemoryError:
                        yield {**row, "note": "out of memory"}
                        continue
                    ratio = times["plain"] / times["ours"]
                    yield {**row, "ms": 1e3 * times["ours"], "plain over it": ratio, "met": ratio >= 1}


PARTS: dict[str, Callable[[Machine], Iterator[Row]]] = {
    "check terms": check_terms,
    "check layouts": check_layouts,
    "check low pass": check_low_pass,
    "check graphs": check_graphs,
    "bandwidth": bandwidth,
    "ffts": ffts,
    "low pass": low_pass,
    "steps": steps,
    "check large": check_large,
    "grid": grid,
}


def without_folders(text: str) -> str:
    """Paths in this tree from its root, others by their last part: they may be published."""
    text = text.replace(f"{ROOT}{os.sep}", "")
    return re.sub(r"""(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s'"(),;:/\\]+[/\\])+""", "", text)


def run(name: str, machine: Machine) -> Row:
    """The rows of one part, and the error that ended it, if one did."""
    rows: list[Row] = []
    error = None
    start = time.perf_counter()
    say(name)
    try:
        for row in PARTS[name](machine):
            if machine.quick:
                row.pop("met", None)  # at toy sizes in the interpreter, no bar means anything
            rows.append(row)
            say("  " + ", ".join(f"{key} {_text(value)}" for key, value in row.items() if value is not None))
    except Exception:  # noqa: BLE001  # the other parts shall run whatever it is
        error = without_folders(traceback.format_exc())
        say(error)
    if machine.cuda:
        torch.cuda.empty_cache()
    return {"seconds": time.perf_counter() - start, "rows": rows, "error": error}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else "x".join(map(str, value))
        if isinstance(value, list)
        else str(value)
    )


def table(results: Row) -> str:
    """Markdown: the machine, then a table per part."""
    lines = ["# On a GPU", "", *(f"- {key}: {value}" for key, value in results["facts"].items()), ""]
    for name, part in results["parts"].items():
        lines += [f"## {name}", "", (PARTS[name].__doc__ or "").strip(), ""]
        keys = list(dict.fromkeys(key for row in part["rows"] for key in row))
        if keys:
            lines += ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
            lines += [
                "| " + " | ".join("" if row.get(key) is None else _text(row[key]) for key in keys) + " |"
                for row in part["rows"]
            ]
        else:
            lines += ["Not measured."]
        lines += ["", *(["Ended by an error:", "", "```", part["error"].strip(), "```", ""] if part["error"] else [])]
    return "\n".join(lines)


def save(folder: Path, results: Row) -> None:
    """Write what there is so far."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table(results), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="toy sizes, to test this script")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--only", action="append", choices=list(PARTS), help="a part; may be given several times")
    parser.add_argument("--minutes", type=float, default=8.0, help="about how long all parts may take")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU that PyTorch can use; --device cpu --quick tests the script")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {str(options.out)!r} is no folder to write to: {error.strerror}")
    machine = Machine(options.device, options.quick, options.minutes)
    torch.manual_seed(0)
    results: Row = {"facts": facts(machine), "parts": {}}
    say(json.dumps(results["facts"]))
    for name in options.only or PARTS:
        results["parts"][name] = run(name, machine)
        save(options.out, results)
    rows = [row for part in results["parts"].values() for row in part["rows"]]
    wrong = sum(row.get("ok") is False for row in rows)
    missed = sum(row.get("met") is False for row in rows)
    errors = sum(part["error"] is not None for part in results["parts"].values())
    say(f"{len(rows)} rows; {wrong} wrong, {missed} under the bar, {errors} parts ended by an error")
    say(str(options.out / "table.md"))
    return 1 if wrong or errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
