"""Compile the Triton kernels for a GPU that need not be there: python triton_compile.py [--all] [--capability 90].

The interpreter runs operations one by one and takes what the compiler refuses; this finds what it does not.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from passband.forcing import triton_mask
from passband.regularization.kernels import triton_lifted, triton_spectrum, triton_wavelet


class Variant(NamedTuple):
    """A kernel, the types of its pointers by name, its constants, and its warps."""

    kernel: Any
    pointers: dict[str, str]
    constants: dict[str, Any]
    warps: int = 4

    def compile(self, capability: int) -> Any:
        """Compile down to machine code."""
        names = self.kernel.arg_names
        types = {name: self.pointers.get(name, _type(name)) for name in names}
        types.update(dict.fromkeys(self.constants, "constexpr"))
        constants = {(names.index(name),): value for name, value in self.constants.items()}
        aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in self.pointers}
        source = ASTSource(fn=self.kernel, signature=types, constexprs=constants, attrs=aligned)
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": self.warps})


def _type(name: str) -> str:
    return "fp32" if name.startswith("w_") or name in ("kappa", "row_unit", "column_unit") else "i32"


def spectrum() -> Iterator[Variant]:
    pointers = {"x_ptr": "*i64", "y_ptr": "*i64", "sums_ptr": "*fp32"}
    for gradient, spacing in itertools.product((True, False), ({"spacing": 1}, {})):
        yield Variant(triton_spectrum._amplitude, pointers, {"GRADIENT": gradient, "BLOCK": 1024, **spacing})
    pointers = {**pointers, "floor_ptr": "*fp32", "means_ptr": "*fp32"}
    for coupling, (sums, gradient) in itertools.product((3, 1, 2), ((True, False), (True, True), (False, True))):
        if (sums and gradient) if coupling == 3 else not sums:
            continue
        constants = {"COUPLING": coupling, "SUMS": sums, "GRADIENT": gradient, "BLOCK": 512, "spacing": 1}
        yield Variant(triton_spectrum._amplitude_phase, pointers, constants, 2)


def haar() -> Iterator[Variant]:
    for levels, dtype, gradient in itertools.product((6, 1, 3, 2, 4, 5), ("bf16", "fp32", "fp16"), (True, False)):
        pointers = {"x_ptr": f"*{dtype}", "y_ptr": f"*{dtype}", "gradient_ptr": f"*{dtype}", "sums_ptr": "*fp32"}
        steps = {"x_column": 1, "y_column": 1, "g_column": 1, "LEVELS": levels, "GRADIENT": gradient}
        pairs = max(2 ** (levels - 1), 8)
        yield Variant(
            triton_wavelet._haar_2d, pointers, {**steps, "PAIRS": pairs, "COLUMNS": 64}, 8 if pairs > 16 else 4
        )
        yield Variant(triton_wavelet._haar_1d, pointers, {**steps, "ROWS": 1, "COLUMNS": 2048})


def bior() -> Iterator[Variant]:
    for dims, dtype, last, first in itertools.product((2, 1), ("bf16", "fp32", "fp16"), (True, False), (True, False)):
        tile = {"DIMS": dims, "LAST": last, "ROWS": 8 if dims == 2 else 1, "COLUMNS": 64 if dims == 2 else 512}
        field = f"*{dtype}" if first else "*fp32"
        own = {"low_ptr": "*fp32", "signs_ptr": "*i8"}
        back = {**own, "gradient_ptr": field}
        yield Variant(triton_lifted._backward, back, {**tile, "g_column": 1})
        there = {**own, "x_ptr": field, "y_ptr": field, "sums_ptr": "*fp32"}
        for gradient in (True, False):
            steps = {"x_column": 1, "y_column": 1, "FIRST": first, "GRADIENT": gradient}
            yield Variant(triton_lifted._forward, there, {**tile, **steps})


def mask() -> Iterator[Variant]:
    for exact in (True, False):
        pointers = {"spectrum_ptr": "*fp32", "cutoffs_ptr": "*fp32"}
        yield Variant(triton_mask._mask, pointers, {"EXACT": exact, "BLOCK": 1024})


def main() -> None:
    """Print a line per variant; any error ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every variant, not only one of each kernel")
    parser.add_argument("--capability", type=int, default=90, help="compute capability, times ten (default: 90)")
    options = parser.parse_args()
    for family, few in ((spectrum, (0, 5, 7)), (haar, (0, 1)), (bior, (0, 1)), (mask, (0,))):
        for number, variant in enumerate(family()):
            if number not in few and not options.all:
                continue
            start = time.perf_counter()
            size = len(variant.compile(options.capability).asm["cubin"])
            name = f"{variant.kernel.__module__}.{variant.kernel.fn.__name__}"
            print(f"{name} {variant.constants}: {size} bytes, {time.perf_counter() - start:.2f} s", flush=True)


if __name__ == "__main__":
    main()
