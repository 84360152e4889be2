// Attention of many rows in products of bfloat16, for prompts: a tile's keys and values are laid out in pairs once for
// all rows, and queries and weights are rounded, as the kernels of GPUs do. Included inside an instruction set's
// namespace, after attention.h.

// How many rows attend() takes at once where it can work in this way, else kMaxQueries. A few tokens are not worth it,
// and drafts must be verified with the very numbers that plain decoding gives.
inline int queries_at_once(int key_type, int value_type, int64_t tokens) {
#ifdef MULL_PAIRS
    constexpr int64_t kFewTokens = 32;
    if (kHasPairs && key_type != F32 && value_type != F32 && tokens >= kFewTokens) return kManyQueries;
#endif
    (void)key_type, (void)value_type, (void)tokens;
    return kMaxQueries;
}

#ifdef MULL_PAIRS
constexpr int kPairRows = 6;  // whose sums fit into registers, four vectors each

// Keys in pairs of dims: out [head_dim / 2][kTile]. `count` slots, and what lies beyond them in the last block.
template <class T>
void pair_keys(const TileBlocks& blocks, int head_dim, int count, uint32_t* out) {
    constexpr int dims = T::scaled ? 32 : 16;
    for (int b = 0; b * kSlots < count; b++) {
        uint32_t* to = out + b * kSlots;
        for (int g = 0; g < head_dim / dims; g++) {
            const uint8_t* group = blocks.now[b] + g * T::key_group;
            const F32s scale = T::scaled ? load_halves(group) : floats(1);
            for (int step = 0; step < T::steps; step++, to += kTile) {
                const F32s a = T::template key<0>(group + T::head, step), c = T::template key<1>(group + T::head, step);
                *(I32s*)to = T::scaled ? pair_bf16(a * scale, c * scale) : pair_bf16(a, c);
            }
        }
    }
}

// Values in pairs of slots: out [kTile / 2][head_dim]; beyond `count`: 0. False if one of them is not finite.
template <class T>
bool pair_values(const TileBlocks& blocks, int head_dim, int count, uint32_t* out) {
    constexpr int dims = T::scaled ? 32 : 16;
    F32s odd = floats(0);
    for (int slot = 0; slot < count; slot += 2, out += head_dim) {
        const uint8_t* block = blocks.now[slot / kSlots];
        for (int first = 0; first < head_dim; first += dims) {
            alignas(64) float scales[R];
            if constexpr (T::scaled) store(scales, load_halves(block + first / 32 * T::key_group));
            each<dims / R>([&](auto part) MULL_INLINE_LAMBDA {
                constexpr int offset = decltype(part)::value * R;
                const int at = slot % kSlots;
                F32s a = T::template value<offset>(block, at, first, head_dim), b = floats(0);
                if (slot + 1 < count) b = T::template value<offset>(block, at + 1, first, head_dim);
                if constexpr (T::scaled) a *= floats(scales[at]), b *= floats(slot + 1 < count ? scales[at + 1] : 0.0f);
                odd += a * 0.0f + b * 0.0f;
                store((float*)(out + first + offset), from_bits(pair_bf16(a, b)));
            });
        }
    }
    return sum(odd) == 0;
}

using PairKeys = void (*)(const TileBlocks& blocks, int head_dim, int count, uint32_t* out);
using PairValues = bool (*)(const TileBlocks& blocks, int head_dim, int count, uint32_t* out);

inline PairKeys find_pair_keys(int type) {
    return type == F16 ? pair_keys<CachedFloat<F16>> : type == BF16 ? pair_keys<CachedFloat<BF16>>
           : type == Q8_0 ? pair_keys<CachedCodes<Q8_0>> : pair_keys<CachedCodes<Q4_0>>;
}
inline PairValues find_pair_values(int type) {
    return type == F16 ? pair_values<CachedFloat<F16>> : type == BF16 ? pair_values<CachedFloat<BF16>>
           : type == Q8_0 ? pair_values<CachedCodes<Q8_0>> : pair_values<CachedCodes<Q4_0>>;
}

// out [N][C·R] = out · fade + a [N][count] · b [count][C·R], all in pairs; fade null: out begins at 0.
template <int N, int C>
void pair_product(const uint32_t* a, int64_t a_stride, const uint32_t* b, int64_t b_stride, int count, const float* fade,
                  float* out, int64_t out_stride) {
    F32s sum[N][C];
    each<N>([&](auto t) MULL_INLINE_LAMBDA {
        each<C>([&](auto c) MULL_INLINE_LAMBDA {
            sum[t][c] = fade ? load(out + t * out_stride + c * R) * floats(fade[t]) : floats(0);
        });
    });
    for (int i = 0; i < count; i++, b += b_stride) {
        I32s pairs[C];
        each<C>([&](auto c) MULL_INLINE_LAMBDA { pairs[c] = *(const I32s*)(b + c * R); });
        each<N>([&](auto t) MULL_INLINE_LAMBDA {
            each<C>([&](auto c) MULL_INLINE_LAMBDA { sum[t][c] = dot_bf16(sum[t][c], pairs[c], a + t * a_stride + i); });
        });
    }
    each<N>([&](auto t) MULL_INLINE_LAMBDA {
        each<C>([&](auto c) MULL_INLINE_LAMBDA { store(out + t * out_stride + c * R, sum[t][c]); });
    });
}

using PairProduct = void (*)(const uint32_t* a, int64_t a_stride, const uint32_t* b, int64_t b_stride, int count,
                             const float* fade, float* out, int64_t out_stride);

template <int C>
PairProduct pair_product_of(int n) {
    constexpr PairProduct all[] = {pair_product<1, C>, pair_product<2, C>, pair_product<3, C>,
                                   pair_product<4, C>, pair_product<5, C>, pair_product<6, C>};
    return all[n - 1];
}

// The same for n rows and any number of vectors.
inline void pair_products(int n, int vectors, const uint32_t* a, int64_t a_stride, const uint32_t* b, int64_t b_stride,
                          int count, const float* fade, float* out, int64_t out_stride) {
    for (int at = 0, c; at < vectors; at += c) {
        c = vectors - at >= 4 ? 4 : vectors - at >= 2 ? 2 : 1;
        const PairProduct product = c == 4 ? pair_product_of<4>(n) : c == 2 ? pair_product_of<2>(n) : pair_product_of<1>(n);
        product(a, a_stride, b + at * R, b_stride, count, fade, out + at * R, out_stride);
    }
}

// A query as pairs of the dims that pair_keys() puts together.
inline void pair_query(int key_type, const float* query, int head_dim, float scale, uint32_t* out) {
    const F32s factor = floats(scale);
    int i = 0;
    for (; i + 2 * R <= head_dim; i += 2 * R) {
        const F32s a = load(query + i) * factor, b = load(query + i + R) * factor;
        if (key_type == Q4_0) store((float*)(out + i / 2), from_bits(pair_bf16(a, b)));
        else store_bf16(out + i / 2, a, b);
    }
    if (i == head_dim) return;
    alignas(64) uint32_t last[R];  // of 16 dims
    store_bf16(last, load(query + i) * factor, floats(0));
    __builtin_memcpy(out + i / 2, last, 2 * R);
}

// What attend() does for more than kMaxQueries rows. False if a value is not finite: a weight of 0 does not hide it here.
inline bool attend_in_pairs(const Attention& a, int kv_head, const float* const* queries, const int32_t* positions, int n,
                            int64_t first_key, int64_t last_key, float* acc, float* largest, float* sums) {
    alignas(64) uint32_t keys[kMaxHeadDim / 2 * kTile], values[kTile / 2 * kMaxHeadDim], q[kManyQueries * kMaxHeadDim / 2];
    alignas(64) float scores[kPairRows * kTile];
    alignas(64) uint32_t weights[kPairRows * kTile / 2];
    QueryRow rows[kManyQueries];
    const int dims = a.head_dim;
    KeySpan all = {last_key, first_key};
    for (int t = 0; t < n; t++) {
        const int64_t end = int64_t(positions[t]) + 1;
        rows[t].sees = {a.window > 0 ? most(first_key, end - a.window) : first_key, least(last_key, end)};
        if (rows[t].sees.first < rows[t].sees.last)
            all = {least(all.first, rows[t].sees.first), most(all.last, rows[t].sees.last)};
        pair_query(a.keys.type, queries[t], dims, a.scale, q + t * dims / 2);
    }
    __builtin_memset(acc, 0, size_t(n) * size_t(dims) * 4);
    const PairKeys pair_keys = find_pair_keys(a.keys.type);
    const PairValues pair_values = find_pair_values(a.values.type);
    for (int64_t at = all.first / kSlots * kSlots; at < all.last; at += kTile) {
        const int count = int(least(kTile, all.last - at));
        pair_keys(tile_blocks(a.keys, a.blocks, kv_head, at, all.last), dims, count, keys);
        if (!pair_values(tile_blocks(a.values, a.blocks, kv_head, at, all.last), dims, count, values)) return false;
        for (int first = 0; first < n; first += kPairRows) {
            const int some = n - first < kPairRows ? n - first : kPairRows;
            KeySpan sees[kPairRows];
            int seen = 0;
            for (int t = 0; t < some; t++) {
                const KeySpan& row = rows[first + t].sees;
                sees[t] = {most(row.first - at, 0), least(row.last - at, kTile)};
                if (sees[t].last <= sees[t].first) sees[t] = {0, 0};
                seen = int(most(seen, sees[t].last));
            }
            if (!seen) continue;
            float fade[kPairRows];
            pair_products(some, seen > kTile / 2 ? kTile / R : (seen + R - 1) / R, q + first * dims / 2, dims / 2, keys, kTile, dims / 2, nullptr, scores, kTile);
            for (int t = 0; t < some; t++) {
                float* row = scores + t * kTile;
                fade[t] = weigh(rows[first + t], sees[t], a.softcap, row);
                for (int i = 0; i < kTile; i += 2 * R) store_bf16(weights + (t * kTile + i) / 2, load(row + i), load(row + i + R));
            }
            pair_products(some, dims / R, weights, kTile / 2, values, dims, (seen + 1) / 2, fade, acc + first * dims, dims);
        }
    }
    for (int t = 0; t < n; t++) largest[t] = rows[t].largest, sums[t] = sum(rows[t].sums);
    return true;
}
#endif

// As attend_few(), and for up to kManyQueries rows where queries_at_once() says so.
inline void attend(const Attention& a, int kv_head, const float* const* queries, const int32_t* positions, int n,
                   int64_t first_key, int64_t last_key, float* acc, float* largest, float* sums) {
#ifdef MULL_PAIRS
    if (n > kMaxQueries && kHasPairs && a.keys.type != F32 && a.values.type != F32 &&
        attend_in_pairs(a, kv_head, queries, positions, n, first_key, last_key, acc, largest, sums))
        return;
#endif
    for (int at = 0; at < n; at += kMaxQueries)
        attend_few(a, kv_head, queries + at, positions + at, n - at < kMaxQueries ? n - at : kMaxQueries, first_key, last_key,
                   acc + at * a.head_dim, largest + at, sums + at);
}
