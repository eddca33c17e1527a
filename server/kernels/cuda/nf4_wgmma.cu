// y = x · Wᵀ for up to 128 tokens on Hopper, with W in NF4: wgmma, clusters that split the depth.
//
// The blocks of a cluster share one output tile of ROWS rows, each taking an even run of its steps,
// at least one. At the end each leaves its sums in its own shared memory, and each adds up one part
// of the tile across the cluster, always from the first block to the last: the result does not
// depend on timing.
//
// Defined by whoever compiles this (shapes.py): NF4_TOKENS (8, 16, 32, 64 or 128), NF4_BANDS (of 128
// rows in a tile), NF4_SHARED (bytes of shared memory), NF4_EXACT. in_features must be a multiple of 128.
#include "cluster.cuh"
#include "nf4_decode.cuh"
#include "wgmma.cuh"

constexpr u32 TOKENS = NF4_TOKENS;
constexpr u32 BANDS = NF4_BANDS;

constexpr u32 ROWS = BANDS * BAND;
constexpr u32 STEP_BLOCKS = 2;  // blocks of 64 in a step
constexpr u32 CONSUMERS = 8;    // warps: two warpgroups
constexpr u32 CONSUMER_THREADS = CONSUMERS * WARP;
constexpr u32 THREADS = CONSUMER_THREADS + WARP;
constexpr u32 SUMS_PER_THREAD = TOKENS / 2;  // of one warpgroup product: 64 rows by TOKENS

// Shared memory behind the table, relative to its start; the sums come to lie over the stages.
constexpr u32 SCALE_TABLE = TABLE_BYTES;
constexpr u32 MAX_STAGES = 8;
constexpr u32 FULL = SCALE_TABLE + 1024;
constexpr u32 EMPTY = FULL + MAX_STAGES * 8;
constexpr u32 STAGE = (EMPTY + MAX_STAGES * 8 + 1023) / 1024 * 1024;
constexpr u32 X_TILE_BYTES = TOKENS * BLOCK * 2;  // one block of 64, swizzled
constexpr u32 STAGE_CODES = STEP_BLOCKS * X_TILE_BYTES;
constexpr u32 STAGE_SCALES = STAGE_CODES + BANDS * STEP_BLOCKS * TILE_BYTES;
constexpr u32 STAGE_COPIED = STAGE_SCALES + BANDS * STEP_BLOCKS * BAND;
constexpr u32 STAGE_BYTES = (STAGE_COPIED + 1023) / 1024 * 1024;  // swizzled tiles need 1 KiB
constexpr u32 STAGES_THAT_FIT = (NF4_SHARED - STAGE) / STAGE_BYTES;
constexpr u32 STAGES = STAGES_THAT_FIT < MAX_STAGES ? STAGES_THAT_FIT : MAX_STAGES;
constexpr u32 SUMS = STAGE;
static_assert(STAGES >= 2 && STAGE + TOKENS * ROWS * 4 <= NF4_SHARED, "shared memory is too small");

struct alignas(64) TensorMap { u64 opaque[16]; };

struct Problem {
  const u8* codes;
  const u8* scales;
  const float2* groups;
  const TensorMap* x;
  u16* y;
  u32 tokens, out_features, in_features, group_shift;

  __device__ u32 blocks() const { return in_features / BLOCK; }
  __device__ u32 bands() const { return (out_features + BAND - 1) / BAND; }
};

// The block's share of its tile: steps [begin, end), never none.
struct Share {
  u32 tile, rank, size, begin, end;

  __device__ explicit Share(const Problem& p) : rank(cluster_rank()), size(cluster_size()) {
    const u32 steps = p.blocks() / STEP_BLOCKS;
    tile = blockIdx.x / size;
    begin = rank * steps / size;
    end = (rank + 1) * steps / size;
  }
};

struct Ring {
  u32 base, slot = 0, parity = 0;

  __device__ explicit Ring(u32 base_) : base(base_) {}
  __device__ u32 full() const { return base + FULL + slot * 8; }
  __device__ u32 empty() const { return base + EMPTY + slot * 8; }
  __device__ u32 stage() const { return base + STAGE + slot * STAGE_BYTES; }
  __device__ void advance() {
    if (++slot == STAGES) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// Copy one block of 64 features of every token, swizzled; rows past the last token become zeros.
__device__ __forceinline__ void copy_x(const Problem& p, u32 to, u32 feature, u32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3}], [%4];" ::"r"(to), "l"(p.x), "r"(feature), "r"(0), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void copy_weights(const Problem& p, u32 tile, u32 step,
                                             const Ring& ring, u32 lane) {
  const u32 band = tile * BANDS, bands = min(BANDS, p.bands() - band);
  const u64 first = static_cast<u64>(band) * p.blocks() + step * STEP_BLOCKS;
  constexpr u32 codes = STEP_BLOCKS * TILE_BYTES, scales = STEP_BLOCKS * BAND;
  if (lane == 0) {
    expect_copies(ring.full(), bands * (codes + scales) + STEP_BLOCKS * X_TILE_BYTES);
  }
  __syncwarp();
  copy_rows(ring.stage() + STAGE_CODES, codes, p.codes + first * TILE_BYTES,
            p.blocks() * TILE_BYTES, bands, codes, ring.full(), lane);
  copy_rows(ring.stage() + STAGE_SCALES, scales, p.scales + first * BAND, p.blocks() * BAND, bands,
            scales, ring.full(), lane);
}

__device__ __forceinline__ void copy_tokens(const Problem& p, u32 step, const Ring& ring,
                                            u32 lane) {
  if (lane < STEP_BLOCKS) {
    copy_x(p, ring.stage() + lane * X_TILE_BYTES, (step * STEP_BLOCKS + lane) * BLOCK, ring.full());
  }
}

__device__ void produce(const Problem& p, const Share& share, u32 base, u32 lane) {
  const u32 ahead = min(share.begin + STAGES, share.end);
  Ring weights(base), tokens(base);
  // Weights never change, so the first of them need not wait for the kernel before us.
  for (u32 step = share.begin; step < ahead; ++step, weights.advance()) {
    copy_weights(p, share.tile, step, weights, lane);
  }
  wait_for_inputs();
  for (u32 step = share.begin; step < ahead; ++step, tokens.advance()) {
    copy_tokens(p, step, tokens, lane);
  }
  for (u32 step = ahead; step < share.end; ++step, tokens.advance()) {
    barrier_wait(tokens.empty(), tokens.parity ^ 1);
    copy_weights(p, share.tile, step, tokens, lane);
    copy_tokens(p, step, tokens, lane);
  }
}

// Where a consumer warp works: 16 rows of each of its warpgroup's BANDS products of 64 rows.
struct Place {
  u32 lane, row;

  __device__ explicit Place(u32 thread)
      : lane(thread % WARP), row(thread / 128 * 64 * BANDS + thread / WARP % 4 * 16) {}
  __device__ u32 row_of(u32 product) const { return row + product * 64; }
  // The row whose scale this lane decodes: lanes 0-15 the first product's, 16-31 the second's.
  __device__ u32 scale_row() const { return row_of(BANDS == 2 ? lane / 16 : 0) + lane % 16; }
};

using Sums = float[BANDS][SUMS_PER_THREAD];

// In fast mode, the product that runs: sums of one block of 64, and the scales of their rows.
struct Unscaled {
  float sums[SUMS_PER_THREAD] = {};
  float upper = 0.0f, lower = 0.0f;

  // Waits for the product, and holds whoever reads its sums behind the wait.
  __device__ __forceinline__ void wait() {
    wgmma_wait<0>();
#pragma unroll
    for (u32 i = 0; i < SUMS_PER_THREAD; ++i) asm volatile("" : "+f"(sums[i])::"memory");
  }
  __device__ __forceinline__ void add_to(float (&total)[SUMS_PER_THREAD]) const {
#pragma unroll
    for (u32 i = 0; i < SUMS_PER_THREAD; ++i) total[i] += (i / 2 % 2 ? lower : upper) * sums[i];
  }
};

__device__ __forceinline__ void multiply_exact(float (&sums)[SUMS_PER_THREAD], const Slab& slab,
                                               u64 columns) {
  wgmma_fence();
#pragma unroll
  for (u32 k = 0; k < 4; ++k) wgmma<true>(sums, slab.a[k], columns + k * 2);
  wgmma_commit();
  wgmma_wait<1>();  // the product before this one is done: its slab and its stage are free
}

// `before`: where the product that still runs belongs.
__device__ __forceinline__ void multiply_fast(float (&before)[SUMS_PER_THREAD], Unscaled& running,
                                              const Slab& slab, u64 columns, float upper,
                                              float lower) {
  running.wait();
  running.add_to(before);
  running.upper = upper;
  running.lower = lower;
  wgmma_fence();
  wgmma<false>(running.sums, slab.a[0], columns);
#pragma unroll
  for (u32 k = 1; k < 4; ++k) wgmma<true>(running.sums, slab.a[k], columns + k * 2);
  wgmma_commit();
}

__device__ __forceinline__ void consume_all(const Problem& p, const Share& share, Sums& sums,
                                            const Place& place, u32 base) {
  const u32 lane_entry = entry_of_lane(base & 0xff000000, place.lane);
  const u32 scale_row = place.scale_row();
  const u32 group_row = min(share.tile * ROWS + scale_row, p.out_features - 1) * p.blocks();
  Slab slabs[2];  // one being multiplied while the next is decoded
  [[maybe_unused]] Unscaled running;
  Ring ring(base);
  u32 previous_empty = 0, step = share.begin;
  // A loop that runs at least once: else ptxas gives the sums registers of their own for the case
  // that it never does, and serializes the products (its note C7515).
  do {
    float2 groups[STEP_BLOCKS];
#pragma unroll
    for (u32 block = 0; block < STEP_BLOCKS; ++block) {
      groups[block] =
          __ldg(p.groups + ((group_row + step * STEP_BLOCKS + block) >> p.group_shift));
    }
    barrier_wait(ring.full(), ring.parity);
    const u32 stage = ring.stage();
#pragma unroll
    for (u32 block = 0; block < STEP_BLOCKS; ++block) {
      const u32 code = load_byte(stage + STAGE_SCALES + scale_row / BAND * STEP_BLOCKS * BAND +
                                 block * BAND + scale_row % BAND);
      const float scale = decode_scale(load_float(base + SCALE_TABLE + code * 4), groups[block]);
      const u64 columns = swizzled_tile(stage + block * X_TILE_BYTES);
#pragma unroll
      for (u32 product = 0; product < BANDS; ++product) {
        const u32 row = place.row_of(product);
        const float upper = __shfl_sync(~0u, scale, product * 16 + place.lane / 4);
        const float lower = __shfl_sync(~0u, scale, product * 16 + 8 + place.lane / 4);
        const u32 tile = stage + STAGE_CODES + (row / BAND * STEP_BLOCKS + block) * TILE_BYTES;
        Slab& slab = slabs[(block * BANDS + product) % 2];
        slab = decode_slab(load_quad(tile + row % BAND / 16 * 512 + place.lane * 16), lane_entry,
                           upper, lower);
        if constexpr (EXACT) {
          multiply_exact(sums[product], slab, columns);
        } else {
          constexpr u32 LAST = BANDS - 1;
          multiply_fast(sums[product == 0 ? LAST : 0], running, slab, columns, upper, lower);
        }
        if (block == 0 && product == 0 && previous_empty != 0 && place.lane == 0) {
          barrier_arrive(previous_empty);
        }
      }
    }
    previous_empty = ring.empty();
    ring.advance();
  } while (++step < share.end);
  if constexpr (EXACT) {
    wgmma_wait<0>();
  } else {
    running.wait();
    running.add_to(sums[BANDS - 1]);
  }
}

// Where the sum of (token, row) stands; rows are exclusive-ored so that lanes meet in no bank.
__device__ __forceinline__ u32 sum_at(u32 base, u32 token, u32 row) {
  return base + SUMS + (token * ROWS + (row ^ (token / 2 % 4) << 3)) * 4;
}

__device__ __forceinline__ void leave_sums(const Sums& sums, const Place& place, u32 base) {
#pragma unroll
  for (u32 product = 0; product < BANDS; ++product) {
#pragma unroll
    for (u32 i = 0; i < SUMS_PER_THREAD; ++i) {
      const u32 token = i / 4 * 8 + place.lane % 4 * 2 + i % 2;
      const u32 row = place.row_of(product) + place.lane / 4 + i / 2 % 2 * 8;
      store_float(sum_at(base, token, row), sums[product][i]);
    }
  }
}

// Add up this block's share of the tile, four rows of a token at a time, and store it.
__device__ __forceinline__ void join_sums(const Problem& p, const Share& share, u32 base,
                                          u32 thread) {
  const u32 quads = p.tokens * ROWS / 4;
  const u32 end = (share.rank + 1) * quads / share.size;
  for (u32 quad = share.rank * quads / share.size + thread; quad < end; quad += THREADS) {
    const u32 token = quad / (ROWS / 4), row = quad % (ROWS / 4) * 4;
    const u32 at = sum_at(base, token, row);
    float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
    for (u32 rank = 0; rank < share.size; ++rank) {
      const float4 part = load_remote(at, rank);
      total.x += part.x;
      total.y += part.y;
      total.z += part.z;
      total.w += part.w;
    }
    const u32 out_row = share.tile * ROWS + row;
    if (out_row >= p.out_features) continue;
    *reinterpret_cast<uint2*>(p.y + static_cast<u64>(token) * p.out_features + out_row) =
        make_uint2(pack_bf16(total.x, total.y), pack_bf16(total.z, total.w));
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    nf4_wgmma(const u8* codes, const u8* scales, const float* scale_table, const float2* groups,
              const __grid_constant__ TensorMap x, u16* y, u32 tokens, u32 out_features,
              u32 in_features, u32 group_shift) {
  extern __shared__ __align__(1024) u8 shared[];
  const u32 thread = threadIdx.x, base = shared_address(shared);
  const Problem p{codes, scales, groups, &x, y, tokens, out_features, in_features, group_shift};
  const Share share(p);
  if (thread == 0) {
    if ((base & 0xffffff) != SHARED_BASE) __trap();  // decode() adds it as a constant
    for (u32 stage = 0; stage < STAGES; ++stage) {
      barrier_init(base + FULL + stage * 8, 1);
      barrier_init(base + EMPTY + stage * 8, CONSUMERS);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if (thread >= CONSUMER_THREADS) {
    produce(p, share, base, thread % WARP);
  } else {
    fill_table(base & 0xff000000, thread, CONSUMER_THREADS);
    store_float(base + SCALE_TABLE + thread * 4, __ldg(scale_table + thread));
    sync_threads(CONSUMER_THREADS);
    wait_for_inputs();
    release_dependents();  // not before: who runs beside us relies on x being there
    const Place place(thread);
    Sums sums = {};
    consume_all(p, share, sums, place, base);
    sync_threads(CONSUMER_THREADS);  // nobody reads the stages any more
    leave_sums(sums, place, base);
  }
  __syncwarp();
  cluster_sync();
  join_sums(p, share, base, thread);
  cluster_sync();  // nobody leaves while another reads its sums
}
