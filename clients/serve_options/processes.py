"""Processes: how many serve, who starts them again, and what they log."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer

SUPERVISED = os.name == "posix"
"""Where a process can be told to end, and be waited for."""


class LogFormat(StrEnum):
    """How log lines are written."""

    text = "text"
    json = "json"


ReplicasOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="Engines behind the one port, each in a process and on a GPU of its own; requests "
        "go where their adapter is.",
    ),
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(envvar="HATSTAND_LOG_FORMAT", help="Lines for people, or JSON objects."),
]
SuperviseOption = Annotated[
    bool, typer.Option(help="Start the serving process again when it dies.")
]
