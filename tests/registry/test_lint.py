from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry import BaseRecord, Hat, Lock, Registry
from registry.adapters import tensor_name
from registry.commit import NewVersion
from registry.errors import (
    InvalidHat,
    InvalidLock,
    PushRefused,
    TemplateFailed,
    TemplateMismatch,
)
from registry.hats import Sampling
from registry.lock import GoldenPrompt
from registry.report import gram, measure
from tests.registry.making import adapter_tensors, make_adapter

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
FIRST_A = tensor_name(0, "q_proj", "lora_A")
FIRST_B = tensor_name(0, "q_proj", "lora_B")
Tensors = dict[str, Any]


def stored(registry: Registry) -> list[Path]:
    blobs = registry.folder / "blobs"
    return [path for path in blobs.rglob("*") if path.is_file()]


def drop(tensors: Tensors) -> None:
    del tensors[FIRST_B]


def misshape(tensors: Tensors) -> None:
    tensors[FIRST_A] = np.ones((5, 16), np.float32)


def transpose(tensors: Tensors) -> None:
    tensors[FIRST_A] = tensors[FIRST_A].T


def poison(tensors: Tensors) -> None:
    tensors[FIRST_A][0, 0] = np.nan


def overflow(tensors: Tensors) -> None:
    tensors[FIRST_B][0, 0] = np.inf


def poison_bfloat16(tensors: Tensors) -> None:
    tensors[FIRST_A] = np.full((4, 16), 0x7FC0, np.uint16)


def integers(tensors: Tensors) -> None:
    tensors[FIRST_A] = np.ones((4, 16), np.int32)


def untrain(tensors: Tensors) -> None:
    for name in tensors:
        if "lora_B" in name:
            tensors[name][:] = 0


def zero_a(tensors: Tensors) -> None:
    for name in tensors:
        if "lora_A" in name:
            tensors[name][:] = 0


def extra(name: str) -> Callable[[Tensors], None]:
    def add(tensors: Tensors) -> None:
        tensors[name] = np.ones(4, np.float32)

    return add


LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "param", "reason"),
    [
        (drop, FIRST_B, "missing"),
        (misshape, FIRST_A, r"\[5, 16\].*\[4, 16\]"),
        (transpose, FIRST_A, "shape"),
        (poison, FIRST_A, "1 of 64 values are NaN"),
        (poison_bfloat16, FIRST_A, "64 of 64 values are NaN"),
        (overflow, FIRST_B, "not finite"),
        (integers, FIRST_A, "is I32"),
        (untrain, FIRST_B, "untrained"),
        (zero_a, FIRST_B, "untrained"),
        (extra(f"{LAYER}.lora_magnitude_vector"), f"{LAYER}.lora_magnitude_vector", "DoRA"),
        (extra(f"{LAYER}.lora_B.bias"), f"{LAYER}.lora_B.bias", "bias"),
        (extra("base_model.model.lm_head.weight"), "base_model.model.lm_head.weight", "shared"),
        (extra(f"{LAYER}.lora_A.weigth"), f"{LAYER}.lora_A.weigth", "did you mean"),
    ],
)
def test_a_wrong_tensor_is_named_and_nothing_stored(
    registry: Registry,
    base: BaseRecord,
    tmp_path: Path,
    change: Callable[[Tensors], None],
    param: str,
    reason: str,
) -> None:
    tensors = adapter_tensors(CONFIG)
    change(tensors)
    folder = make_adapter(tmp_path / "a", tensors=tensors, lock=base)
    with pytest.raises(PushRefused, match=reason) as refusal:
        registry.push(folder, "sql", alias="prod")
    assert refusal.value.param == param
    assert registry.adapters() == []
    assert stored(registry) == []


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "optimizer_model.pt", "training_args.bin.pt", "x.PKL", "x.npz"]
)
def test_pickles_are_refused_by_name(registry: Registry, adapter: Path, name: str) -> None:
    (adapter / name).write_bytes(b"\x80\x04.")
    with pytest.raises(PushRefused, match="run code") as refusal:
        registry.push(adapter, "sql")
    assert refusal.value.param == name
    assert stored(registry) == []


def test_what_a_trainer_saves_beside_an_adapter_is_left_out(
    registry: Registry, adapter: Path
) -> None:
    """A checkpoint of transformers' Trainer is pushed as it is; nothing pickled is stored."""
    before = set(registry.files(registry.push(adapter, "sql")))
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"):
        (adapter / name).write_bytes(b"\x80\x04.")
    (adapter / "README.md").write_text("another version")
    version = registry.push(adapter, "sql")
    assert set(registry.files(version)) == {*before, "README.md"}


@pytest.mark.parametrize("name", ["a\\b", "-rf", "a\nb", "a:b", "é", "a" * 200, "\udcff"])
def test_odd_names_are_refused(registry: Registry, adapter: Path, name: str) -> None:
    (adapter / name).write_text("")
    with pytest.raises(PushRefused, match="not accepted") as refusal:
        registry.push(adapter, "sql")
    refusal.value.message.encode()  # printable on any terminal


def test_missing_doubled_and_irregular_files_are_refused(
    registry: Registry, adapter: Path, tmp_path: Path
) -> None:
    (adapter / "other.safetensors").write_text("")
    with pytest.raises(PushRefused, match="alone"):
        registry.push(adapter, "sql")
    (adapter / "other.safetensors").unlink()
    (adapter / "hat.json").mkdir()
    with pytest.raises(PushRefused, match="regular file"):
        registry.push(adapter, "sql")
    (adapter / "hat.json").rmdir()
    os.mkfifo(adapter / "README.md")
    with pytest.raises(PushRefused, match="regular file"):
        registry.push(adapter, "sql")
    (adapter / "README.md").unlink()
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(PushRefused, match="is it a PEFT adapter") as refusal:
        registry.push(adapter, "sql")
    assert refusal.value.param == "adapter_model.safetensors"
    with pytest.raises(PushRefused, match="not a folder"):
        registry.push(tmp_path / "nowhere", "sql")


def test_oversized_and_truncated_files_are_refused(registry: Registry, adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    with pytest.raises(PushRefused, match="over the limit of 1000") as refusal:
        registry.push(adapter, "sql", size_limit=1000)
    assert (refusal.value.code, refusal.value.param) == ("too_large", weights.name)
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(PushRefused, match="truncated") as refusal:
        registry.push(adapter, "sql")
    assert refusal.value.param == weights.name
    weights.write_bytes(struct.pack("<Q", 1 << 40) + content[8:])
    with pytest.raises(PushRefused, match="claims"):
        registry.push(adapter, "sql")
    weights.write_bytes(content)
    with (adapter / "adapter_config.json").open("ab") as file:
        file.truncate(17 << 20)
    with pytest.raises(PushRefused, match="over 16 MiB"):
        registry.push(adapter, "sql")
    assert stored(registry) == []


def test_a_bad_hat_lock_or_template_is_refused(registry: Registry, adapter: Path) -> None:
    (adapter / "hat.json").write_text('{"stops": []}')
    with pytest.raises(InvalidHat, match="did you mean 'stop'"):
        registry.push(adapter, "sql")
    (adapter / "hat.json").unlink()
    (adapter / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(TemplateFailed):
        registry.push(adapter, "sql")
    (adapter / "chat_template.jinja").unlink()
    (adapter / "lock.json").write_text('{"format": 1}')
    with pytest.raises(InvalidLock) as refusal:
        registry.push(adapter, "sql")
    assert refusal.value.param == "base"
    assert stored(registry) == []


@pytest.mark.parametrize(("key", "highest"), [("temperature", 2), ("repetition_penalty", 10)])
def test_no_hat_brings_more_than_a_request_may_ask_for(
    registry: Registry, adapter: Path, key: str, highest: int
) -> None:
    Hat(sampling=Sampling(**{key: highest + 0.5})).write(adapter)
    with pytest.raises(InvalidHat, match=f"set it to {highest} or less") as refusal:
        registry.push(adapter, "sql")
    assert refusal.value.param == f"sampling.{key}"
    assert stored(registry) == []
    Hat(sampling=Sampling(**{key: highest})).write(adapter)
    registry.push(adapter, "sql")


@pytest.mark.parametrize(
    ("stops", "param"), [(("a",) * 17, "stop"), (("fine", "a" * 513), "stop.1")]
)
def test_no_hat_brings_more_stop_strings_than_a_request_may(
    registry: Registry, adapter: Path, stops: tuple[str, ...], param: str
) -> None:
    Hat(stop=stops).write(adapter)
    with pytest.raises(InvalidHat, match="may have more than") as refusal:
        registry.push(adapter, "sql")
    assert refusal.value.param == param
    assert stored(registry) == []
    Hat(stop=tuple(stop[:512] for stop in stops[:16])).write(adapter)
    registry.push(adapter, "sql")


def test_a_version_of_before_hats_had_limits_is_read_and_sound(
    registry: Registry, adapter: Path
) -> None:
    Hat(sampling=Sampling(temperature=1)).write(adapter)
    fine = registry.push(adapter, "sql")
    with registry.staging.stage() as staging:
        hat = staging.add_bytes(b'{"sampling": {"temperature": 3, "top_p": 0.5}}')
        layers = tuple(
            replace(layer, digest=hat.digest, size=hat.size) if layer.title == "hat.json" else layer
            for layer in fine.manifest.layers
        )
        manifest = replace(fine.manifest, layers=layers)
        staging.add_bytes(manifest.to_bytes())
        staging.publish(registry.blobs)
    old, _ = registry.commit("sql", NewVersion(manifest, fine.base_fingerprint, "ann"))
    sampling = registry.hat(old).sampling
    assert sampling == Sampling(temperature=3, top_p=0.5)
    assert sampling.within_limits() == Sampling(temperature=2, top_p=0.5)
    assert [check.is_sound for check in registry.verify(old.ref)] == [True]


def rewrite_lock(adapter: Path, **changes: object) -> None:
    lock = Lock.read(adapter)
    assert lock is not None
    lock.model_copy(update=changes).write(adapter)


def test_files_must_be_those_the_lock_was_written_for(registry: Registry, adapter: Path) -> None:
    hat = Hat(chat_template="one")
    hat.write(adapter)
    rewrite_lock(adapter, template_sha256=hat.template_sha256)
    registry.push(adapter, "sql")
    Hat(chat_template="two").write(adapter)
    with pytest.raises(PushRefused, match="not the template") as refusal:
        registry.push(adapter, "sql")
    assert refusal.value.param == "chat_template.jinja"
    hat.write(adapter)
    rewrite_lock(adapter, rank=3)
    with pytest.raises(PushRefused, match="rank 3"):
        registry.push(adapter, "sql")
    rewrite_lock(adapter, rank=4, adapter_dtype="float16")
    with pytest.raises(PushRefused, match="float16"):
        registry.push(adapter, "sql")


def test_a_hat_must_render_as_in_training(registry: Registry, adapter: Path) -> None:
    template = "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}"
    golden = GoldenPrompt(
        messages=({"role": "user", "content": "hi"},),
        token_ids=(1, 2),
        text="<s>[Answer.][hi]",
        bos_token="<s>",
    )
    Hat(chat_template=template, system_prompt="Answer.").write(adapter)
    rewrite_lock(adapter, golden=(golden,))
    registry.push(adapter, "sql")
    Hat(chat_template=template, system_prompt="Answer!").write(adapter)
    with pytest.raises(TemplateMismatch, match=r"character 10 on: '!\]\[hi\]'"):
        registry.push(adapter, "sql")
    Hat(system_prompt="Answer!").write(adapter)  # the base's own template: for the server to check
    registry.push(adapter, "sql")


def test_a_refused_configuration_names_its_key(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "a", lock=base, use_rslora=True)
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**values, "use_dora": True}))
    with pytest.raises(PushRefused, match="cannot be hot-loaded because") as refusal:
        registry.push(folder, "sql")
    assert (refusal.value.code, refusal.value.param) == ("adapter_config_refused", "use_dora")
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(PushRefused, match="not JSON"):
        registry.push(folder, "sql")


def test_warnings_tell_what_to_look_at(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    tensors = adapter_tensors(CONFIG)
    tensors[FIRST_B] *= 100
    tensors[tensor_name(1, "v_proj", "lora_B")][:] = 0
    folder = make_adapter(tmp_path / "a", tensors=tensors, lock=base)
    (folder / "tokenizer.json").write_text("{}")
    (folder / ".gitattributes").write_text("")
    (folder / "checkpoint-10").mkdir()
    report = registry.push(folder, "sql").report
    assert report is not None
    zero, outlier, left_out = report.warnings
    assert "1 of 4 updates are zero" in zero
    assert FIRST_B in outlier
    assert "times the median" in outlier
    assert left_out == (
        "not stored: checkpoint-10, tokenizer.json (the base's own tokenizer is used)"
    )
    assert [module.norm == 0 for module in report.modules] == [False, False, False, True]
    assert (report.num_tensors, report.num_parameters) == (8, 2 * (4 * 32 + 4 * 24))


def test_norm_and_effective_rank_are_those_of_the_update() -> None:
    generator = np.random.default_rng(0)
    lora_a, lora_b = generator.standard_normal((5, 40)), generator.standard_normal((30, 5))
    lora_b[:, 3] = 0
    ones = gram(np.ones((3, 8), np.float32))
    grams = [(gram(lora_a), gram(lora_b.T)), (gram(lora_a), gram(lora_b.T * 0)), (ones, ones)]
    report, zero, one = measure(["x", "y", "z"], grams, [-0.5, 2, 1])
    singular = np.linalg.svd(lora_b @ lora_a, compute_uv=False)
    shares = singular[:4] / singular[:4].sum()
    assert report.norm == pytest.approx(0.5 * np.linalg.norm(singular))
    assert report.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert (zero.norm, zero.effective_rank) == (0, 0)
    assert one.effective_rank == pytest.approx(1, abs=1e-5)


def test_what_peft_saves_is_accepted(registry: Registry, base: BaseRecord, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    import warnings

    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from tests.registry.making import TINY_CONFIG

    config = peft.LoraConfig(
        r=4,
        target_modules="all-linear",
        rank_pattern={r"layers\.1\..*": 2},
        use_rslora=True,
        layers_to_transform=None,
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = peft.get_peft_model(MistralForCausalLM(MistralConfig(**TINY_CONFIG)), config)
        model.save_pretrained(tmp_path / "saved")
    version = registry.push(tmp_path / "saved", "all", base=base)
    assert version.report is not None
    assert version.report.warnings == ()
    assert len(version.report.projections) == 7


@pytest.mark.parametrize(
    ("named", "is_other"),
    [("org/other-base", True), ("/models/Tiny-Base/", False), (None, False), (7, False)],
)
def test_another_bases_name_is_warned_of(
    registry: Registry, base: BaseRecord, tmp_path: Path, named: object, is_other: bool
) -> None:
    folder = make_adapter(tmp_path / "adapter", base_model_name_or_path=named)
    report = registry.push(folder, "sql", base=base).report
    assert report is not None
    assert bool(report.warnings) == is_other
    assert all("'org/other-base'" in warning for warning in report.warnings)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e25])
def test_numbers_beyond_what_float32_can_square_are_measured_too(scale: float) -> None:
    factor = (np.random.default_rng(0).standard_normal((3, 50)) * scale).astype(np.float32)
    exact = factor.astype(np.float64)
    np.testing.assert_allclose(gram(factor), exact @ exact.T, rtol=1e-5, atol=1e-6 * scale**2)


def test_ranks_may_differ_between_modules() -> None:
    generator = np.random.default_rng(0)
    pairs = [
        (generator.standard_normal((rank, 40)), generator.standard_normal((30, rank)))
        for rank in (2, 7)
    ]
    grams = [(gram(lora_a), gram(lora_b.T)) for lora_a, lora_b in pairs]
    for report, (lora_a, lora_b) in zip(measure(["x", "y"], grams, [1, 1]), pairs, strict=True):
        assert report.norm == pytest.approx(np.linalg.norm(lora_b @ lora_a))
        assert 1 < report.effective_rank <= len(lora_a)
