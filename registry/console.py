"""What the `registry` commands print: tables for people, JSON for programs, bars while waiting."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from .alias_history import AliasEvent
    from .canonical import Progress as ProgressCallback
    from .collection import Collection, CollectionDocument
    from .errors import RegistryError
    from .opening import AnyRegistry
    from .summaries import AdapterSummary
    from .verification import VersionCheck
    from .versions import Version

_SHORT = len("sha256:") + 12  # a prefix this long is still a reference
_LABELS = len("base fingerprint")
_WIDE = 400  # columns for pipes and files: programs that read them do not want lines folded


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def print_line(text: str, style: str = "") -> None:
    """One line on standard output, as it is."""
    _out().print(escape(text), style=style, soft_wrap=True)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table of text."""
    table = _table(*columns)
    for row in rows:
        table.add_row(*map(escape, row))
    _out().print(table)


def print_warnings(warnings: Sequence[str]) -> None:
    """What the lint wants a person to look at, on standard error."""
    for warning in warnings:
        _err().print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def print_error(error: RegistryError, *, as_json: bool) -> None:
    """Why a command was refused: on standard error, or as JSON where JSON was asked for."""
    if as_json:
        values = {"message": error.message, "code": error.code, "param": error.param}
        print_json({"error": values})
    else:
        _err().print(f"[red]error:[/] {escape(error.message)}", soft_wrap=True)


@contextlib.contextmanager
def progress_bars(*, hidden: bool) -> Iterator[ProgressCallback]:
    """A callback that draws a bar for each piece of work, on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    console = _err()
    with Progress(
        *columns, console=console, transient=True, disable=hidden or not console.is_terminal
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(escape(what), total=total)
            bars.update(tasks[what], completed=done, total=total, visible=done < total)

        yield report


def print_adapters(adapters: Sequence[AdapterSummary]) -> None:
    """One row per adapter."""
    if not adapters:
        print_line("The registry is empty. Push an adapter: registry push DIR NAME")
        return
    table = _table("adapter", "newest", "versions", "aliases", "size", "base", "pushed")
    for adapter in adapters:
        aliases = ", ".join(f"{alias}→{number}" for alias, number in adapter.aliases.items())
        newest = adapter.newest
        table.add_row(
            adapter.name,
            str(newest.number),
            str(adapter.num_versions),
            aliases or "–",
            _size(newest.size),
            newest.base_fingerprint[:_SHORT],
            _time(newest.created_at),
        )
    _out().print(table)


def print_versions(versions: Sequence[Version], aliases: Mapping[str, Version]) -> None:
    """One row per version of one adapter."""
    table = _table("version", "digest", "aliases", "size", "base", "pushed", "by")
    for version in versions:
        table.add_row(
            version.ref,
            version.digest[:_SHORT],
            ", ".join(_pointing(version, aliases)) or "–",
            _size(version.size),
            version.base_fingerprint[:_SHORT],
            _time(version.created_at),
            escape(version.created_by),
        )
    _out().print(table)


def print_version(details: Mapping[str, Any]) -> None:
    """Everything about one version, a line each; long values are not folded, to be copied."""
    for key, value in details.items():
        if key == "files":
            lines = [f"{file['name']}  {_size(file['size'])}" for file in value]
        elif isinstance(value, Mapping):
            lines = [f"{name}: {_text(item)}" for name, item in value.items() if item is not None]
        else:
            lines = [_text(value)] if value else []
        label = key.replace("_", " ")
        for number, line in enumerate(lines):
            shown = label if number == 0 else ""
            _out().print(f"[bold]{shown:<{_LABELS}}[/] {escape(line)}", soft_wrap=True)


def print_history(events: Sequence[AliasEvent]) -> None:
    """One row per move of an alias and decision about its canary, oldest first."""
    table = _table("when", "what", "from", "to", "share", "digest", "by", "why")
    for event in events:
        table.add_row(
            _time(event.at),
            event.kind,
            "–" if event.from_number is None else str(event.from_number),
            str(event.to_number),
            "–" if event.weight is None else f"{event.weight}%",
            event.to_digest[:_SHORT],
            escape(event.by),
            escape(event.why) or "–",
        )
    _out().print(table)


def print_checks(checks: Sequence[VersionCheck]) -> None:
    """One line per verified version, with what is wrong under it."""
    for check in checks:
        if check.is_sound:
            _out().print(f"[green]sound[/]    {check.version.ref}  {check.version.digest}")
            print_warnings(check.report.warnings if check.report else ())
        else:
            _out().print(f"[red]damaged[/]  {check.version.ref}  {check.version.digest}")
            for problem in check.problems:
                _out().print(f"         {escape(problem)}", soft_wrap=True)


def version_values(version: Version) -> dict[str, Any]:
    """A version as JSON."""
    values: dict[str, Any] = {
        "ref": version.ref,
        "name": version.name,
        "version": version.number,
        "digest": version.digest,
        "size": version.size,
        "base_fingerprint": version.base_fingerprint,
        "created_at": version.created_at,
        "created_by": version.created_by,
        "files": [
            {"name": name, "digest": blob.digest, "size": blob.size}
            for name, blob in version.manifest.files.items()
        ],
    }
    if version.report is not None:
        values["is_new"] = version.is_new
        values["report"] = dataclasses.asdict(version.report)
    return values


def version_details(registry: AnyRegistry, version: Version) -> dict[str, Any]:
    """A version with its aliases, its hat and the telling parts of its lock."""
    lock, hat = registry.lock(version), registry.hat(version)
    pinned = lock.model_dump(mode="json", exclude_defaults=True, exclude={"base", "golden"})
    return {
        **version_values(version),
        "aliases": _pointing(version, registry.aliases(version.name)),
        "base": {
            "name": lock.base.name,
            "source": lock.base.source,
            "revision": lock.base.revision,
            "quantization": lock.base.quantization,
        },
        "hat": hat.model_dump(mode="json", exclude_defaults=True),
        "lock": pinned,
    }


def summary_values(adapter: AdapterSummary) -> dict[str, Any]:
    """An adapter as JSON."""
    return {
        "name": adapter.name,
        "created_at": adapter.created_at,
        "num_versions": adapter.num_versions,
        "aliases": dict(adapter.aliases),
        "newest": version_values(adapter.newest),
    }


def check_values(check: VersionCheck) -> dict[str, Any]:
    """The outcome of one verification as JSON."""
    return {
        "ref": check.version.ref,
        "digest": check.version.digest,
        "is_sound": check.is_sound,
        "problems": list(check.problems),
        "report": None if check.report is None else dataclasses.asdict(check.report),
    }


def collection_values(collection: Collection) -> CollectionDocument:
    """What a collection did, as JSON."""
    return {
        "is_dry_run": collection.is_dry_run,
        "collected": [{"digest": blob.digest, "size": blob.size} for blob in collection.collected],
        "spared": [{"digest": blob.digest, "size": blob.size} for blob in collection.spared],
        "num_kept": collection.num_kept,
        "freed": collection.freed,
    }


def _pointing(version: Version, aliases: Mapping[str, Version]) -> list[str]:
    return [alias for alias, target in aliases.items() if target.digest == version.digest]


def _out() -> Console:
    return _console(sys.stdout)


def _err() -> Console:
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _WIDE)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _time(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    text = str(value)
    # What was pushed may hold line breaks and terminal control codes.
    return text if text.isprintable() else json.dumps(text)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
