// The sizes of nf4_mma.cu, and who works where: tiles, steps, stages, warps.
//
// Defined by whoever compiles this (shapes.py): NF4_COLUMN_TILES (of 8 tokens), NF4_ROW_TILES (of 16
// rows, per warp), NF4_ROW_WARPS, NF4_DEPTH_WARPS, NF4_DEPTH_TURNS (blocks of 64 that a depth warp
// takes per step), NF4_FINISHERS (warps, or none), NF4_BESIDE (threads of other kernels that are
// to find registers on the same multiprocessor), NF4_SHARED (bytes of shared memory), NF4_EXACT.
#pragma once
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
constexpr u32 FINISHER_THREADS = NF4_FINISHERS * WARP;
constexpr u32 THREADS = CONSUMER_THREADS + WARP + FINISHER_THREADS;
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
  // Whether the piece at hand is not the block's first.
  __device__ bool is_second() const { return tile != first_tile; }
  __device__ bool ends_piece() const { return step + 1 == per_tile || at + 1 == end; }
  __device__ void next_piece() {
    at += min(per_tile - step, end - at);
    step = 0;
    ++tile;
  }
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

// Where a warp works within a tile.
struct Place {
  u32 lane, row, depth;  // row: its first one; depth: its first block within a step

  __device__ Place(u32 warp, u32 lane_)
      : lane(lane_), row(warp % ROW_WARPS * WARP_ROWS), depth(warp / ROW_WARPS) {}
  __device__ u32 lane_entry() const { return entry_of_lane(0, lane); }
};

using Sums = float[ROW_TILES][COLUMN_TILES][4];
