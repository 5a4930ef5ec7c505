"""`python -m passband.cli`, for launchers that start modules."""

from passband.cli import main

main()
