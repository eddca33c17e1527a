// NF4 back to bf16, row by row: what a product with many tokens multiplies with.
//
// One warp writes 16 rows by 64 weights. Lane 4g + t holds rows g and g + 8, weights 8i + 2t and
// 8i + 2t + 1 of each; four lanes exchange them so that each stores runs of eight weights. The
// table is spread over a warp, lane q holding value q: constant memory serves one address a time.
#include "nf4_decode.cuh"

constexpr u32 WARPS = 8;  // one band's slabs

__device__ __forceinline__ u32 decode_byte(u32 byte, float value, float scale) {
  const float first = __shfl_sync(~0u, value, byte >> 4);
  const float second = __shfl_sync(~0u, value, byte & 15);
  return pack_bf16(__fmul_rn(first, scale), __fmul_rn(second, scale));
}

// Each lane of a quad holds four words; afterwards lane t holds word t of every lane, in order.
__device__ __forceinline__ void transpose_quad(u32 (&word)[4], u32 t) {
#pragma unroll
  for (u32 distance = 1; distance < 4; distance *= 2) {
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
      if (i & distance) continue;
      const bool upper = t & distance;
      const u32 given = upper ? word[i] : word[i + distance];
      const u32 taken = __shfl_xor_sync(~0u, given, distance);
      word[upper ? i : i + distance] = taken;
    }
  }
}

__device__ __forceinline__ void store_row(u16* row, const u32 (&codes)[2], float value,
                                          float scale, u32 t) {
#pragma unroll
  for (u32 half = 0; half < 2; ++half) {  // 32 weights: four runs of eight
    u32 words[4];
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
      words[i] = decode_byte(codes[half] >> 8 * i & 255, value, scale);
    }
    transpose_quad(words, t);
    if (row != nullptr) {
      *reinterpret_cast<uint4*>(row + half * 32 + t * 8) =
          make_uint4(words[0], words[1], words[2], words[3]);
    }
  }
}

// Rows [first_row, first_row + rows) → `out` [rows, in_features], `out_stride` elements apart;
// first_row is a multiple of 128.
// One block of threads per (block of 64 weights, band). Codes and scales are fetched while the
// kernel before still runs; `out` is written when nobody reads what was there. The next kernel may
// begin once all blocks are here: it finds what was written before, not `out`.
extern "C" __global__ void __launch_bounds__(WARPS * WARP)
    nf4_dequantize(const u8* codes, const u8* scales, const float* scale_table,
                   const float2* groups, u16* out, u32 first_row, u32 rows, u32 in_features,
                   u32 out_stride, u32 group_shift) {
  const u32 block = blockIdx.x, blocks = in_features / BLOCK;
  const u32 slab = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  const u64 tile = static_cast<u64>(first_row / BAND + blockIdx.y) * blocks + block;
  const uint4 quad =
      __ldg(reinterpret_cast<const uint4*>(codes + tile * TILE_BYTES + slab * 512) + lane);
  const float value = NF4[lane % 16];
  const u32 half_codes[2][2] = {{quad.x, quad.y}, {quad.z, quad.w}};
  float scale[2];
  u16* to[2];
#pragma unroll
  for (u32 half = 0; half < 2; ++half) {
    const u32 band_row = slab * 16 + half * 8 + g;
    const u32 row = blockIdx.y * BAND + band_row;
    const bool exists = row < rows;
    const u32 group = exists ? ((first_row + row) * blocks + block) >> group_shift : 0;
    const float code = __ldg(scale_table + __ldg(scales + tile * BAND + band_row));
    scale[half] = decode_scale(code, __ldg(groups + group));
    to[half] = exists ? out + static_cast<u64>(row) * out_stride + block * BLOCK : nullptr;
  }
  wait_for_inputs();
  release_dependents();
#pragma unroll
  for (u32 half = 0; half < 2; ++half) store_row(to[half], half_codes[half], value, scale[half], t);
}
