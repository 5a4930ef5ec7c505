"""The import directions of the package, and what `import passband` may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"

# Highest first. A package imports itself and what stands below it, never a neighbour on its own level.
LEVELS = (
    ("cli", "__main__"),
    ("bench",),
    ("training",),
    ("integrations",),
    ("reports",),
    ("data", "metrics"),
    ("sampling",),
    ("models",),
    ("matching", "forcing", "regularization"),
    ("process", "transforms"),
)
FOUNDATION = len(LEVELS)  # modules whose name starts with an underscore: errors, precision, seeds
RANK = {name: level for level, names in enumerate(LEVELS) for name in names}


def rank(package):
    return FOUNDATION if package.startswith("_") and package != "__main__" else RANK[package]


def imported_names(node):
    """The dotted names that one syntax node imports; a relative import starts with a dot."""
    match node:
        case ast.Import(names=aliases):
            return [alias.name for alias in aliases]
        case ast.ImportFrom(module=module, level=level) if level:
            return ["." * level + (module or "")]
        case ast.ImportFrom(module="passband", names=aliases):
            return [f"passband.{alias.name}" for alias in aliases]
        case ast.ImportFrom(module=module):
            return [module]
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]) if ast.unparse(function) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            return [name]
    return []


def verdict(package, name):
    """Why a module of the package must not import the name, or None."""
    if name.startswith("."):
        return "a relative import"
    root, _, rest = name.partition(".")
    target = rest.partition(".")[0]
    if root != "passband" or target in (package, "__version__"):
        return None
    if target not in RANK and not target.startswith("_"):
        return f"{package} imports from the root of passband, which may import anything"
    return f"{package} imports {target}" if rank(target) <= rank(package) else None


def violations(package, source):
    """What a source text of the package imports against the order, also inside functions, one line each."""
    return [
        f"line {node.lineno}: {reason}"
        for node in ast.walk(ast.parse(source))
        for name in imported_names(node)
        if (reason := verdict(package, name))
    ]


def modules():
    for path in sorted((SOURCE / "passband").rglob("*.py")):
        parts = path.relative_to(SOURCE / "passband").with_suffix("").parts
        if parts != ("__init__",):
            yield pytest.param(parts[0], path, id="/".join(parts))


@pytest.mark.parametrize(("package", "path"), list(modules()))
def test_imports_point_downward(package, path):
    assert package.startswith("_") or package in RANK, f"{package} has no level: add it to LEVELS"
    assert violations(package, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("package", "source", "message"),
    [
        ("transforms", "import passband.process", "transforms imports process"),
        ("transforms", "from passband.sampling import sample", "transforms imports sampling"),
        ("transforms", "from passband import process", "transforms imports process"),
        ("transforms", "from passband import VP", "root of passband"),
        ("transforms", "import passband", "root of passband"),
        ("metrics", "def f():\n    from passband.data import images", "line 2: metrics imports data"),
        ("metrics", "import importlib\nx = importlib.import_module('passband.cli')", "line 2: metrics imports cli"),
        ("sampling", "if True:\n    import numpy, passband.training.loop", "line 2: sampling imports training"),
        ("_checks", "import passband._numerics", "_checks imports _numerics"),
        ("_checks", "from passband.process import VP", "_checks imports process"),
        ("process", "from .transforms import rfftn", "relative import"),
    ],
)
def test_the_checker_finds(package, source, message):
    assert len(found := violations(package, source)) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("cli", "from passband.training import loop\nfrom passband import __version__"),
        ("process", "from passband._checks import check_batch"),
        ("transforms", "from passband.transforms.fourier import rfftn\nimport torch, passbandit"),
        ("sampling", "from passband.process import VP\nfrom passband.transforms import rfftn"),
    ],
)
def test_the_checker_accepts(package, source):
    assert violations(package, source) == []


HEAVY = {
    "PIL", "accelerate", "datasets", "diffusers", "efficientnet_lite_pytorch", "huggingface_hub", "matplotlib",
    "omegaconf", "pandas", "pyarrow", "pydantic", "rich", "safetensors", "scipy", "soundfile", "tensorboard", "tqdm",
    "transformers", "typer", "yaml",
}  # fmt: skip


def loaded_by(statement):
    script = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_is_light():
    before = loaded_by("import torch, numpy, pywt, jaxtyping")
    added = loaded_by("import torch, numpy, pywt, jaxtyping, passband") - before
    assert {name.partition(".")[0] for name in added} <= {"passband", "torch"} | sys.stdlib_module_names
    assert not {name for name in added if name.startswith(("torch._dynamo", "torch._inductor"))}


def test_import_alone_loads_nothing_heavy():
    assert not {name.partition(".")[0] for name in loaded_by("import passband")} & HEAVY


def test_names_load_on_use():
    import passband

    assert set(passband.__all__) <= set(dir(passband))
    for name in passband.__all__:
        assert getattr(passband, name) is getattr(passband, name)
    with pytest.raises(AttributeError, match="no attribute 'Spectral'"):
        passband.Spectral  # noqa: B018


def test_type_checkers_see_what_loads_on_use():
    import passband

    (block,) = (node for node in ast.parse(Path(passband.__file__).read_text()).body if isinstance(node, ast.If))
    seen = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert seen == passband._LAZY
    assert {*seen, "__version__"} == set(passband.__all__)


def test_version_is_the_installed_one():
    from importlib.metadata import version

    import passband

    assert version("passband") == passband.__version__
