"""`python -m registry`: the `registry` command."""

from .cli import main

main()
