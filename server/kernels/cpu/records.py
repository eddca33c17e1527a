"""What a compiled forward pass is told: structures of sizes and addresses, all int64 but one.

Whoever fills them keeps the arrays alive that the addresses are of.
"""

from __future__ import annotations

import numpy as np

MOST_PARTS = 3  # projections merged into one: q, k and v
INT = np.int64

WEIGHT = np.dtype(
    [
        ("codes", INT),  # NF4: two weights a byte; 0 if the weight is dense
        ("scales", INT),  # NF4: fp32, one for 64 weights
        ("dense", INT),  # bf16 [out_features, in_features]; 0 if it is NF4
        ("out_features", INT),
        ("in_features", INT),
    ]
)
"""A base weight in one of its forms."""

FACTORS = np.dtype(
    [
        ("shrink", INT),  # bf16 [slots, shrink_rows, in_features]
        ("expand", INT),  # bf16 [slots, out_features / 32, expand_rows, 32]
        ("shrink_rows", INT),  # a multiple of 16
        ("expand_rows", INT),
        ("ranks", INT),  # int64 [slots, MOST_PARTS]: how many rows are each part's
        ("ends", INT, (MOST_PARTS,)),  # the column before which each part ends
    ]
)
"""The slots' factors at one site."""

SITE = np.dtype([("weight", WEIGHT), ("factors", FACTORS)])

LAYER = np.dtype(
    [
        ("qkv", SITE),
        ("o", SITE),
        ("gate_up", SITE),
        ("down", SITE),
        ("input_norm", INT),
        ("post_attention_norm", INT),
        ("keys", INT),  # bf16 [blocks, block_size, kv_heads, head_dim]
        ("values", INT),
    ]
)

MODEL = np.dtype(
    [
        ("hidden_size", INT),
        ("intermediate_size", INT),
        ("num_heads", INT),
        ("num_kv_heads", INT),
        ("head_dim", INT),
        ("block_size", INT),
        ("window", INT),  # positions that a query sees; as good as infinite without a window
        ("embedding", INT),  # bf16 [vocab, hidden]
        ("cos", INT),  # bf16 [positions, head_dim], as is the next
        ("sin", INT),
        ("final_norm", INT),
        ("head", WEIGHT),
        ("eps", np.float32),
    ]
)

STEP = np.dtype(
    [
        ("num_rows", INT),
        ("num_samples", INT),
        ("token_ids", INT),  # int64 [rows], as are the next two
        ("positions", INT),
        ("kv_slots", INT),
        ("tables", INT),  # int64 [rows]: the address of each row's block numbers (int64)
        ("sample_rows", INT),  # int64 [samples]
        ("hidden", INT),  # bf16 [rows, hidden], as is the next
        ("normed", INT),
        ("qkv", INT),  # bf16 [rows, query, key and value heads]
        ("attended", INT),  # bf16 [rows, query heads]
        ("gated", INT),  # bf16 [rows, intermediate]
        ("shrunk", INT),  # fp32 [most ranks of a site / 16, rows, 16]
        ("logits", INT),  # bf16 [samples, vocab]
        ("counters", INT),  # zeros: PHASE_BYTES for every phase
    ]
)

RUN = np.dtype([("start", INT), ("stop", INT), ("slot", INT)])
"""Consecutive rows that share an adapter; rows of the bare base are in none."""

ROOM = np.dtype(
    [
        ("weights", INT),  # bf16 [16, most in_features]
        ("sums", INT),  # fp32 [2, rows, 16]
        ("scores", INT),  # fp32 [positions], rounded up to whole vectors
    ]
)
"""A thread's own scratch memory."""
