"""The canaries of one registry: begun, reported on, judged and ended, each in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from registry.aliases import AliasMove, check_protection
from registry.catalog import Catalog
from registry.errors import CanaryNotFound, InvalidReference
from registry.identity import whoami
from registry.references import Reference, check_alias, check_name, written_under
from registry.versions import find_version

from . import ending, moves
from .judging import Evidence, Judgement, judge
from .record import Canary
from .reports import Report, gather, write_report
from .rows import find_newest, find_running, list_running
from .rules import Rules

DECIDER = "canary rules"  # who it was, in the history, where nobody decided by hand


@dataclass(frozen=True)
class Standing:
    """How a canary stands: what is known of its step, and what the rules say to that."""

    canary: Canary
    evidence: Evidence
    judgement: Judgement


class Canaries:
    """Every method may be called from any thread, and by several processes at once."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def start(
        self,
        name: str,
        alias: str,
        target: str,
        rules: Rules,
        *,
        expected: str | int | None = None,
        by: str | None = None,
        why: str = "",
        may_move_protected: bool = True,
    ) -> Canary:
        """Try a version behind an alias, by rules; `expected` is where the alias points now."""
        check_name(name)
        check_alias(alias)
        reference = Reference.parse(written_under(name, target))
        move = AliasMove(by or whoami(), why, expected, may_move_protected)
        if reference.name != name:
            raise InvalidReference(
                f"{name}@{alias} can try versions of {name} only, not {reference}", param="target"
            )
        with self._catalog.write() as connection:
            version = find_version(connection, reference)
            return moves.start(connection, alias, version, rules, move)

    def standing(self, name: str, alias: str) -> Standing:
        """How the newest canary of an alias stands or ended; raises `CanaryNotFound`."""
        with self._catalog.read() as connection:
            find_version(connection, Reference(name))
            newest = find_newest(connection, name, alias)
            if newest is None:
                raise CanaryNotFound(f"{name}@{alias} has had no canary", param="alias")
            evidence = gather(connection, newest)
        judgement = judge(newest.rules, newest.step, evidence)
        return Standing(newest, evidence, judgement)

    def running(self) -> list[Canary]:
        """Every canary that runs now."""
        with self._catalog.read() as connection:
            return list_running(connection)

    def advance(
        self,
        name: str,
        alias: str,
        *,
        expected: str | None = None,
        by: str | None = None,
        why: str = "",
        may_move_protected: bool = True,
    ) -> Canary:
        """Go on to the next step now, whatever the rules still wait for; `expected`: its ETag."""
        move = AliasMove(by or whoami(), why, None, may_move_protected)
        with self._catalog.write() as connection:
            running = moves.check_running(connection, name, alias, expected)
            return moves.advance(connection, running, move)

    def abort(
        self,
        name: str,
        alias: str,
        *,
        expected: str | None = None,
        by: str | None = None,
        why: str = "",
        may_move_protected: bool = True,
    ) -> Canary:
        """Give all requests back to the version that the alias points at."""
        move = AliasMove(by or whoami(), why, None, may_move_protected)
        with self._catalog.write() as connection:
            running = moves.check_running(connection, name, alias, expected)
            check_protection(connection, name, alias, move)
            ending.abort(connection, running, by=move.by, why=move.why)
        return self.standing(name, alias).canary

    def report(self, name: str, alias: str, report: Report) -> Canary | None:
        """Take a server's word on how requests went; the canary that runs now, if one does."""
        with self._catalog.write() as connection:
            running = find_running(connection, name, alias)
            if running is not None:
                write_report(connection, running, report)
            return running

    def decide(self) -> list[Canary]:
        """Judge every running canary by its rules; returns those that were changed.

        Any number of processes may do this: each decision is taken anew under the writers' lock,
        where the next one finds a step that has just begun.
        """
        with self._catalog.read() as connection:
            due = [
                each for each in list_running(connection) if _judged(connection, each) is not None
            ]
        decided = [self._carry_out(each) for each in due]
        return [each for each in decided if each is not None]

    def _carry_out(self, seen: Canary) -> Canary | None:
        with self._catalog.write() as connection:
            running = find_running(connection, seen.name, seen.alias)
            judgement = None if running is None else _judged(connection, running)
            if running is None or judgement is None:
                return None
            if judgement.action != "abort":
                return moves.advance(connection, running, AliasMove(DECIDER, judgement.why))
            ending.abort(connection, running, by=DECIDER, why=judgement.why)
        return self.standing(seen.name, seen.alias).canary


def _judged(connection: Connection, running: Canary) -> Judgement | None:
    """What is to be done with a canary now; None for nothing."""
    judgement = judge(running.rules, running.step, gather(connection, running))
    return None if judgement.action == "wait" else judgement
