// Encoders of IQ4_NL and IQ4_XS: 4-bit codes of uneven levels (blocks.h). Included inside an instruction set's
// namespace, after encode_iq_weights.h.
//
// For a scale s every weight takes the level v next to x / s; its error, weighed, is more than Σ w x² by
//     s (s q + p),     p = -2 Σ w x v,   q = Σ w v²
// Scales are tried, each is improved to -p / 2q, and the codes of a block's scales are chosen by the same error.

// The levels that a group's largest weight becomes at first, and fractions of the best scale that are tried next.
constexpr float kFirstTries[] = {-142, -137, -132, -127, -122, -117, -112, -107, -102, -97, 97, 104, 111, 118, 125};
constexpr float kLaterTries[] = {0.97f, 0.98f, 0.99f, 1.01f, 1.02f, 1.03f};

struct LevelSums {
    float p, q;
    float excess(float scale) const { return scale * (scale * q + p); }
};

// Halfway between a level and the one before.
constexpr float kMiddles[16] = {-INFINITY, -115.5f, -93.5f, -74, -57,   -42,   -28.5f, -16,
                                -4.5f,     7,       19,     31.5f, 45.5f, 61, 79,     101};

// The level next to each number; of two equally near, the upper one.
MULL_INLINE F32s next_level(F32s x) {
    F32s level = floats(kValuesIQ4[0]);
    for (int i = 1; i < 16; i++) level = x >= floats(kMiddles[i]) ? floats(kValuesIQ4[i]) : level;
    return level;
}

// Keeps the best scale that any levels gave.
struct LevelFit {
    float best, scale;
    MULL_INLINE void take(LevelSums sums) {
        if (!(sums.q > 0 && sums.p * sums.p > best * sums.q)) return;
        best = sums.p * sums.p / sums.q;
        scale = -0.5f * sums.p / sums.q;
    }
};

MULL_INLINE LevelSums sum_levels(const float* x, const float* w, float inverse) {
    F32s p = floats(0), q = p;
    for (int i = 0; i < 32; i += R) {
        const F32s value = load(x + i), level = next_level(value * inverse), weighed = load(w + i) * level;
        p = fma(weighed, value, p), q = fma(weighed, level, q);
    }
    return {-2 * sum(p), sum(q)};
}

// The scale of 32 weights by which their error is least; 0 where all of them are nearly 0.
inline float level_scale(const float* x, const float* w) {
    F32s most = floats(-INFINITY), least = most;
    for (int i = 0; i < 32; i += R) most = larger(most, load(x + i)), least = larger(least, -load(x + i));
    const float high = largest(most), low = -largest(least), peak = high > -low ? high : low;
    if (std::fabs(peak) < 1e-9f) return 0;
    LevelFit fit{-1, 0};
    for (const float level : kFirstTries) fit.take(sum_levels(x, w, level / peak));
    if (fit.scale == 0) return 0;
    const float inverse = 1 / fit.scale;
    for (const float factor : kLaterTries) fit.take(sum_levels(x, w, inverse * factor));
    return fit.scale;
}

// All that importance can move here is scales; its power 3/4 leaves the plain error where it is without any.
inline void weigh_levels(const float* u, const float* importance, int count, float* w) {
    alignas(64) float shares[256];
    share_out(importance, count, shares);
    for (int i = 0; i < count; i += R) {
        const F32s half = root(load(shares + i));
        store(shares + i, half * root(half));
    }
    to_weights(u, shares, count, w);
}

// 32 codes, two in a byte.
inline void put_levels(const float* x, float inverse, uint8_t* out) {
    uint8_t code[32];
    for (int i = 0; i < 32; i += R) {
        const F32s value = load(x + i) * inverse;
        I32s index = ints(0);
        for (int j = 1; j < 16; j++) index -= (I32s)(value >= floats(kMiddles[j]));
        store_s8(code + i, index);
    }
    for (int i = 0; i < 16; i++) out[i] = uint8_t(code[i] | code[16 + i] << 4);
}

// 18 bytes: d, 32 codes.
inline void encode_iq4_nl(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    alignas(64) float u[32], w[32];
    for (int64_t at = 0; at < cols; at += 32, out += 18) {
        const float peak = to_unit(x + at, 32, u);
        uint16_t d = 0;
        if (peak > 0) {
            weigh_levels(u, importance ? importance + at : nullptr, 32, w);
            d = to_half(level_scale(u, w) * peak);
        }
        write16(out, d);
        put_levels(x + at, inverse_of(half_to_float(d)), out + 2);
    }
}

// The codes of a block's eight scales under one d: -32 to 31; next: the d that would serve the levels best.
inline void choose_level_codes(const float* x, const float* w, const float* scales, float d, int* code, float& next) {
    const float inverse = inverse_of(d);
    float over = 0, under = 0;
    for (int g = 0; g < 8; g++) {
        const int middle = int(std::nearbyint(scales[g] * inverse));
        float lowest = INFINITY;
        LevelSums best{0, 0};
        for (int l = middle - 1; l <= middle + 1; l++) {
            if (l < -32 || l > 31) continue;
            const LevelSums sums = sum_levels(x + 32 * g, w + 32 * g, inverse_of(d * float(l)));
            const float now = sums.excess(d * float(l));
            if (now < lowest) lowest = now, best = sums, code[g] = l;
        }
        if (!(lowest < INFINITY)) code[g] = 0;
        over += float(code[g]) * best.p, under += float(code[g] * code[g]) * best.q;
    }
    next = under > 0 ? -0.5f * over / under : d;
}

// d, and the scales' codes, of a block in units of its peak.
inline uint16_t fit_levels(const float* u, const float* w, float peak, int* code) {
    float scales[8], outer = 0, next;
    for (int g = 0; g < 8; g++) {
        scales[g] = level_scale(u + 32 * g, w + 32 * g);
        if (std::fabs(scales[g]) > std::fabs(outer)) outer = scales[g];
    }
    choose_level_codes(u, w, scales, -outer / 32, code, next);
    const uint16_t d = to_half(next * peak);
    choose_level_codes(u, w, scales, half_to_float(d) / peak, code, next);
    return d;
}

// 136 bytes: d, upper bits of the groups' scales, their lower halves, codes.
inline void encode_iq4_xs(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    alignas(64) float u[256], w[256];
    for (int64_t at = 0; at < cols; at += 256, out += 136) {
        int code[8] = {};
        uint16_t d = 0;
        const float peak = to_unit(x + at, 256, u);
        if (peak > 0) {
            weigh_levels(u, importance ? importance + at : nullptr, 256, w);
            d = fit_levels(u, w, peak, code);
        }
        __builtin_memset(out, 0, 8);
        write16(out, d);
        unsigned upper = 0;
        for (int g = 0; g < 8; g++) {
            const unsigned l = unsigned(code[g] + 32);
            upper |= l >> 4 << 2 * g;
            out[4 + g / 2] |= uint8_t((l & 15) << g % 2 * 4);
            put_levels(x + at + 32 * g, inverse_of(half_to_float(d) * float(code[g])), out + 8 + 16 * g);
        }
        write16(out + 2, uint16_t(upper));
    }
}
