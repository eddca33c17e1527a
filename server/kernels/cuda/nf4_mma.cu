// y = x · Wᵀ for up to 64 tokens, with W in NF4: mma.sync, stream-K, sums in a fixed order.
//
// Output tiles of ROWS rows are cut into steps of DEPTH weights; the steps of all tiles, in one
// line, are shared evenly among the blocks. Warps of a block split a tile's rows ROW_WARPS ways and
// a step's depth DEPTH_WARPS ways; one more warp keeps STAGES steps in flight. A tile that several
// blocks share is put together by whoever finishes last, always from the first part to the last:
// the result does not depend on timing, and a row's sum does not depend on COLUMN_TILES.
//
// Defined by whoever compiles this (gemm.py): NF4_COLUMN_TILES (of 8 tokens), NF4_ROW_TILES (of 16
// rows, per warp), NF4_ROW_WARPS, NF4_DEPTH_WARPS, NF4_DEPTH_TURNS (blocks of 64 that a depth warp
// takes per step), NF4_SHARED (bytes of shared memory), NF4_EXACT.
#include "nf4_decode.cuh"

constexpr u32 COLUMN_TILES = NF4_COLUMN_TILES;
constexpr u32 ROW_TILES = NF4_ROW_TILES;
constexpr u32 ROW_WARPS = NF4_ROW_WARPS;
constexpr u32 DEPTH_WARPS = NF4_DEPTH_WARPS;
constexpr u32 DEPTH_TURNS = NF4_DEPTH_TURNS;

constexpr u32 TOKENS = COLUMN_TILES * 8;
constexpr u32 WARP_ROWS = ROW_TILES * 16;
constexpr u32 ROWS = ROW_WARPS * WARP_ROWS;
constexpr u32 BANDS = ROWS / BAND;
constexpr u32 STEP_BLOCKS = DEPTH_WARPS * DEPTH_TURNS;  // blocks of 64 in a step
constexpr u32 DEPTH = STEP_BLOCKS * BLOCK;
constexpr u32 CONSUMERS = ROW_WARPS * DEPTH_WARPS;
constexpr u32 CONSUMER_THREADS = CONSUMERS * WARP;
constexpr u32 WARP_SCALES = WARP_ROWS / WARP;  // scales that each lane decodes per block
static_assert(ROWS % BAND == 0 && WARP_ROWS % WARP == 0, "tiles are whole bands and warps");

// Shared memory behind the table: sums, the 8-bit scale table, barriers, then the stages.
constexpr u32 SUMS = TABLE + TABLE_BYTES;
constexpr u32 SUMS_BYTES = DEPTH_WARPS * ROWS * 8 * 4;
constexpr u32 SCALE_TABLE = SUMS + SUMS_BYTES;
constexpr u32 MAX_STAGES = 8;
constexpr u32 FULL = SCALE_TABLE + 1024;
constexpr u32 EMPTY = FULL + MAX_STAGES * 8;
constexpr u32 LAST_FLAG = EMPTY + MAX_STAGES * 8;
constexpr u32 STAGE = (LAST_FLAG + 4 + 127) / 128 * 128;
constexpr u32 STAGE_SCALES = ROWS * DEPTH / 2;
constexpr u32 STAGE_X = STAGE_SCALES + ROWS * STEP_BLOCKS;
constexpr u32 X_STRIDE = DEPTH * 2 + 16;  // 16 bytes apart in the banks, for ldmatrix
constexpr u32 STAGE_BYTES = STAGE_X + TOKENS * X_STRIDE;
static_assert(STAGE_BYTES % 16 == 0, "copies are of 16 bytes");
static_assert(SHARED_BASE + NF4_SHARED >= STAGE + STAGE_BYTES, "not even one stage fits");
constexpr u32 STAGES_THAT_FIT = (SHARED_BASE + NF4_SHARED - STAGE) / STAGE_BYTES;
constexpr u32 STAGES = STAGES_THAT_FIT < MAX_STAGES ? STAGES_THAT_FIT : MAX_STAGES;

struct Problem {
  const u8* codes;
  const u8* scales;
  const float* scale_table;
  const float2* groups;
  const u8* x;
  u16* y;
  float* partials;
  u32* arrivals;
  u32 tokens, out_features, in_features, group_shift;

  __device__ u32 blocks() const { return in_features / BLOCK; }
  __device__ u32 bands() const { return (out_features + BAND - 1) / BAND; }
  __device__ u32 tiles() const { return (out_features + ROWS - 1) / ROWS; }
  __device__ u32 steps_per_tile() const { return (blocks() + STEP_BLOCKS - 1) / STEP_BLOCKS; }
  __device__ u32 steps() const { return tiles() * steps_per_tile(); }
};

// Which steps a block takes, and where it stands.
struct Walk {
  u32 at, end, tile, step, per_tile, first_tile;

  __device__ explicit Walk(const Problem& p) {
    per_tile = p.steps_per_tile();
    at = blockIdx.x * p.steps() / gridDim.x;
    end = (blockIdx.x + 1) * p.steps() / gridDim.x;
    tile = first_tile = at / per_tile;
    step = at % per_tile;
  }
  __device__ bool done() const { return at == end; }
  __device__ bool ends_piece() const { return step + 1 == per_tile || at + 1 == end; }
  __device__ void advance() {
    ++at;
    if (++step == per_tile) {
      step = 0;
      ++tile;
    }
  }
};

// A slot of the ring of stages, and the parity of its use.
struct Ring {
  u32 slot = 0, parity = 0;

  __device__ u32 full() const { return FULL + slot * 8; }
  __device__ u32 empty() const { return EMPTY + slot * 8; }
  __device__ u32 stage() const { return STAGE + slot * STAGE_BYTES; }
  __device__ void advance() {
    if (++slot == STAGES) {
      slot = 0;
      parity ^= 1;
    }
  }
};

__device__ __forceinline__ void copy_step(const Problem& p, const Walk& walk, const Ring& ring,
                                          u32 lane, bool first) {
  const u32 block = walk.step * STEP_BLOCKS, blocks = min(STEP_BLOCKS, p.blocks() - block);
  const u32 band = walk.tile * BANDS, bands = min(BANDS, p.bands() - band);
  const u64 tile = static_cast<u64>(band) * p.blocks() + block;
  const u32 x_bytes = blocks * BLOCK * 2;
  if (lane == 0) {
    expect_copies(ring.full(), bands * blocks * (TILE_BYTES + BAND) + p.tokens * x_bytes);
  }
  __syncwarp();
  copy_rows(ring.stage(), STEP_BLOCKS * TILE_BYTES, p.codes + tile * TILE_BYTES,
            p.blocks() * TILE_BYTES, bands, blocks * TILE_BYTES, ring.full(), lane);
  copy_rows(ring.stage() + STAGE_SCALES, STEP_BLOCKS * BAND, p.scales + tile * BAND,
            p.blocks() * BAND, bands, blocks * BAND, ring.full(), lane);
  if (first) wait_for_inputs();  // weights never change, so they need not wait
  copy_rows(ring.stage() + STAGE_X, X_STRIDE, p.x + block * BLOCK * 2, p.in_features * 2, p.tokens,
            x_bytes, ring.full(), lane);
  commit_copies(ring.full());
}

__device__ void produce(const Problem& p, u32 lane) {
  Ring ring;
  const Walk start(p);
  for (Walk walk = start; !walk.done(); walk.advance(), ring.advance()) {
    if (walk.at - start.at >= STAGES) barrier_wait(ring.empty(), ring.parity ^ 1);
    copy_step(p, walk, ring, lane, walk.at == start.at);
  }
}

// The B operand of a block's four products for 8 tokens.
struct Columns { u32 b[4][2]; };

__device__ __forceinline__ Columns load_columns(u32 x, u32 lane) {
  Columns columns;
#pragma unroll
  for (u32 pair = 0; pair < 2; ++pair) {
    const u32 address = x + (lane & 7) * X_STRIDE + pair * 64 + (lane >> 3) * 16;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(columns.b[2 * pair][0]), "=r"(columns.b[2 * pair][1]),
                   "=r"(columns.b[2 * pair + 1][0]), "=r"(columns.b[2 * pair + 1][1])
                 : "r"(address)
                 : "memory");
  }
  return columns;
}

__device__ __forceinline__ void mma(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sum += slab · columns over one block of 64; `upper`, `lower` scale it in fast mode only.
__device__ __forceinline__ void multiply(float (&sum)[4], const Slab& slab, const Columns& columns,
                                         float upper, float lower) {
  if constexpr (EXACT) {
#pragma unroll
    for (int k = 0; k < 4; ++k) mma(sum, slab.a[k], columns.b[k]);
  } else {
    float unscaled[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int k = 0; k < 4; ++k) mma(unscaled, slab.a[k], columns.b[k]);
    sum[0] += upper * unscaled[0];
    sum[1] += upper * unscaled[1];
    sum[2] += lower * unscaled[2];
    sum[3] += lower * unscaled[3];
  }
}

// Where a warp works within a tile.
struct Place {
  u32 lane, row, depth;  // row: its first one; depth: its first block within a step

  __device__ Place(u32 warp, u32 lane_)
      : lane(lane_), row(warp % ROW_WARPS * WARP_ROWS), depth(warp / ROW_WARPS) {}
  __device__ u32 lane_entry() const { return entry_of_lane(0, lane); }
};

using Sums = float[ROW_TILES][COLUMN_TILES][4];

// The warp's second scales of one step, read ahead of the stage they belong to.
struct Groups {
  float2 of[DEPTH_TURNS][WARP_SCALES];

  __device__ Groups(const Problem& p, const Walk& walk, const Place& place) {
#pragma unroll
    for (u32 turn = 0; turn < DEPTH_TURNS; ++turn) {
      const u32 step_block = turn * DEPTH_WARPS + place.depth;
      const u32 block = min(walk.step * STEP_BLOCKS + step_block, p.blocks() - 1);
#pragma unroll
      for (u32 i = 0; i < WARP_SCALES; ++i) {
        const u32 tile_row = place.row + i * WARP + place.lane;
        const u32 row = min(walk.tile * ROWS + tile_row, p.out_features - 1);
        of[turn][i] = __ldg(p.groups + ((row * p.blocks() + block) >> p.group_shift));
      }
    }
  }
};

// Add one block of 64, the step's `block`-th, to the warp's sums.
__device__ __forceinline__ void consume(Sums& sums, u32 stage, u32 block,
                                        const float2 (&groups)[WARP_SCALES], const Place& place) {
  const u32 band = place.row / BAND, row = place.row % BAND;
  const u32 tile = band * STEP_BLOCKS + block;
  const u32 slab_codes = stage + tile * TILE_BYTES + row / 16 * 512 + place.lane * 16;
  const u32 row_scales = stage + STAGE_SCALES + tile * BAND + row + place.lane;
  const u32 x = stage + STAGE_X + block * BLOCK * 2;
  float scales[WARP_SCALES];
#pragma unroll
  for (u32 i = 0; i < WARP_SCALES; ++i) {
    const u32 code = load_byte(row_scales + i * WARP);
    scales[i] = decode_scale(load_float(SCALE_TABLE + code * 4), groups[i]);
  }
  const auto scale_of = [&](u32 tile_row, u32 half) {
    return __shfl_sync(~0u, scales[tile_row / 2], tile_row % 2 * 16 + half * 8 + place.lane / 4);
  };
  if constexpr (COLUMN_TILES < 4) {  // few tokens: hold them, decode slab by slab
    Columns columns[COLUMN_TILES];
#pragma unroll
    for (u32 n = 0; n < COLUMN_TILES; ++n) columns[n] = load_columns(x + n * 8 * X_STRIDE, place.lane);
#pragma unroll
    for (u32 m = 0; m < ROW_TILES; ++m) {
      const float upper = scale_of(m, 0), lower = scale_of(m, 1);
      const Slab slab = decode_slab(load_quad(slab_codes + m * 512), place.lane_entry(), upper, lower);
#pragma unroll
      for (u32 n = 0; n < COLUMN_TILES; ++n) multiply(sums[m][n], slab, columns[n], upper, lower);
    }
  } else {  // many tokens: hold the weights, read tokens as they come
    Slab slabs[ROW_TILES];
    float upper[ROW_TILES], lower[ROW_TILES];
#pragma unroll
    for (u32 m = 0; m < ROW_TILES; ++m) {
      upper[m] = scale_of(m, 0);
      lower[m] = scale_of(m, 1);
      slabs[m] = decode_slab(load_quad(slab_codes + m * 512), place.lane_entry(), upper[m], lower[m]);
    }
#pragma unroll
    for (u32 n = 0; n < COLUMN_TILES; ++n) {
      const Columns columns = load_columns(x + n * 8 * X_STRIDE, place.lane);
#pragma unroll
      for (u32 m = 0; m < ROW_TILES; ++m) multiply(sums[m][n], slabs[m], columns, upper[m], lower[m]);
    }
  }
}

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
__device__ __forceinline__ void reduce_warps(Sums& sums, const Place& place, u32 thread, Take take) {
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

// Announce this block's part; true for the block that is last to do so.
__device__ __forceinline__ bool is_last(const Problem& p, u32 tile, u32 parts, u32 thread) {
  u32* flag = reinterpret_cast<u32*>(__cvta_shared_to_generic(LAST_FLAG));
  if (thread == 0) {
    __threadfence();
    const bool last = atomicAdd(p.arrivals + tile, 1) + 1 == parts;
    if (last) {
      p.arrivals[tile] = 0;  // ready for the next launch
      __threadfence();
    }
    *flag = last;
  }
  sync_threads(CONSUMER_THREADS);
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
  for (u32 base = thread; base < quads; base += CONSUMER_THREADS * AT_ONCE) {
    float4 total[AT_ONCE] = {};
#pragma unroll 2
    for (u32 block = sharing.first; block <= sharing.last; ++block) {
      const bool second = block == sharing.first && sharing.first_has_earlier;
      const float4* part = reinterpret_cast<const float4*>(p.partials + Sharing::part(block, second));
#pragma unroll
      for (u32 i = 0; i < AT_ONCE; ++i) {
        const u32 quad = base + i * CONSUMER_THREADS;
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
      const u32 quad = base + i * CONSUMER_THREADS;
      const u32 token = quad * 4 / ROWS, row = tile * ROWS + quad * 4 % ROWS;
      if (quad >= quads || row >= p.out_features) continue;
      store_row(p, token, row, pack_bf16(total[i].x, total[i].y));
      store_row(p, token, row + 2, pack_bf16(total[i].z, total[i].w));
    }
  }
}

// Turn the sums of a finished piece into output, or into a part that its last block joins.
__device__ __forceinline__ void finish_piece(const Problem& p, const Walk& walk, Sums& sums,
                                             const Place& place, u32 thread) {
  const Sharing sharing(p, walk);
  float* part = p.partials + Sharing::part(blockIdx.x, walk.tile != walk.first_tile);
  reduce_warps(sums, place, thread, [&](u32 token, u32 row, float2 total) {
    if (token >= p.tokens) return;
    if (!sharing.whole()) {
      *reinterpret_cast<float2*>(part + token * ROWS + row) = total;
    } else if (walk.tile * ROWS + row < p.out_features) {
      store_row(p, token, walk.tile * ROWS + row, pack_bf16(total.x, total.y));
    }
  });
  if (sharing.whole()) return;
  if (is_last(p, walk.tile, sharing.last - sharing.first + 1, thread)) {
    join_parts(p, walk.tile, sharing, thread);
  }
  sync_threads(CONSUMER_THREADS);
}

__device__ void consume_all(const Problem& p, u32 thread) {
  const Place place(thread / WARP, thread % WARP);
  Sums sums = {};
  Ring ring;
  for (Walk walk(p); !walk.done(); walk.advance(), ring.advance()) {
    const Groups groups(p, walk, place);
    barrier_wait(ring.full(), ring.parity);
#pragma unroll
    for (u32 turn = 0; turn < DEPTH_TURNS; ++turn) {
      const u32 block = turn * DEPTH_WARPS + place.depth;
      if (walk.step * STEP_BLOCKS + block < p.blocks()) {
        consume(sums, ring.stage(), block, groups.of[turn], place);
      }
    }
    __syncwarp();
    if (place.lane == 0) barrier_arrive(ring.empty());
    if (walk.ends_piece()) finish_piece(p, walk, sums, place, thread);
  }
}

extern "C" __global__ void __launch_bounds__(CONSUMER_THREADS + WARP, 1)
    nf4_mma(const u8* codes, const u8* scales, const float* scale_table, const float2* groups,
            const u8* x, u16* y, float* partials, u32* arrivals, u32 tokens, u32 out_features,
            u32 in_features, u32 group_shift) {
  extern __shared__ __align__(1024) u8 shared[];
  const u32 thread = threadIdx.x;
  const Problem p{codes,    scales, scale_table,  groups,      x,          y,
                  partials, arrivals, tokens, out_features, in_features, group_shift};
  if (thread == 0) {
    if (shared_address(shared) != SHARED_BASE) __trap();  // addresses here are absolute
    for (u32 stage = 0; stage < STAGES; ++stage) {
      barrier_init(FULL + stage * 8, COPY_ARRIVALS);
      barrier_init(EMPTY + stage * 8, CONSUMERS);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if (thread >= CONSUMER_THREADS) {
    produce(p, thread - CONSUMER_THREADS);
    return;
  }
  fill_table(0, thread, CONSUMER_THREADS);
  for (u32 i = thread; i < 256; i += CONSUMER_THREADS) {
    store_float(SCALE_TABLE + i * 4, __ldg(scale_table + i));
  }
  sync_threads(CONSUMER_THREADS);
  wait_for_inputs();
  release_dependents();
  consume_all(p, thread);
}
