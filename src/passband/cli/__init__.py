"""The `passband` command, one file per subcommand."""

import os
import sys


def main() -> None:
    """Run the command line. Faults of input end in one message and status 2; PASSBAND_DEBUG=1 shows the traceback."""
    from passband._checks import MissingExtraError

    try:
        from passband.cli.app import app
    except ImportError as error:
        sys.exit(f"error: {error}; the command line needs: pip install 'passband[train]'")
    try:
        app()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, RuntimeError, MissingExtraError) as error:
        if os.environ.get("PASSBAND_DEBUG"):
            raise
        from passband.cli.console import console

        console.print("error:", style="red bold", end=" ")
        # Not as markup: messages hold lists and paths in brackets.
        console.print(str(error) or type(error).__name__, markup=False, soft_wrap=True)
        sys.exit(2)
