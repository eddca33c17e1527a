"""API keys: how they are written, and what they open."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.api.keys import KeyRing, hash_key, parse_keys, read_keys
from server.errors import StartupError
from server.settings import ApiSettings, PrefixScope, Settings, find_keys
from tests.server.api.fakes import make_site, open_client

READER, ADMIN = "reader-key-1", "admin-key-22"
CHAT_ONLY = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = {"model": "sql", **CHAT_ONLY}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_scopes_are_read() -> None:
    plain, admin = parse_keys([READER, f" {ADMIN}:admin+inference "], where="test")
    assert plain.scopes == {"inference"}
    assert admin.scopes == {"inference", "admin"}
    assert not plain.allows("admin")


def test_keys_are_kept_as_hashes_only() -> None:
    [key] = parse_keys([READER], where="test")
    assert READER not in repr(key)
    assert READER.encode() not in key.sha256


def test_bad_entries_are_named_without_the_key() -> None:
    with pytest.raises(StartupError, match="entry 2: unknown scope 'root'"):
        parse_keys([READER, f"{ADMIN}:root"], where="here")
    with pytest.raises(StartupError, match="8 characters") as caught:
        parse_keys(["short"], where="here")
    assert "'short'" not in str(caught.value)


def test_file_and_environment_add_up(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{READER}  # the app\n\n{ADMIN}:admin\n")
    keys = find_keys(file, {"HATSTAND_API_KEYS": "another-key,"})
    ring = KeyRing(keys)
    assert all(ring.find(token) for token in (READER, ADMIN, "another-key"))
    assert ring.find("another-kez") is None


def test_unreadable_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="cannot be read"):
        read_keys(tmp_path / "missing")
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(StartupError, match="holds no key"):
        read_keys(tmp_path / "empty")


def test_other_machines_need_keys_or_a_word() -> None:
    keys = parse_keys([READER], where="test")
    with pytest.raises(StartupError, match=r"--api-keys-file.*--insecure"):
        Settings(base="b", host="0.0.0.0")
    Settings(base="b", host="0.0.0.0", api=ApiSettings(keys=keys))
    Settings(base="b", host="0.0.0.0", insecure=True)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        Settings(base="b", host=host)


@pytest.mark.anyio
async def test_keys_open_their_scope() -> None:
    keys = parse_keys([READER, f"{ADMIN}:admin"], where="test")
    async with open_client(make_site(ApiSettings(keys=keys)).app) as client:
        for headers in ({}, bearer("nobody-knows"), {"Authorization": f"Basic {READER}"}):
            response = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["code"] == "invalid_api_key"
        for token in (READER, ADMIN):
            response = await client.post("/v1/chat/completions", json=CHAT, headers=bearer(token))
            assert response.status_code == 200
        body = {"lora_name": "sql"}
        refused = await client.post("/v1/load_lora_adapter", json=body, headers=bearer(READER))
        assert refused.status_code == 403
        assert refused.json()["error"]["type"] == "permission_error"
        loaded = await client.post("/v1/load_lora_adapter", json=body, headers=bearer(ADMIN))
        assert loaded.status_code == 200
        assert (await client.get("/v1/models")).status_code == 401
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/"):
            assert (await client.get(path)).status_code == 200
        assert "sql" not in (await client.get("/")).text  # names are for holders of a key


def test_eight_characters_are_enough() -> None:
    [key] = parse_keys(["eight--8"], where="test")
    assert key.sha256 == hash_key("eight--8")
    with pytest.raises(StartupError, match="8 characters"):
        parse_keys(["seven-7"], where="test")


def test_patterns_are_read() -> None:
    keys = parse_keys([READER, f"{ADMIN}::acme:sql*+mistral-7b"], where="test")
    assert [key.patterns for key in keys] == [("*",), ("sql*", "mistral-7b")]
    assert (keys[1].tenant, keys[1].scopes) == ("acme", {"inference"})
    with pytest.raises(StartupError, match=r"entry 1: 'sql\[' is no pattern"):
        parse_keys([f"{READER}:inference::sql["], where="here")


@pytest.mark.anyio
async def test_a_key_names_what_matches_its_patterns_and_sees_nothing_else() -> None:
    keys = parse_keys([f"{READER}:inference::sql*", f"{ADMIN}:admin::pi*+fake-base"], where="test")
    site = make_site(ApiSettings(keys=keys))
    base = site.base.name
    async with open_client(site.app, bearer(READER)) as client:
        for model in ("sql", "sql@prod", "sql@2"):
            assert (
                await client.post("/v1/chat/completions", json={**CHAT, "model": model})
            ).is_success
        for model in ("pirate", "pirate@1", base, "nobody"):
            for path in ("/v1/chat/completions", "/tokenize", "/v1/embeddings"):
                body = {"model": model, **({"input": "x"} if "emb" in path else CHAT_ONLY)}
                refused = await client.post(path, json=body)
                assert (refused.status_code, refused.json()["error"]["param"]) == (404, "model")
                assert "pirate" not in refused.text.replace(f"'{model}'", "")
        parts = [{"name": "sql", "scale": 0.5}, {"name": "pirate", "scale": 0.5}]
        mixed = await client.post("/v1/chat/completions", json={**CHAT, "adapters": parts})
        assert (mixed.status_code, mixed.json()["error"]["param"]) == (404, "adapters.1.name")
        header = {"x-hatstand-adapter": "pirate"}
        by_header = await client.post("/v1/chat/completions", json=CHAT, headers=header)
        assert by_header.status_code in (400, 404)
        listed = {card["id"] for card in (await client.get("/v1/models")).json()["data"]}
        assert listed == {"sql", "sql@prod"}
        assert (await client.get("/v1/models/pirate")).status_code == 404
        state = await client.get("/debug/state")
        assert "pirate" not in state.text + (await client.get("/debug/batches")).text
    async with open_client(site.app, bearer(ADMIN)) as client:
        for path in ("load", "unload"):
            body = {"lora_name": "sql"}
            refused = await client.post(f"/v1/{path}_lora_adapter", json=body)
            assert refused.status_code == 404, refused.text
        loaded = await client.post("/v1/load_lora_adapter", json={"lora_name": "pirate"})
        assert loaded.is_success


@pytest.mark.anyio
@pytest.mark.parametrize("prefix_scope", ["adapter", "key"])
async def test_who_shares_prefixes(prefix_scope: PrefixScope) -> None:
    keys = parse_keys([READER, ADMIN], where="test")
    site = make_site(ApiSettings(keys=keys, prefix_scope=prefix_scope))
    async with open_client(site.app) as client:
        for token in (READER, READER, ADMIN):
            asked = await client.post("/v1/chat/completions", json=CHAT, headers=bearer(token))
            assert asked.is_success
    first, second, another = (request.prefix_scope for request in site.engine.requests)
    assert first == second
    assert (another == first) == (prefix_scope == "adapter")
