"""The command's frame: version, help, and one message for a fault."""

import subprocess
import sys

import pytest

import passband as package
from passband.training import RecipeError

COMMANDS = ("demo", "train", "sample", "evaluate", "grid", "average", "compare", "import", "data")


def test_version(passband):
    assert passband("--version") == (0, f"passband {package.__version__}\n", "")


def test_help_names_every_command(passband):
    result = passband("--help")
    assert result.status == 0
    assert all(command in result.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(passband, command: str):
    result = passband(command, "--help")
    assert result.status == 0
    assert f"passband {command}" in result.out


def test_without_a_command_the_help_is_shown(passband):
    result = passband()
    assert all(command in result.out + result.err for command in COMMANDS)


def test_unknown_commands_and_options(passband):
    assert "No such command 'trian'" in passband("trian").err
    assert "No such option" in passband("train", "x.yaml", "--resme").err


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr("passband.cli.train.load_recipe", failing)


@pytest.mark.parametrize(
    "message",
    ["a [/path] and [bold]lists[/bold] ['x', 'y'] of runs/[old]", ":smile: 1 + 1", "x" * 500, "two\nlines"],
)
def test_messages_are_printed_as_they_are(passband, monkeypatch, message: str):
    fail(monkeypatch, RecipeError(message))
    assert passband("train", "x.yaml") == (2, "", f"error: {message}\n")


def test_an_error_without_a_message_is_named(passband, monkeypatch):
    fail(monkeypatch, RuntimeError())
    assert passband("train", "x.yaml").err == "error: RuntimeError\n"


def test_debug_shows_the_traceback(passband, monkeypatch):
    monkeypatch.setenv("PASSBAND_DEBUG", "1")
    fail(monkeypatch, RecipeError("deep"))
    with pytest.raises(RecipeError, match="deep"):
        passband("train", "x.yaml")


def test_an_interrupt_is_no_error(passband, monkeypatch):
    fail(monkeypatch, KeyboardInterrupt())
    result = passband("train", "x.yaml")
    assert result.status not in (0, 2)
    assert "error:" not in result.err


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "passband.cli", "train", "nowhere.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: there is no recipe at 'nowhere.yaml'")
