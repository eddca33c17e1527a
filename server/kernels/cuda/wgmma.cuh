// Hopper's warpgroup products: 64 rows of A in registers, B in swizzled shared memory.
#pragma once
#include "async_copy.cuh"

// A descriptor of a K-major B tile in rows of 128 bytes, swizzled as the tensor copy leaves it.
__device__ __forceinline__ u64 swizzled_tile(u32 address) {
  constexpr u64 leading = 1ull << 16;      // unused when swizzled
  constexpr u64 eight_rows = 64ull << 32;  // 1024 bytes, in units of 16
  constexpr u64 swizzle_128 = 1ull << 62;
  return (address & 0x3ffff) >> 4 | leading | eight_rows | swizzle_128;
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Wait until at most `PENDING` committed groups run.
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUMS_8(i) SUMS_4(i), SUMS_4(i + 4)
#define OPERANDS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(ACCUMULATE)

// d[64 rows, 8 | 16 | 32 | 64 | 128 columns] = a[64 rows, 16] · b[16, columns], or += it.
template <bool ACCUMULATE>
__device__ __forceinline__ void wgmma(float (&d)[4], const u32 (&a)[4], u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "%8, %9, 1, 1, 0;"
      : SUMS_4(0)
      : OPERANDS);
}

template <bool ACCUMULATE>
__device__ __forceinline__ void wgmma(float (&d)[8], const u32 (&a)[4], u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7}, "
      "{%8, %9, %10, %11}, %12, %13, 1, 1, 0;"
      : SUMS_8(0)
      : OPERANDS);
}

template <bool ACCUMULATE>
__device__ __forceinline__ void wgmma(float (&d)[16], const u32 (&a)[4], u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, "
      "%8, %9, %10, %11, %12, %13, %14, %15}, {%16, %17, %18, %19}, %20, %21, 1, 1, 0;"
      : SUMS_8(0), SUMS_8(8)
      : OPERANDS);
}

template <bool ACCUMULATE>
__device__ __forceinline__ void wgmma(float (&d)[32], const u32 (&a)[4], u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, "
      "%8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, "
      "%26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, %37, 1, 1, 0;"
      : SUMS_8(0), SUMS_8(8), SUMS_8(16), SUMS_8(24)
      : OPERANDS);
}

template <bool ACCUMULATE>
__device__ __forceinline__ void wgmma(float (&d)[64], const u32 (&a)[4], u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, %69, 1, 1, 0;"
      : SUMS_8(0), SUMS_8(8), SUMS_8(16), SUMS_8(24), SUMS_8(32), SUMS_8(40), SUMS_8(48), SUMS_8(56)
      : OPERANDS);
}
