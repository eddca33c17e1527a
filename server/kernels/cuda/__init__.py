"""The NF4 GEMM for CUDA devices: 4-bit weights, bf16 rows in and out, any number of rows.

    parts = [NestedNf4Weight.of(codes, state) for codes, state in quantized]  # bitsandbytes' own
    gemm = Nf4Gemm(device, mode="exact", cache=folder)  # one for all layers: kernels, workspace
    gemm.prepare()                                      # compiles and loads every kernel
    linear = gemm.linear(merge_nested(parts))           # a `Linear`: out_features, nbytes, call
    y = linear(x)                                       # [tokens, in] bf16 → [tokens, out] bf16
    linear.into(x, y)                                   # the same, allocating nothing
    for start, dense in linear.pieces(x.dtype, room=0): # what many rows are multiplied with

What a caller owes: `x` contiguous bf16 on `device`, its data 16-byte aligned; `prepare()` before a
CUDA graph is captured (a module cannot load inside a capture); one stream at a time for the linears
of one `Nf4Gemm`, which share a workspace (graphs captured one after another and replayed on one
stream are fine). Kernels run on torch's current stream and never synchronize. Each may begin while
the kernel before it ends, and waits for it before it touches anything but weights; what follows may
begin once `x` is there (`triton.lora.shrink_beside` counts on it). A result is
bitwise the same in every run; with `mode="batch-invariant"` a row's bits do not depend on the
number of rows either.

Where cuda-core is not installed, `server.kernels.triton.nf4.TritonNf4Linear` takes the same
`NestedNf4Weight`.

| file | noun |
|---|---|
| `nested.py` | `NestedNf4Weight`, `merge_nested`, and `multiply`: the twin of every kernel here |
| `packing.py` | `PackedNf4`: the order in which the kernels read a weight |
| `gemm.py` | `Nf4Gemm`: which kernel, for how many rows |
| `linear.py` | `CudaNf4Linear` |
| `kernels.py`, `kernel.py` | the three kernels and their workspace; one kernel and its launch |
| `shapes.py` | how a product is cut into tiles |
| `compiler.py` | NVRTC and the cache of what it made |
| `nf4_mma.cu`, `nf4_mma_*.cuh` | up to 64 rows: mma.sync, stream-K |
| `nf4_wgmma.cu` | up to 128 rows on Hopper: wgmma, clusters that split the depth |
| `nf4_dequantize.cu` | rows of a weight as bf16, for cuBLAS |
"""
