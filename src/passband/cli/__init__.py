"""The `passband` command, one file per subcommand."""

import os
import sys
from collections.abc import Callable


def main() -> None:
    """Run the command line. Faults of input end in one message and status 2; PASSBAND_DEBUG=1 shows the traceback."""
    try:
        _app()()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("PASSBAND_DEBUG"):
            raise
        from passband.cli.console import console

        console.print("error:", style="red bold", end=" ")
        # Not as markup: messages hold lists and paths in brackets.
        console.print(str(error) or type(error).__name__, markup=False, soft_wrap=True)
        sys.exit(2)


def _app() -> Callable[[], None]:
    """The application. Its import takes seconds, in which Ctrl-C may come too."""
    try:
        from passband.cli.app import app
    except ImportError as error:
        sys.exit(f"error: {error}; the command line needs: pip install 'passband[train]'")
    return app
