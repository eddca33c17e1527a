"""The NF4 GEMM for CUDA devices: 4-bit weights, bf16 rows in and out, any number of rows.

    parts = [NestedNf4Weight.of(codes, state) for codes, state in quantized]  # bitsandbytes' own
    gemm = Nf4Gemm(device, mode="exact", cache=folder)  # one for all layers: kernels, workspace
    gemm.prepare()                                      # compiles and loads every kernel
    linear = gemm.linear(merge_nested(parts))           # a `Linear`: out_features, nbytes, call
    y = linear(x)                                       # [tokens, in] bf16 → [tokens, out] bf16
    linear.into(x, y)                                   # the same, allocating nothing up to 64 rows

What a caller owes: `x` contiguous bf16 on `device`, its data 16-byte aligned; `prepare()` before a
CUDA graph is captured (a module cannot load inside a capture); one stream at a time for the
linears of one `Nf4Gemm`, which share a workspace (graphs captured one after another and replayed on
one stream are fine). Kernels run on torch's current stream, read the device's clock of nothing, and
never synchronize. Up to 64 rows each result is bitwise the same in every run; with
`mode="batch-invariant"` a row's bits do not depend on the number of rows either.
"""
