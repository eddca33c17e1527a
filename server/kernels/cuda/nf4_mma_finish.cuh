// The end of a tile in nf4_mma.cu: add up what its warps and its blocks hold, in a fixed order.
//
// Whoever leaves the last part of a shared tile puts it together. That is mostly waiting, so for few
// tokens the consumers go on at once and leave it to warps of its own, the finishers.
#pragma once
#include "nf4_mma_tile.cuh"

// Which blocks share a tile, and where their parts of it lie.
struct Sharing {
  u32 first, last, tile_start;
  bool first_has_earlier;  // the first one's part is the second that it left

  __device__ Sharing(const Problem& p, const Walk& walk) {
    tile_start = walk.tile * walk.per_tile;
    first = ((tile_start + 1) * gridDim.x - 1) / p.steps();
    last = ((tile_start + walk.per_tile) * gridDim.x - 1) / p.steps();
    first_has_earlier = first * p.steps() / gridDim.x != tile_start;
  }
  __device__ bool whole() const { return first == last; }
  // A block leaves a part of its first tile and one of its last.
  __device__ static u64 part(u32 block, bool second) {
    return (static_cast<u64>(block) * 2 + second) * (TOKENS * ROWS);
  }
};

// Add up the depth warps' sums, eight tokens at a time, and hand each pair of rows to `take`.
template <typename Take>
__device__ __forceinline__ void reduce_warps(Sums& sums, const Place& place, u32 thread,
                                             Take take) {
  const u32 g = place.lane / 4, t = place.lane % 4;
#pragma unroll
  for (u32 n = 0; n < COLUMN_TILES; ++n) {
#pragma unroll
    for (u32 m = 0; m < ROW_TILES; ++m) {
#pragma unroll
      for (u32 k = 0; k < 4; ++k) {
        const u32 column = 2 * t + k % 2, row = place.row + m * 16 + g + k / 2 * 8;
        // Rows are exclusive-ored with the column pair, so that lanes meet in no bank.
        const u32 at = (place.depth * 8 + column) * ROWS + (row ^ t << 3);
        store_float(SUMS + at * 4, sums[m][n][k]);
        sums[m][n][k] = 0.0f;
      }
    }
    sync_threads(CONSUMER_THREADS);
    for (u32 pair = thread; pair < 8 * ROWS / 2; pair += CONSUMER_THREADS) {
      const u32 column = pair / (ROWS / 2), row = pair % (ROWS / 2) * 2;
      float2 total = make_float2(0.0f, 0.0f);
#pragma unroll
      for (u32 depth = 0; depth < DEPTH_WARPS; ++depth) {
        const u32 at = (depth * 8 + column) * ROWS + (row ^ (column / 2) << 3);
        const float2 part = load_float2(SUMS + at * 4);
        total.x += part.x;
        total.y += part.y;
      }
      take(n * 8 + column, row, total);
    }
    sync_threads(CONSUMER_THREADS);
  }
}

// Barriers: one for each of a block's two parts, where consumers arrive and finishers wait, and one
// of those who join.
constexpr u32 PART_LEFT = 2, JOINERS_MEET = 4;
constexpr u32 PART_THREADS = CONSUMER_THREADS + FINISHER_THREADS;
constexpr u32 JOINERS = FINISHER_THREADS > 0 ? FINISHER_THREADS : CONSUMER_THREADS;

__device__ __forceinline__ void part_is_left(bool second) {
  asm volatile("bar.arrive %0, %1;" ::"r"(PART_LEFT + second), "n"(PART_THREADS) : "memory");
}

__device__ __forceinline__ void await_part(bool second) {
  asm volatile("bar.sync %0, %1;" ::"r"(PART_LEFT + second), "n"(PART_THREADS) : "memory");
}

__device__ __forceinline__ void device_fence() {
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

// Announce this block's part; true for the block that is last to do so.
__device__ __forceinline__ bool is_last(const Problem& p, u32 tile, u32 parts, u32 thread) {
  u32* flag = reinterpret_cast<u32*>(__cvta_shared_to_generic(LAST_FLAG));
  if (thread == 0) {
    device_fence();
    const bool last = atomicAdd(p.arrivals + tile, 1) + 1 == parts;
    device_fence();
    if (last) p.arrivals[tile] = 0;  // ready for the next launch
    *flag = last;
  }
  asm volatile("bar.sync %0, %1;" ::"n"(JOINERS_MEET), "n"(JOINERS) : "memory");
  return *flag;
}

__device__ __forceinline__ void store_row(const Problem& p, u32 token, u32 row, u32 pair) {
  *reinterpret_cast<u32*>(p.y + static_cast<u64>(token) * p.out_features + row) = pair;
}

// Sum a shared tile's parts from the first block's to the last one's.
__device__ __forceinline__ void join_parts(const Problem& p, u32 tile, const Sharing& sharing,
                                           u32 thread) {
  constexpr u32 AT_ONCE = 4;  // independent sums per thread, to cover the latency
  const u32 quads = p.tokens * ROWS / 4;
  for (u32 base = thread; base < quads; base += JOINERS * AT_ONCE) {
    float4 total[AT_ONCE] = {};
#pragma unroll 2
    for (u32 block = sharing.first; block <= sharing.last; ++block) {
      const bool second = block == sharing.first && sharing.first_has_earlier;
      const float* sums = p.partials + Sharing::part(block, second);
      const float4* part = reinterpret_cast<const float4*>(sums);
#pragma unroll
      for (u32 i = 0; i < AT_ONCE; ++i) {
        const u32 quad = base + i * JOINERS;
        if (quad >= quads) continue;
        const float4 piece = __ldcg(part + quad);
        total[i].x += piece.x;
        total[i].y += piece.y;
        total[i].z += piece.z;
        total[i].w += piece.w;
      }
    }
#pragma unroll
    for (u32 i = 0; i < AT_ONCE; ++i) {
      const u32 quad = base + i * JOINERS;
      const u32 token = quad * 4 / ROWS, row = tile * ROWS + quad * 4 % ROWS;
      if (quad >= quads || row >= p.out_features) continue;
      store_row(p, token, row, pack_bf16(total[i].x, total[i].y));
      store_row(p, token, row + 2, pack_bf16(total[i].z, total[i].w));
    }
  }
}

// Announce a part, and put the tile together if it was the last.
__device__ __forceinline__ void join(const Problem& p, u32 tile, const Sharing& sharing,
                                     u32 thread) {
  if (is_last(p, tile, sharing.last - sharing.first + 1, thread)) {
    join_parts(p, tile, sharing, thread);
  }
}

// Turn the sums of a finished piece into output, or into a part to be joined.
__device__ __forceinline__ void finish_piece(const Problem& p, const Walk& walk, Sums& sums,
                                             const Place& place, u32 thread) {
  const Sharing sharing(p, walk);
  float* part = p.partials + Sharing::part(blockIdx.x, walk.is_second());
  reduce_warps(sums, place, thread, [&](u32 token, u32 row, float2 total) {
    if (token >= p.tokens) return;
    if (!sharing.whole()) {
      *reinterpret_cast<float2*>(part + token * ROWS + row) = total;
    } else if (walk.tile * ROWS + row < p.out_features) {
      store_row(p, token, walk.tile * ROWS + row, pack_bf16(total.x, total.y));
    }
  });
  if (sharing.whole()) return;
  if constexpr (FINISHER_THREADS > 0) {
    part_is_left(walk.is_second());
  } else {
    join(p, walk.tile, sharing, thread);
  }
}

// What the finishers do.
__device__ void join_all(const Problem& p, u32 thread) {
  for (Walk walk(p); !walk.done(); walk.next_piece()) {
    const Sharing sharing(p, walk);
    if (sharing.whole()) continue;
    await_part(walk.is_second());
    join(p, walk.tile, sharing, thread);
  }
}
