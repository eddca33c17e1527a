"""How the command line ends when something is missing or refused: one sentence, exit status 1."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NoReturn

import typer
from rich.console import Console

# Found by name in what has been imported: naming them must not import torch or the server.
_KNOWN = (
    ("clients.errors", "HatstandError"),
    ("registry.errors", "RegistryError"),
    ("server.errors", "StartupError"),
    ("server.errors", "ServingError"),
    ("training.errors", "TrainingError"),
)


@contextlib.contextmanager
def explained(command: str, *, extra: str | None = None) -> Iterator[None]:
    """Run a command's body; what we foresee becomes one sentence, a bug keeps its traceback.

    `extra` is what the command needs installed beside the base package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        fail(_what_to_install(command, extra, error.name or "a package"))
    except Exception as error:
        if isinstance(error, _known_errors()):
            fail(str(error))
        raise


def fail(message: str) -> NoReturn:
    """Say it on stderr and leave with status 1."""
    console = Console(stderr=True)
    console.print("error:", style="bold red", end=" ")
    console.print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def _what_to_install(command: str, extra: str | None, module: str) -> str:
    package = f"hatstand[{extra}]" if extra else "hatstand"
    ours = module.partition(".")[0] in ("server", "registry", "training", "clients")
    missing = "more than the client" if ours else f"{module!r}, which is not installed"
    return f"`hatstand {command}` needs {missing}: pip install '{package}'"


def _known_errors() -> tuple[type[Exception], ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in _KNOWN)
    return tuple(error for error in found if isinstance(error, type))
