// The cache of keys and values: blocks of 16 slots; what attention is asked for and what it answers. K and V
// of a layer lie apart. Block b of kv head h, cache_bytes(type, head_dim) of them, begins at b · block_stride
// + h · head_stride.
//
//   keys:    F32, F16, BF16:  [head_dim][16 slots]
//            Q8_0, Q4_0:      for every 32 dims: d [16 slots] binary16, then [32][16] int8, or [16][16] bytes
//                             with dims i and i + 16 as low and high nibble
//   values:  F32, F16, BF16:  [16 slots][head_dim]
//            Q8_0, Q4_0:      for every 32 dims: d [16 slots] binary16, then [16 slots][32] int8, or
//                             [16 slots][16] bytes, nibbles as above
//
// The arithmetic of Q8_0 and Q4_0 is GGUF's: d · code and d · (code - 8), in blocks of 32 dims.
#pragma once
#include <cstdint>

#include "blocks.h"

namespace mull {

constexpr int kSlots = 16;         // of a block
constexpr int kMaxQueries = 8;     // rows that attend() takes at once
constexpr int kManyQueries = 48;   // and where queries_at_once() allows it
constexpr int kMaxHeadDim = 1024;

// Bytes of one block of one head, or -1 for a type or size without a layout.
inline int64_t cache_bytes(int type, int head_dim) {
    if (type != F32 && type != F16 && type != BF16 && type != Q8_0 && type != Q4_0) return -1;
    const int whole = block_weights(type) < 16 ? 16 : block_weights(type);
    if (head_dim <= 0 || head_dim > kMaxHeadDim || head_dim % whole) return -1;
    return int64_t(kSlots) * (head_dim / block_weights(type)) * block_bytes(type);
}

// One layer's cache as one sequence sees it.
struct Cached {
    const uint8_t* data;
    int type;
    int64_t block_stride, head_stride;  // bytes from one block, and from one kv head, to the next
};
// Keys of a head from first to last - 1, of a sequence with these blocks.
struct Context {
    const int32_t* blocks;
    int kv_head;
    int64_t first, last;
};
struct Attention {
    Cached keys, values;
    int head_dim;
    const int32_t* blocks;  // of the sequence: key k lies in block blocks[k / kSlots]
    float scale;            // of scores
    float softcap;          // scores become softcap · tanh(score / softcap); 0: none
    int window;             // how many keys a query sees, its own included; 0: all before it
    const Context* then;    // what this thread attends to next, to be fetched meanwhile; null if that is not known
};

// What attend() left of one row of queries, part by part.
struct AttentionParts {
    int count, head_dim;
    const float* acc;
    int64_t acc_stride;  // floats from one part's acc to the next
    const float *largest, *sums;
    int64_t stride;  // floats from one part's largest, or sum, to the next
    float sink;      // one more logit in the denominator; -infinity: none
};

}  // namespace mull
