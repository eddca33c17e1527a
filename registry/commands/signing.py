"""`registry sign`, and whom `registry verify --signature` trusts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .opening import open_registry, refusals
from .options import JsonOption, ReferenceArgument, RegistryOption

if TYPE_CHECKING:
    from registry.opening import AnyRegistry
    from registry.signing import Signature, Trust
    from registry.versions import Version

SignatureOption = Annotated[
    bool, typer.Option("--signature", help="Also want a signature of somebody trusted below.")
]
KeysOption = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="FILE", help="Trust this public key (PEM); may be repeated."),
]
AuthoritiesOption = Annotated[
    list[Path] | None,
    typer.Option("--authority", metavar="FILE", help="Trust certificates of this one (PEM)."),
]
IdentityOption = Annotated[
    str | None,
    typer.Option(metavar="WHO", help="Trust this person or job, whom Sigstore's service knows."),
]
IssuerOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Who says that it is that person.")
]


def sign(
    reference: ReferenceArgument,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A private key (PEM, elliptic curve).")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(envvar="HATSTAND_SIGNING_PASSWORD", help="Of the key.", show_envvar=True),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key's certificate (PEM).")
    ] = None,
    chain: Annotated[
        list[Path] | None,
        typer.Option("--chain", metavar="FILE", help="Certificates up to the authority (PEM)."),
    ] = None,
    identity_token: Annotated[
        str | None,
        typer.Option(envvar="SIGSTORE_ID_TOKEN", help="Without a key: sign through Sigstore."),
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a version: with a key, a key and its certificate, or through Sigstore's service."""
    from registry import console

    with refusals(as_json):
        from registry.signing import Signer
        from registry.signing import sign as attach

        opened = open_registry(registry)
        version = opened.resolve(reference)
        signer = Signer(key, password, certificate, tuple(chain or ()), identity_token)
        digest = attach(opened, version, signer)
    if as_json:
        console.print_json({**console.version_values(version), "signature": digest})
    else:
        console.print_line(f"{version.ref}  {version.digest}  signed by {digest}")


def trust_of(
    keys: list[Path] | None,
    authorities: list[Path] | None,
    identity: str | None,
    issuer: str | None,
) -> Trust:
    """Whom the options name; raises `InvalidReference` when they name nobody."""
    from registry.errors import InvalidReference
    from registry.signing.trust import Identity, Trust

    if (identity is None) != (issuer is None):
        raise InvalidReference("--identity and --issuer belong together", param="identity")
    identities = () if identity is None or issuer is None else (Identity(identity, issuer),)
    trust = Trust(tuple(keys or ()), tuple(authorities or ()), identities)
    if not trust:
        raise InvalidReference(
            "say whom to trust: --key FILE, --authority FILE, or --identity WHO --issuer URL",
            param="key",
        )
    return trust


def check_all(
    registry: AnyRegistry, versions: Iterable[Version], trust: Trust
) -> Mapping[str, Signature | str]:
    """Ref → the signature that counts, or why none does."""
    from registry.errors import SignatureInvalid, SignatureMissing
    from registry.signing import check_signature

    found: dict[str, Signature | str] = {}
    for version in versions:
        try:
            found[version.ref] = check_signature(registry, version, trust)
        except (SignatureMissing, SignatureInvalid) as problem:
            found[version.ref] = problem.message
    return found


def signature_values(outcome: Signature | str) -> dict[str, str]:
    """As JSON."""
    if isinstance(outcome, str):
        return {"problem": outcome}
    return {"by": outcome.by, "digest": outcome.digest}


def print_signatures(found: Mapping[str, Signature | str]) -> None:
    """A line for each version."""
    from registry import console

    for ref, outcome in found.items():
        if isinstance(outcome, str):
            console.print_line(f"not trusted  {outcome}", style="red")
        else:
            console.print_line(f"signed by {outcome.by}  {ref}", style="green")
