"""The subcommands, put together."""

from typing import Annotated

import typer

from passband import __version__
from passband.cli.average import average
from passband.cli.bench import bench
from passband.cli.compare import compare
from passband.cli.data import app as data
from passband.cli.demo import demo
from passband.cli.diagnose import diagnose_command
from passband.cli.encode import encode
from passband.cli.evaluate import evaluate
from passband.cli.export import app as export_app
from passband.cli.finetune import finetune
from passband.cli.generate import generate
from passband.cli.grid import grid
from passband.cli.import_checkpoint import app as import_app
from passband.cli.inspect import inspect
from passband.cli.sample import sample
from passband.cli.train import train

app = typer.Typer(
    name="passband",
    help="Train diffusion and flow models that get their spectrum right, and see where it is not.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(asked: bool) -> bool:
    if asked:
        print(f"passband {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train diffusion and flow models that get their spectrum right, and see where it is not."""


app.command("demo")(demo)
app.command("train")(train)
app.command("finetune")(finetune)
app.command("sample")(sample)
app.command("inspect")(inspect)
app.command("encode")(encode)
app.command("generate")(generate)
app.command("evaluate")(evaluate)
app.command("grid")(grid)
app.command("average")(average)
app.command("compare")(compare)
app.command("diagnose")(diagnose_command)
app.command("bench")(bench)
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")
app.add_typer(data, name="data")
