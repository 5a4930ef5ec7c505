"""How much longer `import passband` takes than what it stands on: `python benchmarks/import_time.py`."""

import statistics
import subprocess
import sys

REPEATS = 7
SCRIPT = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
EVERYTHING = "import torch, passband; [getattr(passband, name) for name in passband.__all__]"


def seconds(statement: str) -> float:
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(statement)], capture_output=True, text=True, check=True
    )
    return float(output.stdout)


def main() -> None:
    seconds(EVERYTHING)  # compiles, and fills the disk cache
    statements = {
        "import torch": "import torch",
        "import torch, passband": "import torch, passband",
        "every public name": EVERYTHING,
    }
    runs = [{label: seconds(statement) for label, statement in statements.items()} for _ in range(REPEATS)]
    base = statistics.median(run["import torch"] for run in runs)
    for label in statements:
        median = statistics.median(run[label] for run in runs)
        print(f"{label:<26}{median:7.2f} s   beyond torch {median - base:+.2f} s")


if __name__ == "__main__":
    main()
