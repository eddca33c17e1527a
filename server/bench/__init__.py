"""`hatstand bench`: this engine against transformers + peft, same weights, same work, same run."""

from server.bench.command import run

__all__ = ["run"]
