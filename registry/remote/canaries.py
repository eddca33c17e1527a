"""The canaries of a registry behind a URL, with the methods of one in a folder."""

from __future__ import annotations

from registry.canary.canaries import Standing
from registry.canary.documents import read_canary, read_standing
from registry.canary.record import Canary
from registry.canary.reports import Report
from registry.canary.rules import Rules
from registry.references import check_alias, check_name

from .connection import Connection, said


class RemoteCanaries:
    """Who decides, and whether they may, is for the registry's server to say."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(
        self,
        name: str,
        alias: str,
        target: str,
        rules: Rules,
        *,
        expected: str | int | None = None,
        by: str | None = None,  # noqa: ARG002 (the server knows who calls)
        why: str = "",
    ) -> Canary:
        """Try a version behind an alias, by rules; `expected` is where the alias points now."""
        body = {"target": target, "why": why, "rules": rules.model_dump(mode="json")}
        answer = self._connection.call(
            "PUT", _path(name, alias), json=body, headers=_precondition(expected), attempts=1
        )
        return read_canary(said(answer))

    def standing(self, name: str, alias: str) -> Standing:
        """How the newest canary of an alias stands or ended; raises `CanaryNotFound`."""
        return read_standing(said(self._connection.call("GET", _path(name, alias))))

    def running(self) -> list[Canary]:
        """Every canary that runs now, as far as the key may read."""
        answer = said(self._connection.call("GET", "/canaries"))
        return [read_canary(values) for values in answer["canaries"]]

    def advance(
        self,
        name: str,
        alias: str,
        *,
        expected: str | None = None,
        by: str | None = None,  # noqa: ARG002 (the server knows who calls)
        why: str = "",
    ) -> Canary:
        """Go on to the next step now; `expected` is the canary's ETag."""
        path = f"{_path(name, alias)}/advance"
        headers = _precondition(expected)
        answer = self._connection.call("POST", path, json={"why": why}, headers=headers)
        return read_canary(said(answer))

    def abort(
        self,
        name: str,
        alias: str,
        *,
        expected: str | None = None,
        by: str | None = None,  # noqa: ARG002 (the server knows who calls)
        why: str = "",
    ) -> Canary:
        """Give all requests back to the version that the alias points at."""
        answer = self._connection.call(
            "DELETE",
            _path(name, alias),
            params={"why": why},
            headers=_precondition(expected),
            attempts=1,
        )
        return read_canary(said(answer))

    def report(self, name: str, alias: str, report: Report) -> None:
        """Tell how requests went; twice is as good as once."""
        path = f"{_path(name, alias)}/reports"
        self._connection.call("PUT", path, json=report.to_dict(), attempts=1)


def _path(name: str, alias: str) -> str:
    return f"/adapters/{check_name(name)}/aliases/{check_alias(alias)}/canary"


def _precondition(expected: str | int | None) -> dict[str, str]:
    return {"if-match": "*" if expected is None else f'"{expected}"'}
