"""`python -m app.cli`, where the package isn't installed."""

from app.cli import main

main()
