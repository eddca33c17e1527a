"""Options and arguments that several commands share, spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

from .completing import adapter_names, aliases, references, targets

RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="DIR|URL",
        envvar="HATSTAND_REGISTRY",
        help="The registry's folder or URL, else the one under HATSTAND_HOME.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ByOption = Annotated[
    str | None, typer.Option(help="Who does this, for the history.", show_default="you")
]
WhyOption = Annotated[str, typer.Option(help="Why, for the history.")]
ExpectedOption = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION|DIGEST|none",
        help="Refuse unless the alias points there now ('none': does not exist).",
        autocompletion=targets,
        show_default=False,
    ),
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The adapter.", autocompletion=adapter_names)
]
AliasArgument = Annotated[
    str, typer.Argument(metavar="ALIAS", help="The alias, such as prod.", autocompletion=aliases)
]
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="VERSION",
        help="A number, a digest, an alias or NAME@REF.",
        autocompletion=targets,
    ),
]
ReferenceArgument = Annotated[
    str,
    typer.Argument(metavar="NAME[@REF]", help="The version.", autocompletion=references),
]
BaseOption = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="NAME|DIR|hf://ORG/NAME[@REV]",
        help="The base it was trained on, where no lock.json says so.",
    ),
]
