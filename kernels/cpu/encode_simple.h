// Types of one scale for 32 weights, and the ternary ones. Without importance their bytes are those of ggml's
// reference quantizers (ggml-quants.c), with it the scale is searched for. Included inside an instruction set's
// namespace.

struct Extremes {
    float low, high;
};

inline Extremes extremes(const float* x, int count) {
    F32s low = load(x), high = low;
    for (int i = R; i < count; i += R) low = smaller(low, load(x + i)), high = larger(high, load(x + i));
    return {-largest(floats(0) - low), largest(high)};
}

inline float largest_magnitude(const float* x, int count) {
    F32s most = floats(0);
    for (int i = 0; i < count; i += R) most = larger(most, magnitude(load(x + i)));
    return largest(most);
}

// The first of the numbers of largest magnitude.
inline float outermost(const float* x) {
    const Extremes e = extremes(x, 32);
    if (e.high > -e.low) return e.high;
    if (e.high < -e.low) return e.low;
    if (e.high == 0) return 0;
    while (*x != e.high && *x != e.low) x++;
    return *x;
}

// The first of the smallest numbers, which matters for the sign of 0, and the largest one, whose 0 has none.
inline Extremes signed_extremes(const float* x) {
    const Extremes e = extremes(x, 32);
    if (e.low == 0)
        while (*x != 0) x++;
    return {e.low == 0 ? *x : e.low, e.high + 0.0f};
}

// The inverse of a scale, 0 where it has none that is finite.
inline float inverse_of(float d) {
    const float inverse = 1.0f / d;
    return d == 0 || inverse - inverse != 0 ? 0 : inverse;
}

// (x - from) · inverse + offset towards 0, at most `most`; 0 where there is no inverse but a scale.
inline void cut_codes(const float* x, float from, float d, float offset, int most, uint8_t* code) {
    const float inverse = inverse_of(d);
    if (inverse == 0 && d != 0) {
        __builtin_memset(code, 0, 32);
        return;
    }
    for (int i = 0; i < 32; i += R) {
        const F32s scaled = (load(x + i) - from) * inverse;
        store_s8(code + i, truncate(smaller(scaled + offset, floats(float(most)))));
    }
}

// What errors count: importance · √(mean square of the row + x²), after ggml-quants.c.
inline float mean_square(const float* x, int64_t count) {
    F32s squares = floats(0);
    for (int64_t i = 0; i < count; i += R) squares = fma(load(x + i), load(x + i), squares);
    return sum(squares) / float(count);
}

inline void weigh(const float* x, const float* importance, float square, int count, float* w) {
    for (int i = 0; i < count; i += R) {
        const F32s now = load(x + i);
        store(w + i, load(importance + i) * root(fma(now, now, floats(square))));
    }
}

// R blocks of 32 at a time: their scales by importance, and their codes.
template <class Put>
inline void symmetric_by_importance(const float* x, int64_t cols, const float* importance, float most,
                                    const Put& put) {
    const float square = mean_square(x, cols);
    float w[32 * R], scales[R];
    uint8_t code[32];
    Groups<32> groups;
    for (int64_t at = 0; at < cols; at += 32 * R) {
        const int count = int((cols - at) / 32 < R ? (cols - at) / 32 : R);
        weigh(x + at, importance + at, square, 32 * count, w);
        gather<32>(x + at, w, count, groups);
        store(scales, fit_symmetric<32>(groups, most, 9, 0.1f));
        for (int b = 0; b < count; b++) {
            const uint16_t d = to_half(scales[b]);
            const float inverse = inverse_of(half_to_float(d));
            for (int i = 0; i < 32; i += R) {
                const F32s scaled = clamp(load(x + at + 32 * b + i) * inverse, -most, most - 1);
                store_s8(code + i, to_int(scaled + most));
            }
            put(at / 32 + b, d, code);
        }
    }
}

template <class Put>
inline void lines_by_importance(const float* x, int64_t cols, const float* importance, float most, const Put& put) {
    const float square = mean_square(x, cols);
    float w[32 * R], scales[R], minimums[R];
    uint8_t code[32];
    Groups<32> groups;
    for (int64_t at = 0; at < cols; at += 32 * R) {
        const int count = int((cols - at) / 32 < R ? (cols - at) / 32 : R);
        weigh(x + at, importance + at, square, 32 * count, w);
        gather<32>(x + at, w, count, groups);
        const Line line = fit_line<32>(groups, most, -0.9f, 0.05f, 37);
        store(scales, line.scale), store(minimums, line.minimum);
        for (int b = 0; b < count; b++) {
            const uint16_t d = to_half(scales[b]), m = to_half(-minimums[b]);
            const float inverse = inverse_of(half_to_float(d)), from = half_to_float(m);
            for (int i = 0; i < 32; i += R)
                store_s8(code + i, to_int(clamp((load(x + at + 32 * b + i) - from) * inverse, 0, most)));
            put(at / 32 + b, d, m, code);
        }
    }
}

inline void encode_q4_0(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto put = [&](int64_t b, uint16_t d, const uint8_t* code) {
        write16(out + 18 * b, d);
        put_nibbles(code, 16, out + 18 * b + 2);
    };
    if (importance) return symmetric_by_importance(x, cols, importance, 8, put);
    uint8_t code[32];
    for (int64_t b = 0; b < cols / 32; b++) {
        const float d = outermost(x + 32 * b) / -8;
        cut_codes(x + 32 * b, 0, d, 8.5f, 15, code);
        put(b, to_half(d), code);
    }
}

inline void encode_q5_0(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto put = [&](int64_t b, uint16_t d, const uint8_t* code) {
        write16(out + 22 * b, d);
        put_fifth_bits(code, out + 22 * b + 2);
        put_nibbles(code, 16, out + 22 * b + 6);
    };
    if (importance) return symmetric_by_importance(x, cols, importance, 16, put);
    uint8_t code[32];
    for (int64_t b = 0; b < cols / 32; b++) {
        const float d = outermost(x + 32 * b) / -16;
        cut_codes(x + 32 * b, 0, d, 16.5f, 31, code);
        put(b, to_half(d), code);
    }
}

inline void encode_q4_1(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto put = [&](int64_t b, uint16_t d, uint16_t m, const uint8_t* code) {
        write16(out + 20 * b, d), write16(out + 20 * b + 2, m);
        put_nibbles(code, 16, out + 20 * b + 4);
    };
    if (importance) return lines_by_importance(x, cols, importance, 15, put);
    uint8_t code[32];
    for (int64_t b = 0; b < cols / 32; b++) {
        const Extremes e = signed_extremes(x + 32 * b);
        const float d = (e.high - e.low) / 15;
        cut_codes(x + 32 * b, e.low, d, 0.5f, 15, code);
        put(b, to_half(d), to_half(e.low), code);
    }
}

inline void encode_q5_1(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    const auto put = [&](int64_t b, uint16_t d, uint16_t m, const uint8_t* code) {
        write16(out + 24 * b, d), write16(out + 24 * b + 2, m);
        put_fifth_bits(code, out + 24 * b + 4);
        put_nibbles(code, 16, out + 24 * b + 8);
    };
    if (importance) return lines_by_importance(x, cols, importance, 31, put);
    uint8_t code[32];
    for (int64_t b = 0; b < cols / 32; b++) {
        const Extremes e = signed_extremes(x + 32 * b);
        const float d = (e.high - e.low) / 31;
        cut_codes(x + 32 * b, e.low, d, 0.5f, 31, code);
        put(b, to_half(d), to_half(e.low), code);
    }
}

// To nearest, halves away from 0, below 2^22.
MULL_INLINE F32s nearest_away(F32s x) {
    const F32s size = magnitude(x), even = nearest(size);
    const F32s away = even + choose(size - even == floats(0.5f), floats(1), floats(0));
    return choose(x < floats(0), floats(0) - away, away);
}

inline void encode_q8_0(const float* x, int64_t cols, const float*, uint8_t* out) {
    for (int64_t at = 0; at < cols; at += 32, out += 34) {
        const float d = largest_magnitude(x + at, 32) / 127, inverse = inverse_of(d);
        write16(out, to_half(d));
        for (int i = 0; i < 32; i += R) store_s8(out + 2 + i, to_int(nearest_away(load(x + at + i) * inverse)));
    }
}

// The largest magnitude lies in the highest binade of E2M1, from 4 to 8 times the shared power of two. Of two
// values that are as near, the smaller one.
constexpr float kBetween[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10};

inline void encode_mxfp4(const float* x, int64_t cols, const float*, uint8_t* out) {
    alignas(64) uint8_t code[32];
    for (int64_t at = 0; at < cols; at += 32, out += 17) {
        const float top = largest_magnitude(x + at, 32);
        const float exponent = top > 0 ? std::floor(std::log2(top)) + 125 : 0;
        out[0] = uint8_t(exponent < 0 ? 0 : exponent);
        const F32s inverse = floats(std::ldexp(1.0f, 127 - int(out[0])));
        for (int i = 0; i < 32; i += R) {
            const F32s now = load(x + at + i), size = magnitude(now) * inverse * 2.0f;
            I32s place = ints(0);  // a comparison that holds is -1
            for (float between : kBetween) place -= size > floats(between);
            store_s8(code + i, place | ((now < floats(0)) & (place > ints(0)) & 8));
        }
        put_nibbles(code, 16, out + 1);
    }
}

// 0, 1 or 2 for every weight, in units of the largest magnitude.
inline void ternary_codes(const float* x, float top, uint8_t* code) {
    const float inverse = inverse_of(top);
    for (int i = 0; i < 256; i += R) store_s8(code + i, to_int(nearest_away(load(x + i) * inverse)) + 1);
}

// Five base-3 digits as the fraction of a byte, rounded up; n digits, `stride` apart.
inline uint8_t base_three(const uint8_t* code, int n, int stride) {
    int number = 0;
    for (int i = 0; i < 5; i++) number = 3 * number + (i < n ? code[i * stride] : 0);
    return uint8_t((number * 256 + 242) / 243);
}

inline void encode_tq1_0(const float* x, int64_t cols, const float*, uint8_t* out) {
    uint8_t code[256];
    for (int64_t at = 0; at < cols; at += 256, out += 54) {
        const float top = largest_magnitude(x + at, 256);
        ternary_codes(x + at, top, code);
        for (int i = 0; i < 32; i++) out[i] = base_three(code + i, 5, 32);
        for (int i = 0; i < 16; i++) out[32 + i] = base_three(code + 160 + i, 5, 16);
        for (int i = 0; i < 4; i++) out[48 + i] = base_three(code + 240 + i, 4, 4);
        write16(out + 52, to_half(top));
    }
}

inline void encode_tq2_0(const float* x, int64_t cols, const float*, uint8_t* out) {
    uint8_t code[256];
    for (int64_t at = 0; at < cols; at += 256, out += 66) {
        const float top = largest_magnitude(x + at, 256);
        ternary_codes(x + at, top, code);
        put_pairs(code, 0, out);
        write16(out + 64, to_half(top));
    }
}
