"""Every command line of the documentation parses: command, options, recipe, overrides; files and targets are there."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from passband.cli.app import app
from passband.training import load_recipe
from passband.training.grid import load_grid

ROOT = Path(__file__).resolve().parents[2]
#: Programs whose lines are not checked further.
OTHERS = {"pip", "tensorboard", "git", "cd", "diff", "jupyter"}


def commands(code: str) -> list[list[str]]:
    """The words of each line, without comments and settings of the environment; a backslash continues a line."""
    lines = [shlex.split(line, comments=True) for line in code.replace("\\\n", " ").splitlines()]
    return [_without_environment(words) for words in lines if words]


def _without_environment(words: list[str]) -> list[str]:
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    return words


def check(words: list[str]) -> None:
    """Raises where a line names what does not exist."""
    if "passband.cli" in words:  # behind accelerate launch or torchrun
        words = ["passband", *words[words.index("passband.cli") + 1 :]]
    match words:
        case ["passband", *arguments]:
            _check_passband(arguments)
        case ["make", *targets]:
            known = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert [target for target in targets if "=" not in target and target not in known] == []
        case ["python", "-m", module, *_]:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), f"no module {module}"
        case ["python" | "accelerate" | "torchrun", *arguments]:
            scripts = [word for word in arguments if word.endswith(".py")]
            missing = [word for word in scripts if word.startswith("examples/") and not (ROOT / word).is_file()]
            assert scripts, f"no script in {words}"
            assert not missing, f"no file {missing}"
        case [program, *_]:
            assert program in OTHERS, f"unknown program {program}"


def _check_passband(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    names = []
    while hasattr(command, "commands"):
        assert arguments, f"passband {' '.join(names)} names no command"
        if arguments[0].startswith("-"):
            return
        assert arguments[0] in command.commands, f"no command {arguments[0]}; there are {sorted(command.commands)}"
        names.append(arguments[0])
        command, arguments = command.commands[arguments[0]], arguments[1:]
    context = command.context_class(command, info_name=names[-1])
    values, rest, _ = command.make_parser(context).parse_args(list(arguments))
    assert not rest, f"too many arguments: {rest}"
    for parameter in command.params:
        given = values.get(parameter.name)
        missing = given in (None, ()) or type(given).__name__ == "Sentinel"
        assert not (parameter.required and missing), f"passband {names[-1]} needs {parameter.name}"
        if not missing:
            parameter.process_value(context, given)
    if names == ["train"] and str(values["recipe"]).startswith("recipes/"):
        load_recipe(ROOT / values["recipe"], list(values.get("overrides") or ()))
    if names == ["grid"] and str(next(iter(values.values()))).startswith("recipes/"):
        load_grid(ROOT / next(iter(values.values())))


@pytest.mark.bad_input
def test_the_commands_of_a_page_parse(page: Any) -> None:
    for block in page.of("console"):
        for words in commands(block.code):
            try:
                check(words)
            except Exception as error:
                error.add_note(
                    f"{shlex.join(words)}\nin the console block of {page.name} that begins at line {block.line}"
                )
                raise


test_the_commands_of_a_page_parse.of_pages = lambda page: page.of("console")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("passband trian recipes/photos64-flow-wavelet.yaml", "no command trian"),
        ("passband train", "recipe"),
        ("passband train recipes/no-such.yaml", "no-such"),
        ("passband train recipes/photos64-flow-wavelet.yaml data.path=x training.stepps=3", "stepps"),
        ("passband sample runs/a --cuont 3", "cuont"),
        ("passband sample runs/a runs/b", "too many arguments"),
        ("torchrun --nproc_per_node 2 -m passband.cli sample runs/a --no-option", "no-option"),
        ("python examples/no_such.py", "no_such"),
        ("python -m benchmarks.no_such", "no_such"),
        ("make nothing", "nothing"),
        ("passbnad train", "unknown program"),
    ],
)
def test_a_wrong_line_is_found(line: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        check(commands(line)[0])


def test_lines_are_joined_and_comments_left_out() -> None:
    code = "A=1 passband sample runs/a \\\n  --count 3   # three\n# nothing\npassband demo\n"
    assert commands(code) == [["passband", "sample", "runs/a", "--count", "3"], ["passband", "demo"]]


def test_right_lines_pass() -> None:
    for line in (
        "passband sample runs/a --count 3",
        "passband --version",
        "python -m benchmarks.loader",
        "make demo test",
    ):
        check(commands(line)[0])


def test_the_readme_names_every_command() -> None:
    told = (ROOT / "README.md").read_text()
    names = typer.main.get_command(app).commands
    assert [
        name for name in names if not re.search(rf"`(passband )?{name}\b", told) and f"passband {name}" not in told
    ] == []
