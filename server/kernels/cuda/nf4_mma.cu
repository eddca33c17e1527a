// y = x · Wᵀ for up to 64 tokens, with W in NF4: mma.sync, stream-K, sums in a fixed order.
//
// Output tiles of ROWS rows are cut into steps of DEPTH weights; the steps of all tiles, in one
// line, are shared evenly among the blocks. Warps of a block split a tile's rows ROW_WARPS ways and
// a step's depth DEPTH_WARPS ways; one more warp keeps STAGES steps in flight. A tile that several
// blocks share is put together by whoever finishes last, always from the first part to the last:
// the result does not depend on timing, and a row's sum does not depend on COLUMN_TILES.
#include "nf4_mma_finish.cuh"

__device__ __forceinline__ void copy_weights(const Problem& p, const Walk& walk, const Ring& ring,
                                             u32 lane) {
  const u32 block = walk.step * STEP_BLOCKS, blocks = min(STEP_BLOCKS, p.blocks() - block);
  const u32 band = walk.tile * BANDS, bands = min(BANDS, p.bands() - band);
  const u64 tile = static_cast<u64>(band) * p.blocks() + block;
  if (lane == 0) {
    expect_copies(ring.full(),
                  bands * blocks * (TILE_BYTES + BAND) + p.tokens * blocks * BLOCK * 2);
  }
  __syncwarp();
  copy_rows(ring.stage(), STEP_BLOCKS * TILE_BYTES, p.codes + tile * TILE_BYTES,
            p.blocks() * TILE_BYTES, bands, blocks * TILE_BYTES, ring.full(), lane);
  copy_rows(ring.stage() + STAGE_SCALES, STEP_BLOCKS * BAND, p.scales + tile * BAND,
            p.blocks() * BAND, bands, blocks * BAND, ring.full(), lane);
}

__device__ __forceinline__ void copy_tokens(const Problem& p, const Walk& walk, const Ring& ring,
                                            u32 lane) {
  const u32 block = walk.step * STEP_BLOCKS, blocks = min(STEP_BLOCKS, p.blocks() - block);
  copy_rows(ring.stage() + STAGE_X, X_STRIDE, p.x + block * BLOCK * 2, p.in_features * 2, p.tokens,
            blocks * BLOCK * 2, ring.full(), lane);
  commit_copies(ring.full());
}

__device__ void produce(const Problem& p, u32 lane) {
  Walk walk(p), ahead = walk;
  Ring ring, weights;
  // Weights never change, so the first of them need not wait for the kernel before us.
  for (u32 stage = 0; stage < STAGES && !ahead.done(); ++stage, ahead.advance()) {
    copy_weights(p, ahead, weights, lane);
    weights.advance();
  }
  wait_for_inputs();
  for (; walk.at < ahead.at; walk.advance(), ring.advance()) copy_tokens(p, walk, ring, lane);
  for (; !walk.done(); walk.advance(), ring.advance()) {
    barrier_wait(ring.empty(), ring.parity ^ 1);
    copy_weights(p, walk, ring, lane);
    copy_tokens(p, walk, ring, lane);
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
    for (u32 n = 0; n < COLUMN_TILES; ++n) {
      columns[n] = load_columns(x + n * 8 * X_STRIDE, place.lane);
    }
#pragma unroll
    for (u32 m = 0; m < ROW_TILES; ++m) {
      const float upper = scale_of(m, 0), lower = scale_of(m, 1);
      const Quad codes = load_quad(slab_codes + m * 512);
      const Slab slab = decode_slab(codes, place.lane_entry(), upper, lower);
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
      const Quad codes = load_quad(slab_codes + m * 512);
      slabs[m] = decode_slab(codes, place.lane_entry(), upper[m], lower[m]);
    }
#pragma unroll
    for (u32 n = 0; n < COLUMN_TILES; ++n) {
      const Columns columns = load_columns(x + n * 8 * X_STRIDE, place.lane);
#pragma unroll
      for (u32 m = 0; m < ROW_TILES; ++m) {
        multiply(sums[m][n], slabs[m], columns, upper[m], lower[m]);
      }
    }
  }
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

extern "C" __global__ void __launch_bounds__(THREADS + NF4_BESIDE, 1)
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
  if (thread >= CONSUMER_THREADS + WARP) {
    wait_for_inputs();
    join_all(p, thread - CONSUMER_THREADS - WARP);
    return;
  }
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
  release_dependents();  // not before: who runs beside us relies on x being there
  consume_all(p, thread);
}
