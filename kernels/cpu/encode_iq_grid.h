// Encoders of the types with codebooks: IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S. Included inside an instruction set's
// namespace, after encode_iq_points.h.
//
// All of them: 256 weights, a binary16 d, groups of 16 or 32 with a 4-bit code l each, a weight being
//     ± d · unit · (2 l + 1) · value
// What differs: the codebook, how signs are kept (eight bits for eight weights, or seven, the eighth making the number
// of minus signs even), and where the bits stand.

struct GridFormat {
    int dims, group;  // weights of a point, and of a group
    bool even;
    float unit, bottom, top;  // the codebook's smallest and largest value
};

// The range of scales, in scales by which a group's largest weight is the codebook's largest value; and a range for
// groups of nearly equal magnitudes, in scales by which it is the smallest value.
struct Range {
    float least, most;
};
constexpr Range kUsual{0.6f, 1.15f}, kFlat{0.7f, 1.3f};

// A block under way: signs and magnitudes, in units of the largest.
struct GridBlock {
    alignas(64) float x[256], w[256], full_w[256];
    float amax;
    uint8_t signs[32];
    ShortList parts[64];
    float scale[16];
    uint8_t code[16];
    uint16_t d;
};

// Scales are chosen by the importance in full, points by its root: otherwise columns of little importance would be
// thrown away for the others.
inline void open_block(const float* importance, bool even, GridBlock& b) {
    alignas(64) float shares[256];
    share_out(importance, 256, shares);
    to_weights(b.x, shares, 256, b.full_w);
    to_sizes(b.x, 256, b.w);
    for (int i = 0; i < 256; i += R) store(b.w + i, load(b.w + i) * (root(load(shares + i)) + floats(0.05f)));
    for (int j = 0; j < 32; j++) {
        float *x = b.x + 8 * j, *w = b.w + 8 * j;
        unsigned minus = 0;
        for (int i = 0; i < 8; i++) minus |= unsigned(x[i] < 0) << i, x[i] = std::fabs(x[i]);
        if (even && __builtin_parity(minus)) {
            int flip = 0;
            for (int i = 1; i < 8; i++) flip = w[i] * x[i] < w[flip] * x[flip] ? i : flip;
            x[flip] = -x[flip], minus ^= 1u << flip;
        }
        b.signs[j] = uint8_t(minus);
    }
}

// The scale of a group by which its error is least; gain: how much less than Σ w x² that is.
inline float best_scale(const ShortList* parts, int num_parts, Range range, float& gain) {
    alignas(64) float scales[kScales];
    Sums sums;
    float scale = 0, middle = 0.5f * (range.least + range.most), step = (range.most - range.least) / (kScales - 1);
    gain = 0;
    for (int round = 0; round < 2; round++, middle = scale, step *= 2.0f / (kScales - 1)) {
        for (int i = 0; i < kScales; i++) scales[i] = middle + step * (float(i) - 0.5f * (kScales - 1));
        sum_best(parts, num_parts, scales, sums);
        for (int i = 0; i < kScales; i++) {
            if (!(sums.p[i] < 0 && 0.25f * sums.p[i] * sums.p[i] > gain * sums.q[i])) continue;
            gain = 0.25f * sums.p[i] * sums.p[i] / sums.q[i];
            scale = -0.5f * sums.p[i] / sums.q[i];
        }
    }
    return scale;
}

// Short lists and scale of one group, its scale being in this range; returns the gain.
template <int DIMS>
inline float fit_group(const GridFormat& format, const PointTable& table, GridBlock& b, int g, Range range) {
    const int num_parts = format.group / DIMS;
    for (int k = g * num_parts; k < (g + 1) * num_parts; k++) {
        const int at = k * DIMS;
        find_points<DIMS>(table, {b.x + at, b.w + at, b.full_w + at}, range.least, range.most, b.parts[k]);
    }
    float gain;
    b.scale[g] = best_scale(b.parts + g * num_parts, num_parts, range, gain);
    return gain;
}

// Scales for flat groups are larger than others by far, so that a block's d hardly serves both: they must be worth it.
template <int DIMS>
inline void find_scales(const GridFormat& format, const PointTable& table, GridBlock& b) {
    for (int g = 0; g < 256 / format.group; g++) {
        float most = 1e-6f, squares = 0, energy = 0;
        for (int i = g * format.group; i < (g + 1) * format.group; i++) {
            most = b.x[i] > most ? b.x[i] : most;
            squares += b.x[i] * b.x[i], energy += b.full_w[i] * b.x[i] * b.x[i];
        }
        const float to_top = most / format.top, to_bottom = most / format.bottom;
        const Range usual{kUsual.least * to_top, kUsual.most * to_top};
        const Range flat{kFlat.least * to_bottom, kFlat.most * to_bottom};
        const float left = energy - fit_group<DIMS>(format, table, b, g, usual);
        if (2 * squares < most * most * float(format.group) || left < 1e-3f * energy) continue;
        if (2 * (energy - fit_group<DIMS>(format, table, b, g, flat)) > left)
            fit_group<DIMS>(format, table, b, g, usual);
    }
}

// The codes of all groups under one d; what their error is more than Σ w x², and what d would serve these codes best.
inline float choose_codes(const GridFormat& format, const GridBlock& b, float d, uint8_t* code, float& next) {
    const int num_parts = format.group / format.dims;
    alignas(64) float scales[kScales];
    for (int l = 0; l < kScales; l++) scales[l] = d * format.unit * float(2 * l + 1);
    float error = 0, over = 0, under = 0;
    for (int g = 0; g < 256 / format.group; g++) {
        Sums sums;
        sum_best(b.parts + g * num_parts, num_parts, scales, sums);
        int best = 0;
        float lowest = INFINITY;
        for (int l = 0; l < kScales; l++) {
            const float now = scales[l] * (scales[l] * sums.q[l] + sums.p[l]);
            if (now < lowest) lowest = now, best = l;
        }
        code[g] = uint8_t(best);
        error += lowest;
        const float factor = format.unit * float(2 * best + 1);
        over += factor * sums.p[best], under += factor * factor * sums.q[best];
    }
    next = under > 0 ? -0.5f * over / under : d;
    return error;
}

// d and the groups' codes: from the largest scale, improved by turns; returns what choose_codes does.
inline float round_scales(const GridFormat& format, GridBlock& b) {
    float most = 0;
    for (int g = 0; g < 256 / format.group; g++) most = b.scale[g] > most ? b.scale[g] : most;
    float d = most / (31 * format.unit), best_d = d, lowest = INFINITY;
    uint8_t code[16];
    for (int round = 0; round < 3; round++) {
        float next;
        const float error = choose_codes(format, b, d, code, next);
        if (error < lowest) lowest = error, best_d = next;
        d = next;
    }
    b.d = to_half(best_d * b.amax);
    float next;
    return choose_codes(format, b, half_to_float(b.d) / b.amax, b.code, next);
}

// The least squared error makes weights too small: Σ w q² = Σ w x² (1 - e) where e is that error's share. This much of
// it is given back in d, which costs e/16 of the error and lowers the perplexity (bench/encoders.py). llama.cpp
// multiplies d by a constant of each type.
constexpr float kGivenBack = 0.25f;

// Everything about a block up to its points; false if all of it is zero.
template <int DIMS>
inline bool search_block(const GridFormat& format, const PointTable& table, const float* x, const float* importance,
                         GridBlock& b, uint16_t* points) {
    b.amax = to_unit(x, 256, b.x);
    if (b.amax == 0) return false;
    open_block(importance, format.even, b);
    find_scales<DIMS>(format, table, b);
    const float error = round_scales(format, b);
    if (!(b.d & 0x7fff)) return false;
    for (int k = 0; k < 256 / DIMS; k++) {
        const int l = b.code[k * DIMS / format.group];
        points[k] = uint16_t(best_point(b.parts[k], half_to_float(b.d) / b.amax * format.unit * float(2 * l + 1)));
    }
    float energy = 0;
    for (int i = 0; i < 256; i++) energy += b.full_w[i] * b.x[i] * b.x[i];
    b.d = to_half(half_to_float(b.d) * (1 + kGivenBack * (1 + error / energy)));
    return true;
}
