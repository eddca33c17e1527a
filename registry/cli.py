"""The `registry` commands, also mounted inside `hatstand`.

Exit codes: 0 done, 1 refused or failed, 2 used wrongly. Everything heavy is imported inside the
commands, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .commands import alias as alias_commands
from .commands import canary, keys, webhooks
from .commands.backup import backup, restore
from .commands.completing import adapter_names, aliases, references, rejoin_words
from .commands.diff import diff
from .commands.exchange import export, import_
from .commands.lint import lint
from .commands.opening import open_registry, refusals
from .commands.options import (
    BaseOption,
    ByOption,
    JsonOption,
    NameArgument,
    ReferenceArgument,
    RegistryOption,
    WhyOption,
)
from .commands.replay import HostOption, print_replayed, replay_all
from .commands.serve import serve
from .commands.signing import (
    AuthoritiesOption,
    IdentityOption,
    IssuerOption,
    KeysOption,
    SignatureOption,
    check_all,
    print_signatures,
    sign,
    signature_values,
    trust_of,
)
from .commands.upkeep import collect, withdraw

app = typer.Typer(
    name="registry",
    help="Keep adapters as immutable versions with movable aliases.",
    no_args_is_help=True,
)
app.add_typer(alias_commands.app, name="alias")
app.add_typer(canary.app, name="canary")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")


def main() -> None:
    """The `registry` command."""
    rejoin_words("_REGISTRY_COMPLETE")
    app(prog_name="registry")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A trained adapter's folder.")],
    name: NameArgument,
    alias: Annotated[
        str | None, typer.Option(help="Also point this alias at it.", autocompletion=aliases)
    ] = None,
    base: BaseOption = None,
    by: ByOption = None,
    why: WhyOption = "",
    allow_new_base: Annotated[
        bool, typer.Option("--allow-new-base", help="Let NAME move to another base.")
    ] = False,
    tag: Annotated[
        list[str] | None, typer.Option(help="A word to search the version by; repeatable.")
    ] = None,
    size_limit: Annotated[
        float, typer.Option(min=0, metavar="GIB", help="Refuse adapters larger than this.")
    ] = 4.0,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an adapter and store it as the next version of NAME."""
    from . import console

    with refusals(as_json), console.progress_bars(hidden=as_json) as progress:
        from .base_sources import find_record

        record = None if base is None else find_record(base, progress=progress)
        version = open_registry(registry, make=True).push(
            folder,
            name,
            alias=alias,
            base=record,
            by=by,
            why=why,
            progress=progress,
            allow_new_base=allow_new_base,
            tags=tuple(tag or ()),
            size_limit=int(size_limit * (1 << 30)),
        )
    if as_json:
        console.print_json(console.version_values(version))
        return
    if version.report is not None:
        console.print_warnings(version.report.warnings)
    console.print_line(f"{version.ref}  {version.digest}", style="green")
    if not version.is_new:
        console.print_line("The same bytes were there already: nothing new was stored.")
    if alias is not None:
        console.print_line(f"{name}@{alias} points at it.")


@app.command()
def pull(
    reference: ReferenceArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to.")],
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a version's files into DIR, verified."""
    from . import console

    with refusals(as_json), console.progress_bars(hidden=as_json) as progress:
        version = open_registry(registry).pull(reference, folder, force=force, progress=progress)
    if as_json:
        console.print_json({**console.version_values(version), "folder": str(folder)})
    else:
        console.print_line(f"{version.ref}  {version.digest}  →  {folder}")


@app.command("list")
def list_(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="List this adapter's versions.", autocompletion=adapter_names
        ),
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List adapters, or the versions of one."""
    from . import console

    with refusals(as_json):
        opened = open_registry(registry)
        if name is None:
            adapters = opened.adapters()
            if as_json:
                console.print_json([console.summary_values(adapter) for adapter in adapters])
            else:
                console.print_adapters(adapters)
            return
        versions, aliases = opened.versions(name), opened.aliases(name)
        if as_json:
            console.print_json([console.version_values(version) for version in versions])
        else:
            console.print_versions(versions, aliases)


@app.command()
def show(
    reference: ReferenceArgument,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one version: its files, its hat, and what it was trained on."""
    from . import console

    with refusals(as_json):
        opened = open_registry(registry)
        details = console.version_details(opened, opened.resolve(reference))
    if as_json:
        console.print_json(details)
    else:
        console.print_version(details)


@app.command()
def verify(
    reference: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME[@REF]]",
            help="One version, or all of one adapter.",
            autocompletion=references,
        ),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Also replay receipts on the serving base.")
    ] = False,
    host_base: HostOption = None,
    signature: SignatureOption = False,
    key: KeysOption = None,
    authority: AuthoritiesOption = None,
    identity: IdentityOption = None,
    issuer: IssuerOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hash every stored byte again and repeat the checks of push."""
    from . import console

    with refusals(as_json):
        trust = trust_of(key, authority, identity, issuer) if signature else None
        opened = open_registry(registry)
        with console.progress_bars(hidden=as_json) as progress:
            checks = opened.verify(reference, progress=progress)
        sound = [check.version for check in checks if check.is_sound]
        replayed = replay_all(opened, sound, host_base) if replay else {}
        signed = {} if trust is None else check_all(opened, sound, trust)
    if as_json:
        console.print_json(
            [
                {
                    **console.check_values(check),
                    "receipt": (found := replayed.get(check.version.ref)) and found.to_dict(),
                    "signature": (by := signed.get(check.version.ref)) and signature_values(by),
                }
                for check in checks
            ]
        )
    else:
        console.print_checks(checks)
        print_replayed(replayed)
        print_signatures(signed)
    damaged = [check for check in checks if not check.is_sound]
    if damaged and not as_json:
        console.print_line("Push the original folder again to restore damaged files.")
    is_broken = any(outcome.problem for outcome in replayed.values())
    if damaged or is_broken or any(isinstance(outcome, str) for outcome in signed.values()):
        raise typer.Exit(1)


# In the order of --help: after what everybody needs, which stands above.
app.command()(lint)
app.command()(diff)
app.command("import")(import_)
app.command()(export)
app.command()(sign)
app.command()(withdraw)
app.command("gc")(collect)
app.command()(backup)
app.command()(restore)
app.command()(serve)
