// What one instruction set offers to the executor: rows of floats in, rows of floats out.
#pragma once
#include <cstdint>

#include "cache.h"

namespace mull {

// How activations are laid out for a type of weights (forms.h).
enum Form { kBytes256, kBytes32, kSingles, kPairs };

// Numbers whose maximum run_maxima takes.
constexpr int kRun = 64;

// Activations of gated networks.
enum Kind { kSilu, kGelu };

// A tile of rows of queries, of any heads that share kv_head, for attention that keeps its scores (plain.h).
struct PlainRows {
    int kv_head, n;
    const float* queries[kMaxQueries];
    int32_t positions[kMaxQueries];  // in order
    float sinks[kMaxQueries];        // one more logit in a row's denominator; -infinity: none
    float* out[kMaxQueries];
    float* scores;
};

struct Isa {
    const char* name;
    int lanes;
    bool (*supported)();

    // panels.h, products.h
    int64_t (*panel_bytes)(int type, int64_t cols);
    bool (*pack_panel)(int type, const uint8_t* weights, int64_t rows, int64_t cols, int64_t index, uint8_t* panel,
                       uint8_t* wide);
    int (*form_of)(int type);
    int64_t (*form_row_bytes)(int form, int64_t cols);
    int (*tile_rows)(int64_t m);
    void (*put_tile)(int form, const float* x, int64_t stride, int64_t cols, int64_t first, int64_t last, int n,
                     uint8_t* tile);
    void (*multiply)(int type, const uint8_t* panels, int64_t rows, int64_t cols, int64_t first, int64_t last,
                     const uint8_t* x, int64_t m, const float* bias, float* y, int64_t y_stride, uint8_t* opened);
    int64_t (*opened_bytes)(int type, int64_t cols);

    // rows.h
    void (*rms_norm)(const float* x, const float* weight, float eps, int64_t cols, float* out);
    void (*add_scaled)(float* x, const float* y, float factor, int64_t cols);
    void (*rotate)(float* x, const float* cosines, const float* sines, int64_t half, bool interleaved);
    void (*gate_row)(int kind, const float* gate, const float* up, int64_t cols, float* out);
    void (*run_maxima)(const float* x, int64_t count, float* out);
    void (*cap_row)(float* x, int64_t cols, float factor, float cap);

    // attention.h, pairs.h
    int (*queries_at_once)(int key_type, int value_type, int64_t tokens);
    void (*append_key)(int type, const float* x, int head_dim, uint8_t* block, int slot);
    void (*append_value)(int type, const float* x, int head_dim, uint8_t* block, int slot);
    void (*attend)(const Attention& attention, int kv_head, const float* const* queries, const int32_t* positions, int n,
                   int64_t first_key, int64_t last_key, float* acc, float* largest, float* sums);
    void (*merge)(const AttentionParts& parts, float* out);

    // plain.h: scores, then weights in their place, then the sums of values
    void (*plain_scores)(const Attention& attention, const PlainRows& rows);
    void (*plain_weights)(const Attention& attention, const PlainRows& rows);
    void (*plain_values)(const Attention& attention, const PlainRows& rows);
};

extern const Isa avx512, avx_vnni, avx2, neon, baseline;

// Those that are compiled for this kind of processor, best first.
#if defined(__x86_64__)
inline const Isa* const kIsas[] = {&avx512, &avx_vnni, &avx2, &baseline};
#elif defined(__aarch64__)
inline const Isa* const kIsas[] = {&neon, &baseline};
#else
inline const Isa* const kIsas[] = {&baseline};
#endif

}  // namespace mull
