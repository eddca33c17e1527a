"""`python -m clients` is `hatstand`."""

from .cli import main

main()
