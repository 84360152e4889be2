// Attention as textbooks write it (Vaswani et al., 2017), to be compared with that of attention.h: all scores of
// a step lie in memory before the first of them is weighed, and all weights before the first value is. Included
// inside an instruction set's namespace.
//
// A tile of rows keeps its scores as [keys / kTile][rows][kTile]. Tiles that no row of it sees are never
// touched.

// The keys that a row sees.
MULL_INLINE KeySpan seen_from(const Attention& a, int32_t position) {
    const int64_t end = int64_t(position) + 1;
    return {a.window > 0 ? most(0, end - a.window) : 0, end};
}

// Those that any row of the tile sees.
MULL_INLINE KeySpan seen_by(const Attention& a, const PlainRows& rows) {
    return {seen_from(a, rows.positions[0]).first, seen_from(a, rows.positions[rows.n - 1]).last};
}

inline void plain_scores(const Attention& a, const PlainRows& rows) {
    alignas(64) float q[kMaxQueries * kMaxHeadDim];
    const KeySpan seen = seen_by(a, rows);
    const int n = rows.n;
    for (int t = 0; t < n; t++)
        for (int i = 0; i < a.head_dim; i++) q[i * n + t] = rows.queries[t][i] * a.scale;
    const ScoreTile score = find_score(a.keys.type, n);
    for (int64_t at = seen.first / kTile * kTile; at < seen.last; at += kTile)
        score(q, a.head_dim, tile_blocks(a.keys, a.blocks, rows.kv_head, at, seen.last),
              int(least(kTile, seen.last - at)), rows.scores + at * n);
}

// A row's scores of R keys from `key` on, capped and masked.
MULL_INLINE F32s seen_scores(const Attention& a, KeySpan sees, int64_t key, const float* scores) {
    alignas(64) static constexpr int32_t kOrder[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    F32s s = load(scores);
    if (a.softcap != 0) s = floats(a.softcap) * tanh(s * floats(1 / a.softcap));
    if (key >= sees.first && key + R <= sees.last) return s;
    const I32s order = bits(load((const float*)kOrder));
    const int32_t first = int32_t(sees.first - key), last = int32_t(sees.last - key);
    return choose((order >= first) & (order < last), s, floats(-INFINITY));
}

// Turn row t's scores into weights that sum up to 1, 0 where it does not see: once through them for the largest,
// once for e^(score - largest), once to divide by their sum.
inline void plain_softmax(const Attention& a, const PlainRows& rows, int t) {
    const KeySpan sees = seen_from(a, rows.positions[t]), all = seen_by(a, rows);
    const int64_t first = all.first / kTile * kTile;
    const auto row = [&](int64_t tile) { return rows.scores + tile * rows.n + t * kTile; };
    F32s top = floats(rows.sinks[t]);
    for (int64_t at = first; at < all.last; at += kTile)
        for (int i = 0; i < kTile; i += R) {
            const F32s s = seen_scores(a, sees, at + i, row(at) + i);
            store(row(at) + i, s);
            top = larger(top, s);
        }
    const F32s base = floats(largest(top) == -INFINITY ? 0 : largest(top));
    F32s sums = floats(0);
    for (int64_t at = first; at < all.last; at += kTile)
        for (int i = 0; i < kTile; i += R) {
            const F32s weight = exponential_of_negative(load(row(at) + i) - base);
            store(row(at) + i, weight);
            sums += weight;
        }
    const float total = sum(sums) + exponential_of_negative(floats(rows.sinks[t]) - base)[0];
    const F32s share = floats(total == 0 ? 0 : 1 / total);
    for (int64_t at = first; at < all.last; at += kTile)
        for (int i = 0; i < kTile; i += R) store(row(at) + i, load(row(at) + i) * share);
}

inline void plain_weights(const Attention& a, const PlainRows& rows) {
    for (int t = 0; t < rows.n; t++) plain_softmax(a, rows, t);
}

inline void plain_values(const Attention& a, const PlainRows& rows) {
    alignas(64) float acc[kMaxQueries * kMaxHeadDim];
    float ones[kMaxQueries] = {1, 1, 1, 1, 1, 1, 1, 1};
    const KeySpan seen = seen_by(a, rows);
    __builtin_memset(acc, 0, size_t(rows.n) * size_t(a.head_dim) * 4);
    for (int64_t at = seen.first / kTile * kTile; at < seen.last; at += kTile) {
        KeySpan sees[kMaxQueries];
        for (int t = 0; t < rows.n; t++) {
            const KeySpan own = seen_from(a, rows.positions[t]);
            sees[t] = {most(own.first - at, 0), least(own.last - at, kTile)};
            if (sees[t].last <= sees[t].first) sees[t] = {0, 0};
        }
        const TileBlocks blocks = tile_blocks(a.values, a.blocks, rows.kv_head, at, seen.last);
        add_values(a, blocks, sees, rows.scores + at * rows.n, ones, rows.n, acc);
    }
    for (int t = 0; t < rows.n; t++)
        __builtin_memcpy(rows.out[t], acc + t * a.head_dim, size_t(a.head_dim) * 4);
}
