"""Where commands find the registry."""

from __future__ import annotations

from typing import Annotated

import typer

RegistryOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR_OR_URL",
        envvar="HATSTAND_REGISTRY",
        help="The registry's folder or URL, else the one under HATSTAND_HOME.",
        show_default=False,
    ),
]
