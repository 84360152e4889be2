// Attention of a few rows of queries over a paged cache (cache.h): online softmax, 64 keys at a time (Dao et
// al., 2022), over any part of the context (flash-decoding, Dao et al., 2023). Included inside an instruction
// set's namespace.
//
// Scores come with one key per lane, as keys are stored dim by dim; the sum of values with one dim per lane.
// Slots that a row does not see may hold anything: their scores are masked lane by lane, their values are
// never read.

constexpr int kTile = 64, kTileBlocks = kTile / kSlots;
constexpr int kFetchLevel = 2;             // what is fetched ahead goes to the second level of caches
constexpr int kSums = R == 16 ? 16 : 12;  // vectors summed up at once, which leave registers for factors

// The largest power of two of vectors per row that n rows' sums have registers for.
constexpr int vectors_for(int n, int most) {
    int c = 1;
    while (2 * c * n <= kSums && 2 * c <= most) c *= 2;
    return c;
}

// A type of keys and values: bytes of one number, numbers per step, and how R of them are read.
template <int Id>
struct CachedFloat {
    static constexpr int id = Id, size = Id == F32 ? 4 : 2;
    static constexpr bool scaled = false;
    static constexpr int steps = 8, head = 0;  // a group is 16 dims here: two per step
    static constexpr int dim_bytes = kSlots * size, key_group = 16 * dim_bytes;
    template <int Second>
    static constexpr int dim(int step) { return 2 * step + Second; }
    static MULL_INLINE F32s read(const uint8_t* p) {
        if constexpr (Id == F32) return load((const float*)p);
        else if constexpr (Id == F16) return load_halves(p);
        else return from_bits(load_u16(p) << 16);
    }
    template <int Second>
    static MULL_INLINE F32s key(const uint8_t* p, int step) {
        return read(p + dim<Second>(step) * dim_bytes);
    }
    // R values of a slot, `Offset` dims beyond dim `first`.
    template <int Offset>
    static MULL_INLINE F32s value(const uint8_t* block, int slot, int first, int head_dim) {
        return read(block + (slot * head_dim + first + Offset) * size);
    }
};

template <int Id>
struct CachedCodes {
    static constexpr int id = Id, size = 1, bytes = Id == Q8_0 ? 32 : 16;
    static constexpr bool scaled = true;
    static constexpr int steps = 16, head = 2 * kSlots;
    static constexpr int key_group = (2 + bytes) * kSlots, dim_bytes = key_group / 32;
    template <int Second>
    static constexpr int dim(int step) { return Id == Q8_0 ? 2 * step + Second : step + 16 * Second; }
    static MULL_INLINE F32s nibbles(const uint8_t* p, bool high) {
        const I32s both = load_u8(p);
        return to_float((high ? both >> 4 : both & 15) - 8);
    }
    template <int Second>
    static MULL_INLINE F32s key(const uint8_t* p, int step) {
        if constexpr (Id == Q8_0) return to_float(load_s8(p + dim<Second>(step) * kSlots));
        else return nibbles(p + step * kSlots, Second);
    }
    template <int Offset>
    static MULL_INLINE F32s value(const uint8_t* block, int slot, int first, int) {
        const int inside = first % 32 + Offset % 32;
        const uint8_t* p = block + (first / 32 + Offset / 32) * key_group + head + slot * bytes;
        if constexpr (Id == Q8_0) return to_float(load_s8(p + inside));
        else return nibbles(p + inside % 16, inside >= 16);
    }
};

// The blocks of a tile, and of the next one to be fetched meanwhile.
struct TileBlocks {
    const uint8_t* now[kTileBlocks];
    const uint8_t* next[kTileBlocks];
};

// Fetch what a later tile will read.
template <int Bytes>
MULL_INLINE void fetch(const uint8_t* p) {
    for (int i = 0; i < Bytes; i += 64) __builtin_prefetch(p + i, 0, kFetchLevel);
}

// One group of dims: sum[c][t] += q[dim][t] · key[dim][c].
template <class T, int N, int C>
MULL_INLINE void score_group(const float* q, const uint8_t* const (&codes)[C], F32s (&sum)[C][N]) {
    for (int step = 0; step < T::steps; step++)
        each<2>([&](auto second) MULL_INLINE_LAMBDA {
            constexpr int s = decltype(second)::value;
            const float* factors = q + T::template dim<s>(step) * N;
            F32s key[C];
            each<C>([&](auto c) MULL_INLINE_LAMBDA { key[c] = T::template key<s>(codes[c], step); });
            each<N>([&](auto t) MULL_INLINE_LAMBDA {
                const F32s factor = floats(factors[t]);
                each<C>([&](auto c) MULL_INLINE_LAMBDA { sum[c][t] = fma(key[c], factor, sum[c][t]); });
            });
        });
}

// Scores of C·R keys from `first` on: out [N][kTile] = q · key.
template <class T, int N, int C>
void score_pass(const float* q, int head_dim, const TileBlocks& blocks, int first, float* out) {
    constexpr int dims = T::scaled ? 32 : 16, taken = C * R > kSlots ? C * R / kSlots : 1;
    const int groups = head_dim / dims;
    const uint8_t *codes[C], *scales[C];
    F32s sum[C][N], zero = floats(0);
    each<C>([&](auto c) MULL_INLINE_LAMBDA {
        const int key = first + decltype(c)::value * R;
        scales[c] = blocks.now[key / kSlots] + key % kSlots * 2;
        codes[c] = blocks.now[key / kSlots] + T::head + key % kSlots * T::size;
        each<N>([&](auto t) MULL_INLINE_LAMBDA { sum[c][t] = zero; });
        if (T::scaled) each<N>([&](auto t) MULL_INLINE_LAMBDA { store(out + t * kTile + key, zero); });
    });
    for (int g = 0; g < groups; g++, q += dims * N) {
        for (int i = g * taken; i < (g + 1) * taken; i++)
            fetch<T::key_group>(blocks.next[first / kSlots + i / groups] + i % groups * T::key_group);
        score_group<T, N, C>(q, codes, sum);
        each<C>([&](auto c) MULL_INLINE_LAMBDA {
            codes[c] += T::key_group;
            if constexpr (T::scaled) {
                const F32s scale = load_halves(scales[c]);
                scales[c] += T::key_group;
                float* at = out + first + decltype(c)::value * R;
                each<N>([&](auto t) MULL_INLINE_LAMBDA {
                    store(at + t * kTile, fma(sum[c][t], scale, load(at + t * kTile)));
                    sum[c][t] = zero;
                });
            }
        });
    }
    if constexpr (!T::scaled)
        each<C>([&](auto c) MULL_INLINE_LAMBDA {
            float* at = out + first + decltype(c)::value * R;
            each<N>([&](auto t) MULL_INLINE_LAMBDA { store(at + t * kTile, sum[c][t]); });
        });
}

// Scores of the first `count` keys of a tile, and of up to C·R - 1 more.
template <class T, int N>
void score_tile(const float* q, int head_dim, const TileBlocks& blocks, int count, float* out) {
    constexpr int C = vectors_for(N, kTile / R);
    for (int first = 0; first < count; first += C * R) score_pass<T, N, C>(q, head_dim, blocks, first, out);
}

// Rows of a tile: their weights [N][kTile], the keys that all of them see, what their sums are multiplied by
// first.
struct Weighted {
    const float* weights;
    int first, last;
    const float* fade;
    float* acc;
    int head_dim;
};

// C·R dims from `dim` on: acc = acc · fade + Σ weight · value.
template <class T, int N, int C>
void value_pass(const Weighted& rows, const TileBlocks& blocks, int dim) {
    constexpr int groups = T::scaled && C * R > 32 ? C * R / 32 : 1;
    const float* weights = rows.weights;
    alignas(64) float scaled[T::scaled ? groups * N * kTile : 1];
    if constexpr (T::scaled) {
        for (int key = rows.first / kSlots * kSlots; key < rows.last; key += R)
            each<groups>([&](auto g) MULL_INLINE_LAMBDA {
                const uint8_t* group = blocks.now[key / kSlots] + (dim / 32 + g) * T::key_group;
                const F32s scale = load_halves(group + key % kSlots * 2);
                each<N>([&](auto t) MULL_INLINE_LAMBDA {
                    store(scaled + (g * N + t) * kTile + key, load(rows.weights + t * kTile + key) * scale);
                });
            });
        weights = scaled;
    }
    const int start = C * R % 32 ? dim : dim / 32 * 32;  // the same, but the compiler sees what it divides by
    F32s sum[N][C];
    each<N>([&](auto t) MULL_INLINE_LAMBDA {
        const F32s fade = floats(rows.fade[t]);
        const float* acc = rows.acc + t * rows.head_dim + dim;
        each<C>([&](auto c) MULL_INLINE_LAMBDA { sum[t][c] = load(acc + c * R) * fade; });
    });
    for (int key = rows.first; key < rows.last;) {
        const int b = key / kSlots, end = (b + 1) * kSlots < rows.last ? (b + 1) * kSlots : rows.last;
        const uint8_t *block = blocks.now[b], *ahead = blocks.next[b] + dim * T::dim_bytes;
        for (; key < end; key++) {
            const int slot = key % kSlots;
            const float* at = weights + key;
            F32s value[C];
            each<C>([&](auto c) MULL_INLINE_LAMBDA {
                constexpr int offset = decltype(c)::value * R;
                value[c] = T::template value<offset>(block, slot, start, rows.head_dim);
            });
            each<N>([&](auto t) MULL_INLINE_LAMBDA {
                each<C>([&](auto c) MULL_INLINE_LAMBDA {
                    constexpr int group = T::scaled ? decltype(c)::value * R / 32 : 0;
                    sum[t][c] = fma(value[c], floats(at[(group * N + t) * kTile]), sum[t][c]);
                });
            });
            constexpr int share = C * R * T::dim_bytes / kSlots;  // what this pass fetches for a slot
            fetch<share>(ahead + slot * share);
        }
    }
    each<N>([&](auto t) MULL_INLINE_LAMBDA {
        float* acc = rows.acc + t * rows.head_dim + dim;
        each<C>([&](auto c) MULL_INLINE_LAMBDA { store(acc + c * R, sum[t][c]); });
    });
}

template <class T, int N, int C>
MULL_INLINE void value_passes(const Weighted& rows, const TileBlocks& blocks, int dim) {
    for (; dim + C * R <= rows.head_dim; dim += C * R) value_pass<T, N, C>(rows, blocks, dim);
    if constexpr (C > 1) value_passes<T, N, C / 2>(rows, blocks, dim);
}

template <class T, int N>
void value_tile(const Weighted& rows, const TileBlocks& blocks) {
    value_passes<T, N, vectors_for(N, 8)>(rows, blocks, 0);
}

using ScoreTile = void (*)(const float* q, int head_dim, const TileBlocks& blocks, int count, float* out);
using ValueTile = void (*)(const Weighted& rows, const TileBlocks& blocks);

template <class T>
struct AttentionKernels {
    static ScoreTile score(int n) {
        constexpr ScoreTile all[] = {score_tile<T, 1>, score_tile<T, 2>, score_tile<T, 3>, score_tile<T, 4>,
                                     score_tile<T, 5>, score_tile<T, 6>, score_tile<T, 7>, score_tile<T, 8>};
        return all[n - 1];
    }
    static ValueTile value(int n) {
        constexpr ValueTile all[] = {value_tile<T, 1>, value_tile<T, 2>, value_tile<T, 3>, value_tile<T, 4>,
                                     value_tile<T, 5>, value_tile<T, 6>, value_tile<T, 7>, value_tile<T, 8>};
        return all[n - 1];
    }
};

inline ScoreTile find_score(int type, int n) {
    switch (type) {
        case F32: return AttentionKernels<CachedFloat<F32>>::score(n);
        case F16: return AttentionKernels<CachedFloat<F16>>::score(n);
        case BF16: return AttentionKernels<CachedFloat<BF16>>::score(n);
        case Q8_0: return AttentionKernels<CachedCodes<Q8_0>>::score(n);
        default: return AttentionKernels<CachedCodes<Q4_0>>::score(n);
    }
}

inline ValueTile find_value(int type, int n) {
    switch (type) {
        case F32: return AttentionKernels<CachedFloat<F32>>::value(n);
        case F16: return AttentionKernels<CachedFloat<F16>>::value(n);
        case BF16: return AttentionKernels<CachedFloat<BF16>>::value(n);
        case Q8_0: return AttentionKernels<CachedCodes<Q8_0>>::value(n);
        default: return AttentionKernels<CachedCodes<Q4_0>>::value(n);
    }
}

// Keys of a tile, or of the context, from first to last - 1.
struct KeySpan {
    int64_t first, last;
};
MULL_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
MULL_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// One row's way through the tiles.
struct QueryRow {
    KeySpan sees;
    float largest = -INFINITY;
    F32s sums = floats(0);
    QueryRow() {}
};

// Turn one row's scores of a tile into weights: e^(score - largest so far) for the keys of `sees`, 0 for the
// others. Returns what came before must be multiplied by.
inline float weigh(QueryRow& row, KeySpan sees, float softcap, float* scores) {
    constexpr int vectors = kTile / R;
    alignas(64) static constexpr int32_t kOrder[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const F32s masked = floats(-INFINITY);
    F32s score[vectors], top = masked;
    const I32s order = bits(load((const float*)kOrder));
    const bool whole = sees.first <= 0 && sees.last >= kTile;
    each<vectors>([&](auto v) MULL_INLINE_LAMBDA {
        F32s s = load(scores + v * R);
        if (softcap != 0) s = floats(softcap) * tanh(s * floats(1 / softcap));
        if (!whole) {
            const I32s key = order + int32_t(v * R);
            s = choose((key >= int32_t(sees.first)) & (key < int32_t(sees.last)), s, masked);
        }
        score[v] = s;
        top = larger(top, s);
    });
    const float before = row.largest, now = largest(top);
    if (now > before) row.largest = now;
    const F32s base = floats(row.largest == -INFINITY ? 0 : row.largest);
    F32s sums = floats(0);
    each<vectors>([&](auto v) MULL_INLINE_LAMBDA {
        const F32s weight = exponential_of_negative(score[v] - base);
        store(scores + v * R, weight);
        sums += weight;
    });
    const F32s fade = row.largest == before ? floats(1) : exponential_of_negative(floats(before) - base);
    row.sums = fma(row.sums, fade, sums);
    return fade[0];
}

// The blocks of the tile at key `first`, and of the next one; beyond `last` those of `then`, or the last one again.
inline TileBlocks tile_blocks(const Cached& region, const int32_t* blocks, int kv_head, int64_t first, int64_t last,
                              const Context* then = nullptr) {
    const bool over = then && then->first < then->last && first + kTile >= last;
    const Context next = over ? *then : Context{blocks, kv_head, first + kTile, last};
    const uint8_t* head = region.data + kv_head * region.head_stride;
    const int64_t end = (last - 1) / kSlots, beyond = (next.last - 1) / kSlots;
    TileBlocks out;
    for (int i = 0; i < kTileBlocks; i++) {
        out.now[i] = head + blocks[least(first / kSlots + i, end)] * region.block_stride;
        out.next[i] = region.data + next.kv_head * region.head_stride +
                      next.blocks[least(next.first / kTile * kTileBlocks + i, beyond)] * region.block_stride;
    }
    return out;
}

// Add a tile's values: the keys that all rows see together, the others row by row, for a weight of 0 does not
// hide a value that is not finite. A row's keys are added in their order, whatever the other rows see.
inline void add_values(const Attention& a, const TileBlocks& blocks, const KeySpan* sees,
                       const float* weights, float* fade, int n, float* acc) {
    const int dims = a.head_dim;
    KeySpan shared = sees[0];
    for (int t = 1; t < n; t++)
        shared = {most(shared.first, sees[t].first), least(shared.last, sees[t].last)};
    if (shared.last < shared.first) shared.last = shared.first;
    const ValueTile single = find_value(a.values.type, 1);
    const auto add = [&](int t, int64_t first, int64_t last) {
        if (first >= last) return;
        single({weights + t * kTile, int(first), int(last), fade + t, acc + t * dims, dims}, blocks);
        fade[t] = 1;
    };
    for (int t = 0; t < n; t++) add(t, sees[t].first, least(sees[t].last, shared.first));
    find_value(a.values.type, n)({weights, int(shared.first), int(shared.last), fade, acc, dims}, blocks);
    for (int t = 0; t < n; t++) {
        fade[t] = 1;
        add(t, most(sees[t].first, shared.last), sees[t].last);
    }
}

// Softmax over a part of the context, left apart: acc [n][head_dim] = Σ e^(score - largest) · value, and sums
// = Σ e^(score - largest). Row t sees the keys up to positions[t] from first_key to last_key - 1, and of
// those as many as the window holds; a row that sees none has sum 0. n ≤ kMaxQueries rows of any heads that
// share kv_head.
inline void attend_few(const Attention& a, int kv_head, const float* const* queries, const int32_t* positions,
                   int n, int64_t first_key, int64_t last_key, float* acc, float* largest, float* sums) {
    alignas(64) float q[kMaxQueries * kMaxHeadDim], weights[kMaxQueries * kTile];
    QueryRow rows[kMaxQueries];
    KeySpan all = {last_key, first_key};
    for (int t = 0; t < n; t++) {
        const int64_t end = int64_t(positions[t]) + 1;
        rows[t].sees = {a.window > 0 ? most(first_key, end - a.window) : first_key, least(last_key, end)};
        if (rows[t].sees.first < rows[t].sees.last)
            all = {least(all.first, rows[t].sees.first), most(all.last, rows[t].sees.last)};
        for (int i = 0; i < a.head_dim; i++) q[i * n + t] = queries[t][i] * a.scale;
    }
    __builtin_memset(acc, 0, size_t(n) * size_t(a.head_dim) * 4);
    const ScoreTile score = find_score(a.keys.type, n);
    // Tiles begin at multiples of their size, so that a key's tile does not depend on which rows are together.
    for (int64_t at = all.first / kTile * kTile; at < all.last; at += kTile) {
        const int count = int(least(kTile, all.last - at));
        score(q, a.head_dim, tile_blocks(a.keys, a.blocks, kv_head, at, all.last, a.then), count, weights);
        KeySpan sees[kMaxQueries];
        float fade[kMaxQueries];
        for (int t = 0; t < n; t++) {
            sees[t] = {most(rows[t].sees.first - at, 0), least(rows[t].sees.last - at, kTile)};
            if (sees[t].last <= sees[t].first) sees[t] = {0, 0};
            fade[t] = weigh(rows[t], sees[t], a.softcap, weights + t * kTile);
        }
        add_values(a, tile_blocks(a.values, a.blocks, kv_head, at, all.last, a.then), sees, weights, fade, n, acc);
    }
    for (int t = 0; t < n; t++) largest[t] = rows[t].largest, sums[t] = sum(rows[t].sums);
}

// Put the parts of one row together: out [head_dim]; 0 where no key was seen.
inline void merge(const AttentionParts& parts, float* out) {
    float top = parts.sink;
    for (int p = 0; p < parts.count; p++)
        if (parts.largest[p * parts.stride] > top) top = parts.largest[p * parts.stride];
    const float base = top == -INFINITY ? 0 : top;
    float total = exponential_of_negative(floats(parts.sink - base))[0];
    if (parts.count == 1) {
        const F32s share = exponential_of_negative(floats(*parts.largest - base));
        total += share[0] * *parts.sums;
        const F32s factor = share * floats(total == 0 ? 0 : 1 / total);
        for (int i = 0; i < parts.head_dim; i += R) store(out + i, load(parts.acc + i) * factor);
        return;
    }
    for (int i = 0; i < parts.head_dim; i += R) store(out + i, floats(0));
    for (int p = 0; p < parts.count; p++) {
        const F32s share = exponential_of_negative(floats(parts.largest[p * parts.stride] - base));
        total += share[0] * parts.sums[p * parts.stride];
        for (int i = 0; i < parts.head_dim; i += R)
            store(out + i, fma(load(parts.acc + p * parts.acc_stride + i), share, load(out + i)));
    }
    const F32s norm = floats(total == 0 ? 0 : 1 / total);
    for (int i = 0; i < parts.head_dim; i += R) store(out + i, load(out + i) * norm);
}
