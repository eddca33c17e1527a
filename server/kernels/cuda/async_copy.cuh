// Shared-memory barriers and asynchronous copies: Hopper's bulk engine, or cp.async before it.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

#define HOPPER (__CUDA_ARCH__ >= 900)

constexpr u32 WARP = 32;
// Who arrives on a barrier that a copying warp completes: its first lane, or every lane.
constexpr u32 COPY_ARRIVALS = HOPPER ? 1 : WARP;

__device__ __forceinline__ u32 shared_address(const void* pointer) {
  return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void barrier_init(u32 barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Make initialized barriers visible to the copy engine and to the rest of a cluster.
__device__ __forceinline__ void barrier_init_fence() {
#if HOPPER
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ __forceinline__ void barrier_arrive(u32 barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(barrier)
               : "memory");
}

__device__ __forceinline__ bool barrier_passed(u32 barrier, u32 parity) {
  u32 passed;
#if HOPPER
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
      : "=r"(passed)
      : "r"(barrier), "r"(parity)
      : "memory");
#else
  asm volatile(
      "{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
      : "=r"(passed)
      : "r"(barrier), "r"(parity)
      : "memory");
#endif
  return passed;
}

__device__ __forceinline__ void barrier_wait(u32 barrier, u32 parity) {
  while (!barrier_passed(barrier, parity)) {
  }
}

// Announce `bytes` of copies on a barrier. Called by one lane, once per phase.
__device__ __forceinline__ void expect_copies(u32 barrier, u32 bytes) {
#if HOPPER
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}

// Copy `rows` runs of `bytes` (a multiple of 16) with a whole warp; strides are in bytes.
__device__ __forceinline__ void copy_rows(u32 to, u32 to_stride, const u8* from, u64 from_stride,
                                          u32 rows, u32 bytes, u32 barrier, u32 lane) {
#if HOPPER
  for (u32 row = lane; row < rows; row += WARP) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
        ::"r"(to + row * to_stride), "l"(from + row * from_stride), "r"(bytes), "r"(barrier)
        : "memory");
  }
#else
  for (u32 row = 0; row < rows; ++row) {
    for (u32 at = lane * 16; at < bytes; at += WARP * 16) {
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + row * to_stride + at),
                   "l"(from + row * from_stride + at)
                   : "memory");
    }
  }
#endif
}

// Let the barrier's phase end when this warp's copies have landed. Called by the whole warp.
__device__ __forceinline__ void commit_copies(u32 barrier) {
#if !HOPPER
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
#endif
}

// Programmatic dependent launch: wait for the kernel before us, then let the next one be placed.
__device__ __forceinline__ void wait_for_inputs() {
#if HOPPER
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void release_dependents() {
#if HOPPER
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// A barrier of the first `threads` threads of the block.
__device__ __forceinline__ void sync_threads(u32 threads) {
  asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory");
}
