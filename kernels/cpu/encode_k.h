// The K types: blocks of 256 whose groups of 16 or 32 have scales, and minimums, of few bits. Included inside an
// instruction set's namespace.
//
// Every group gets its best scale by itself (encode_search.h), and the block the one whose multiples are nearest to
// them. Then, twice: a group takes the multiples around its own that leave the least error, and the block's scales are
// fitted to all codes at once, by least squares. What errors count follows ggml-quants.c.

// How often multiples and blocks' scales are improved in turn.
constexpr int kRounds = 2;

// Blocks that are searched together: their groups fill all lanes.
template <int N>
struct Chunk {
    static constexpr int kGroups = 256 / N, kBlocks = R > kGroups ? R / kGroups : 1, kVectors = kBlocks * kGroups / R;
    Groups<N> groups[kVectors];
    // By group: scales as fitted, then as multiples, and what their errors count; by block: what they are multiples of.
    float scale[kBlocks * kGroups], minimum[kBlocks * kGroups];
    float scale_counts[kBlocks * kGroups], minimum_counts[kBlocks * kGroups];
    float d[kBlocks], m[kBlocks];

    void read(const float* x, const float* w, int blocks) {
        for (int v = 0; v < kVectors; v++) {
            const int left = blocks * kGroups - v * R;
            gather<N>(x + v * R * N, w + v * R * N, left < 0 ? 0 : left < R ? left : R, groups[v]);
        }
    }
};

// One number per block, in the lanes of its groups.
template <int N>
MULL_INLINE F32s by_lane(const float* numbers, int v) {
    constexpr int kGroups = Chunk<N>::kGroups;
    float lanes[R];
    for (int i = 0; i < R; i++) lanes[i] = numbers[(v * R + i) / kGroups];
    return load(lanes);
}

inline float rounded_to_half(float x) { return half_to_float(to_half(x)); }

// What a block's numbers are to be multiples of, from `least` to `most`, for the least error as each counts. Guesses:
// the one of largest magnitude becomes `outer`, or a few percent more or less.
inline float fit_multiples(const float* numbers, const float* counts, int count, float least, float most,
                           float outer) {
    float x[16] = {}, c[16] = {}, top = 0;
    for (int i = 0; i < count; i++) {
        x[i] = numbers[i], c[i] = counts[i];
        if (std::fabs(x[i]) > std::fabs(top)) top = x[i];
    }
    if (std::fabs(top) < kTiny) return 0;
    float best = -1, unit = top / outer;
    for (int t = -10; t <= 9; t++) {
        const float more = (outer < 0 ? -0.1f : 0.1f) * float(t < -9 ? 0 : t);
        const F32s k = floats((outer + more) / top);
        F32s products = floats(0), squares = floats(0);
        for (int i = 0; i < 16; i += R) {
            const F32s l = nearest(clamp(load(x + i) * k, least, most)), weighted = load(c + i) * l;
            products = fma(weighted, load(x + i), products);
            squares = fma(weighted, l, squares);
        }
        const float p = sum(products), s = sum(squares);
        if (s > 0 && p / s * p > best * kBetter) best = p / s * p, unit = p / s;
    }
    return rounded_to_half(unit);
}

// What the errors of a group's scale and minimum count: Σ w·code² and Σ w.
template <int N>
inline void count_errors(Chunk<N>& c, int v) {
    const F32s scale = load(c.scale + v * R), minimum = load(c.minimum + v * R);
    const F32s inverse = choose(magnitude(scale) > floats(kTiny), floats(1) / scale, floats(0));
    F32s codes = floats(0), weights = floats(0);
    for (int i = 0; i < N; i++) {
        const F32s code = (c.groups[v].x[i] + minimum) * inverse;
        codes = fma(c.groups[v].w[i] * code, code, codes);
        weights += c.groups[v].w[i];
    }
    store(c.scale_counts + v * R, codes), store(c.minimum_counts + v * R, weights);
}

// Scales and minimums as multiples, up to `levels`.
template <int N>
inline void first_multiples(Chunk<N>& c, float levels) {
    constexpr int kGroups = Chunk<N>::kGroups;
    for (int b = 0; b < Chunk<N>::kBlocks; b++) {
        const int at = b * kGroups;
        c.d[b] = fit_multiples(c.scale + at, c.scale_counts + at, kGroups, 0, levels, levels);
        c.m[b] = fit_multiples(c.minimum + at, c.minimum_counts + at, kGroups, 0, levels, levels);
    }
    for (int v = 0; v < Chunk<N>::kVectors; v++) {
        float *scale = c.scale + v * R, *minimum = c.minimum + v * R;
        const F32s d = by_lane<N>(c.d, v), m = by_lane<N>(c.m, v);
        const F32s l = choose(d > floats(0), load(scale) / d, floats(0));
        const F32s k = choose(m > floats(0), load(minimum) / m, floats(0));
        store(scale, nearest(clamp(l, 0, levels))), store(minimum, nearest(clamp(k, 0, levels)));
    }
}

// The multiples around the present ones that leave the least.
template <int N>
inline void nearby_multiples(Chunk<N>& c, float most, float levels) {
    for (int v = 0; v < Chunk<N>::kVectors; v++) {
        const F32s d = by_lane<N>(c.d, v), m = by_lane<N>(c.m, v);
        const F32s scale = load(c.scale + v * R), minimum = load(c.minimum + v * R);
        F32s least = floats(INFINITY), best_scale = scale, best_minimum = minimum;
        for (int i = -1; i <= 1; i++)
            for (int j = -1; j <= 1; j++) {
                const F32s l = clamp(scale + float(i), 0, levels), k = clamp(minimum + float(j), 0, levels);
                const F32s error = error_of<N>(c.groups[v], Line{d * l, m * k}, most);
                const I32s better = error < least;
                best_scale = choose(better, l, best_scale), best_minimum = choose(better, k, best_minimum);
                least = smaller(error, least);
            }
        store(c.scale + v * R, best_scale), store(c.minimum + v * R, best_minimum);
    }
}

// Sums over a group for the codes that its line gives.
struct LineSums {
    float weights[R], codes[R], squares[R], values[R], products[R];  // w, wl, wl², wx, wlx
};

template <int N>
inline void sum_up(const Groups<N>& g, Line line, float most, LineSums& out) {
    const F32s inverse = choose(line.scale > floats(kTiny), floats(1) / line.scale, floats(0));
    const F32s offset = line.minimum * inverse;
    F32s weights = floats(0), codes = weights, squares = weights, values = weights, products = weights;
    for (int i = 0; i < N; i++) {
        const F32s code = nearest(clamp(fma(g.x[i], inverse, offset), 0, most)), weighted = g.w[i] * code;
        weights += g.w[i];
        codes += weighted;
        squares = fma(weighted, code, squares);
        values = fma(g.w[i], g.x[i], values);
        products = fma(weighted, g.x[i], products);
    }
    store(out.weights, weights), store(out.codes, codes), store(out.squares, squares);
    store(out.values, values), store(out.products, products);
}

// d and m of every block by least squares: x ≈ d · scale · code - m · minimum. Kept where that has no solution.
template <int N>
inline void refit_lines(Chunk<N>& c, float most) {
    constexpr int kGroups = Chunk<N>::kGroups;
    double dd[Chunk<N>::kBlocks] = {}, dm[Chunk<N>::kBlocks] = {}, mm[Chunk<N>::kBlocks] = {};
    double dx[Chunk<N>::kBlocks] = {}, mx[Chunk<N>::kBlocks] = {};
    for (int v = 0; v < Chunk<N>::kVectors; v++) {
        const F32s d = by_lane<N>(c.d, v), m = by_lane<N>(c.m, v);
        LineSums s;
        sum_up<N>(c.groups[v], Line{d * load(c.scale + v * R), m * load(c.minimum + v * R)}, most, s);
        for (int i = 0; i < R; i++) {
            const int g = v * R + i, b = g / kGroups;
            const double l = c.scale[g], k = c.minimum[g];
            dd[b] += l * l * s.squares[i], dm[b] -= l * k * s.codes[i], mm[b] += k * k * s.weights[i];
            dx[b] += l * s.products[i], mx[b] -= k * s.values[i];
        }
    }
    for (int b = 0; b < Chunk<N>::kBlocks; b++) {
        const double determinant = dd[b] * mm[b] - dm[b] * dm[b];
        if (!(determinant > 1e-6 * dd[b] * mm[b])) continue;
        const double d = (dx[b] * mm[b] - mx[b] * dm[b]) / determinant;
        const double m = (mx[b] * dd[b] - dx[b] * dm[b]) / determinant;
        if (d > 0 && m > 0) c.d[b] = rounded_to_half(float(d)), c.m[b] = rounded_to_half(float(m));
    }
}

// One block's codes and scales.
template <int N>
inline void line_parts(const Chunk<N>& c, int block, const float* x, float most, Parts& out) {
    out.d = to_half(c.d[block]), out.m = to_half(c.m[block]);
    for (int g = 0; g < 256 / N; g++) {
        const float scale = c.scale[block * (256 / N) + g], minimum = c.minimum[block * (256 / N) + g];
        out.scale[g] = uint8_t(scale), out.min[g] = uint8_t(minimum);
        const F32s inverse = floats(inverse_of(c.d[block] * scale)), offset = floats(c.m[block] * minimum) * inverse;
        for (int i = g * N; i < (g + 1) * N; i += R)
            store_s8(out.code + i, to_int(clamp(fma(load(x + i), inverse, offset), 0, most)));
    }
}

struct LineRule {
    float most, levels, first, step;
    int tries;
};

template <int N, class Weigh, class Put>
inline void encode_lines(const float* x, int64_t cols, const LineRule& rule, const Weigh& weigh_block,
                         const Put& put) {
    constexpr int kBlocks = Chunk<N>::kBlocks;
    Chunk<N> c;
    float w[256 * kBlocks];
    for (int64_t at = 0; at < cols; at += 256 * kBlocks) {
        const int blocks = int((cols - at) / 256 < kBlocks ? (cols - at) / 256 : kBlocks);
        for (int b = 0; b < blocks; b++) weigh_block(at + 256 * b, w + 256 * b);
        c.read(x + at, w, blocks);
        for (int v = 0; v < Chunk<N>::kVectors; v++) {
            const Line line = fit_line<N>(c.groups[v], rule.most, rule.first, rule.step, rule.tries);
            store(c.scale + v * R, line.scale), store(c.minimum + v * R, line.minimum);
            count_errors<N>(c, v);
        }
        first_multiples<N>(c, rule.levels);
        for (int round = 0; round < kRounds; round++) {
            nearby_multiples<N>(c, rule.most, rule.levels);
            refit_lines<N>(c, rule.most);
        }
        for (int b = 0; b < blocks; b++) {
            Parts parts;
            line_parts<N>(c, b, x + at + 256 * b, rule.most, parts);
            put(at / 256 + b, parts);
        }
    }
}

// Without importance, an error counts as much as the weight and its group's typical one together.
inline void weigh_by_size(const float* x, int group, float* w) {
    for (int at = 0; at < 256; at += group) {
        const F32s typical = floats(std::sqrt(mean_square(x + at, group)));
        for (int i = at; i < at + group; i += R) store(w + i, typical + magnitude(load(x + i)));
    }
}

inline void encode_q2_k(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto weigh_block = [&](int64_t at, float* w) {
        if (importance) return weigh(x + at, importance + at, mean_square(x + at, 256), 256, w);
        weigh_by_size(x + at, 16, w);
    };
    encode_lines<16>(x, cols, {3, 15, -0.9f, 0.1f, 20}, weigh_block,
                     [&](int64_t b, const Parts& parts) { put_q2_k(parts, out + 84 * b); });
}

inline void encode_q4_k(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto weigh_block = [&](int64_t at, float* w) {
        if (importance) return weigh(x + at, importance + at, 2 * mean_square(x + at, 256), 256, w);
        weigh_by_size(x + at, 32, w);
    };
    encode_lines<32>(x, cols, {15, 63, -1, 0.1f, 21}, weigh_block,
                     [&](int64_t b, const Parts& parts) { put_q4_k(parts, out + 144 * b); });
}

inline void encode_q5_k(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto weigh_block = [&](int64_t at, float* w) {
        if (importance) return weigh(x + at, importance + at, 2 * mean_square(x + at, 256), 256, w);
        weigh_by_size(x + at, 32, w);
    };
    encode_lines<32>(x, cols, {31, 63, -0.9f, 0.1f, 16}, weigh_block,
                     [&](int64_t b, const Parts& parts) { put_q5_k(parts, out + 176 * b); });
}

// Types without minimums: x ≈ d · scale · code, with signed scales.

template <int N>
inline void first_signed_multiples(Chunk<N>& c, float levels) {
    constexpr int kGroups = Chunk<N>::kGroups;
    for (int b = 0; b < Chunk<N>::kBlocks; b++) {
        const int at = b * kGroups;
        c.d[b] = fit_multiples(c.scale + at, c.scale_counts + at, kGroups, -levels, levels - 1, -levels);
    }
    for (int v = 0; v < Chunk<N>::kVectors; v++) {
        const F32s d = by_lane<N>(c.d, v), l = choose(magnitude(d) > floats(0), load(c.scale + v * R) / d, floats(0));
        store(c.scale + v * R, nearest(clamp(l, -levels, levels - 1)));
    }
}

template <int N>
inline void nearby_signed_multiples(Chunk<N>& c, float most, float levels) {
    for (int v = 0; v < Chunk<N>::kVectors; v++) {
        const F32s d = by_lane<N>(c.d, v), scale = load(c.scale + v * R);
        F32s least = floats(INFINITY), best = scale;
        for (int i = -1; i <= 1; i++) {
            const F32s l = clamp(scale + float(i), -levels, levels - 1);
            const F32s error = error_of<N>(c.groups[v], d * l, most);
            best = choose(error < least, l, best);
            least = smaller(error, least);
        }
        store(c.scale + v * R, best);
    }
}

template <int N>
inline void refit_scales(Chunk<N>& c, float most) {
    double dd[Chunk<N>::kBlocks] = {}, dx[Chunk<N>::kBlocks] = {};
    for (int v = 0; v < Chunk<N>::kVectors; v++) {
        const Groups<N>& g = c.groups[v];
        const F32s l = load(c.scale + v * R), scale = by_lane<N>(c.d, v) * l;
        const F32s inverse = choose(magnitude(scale) > floats(kTiny), floats(1) / scale, floats(0));
        F32s products = floats(0), squares = floats(0);
        for (int i = 0; i < N; i++) {
            const F32s code = nearest(clamp(g.x[i] * inverse, -most, most - 1)), weighted = g.w[i] * code;
            products = fma(weighted, g.x[i], products);
            squares = fma(weighted, code, squares);
        }
        float p[R], s[R];
        store(p, products * l), store(s, squares * l * l);
        for (int i = 0; i < R; i++) {
            const int b = (v * R + i) / Chunk<N>::kGroups;
            dx[b] += double(p[i]), dd[b] += double(s[i]);
        }
    }
    for (int b = 0; b < Chunk<N>::kBlocks; b++)
        if (dd[b] > 0) c.d[b] = rounded_to_half(float(dx[b] / dd[b]));
}

template <int N, class Weigh, class Put>
inline void encode_scales(const float* x, int64_t cols, float most, float levels, const Weigh& weigh_block,
                          const Put& put) {
    constexpr int kBlocks = Chunk<N>::kBlocks;
    Chunk<N> c;
    float w[256 * kBlocks];
    for (int64_t at = 0; at < cols; at += 256 * kBlocks) {
        const int blocks = int((cols - at) / 256 < kBlocks ? (cols - at) / 256 : kBlocks);
        for (int b = 0; b < blocks; b++) weigh_block(at + 256 * b, w + 256 * b);
        c.read(x + at, w, blocks);
        for (int v = 0; v < Chunk<N>::kVectors; v++) {
            store(c.scale + v * R, fit_symmetric<N>(c.groups[v], most, 9, 0.1f));
            store(c.minimum + v * R, floats(0));
            count_errors<N>(c, v);
        }
        first_signed_multiples<N>(c, levels);
        for (int round = 0; round < kRounds; round++) {
            nearby_signed_multiples<N>(c, most, levels);
            refit_scales<N>(c, most);
        }
        for (int b = 0; b < blocks; b++) {
            Parts parts;
            parts.d = to_half(c.d[b]);
            for (int g = 0; g < 256 / N; g++) {
                const float scale = c.scale[b * (256 / N) + g];
                parts.scale[g] = uint8_t(int8_t(scale));
                const float inverse = inverse_of(c.d[b] * scale);
                for (int i = g * N; i < (g + 1) * N; i += R) {
                    const F32s scaled = clamp(load(x + at + 256 * b + i) * inverse, -most, most - 1);
                    store_s8(parts.code + i, to_int(scaled + most));
                }
            }
            put(at / 256 + b, parts);
        }
    }
}

inline void weigh_by_square(const float* x, float* w) {
    for (int i = 0; i < 256; i += R) store(w + i, load(x + i) * load(x + i));
}

inline void encode_q3_k(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto weigh_block = [&](int64_t at, float* w) {
        if (importance) return weigh(x + at, importance + at, 2 * mean_square(x + at, 256), 256, w);
        weigh_by_size(x + at, 16, w);
    };
    encode_scales<16>(x, cols, 4, 32, weigh_block,
                      [&](int64_t b, const Parts& parts) { put_q3_k(parts, out + 110 * b); });
}

inline void encode_q6_k(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto weigh_block = [&](int64_t at, float* w) {
        if (importance) __builtin_memcpy(w, importance + at, 1024);
        else weigh_by_square(x + at, w);
    };
    encode_scales<16>(x, cols, 32, 128, weigh_block,
                      [&](int64_t b, const Parts& parts) { put_q6_k(parts, out + 210 * b); });
}
