from __future__ import annotations

import json
import math
import warnings
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.adapters import PROJECTIONS, AdapterSpec, module_key, tensor_name
from registry.errors import ConfigRefused
from tests.registry.making import TINY_CONFIG


def config(**more: Any) -> dict[str, Any]:
    return {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], **more}


def parse(**more: Any) -> AdapterSpec:
    return AdapterSpec.from_config(config(**more), TINY_CONFIG)


def test_a_plain_adapter() -> None:
    spec = parse(target_modules=["v_proj", "q_proj", "down_proj"])
    assert set(spec.modules) == {(n, p) for n in (0, 1) for p in ("q_proj", "v_proj", "down_proj")}
    module = spec.modules[1, "v_proj"]
    assert (module.rank, module.alpha, module.scaling) == (8, 16, 2.0)
    assert (module.in_features, module.out_features) == (16, 8)
    assert spec.max_rank == 8
    assert spec.projections == ("q_proj", "v_proj", "down_proj")


def test_names_and_shapes_are_pefts() -> None:
    spec = parse(target_modules=["gate_proj"], layers_to_transform=[1])
    name = "base_model.model.model.layers.1.mlp.gate_proj"
    assert spec.tensors == {f"{name}.lora_A.weight": (8, 16), f"{name}.lora_B.weight": (24, 8)}
    assert spec.tensor_name(1, "gate_proj", "lora_A") == f"{name}.lora_A.weight"


def test_rank_stabilized_scaling() -> None:
    assert parse(use_rslora=True).modules[0, "q_proj"].scaling == 16 / math.sqrt(8)


@cache
def peft_modules(text: str) -> dict[str, tuple[int, float, tuple[int, int]]]:
    """What PEFT itself makes of a configuration: module → (rank, scaling, features)."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    values = json.loads(text)
    del values["peft_type"]
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # PEFT calls what transformers has since renamed
        model = MistralForCausalLM(MistralConfig(**TINY_CONFIG))
        peft_model = get_peft_model(model, LoraConfig(**values))
    found = {}
    for name, module in peft_model.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            shape = (module.in_features, module.out_features)
            found[name] = (module.r["default"], module.scaling["default"], shape)
    return found


def assert_like_peft(values: dict[str, Any]) -> None:
    expected: dict[str, Any] | None
    try:
        expected = peft_modules(json.dumps(values))
    except ValueError:
        expected = None
    try:
        spec = AdapterSpec.from_config(values, TINY_CONFIG)
    except ConfigRefused:
        assert expected is None
        return
    ours = {
        module_key(layer, projection): (
            module.rank,
            module.scaling,
            (module.in_features, module.out_features),
        )
        for (layer, projection), module in spec.modules.items()
    }
    assert ours == expected


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": "All-Linear", "exclude_modules": ["o_proj"]},
        {"target_modules": list(PROJECTIONS), "use_rslora": True, "rank_pattern": {"q_proj": 2}},
        {"target_modules": r".*\.[01]\.self_attn\.[qk]_proj"},
        {"target_modules": r"self_attn\.q_proj"},
        {"target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"]},
        {"target_modules": ["model.layers.0.self_attn.q_proj"], "layers_to_transform": [1]},
        {"layers_to_transform": 1},
        {"layers_to_transform": 0, "layers_pattern": "layers"},
        {"layers_to_transform": [0], "layers_pattern": ["h", "layers"]},
        {"layers_to_transform": [0], "layers_pattern": "blocks"},
        {"layers_to_transform": []},
        {"layers_to_transform": [7]},
        {"target_modules": "q_proj", "layers_to_transform": [1]},
        {"target_modules": list(PROJECTIONS), "exclude_modules": r".*mlp.*"},
        {"rank_pattern": {"layers.1.self_attn.q_proj": 3, "q_proj": 5}},
        {"rank_pattern": {"q_proj": 5, "layers.1.self_attn.q_proj": 3}},
        {"rank_pattern": {"^model.layers.0.*": 3}, "alpha_pattern": {r"\d.self_attn.q_proj": 7}},
        {"rank_pattern": {"proj": 3}},
        {"target_modules": ["gate_proj", "up"], "alpha_pattern": {"gate_proj|up_proj": 1.5}},
        {"target_modules": ["nothing"]},
        {"target_modules": []},
        {"target_modules": None},
    ],
)
def test_modules_ranks_and_scales_are_pefts(more: dict[str, Any]) -> None:
    pytest.importorskip("peft")
    assert_like_peft(config(**more))


PATTERNS = st.sampled_from(
    [
        "q_proj",
        "mlp.up_proj",
        "layers.0.mlp.down_proj",
        r"layers\.\d+\.mlp\..*",
        "^model.layers.1.*",
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    targets=st.lists(st.sampled_from([*PROJECTIONS, "0.mlp.up_proj"]), min_size=1, max_size=4),
    ranks=st.dictionaries(PATTERNS, st.integers(1, 9), max_size=3),
    alphas=st.dictionaries(PATTERNS, st.integers(1, 9), max_size=3),
    layers=st.none() | st.lists(st.integers(0, 2), max_size=2),
    stabilized=st.booleans(),
)
def test_any_combination_is_pefts(
    targets: list[str],
    ranks: dict[str, int],
    alphas: dict[str, int],
    layers: list[int] | None,
    stabilized: bool,
) -> None:
    pytest.importorskip("peft")
    values = config(
        target_modules=targets,
        rank_pattern=ranks,
        alpha_pattern=alphas,
        layers_to_transform=layers,
        use_rslora=stabilized,
    )
    assert_like_peft(values)


@pytest.mark.parametrize("init", ["gaussian", "eva", "orthogonal", "mica", True, False])
def test_what_peft_saves_by_default_is_accepted(init: str | bool) -> None:
    peft = pytest.importorskip("peft")
    values = peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()
    values["target_modules"] = list(values["target_modules"])
    values["init_lora_weights"] = init
    assert AdapterSpec.from_config(values, TINY_CONFIG).warnings == ()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("peft_type", "VERA", "only 'LORA'"),
        ("peft_type", None, "only 'LORA'"),
        ("task_type", "SEQ_CLS", "CAUSAL_LM"),
        ("bias", "lora_only", "bias='none'"),
        ("use_dora", True, "cannot be hot-loaded because DoRA"),
        ("lora_bias", True, "cannot be hot-loaded because"),
        ("init_lora_weights", "pissa", "base weights"),
        ("init_lora_weights", "pissa_niter_16", "base weights"),
        ("init_lora_weights", "olora", "base weights"),
        ("init_lora_weights", "corda", "base weights"),
        ("init_lora_weights", "loftq", "base weights"),
        ("init_lora_weights", "lora_ga", "base weights"),
        ("init_lora_weights", "newest", "unknown"),
        ("init_lora_weights", 3, "unknown"),
        ("loftq_config", {"loftq_bits": 4}, "LoftQ"),
        ("modules_to_save", ["lm_head"], "whole modules"),
        ("trainable_token_indices", [0], "embeddings"),
        ("trainable_token_indices", 0, "embeddings"),
        ("target_parameters", ["experts.w"], "seven projections"),
        ("use_bdlora", {"nblocks": 2}, "silently becomes plain LoRA"),
        ("kasa_config", {"beta": 1}, "silently becomes plain LoRA"),
        ("alora_invocation_tokens", [1], "part of the tokens"),
        ("layer_replication", [[0, 2]], "stack of layers"),
        ("fan_in_fan_out", True, "transposed"),
        ("use_qalora", True, "GPTQ"),
        ("use_something_new", True, "unknown key"),
        ("target_modules", ["q_proj", "lm_head"], "lm_head"),
        ("target_modules", ["embed_tokens"], "embed_tokens"),
        ("target_modules", ".*", "lm_head"),
        ("target_modules", 3, "list of strings"),
        ("target_modules", "(", "not a usable pattern"),
        ("rank_pattern", {"(": 3}, "not a usable pattern"),
        ("rank_pattern", {"q_proj": 0}, "positive integer"),
        ("rank_pattern", [], None),
        ("rank_pattern", [1], "must map"),
        ("alpha_pattern", {"q_proj": "8"}, "finite number"),
        ("alpha_pattern", {"a" * 2000: 8}, "longer than"),
        ("alpha_pattern", {r"(\w+)\1": 8}, "groupref is not supported"),
        ("rank_pattern", {str(number): 8 for number in range(5000)}, "over 4096 patterns"),
        ("rank_pattern", {rf"(\w|.|\w)*!{n}": 2 for n in range(4000)}, "too many steps"),
        ("target_modules", "(?i)Q_PROJ", "flags"),
        ("layers_pattern", "layers|blocks", "in parentheses"),
        ("layers_to_transform", ["1"], "integer"),
        ("r", 0, "positive integer"),
        ("r", True, "positive integer"),
        ("lora_alpha", float("nan"), "finite number"),
        ("lora_alpha", 0, "finite number"),
        ("lora_alpha", 10**400, "finite number"),
        ("use_rslora", "yes", "true or false"),
    ],
)
def test_what_cannot_be_served_is_refused_by_key(key: str, value: Any, reason: str | None) -> None:
    if reason is None:
        assert parse(**{key: value}).modules
        return
    with pytest.raises(ConfigRefused, match=reason) as refusal:
        parse(**{key: value})
    assert refusal.value.param == key


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules"])
def test_a_pattern_that_backtracks_for_years_is_answered(key: str) -> None:
    values = {"target_modules": ["q_proj", "v_proj"], key: r"((\w+)+\.?)+!|.*q_proj"}
    modules = parse(**values).modules
    assert {projection for _, projection in modules} == (
        {"q_proj"} if key == "target_modules" else {"v_proj"}
    )


def test_a_misspelled_key_names_the_nearest() -> None:
    with pytest.raises(ConfigRefused, match="did you mean 'use_rslora'"):
        parse(use_rslor=True)


def test_an_unknown_key_that_is_off_only_warns() -> None:
    (warning,) = parse(use_something_new=False).warnings
    assert "use_something_new" in warning


def test_tensor_names_do_not_need_a_spec() -> None:
    assert tensor_name(3, "o_proj", "lora_B").endswith("layers.3.self_attn.o_proj.lora_B.weight")
