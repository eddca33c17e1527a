"""The step's kernels in Triton; each has its plain-torch twin of the same name in `twins`.

    from server.kernels.triton.attention import decode_attention   # needs triton and a device
    from server.kernels.triton.twins.attention import decode_attention   # needs torch alone

What all of them promise: no host read, no synchronisation, grids fixed by tensor shapes alone, so
that one CUDA graph per batch bucket serves any mix. Everything that differs from step to step
(slots, tables, lengths, sampling parameters) lies in device tensors that the caller rewrites in
place. Results are allocated with `torch.empty`, which a graph's memory pool captures. No float
atomics: equal inputs give equal bits, and a row's result never depends on the other rows' values.
For the same bits in every bucket and company use `add_lora_invariant`, and one number of `splits`
for attention; a delta has the same bits in every bucket, too. On Hopper every kernel starts while
the one before it ends (`early_launch`).

In a decode step a product's LoRA is one launch more: `shrink_beside` runs while the product does,
and whoever reads the product (norm, rotation, activation) adds its `LoraDelta`. The product must
release what follows it only when its own inputs are there, as those of `server.kernels.cuda` do and
kernels that take no part in early launches.

Prompts of one adapter, long enough for products that unpack their weights, have it inside them
(`adapted_product`): what makes such a product's input leaves `room` behind each row.

Rows that pad a bucket: slot none (in no tile), `kv_slots` -1, `context_lengths` 0. They come out as
zeros or untouched, never as NaN.

| module | functions |
|---|---|
| `lora` | `add_lora(y, x, site, tiles)`: `y` += each row's own adapter; `add_lora_invariant` |
| `lora` | `shrink_beside(x, site, tiles, row_slots)`: a `delta.LoraDelta`, short of adding it |
| `adapted_product` | `adapted_product(x, linear, site, tiles)`: the product and `B(A(x))` in one |
| `adapted_gate` | `adapted_silu_mul(gate_up, x, site, tiles)`: the activation behind LoRA |
| `attention` | `decode_attention(query, cache, block_tables, context_lengths, *, splits, window)` |
| `prefill` | `prefill_attention(query, cache, chunks, *, window, room)` |
| `norm` | `rms_norm(x, weight, eps, *, room)` |
| `norm` | `add_rms_norm(residual, x, weight, eps, *, delta, room)` |
| `rope` | `rotate_and_write(qkv, rope, positions, kv_slots, cache, *, delta)` |
| `activation` | `silu_mul(gate_up, *, delta, room)` |
| `tokens` | `known_tokens(token_ids, chosen)` |
| `sampling` | `argmax(logits, *, out)`, `sample(logits, parameters, positions)` |
| `masking` | `mask_logits(logits, masks, rows)` |

The shapes that they share need torch alone: `site.LoraSite` (where a site's factors lie),
`tiles.LoraTiles` and `group_rows` (which rows share an adapter), `delta.LoraDelta` (what a
product's reader adds), `room.ROOM` (how many ranks go inside a product), `splits.splits_for` (how
attention divides a context), `chunks.PromptChunks`, `row_sampling.RowSampling`.
"""
