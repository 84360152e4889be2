// Programs: a model's step as a list of operations on float buffers, one row per token. All threads walk the list
// together and meet after each operation, or after some that treat each row on its own.
//
// What the numbers of an operation mean; (b, o) is a place: a buffer and a column in it. Buffer -1 holds the logits.
// Operations act on the step's tokens, and after Select on those that are wanted.
#pragma once
#include <cstdint>

#include "mull.h"

namespace mull {

enum Code {
    kEmbed,     // out b,  table, type, row bytes, cols, bytes of the table if it lies in a mapped file;  f: factor
    kAngles,    // out b,  half, frequencies;  f: factor.  Cosines, then sines, of the positions.
    kSelect,    // from b, to b, cols.  Rows of the wanted tokens, to the front; b may be one buffer.
    kNorm,      // from (b, o), to (b, o), cols, weight, groups;  f: eps.  Each group of `cols` columns on its own.
    kResidual,  // x b, y b, cols, weight or 0;  f: factor, eps.  x += factor · y, y normalised if there is a weight.
    kProduct,   // from (b, o), cols, count, then for each matrix: packed, type, rows, to (b, o), bias or 0;
                // at kGating: 0, or 1 + kind: act(first) · second, of two alike, to the first's place
    kRotate,    // (b, o), heads, head_dim, angles b, half, interleaved
    kAttend,    // q (b, o), k (b, o), v (b, o), to b, heads, kv_heads, head_dim, layer, window or 0,
                // sinks or 0;  f: scale, softcap or 0
    kGate,      // gate (b, o), up (b, o), to b, cols, kind
    kExperts,   // x b, router's logits b, to b, hidden, inner, experts, chosen, renormalise, kind, three lists of
                // packed matrices (gate, up, down), their three types
    kCap,       // b, cols;  f: factor, cap or 0.  cap · tanh(factor · x / cap)
    kCodes
};

constexpr int kMostMatrices = 3;  // of one product
constexpr int kGating = 4 + 6 * kMostMatrices;

}  // namespace mull
