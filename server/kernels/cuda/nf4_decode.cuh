// NF4 codes to bf16 weights, through a table in shared memory.
//
// A byte holds two consecutive weights, the first in its high half. The table has an entry for each
// of the 256 bytes and a copy of it for each lane, so that no two lanes of a warp meet in a bank:
//   entry (byte, lane) stands at TABLE + byte * 256 + lane * ENTRY_BYTES.
// The address without TABLE is a byte permutation of the code word and a per-lane constant.
//
// Exact weights: s = rn32(rn32(code[u8] * absmax2) + offset), w = rn_bf16(rn32(NF4[q] * s)), which
// is what bitsandbytes.functional.dequantize_4bit gives. No product is contracted with its sum.
// Fast weights: the table holds rn_bf16(NF4[q]); the caller multiplies sums over 64 by s.
#pragma once
#include "async_copy.cuh"

#ifndef NF4_EXACT
#define NF4_EXACT 1
#endif

constexpr bool EXACT = NF4_EXACT;
constexpr u32 SHARED_BASE = 1024;  // where a block's dynamic shared memory starts: CUDA keeps 1 KiB
constexpr u32 TABLE = SHARED_BASE;
constexpr u32 TABLE_BYTES = 65536;
constexpr u32 ENTRY_BYTES = EXACT ? 8 : 4;
constexpr u32 BLOCK = 64;          // weights that share a scale
constexpr u32 BAND = 128;          // rows that are stored together
constexpr u32 TILE_BYTES = BAND * BLOCK / 2;

__constant__ float NF4[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

struct Quad { u32 word[4]; };

__device__ __forceinline__ u32 pack_bf16(float low, float high) {
  u32 packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ __forceinline__ Quad load_quad(u32 address) {
  Quad q;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(q.word[0]), "=r"(q.word[1]), "=r"(q.word[2]), "=r"(q.word[3])
               : "r"(address)
               : "memory");
  return q;
}

__device__ __forceinline__ u32 load_byte(u32 address) {
  u32 value;
  asm volatile("ld.shared.u8 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ float load_float(u32 address) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ float2 load_float2(u32 address) {
  float2 value;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(value.x), "=f"(value.y)
               : "r"(address)
               : "memory");
  return value;
}

__device__ __forceinline__ void store_float(u32 address, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}

__device__ __forceinline__ void store_float2(u32 address, float2 value) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(value.x), "f"(value.y)
               : "memory");
}

__device__ __forceinline__ void store_word(u32 address, u32 value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

// Fill the decode table; `window` is the high byte of this block's shared addresses.
__device__ __forceinline__ void fill_table(u32 window, u32 thread, u32 threads) {
  for (u32 i = thread; i < 256 * WARP; i += threads) {
    const u32 byte = i / WARP;
    const float first = NF4[byte >> 4], second = NF4[byte & 15];
    const u32 entry = (window | TABLE) + byte * 256 + i % WARP * ENTRY_BYTES;
    if constexpr (EXACT) {
      store_float2(entry, make_float2(first, second));
    } else {
      store_word(entry, pack_bf16(first, second));
    }
  }
}

// What `decode` must know of a lane; `window` as above.
__device__ __forceinline__ u32 entry_of_lane(u32 window, u32 lane) {
  return window | lane * ENTRY_BYTES;
}

// The table address of byte AT of `codes`, less TABLE.
template <int AT>
__device__ __forceinline__ u32 entry_of(u32 codes, u32 lane_entry) {
  u32 address;
  asm("prmt.b32 %0, %1, %2, %3;"
      : "=r"(address)
      : "r"(codes), "r"(lane_entry), "n"(0x7604 | AT << 4));
  return address;
}

// Two weights of one byte as bf16x2; `scale` counts in exact mode only.
template <int AT>
__device__ __forceinline__ u32 decode(u32 codes, u32 lane_entry, float scale) {
  const u32 entry = entry_of<AT>(codes, lane_entry);
  if constexpr (EXACT) {
    float first, second;  // not volatile: the table never changes once it is filled
    asm("ld.shared.v2.f32 {%0, %1}, [%2 + %3];"
        : "=f"(first), "=f"(second)
        : "r"(entry), "n"(TABLE));
    return pack_bf16(__fmul_rn(first, scale), __fmul_rn(second, scale));
  } else {
    u32 pair;
    asm("ld.shared.b32 %0, [%1 + %2];" : "=r"(pair) : "r"(entry), "n"(TABLE));
    return pair;
  }
}

// A block's scale from its 8-bit code; `group` holds (absmax2, offset).
__device__ __forceinline__ float decode_scale(float code, float2 group) {
  return __fadd_rn(__fmul_rn(code, group.x), group.y);
}

// The A operands of four consecutive m16n8k16 products: 16 rows by 64 weights deep.
struct Slab { u32 a[4][4]; };

// `codes`: this lane's 16 bytes of the slab, rows lane / 4 (8 bytes) and lane / 4 + 8. Their bytes
// run over k = 2 * (lane % 4) + 8 * i.
__device__ __forceinline__ Slab decode_slab(const Quad& codes, u32 lane_entry, float upper,
                                            float lower) {
  Slab slab;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const u32 top = codes.word[half], bottom = codes.word[2 + half];
    u32(&even)[4] = slab.a[2 * half];
    u32(&odd)[4] = slab.a[2 * half + 1];
    even[0] = decode<0>(top, lane_entry, upper);
    even[1] = decode<0>(bottom, lane_entry, lower);
    even[2] = decode<1>(top, lane_entry, upper);
    even[3] = decode<1>(bottom, lane_entry, lower);
    odd[0] = decode<2>(top, lane_entry, upper);
    odd[1] = decode<2>(bottom, lane_entry, lower);
    odd[2] = decode<3>(top, lane_entry, upper);
    odd[3] = decode<3>(bottom, lane_entry, lower);
  }
  return slab;
}
