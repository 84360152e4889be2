// GGUF's blocks, taken apart. Layouts: ggml's block structures, as documented by the gguf package and the GGUF
// specification; every block format is a row of independent blocks, quants stored least significant part first.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace mull {

// Types of weights, by GGUF's numbers; bitsandbytes' two have no number there, and blocks of our own (blocks of Q4_0
// with another table, quant/formats/bnb.py).
enum Type {
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13,
    Q6_K = 14, IQ2_XXS = 16, IQ2_XS = 17, IQ3_XXS = 18, IQ4_NL = 20, IQ3_S = 21, IQ2_S = 22, IQ4_XS = 23, BF16 = 30,
    TQ1_0 = 34, TQ2_0 = 35, MXFP4 = 39, NF4 = 200, FP4 = 201,
};

// Codebooks of IQ2_XS [512][8] and IQ3_S [512][4], magnitudes; set once through mull_set_grid.
extern const uint8_t* grid_iq2_xs;
extern const uint8_t* grid_iq3_s;
inline bool lacks_grid(int type) { return (type == IQ2_XS && !grid_iq2_xs) || (type == IQ3_S && !grid_iq3_s); }

// Values of 4-bit codes: IQ4_NL and IQ4_XS; MXFP4, twice the values of E2M1.
constexpr int8_t kValuesIQ4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kValuesMXFP4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
// 112 times the levels of NF4, 120 times those of FP4: of all factors these round them best.
constexpr int8_t kValuesNF4[16] = {-112, -78, -59, -44, -32, -21, -10, 0, 9, 18, 28, 38, 49, 63, 81, 112};
constexpr int8_t kValuesFP4[16] = {0, 1, 80, 120, 40, 60, 20, 30, 0, -1, -80, -120, -40, -60, -20, -30};
// IQ3_S and IQ2_XS have signed magnitudes from a grid; these are the codes that they are given here.
constexpr int8_t kValuesIQ3[16] = {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15};
constexpr int8_t kValuesIQ2[16] = {-43, -25, -8, 8, 25, 43};

// One block of 32 or 256 weights. With v = value(code), which is the code itself, code - offset or a table's entry:
//   32:   w = d·v                      + m
//   256:  w = d·scale[i / group]·v     - m·min[i / group]
// d and m are binary16 (for MXFP4 d is the exponent byte).
struct Parts {
    alignas(64) uint8_t code[256];
    uint16_t d, m;
    uint8_t scale[16], min[16];  // scale is signed where the type's scales are
};

inline uint16_t read16(const uint8_t* p) {
    uint16_t value;
    std::memcpy(&value, p, 2);
    return value;
}

// Blocks are taken apart 16 codes at a time.
typedef uint8_t Sixteen __attribute__((vector_size(16)));

inline Sixteen read_sixteen(const uint8_t* p) {
    Sixteen value;
    std::memcpy(&value, p, 16);
    return value;
}
inline void put_sixteen(uint8_t* p, Sixteen value) { std::memcpy(p, &value, 16); }

inline void low_and_high(const uint8_t* packed, uint8_t* code, int half) {
    for (int i = 0; i < half; i += 16) {
        const Sixteen both = read_sixteen(packed + i);
        put_sixteen(code + i, both & 15);
        put_sixteen(code + half + i, both >> 4);
    }
}

// Eight bits as eight bytes of 0 or 1.
inline uint64_t spread(uint8_t bits) {
    const uint64_t apart = bits * 0x0101010101010101u & 0x8040201008040201u;
    return (apart + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

inline void fifth_bits(const uint8_t* bits, uint8_t* code) {
    for (int j = 0; j < 4; j++) {
        uint64_t eight;
        std::memcpy(&eight, code + 8 * j, 8);
        eight |= spread(bits[j]) << 4;
        std::memcpy(code + 8 * j, &eight, 8);
    }
}

// Q4_K's and Q5_K's eight 6-bit scales and minimums in 12 bytes.
inline void six_bits(const uint8_t* packed, Parts& out) {
    for (int j = 0; j < 4; j++) {
        out.scale[j] = packed[j] & 63;
        out.min[j] = packed[j + 4] & 63;
        out.scale[j + 4] = uint8_t((packed[j + 8] & 15) | (packed[j] >> 6) << 4);
        out.min[j + 4] = uint8_t((packed[j + 8] >> 4) | (packed[j + 4] >> 6) << 4);
    }
}

inline void take_q4_0(const uint8_t* b, Parts& out) {
    out.d = read16(b);
    low_and_high(b + 2, out.code, 16);
}

inline void take_q4_1(const uint8_t* b, Parts& out) {
    out.d = read16(b), out.m = read16(b + 2);
    low_and_high(b + 4, out.code, 16);
}

inline void take_q5_0(const uint8_t* b, Parts& out) {
    out.d = read16(b);
    low_and_high(b + 6, out.code, 16);
    fifth_bits(b + 2, out.code);
}

inline void take_q5_1(const uint8_t* b, Parts& out) {
    out.d = read16(b), out.m = read16(b + 2);
    low_and_high(b + 8, out.code, 16);
    fifth_bits(b + 4, out.code);
}

inline void take_q8_0(const uint8_t* b, Parts& out) {
    out.d = read16(b);
    std::memcpy(out.code, b + 2, 32);
}

inline void take_mxfp4(const uint8_t* b, Parts& out) {
    out.d = b[0];
    low_and_high(b + 1, out.code, 16);
}

inline void take_q2_k(const uint8_t* b, Parts& out) {
    for (int i = 0; i < 16; i++) out.scale[i] = b[i] & 15, out.min[i] = b[i] >> 4;
    for (int i = 0; i < 256; i += 16)
        put_sixteen(out.code + i, read_sixteen(b + 16 + i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3);
    out.d = read16(b + 80), out.m = read16(b + 82);
}

inline void take_q3_k(const uint8_t* b, Parts& out) {
    const uint8_t *high = b, *low = b + 32, *scales = b + 96;
    for (int i = 0; i < 256; i += 16) {
        const Sixteen two = read_sixteen(low + i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
        put_sixteen(out.code + i, two | (read_sixteen(high + i % 32) >> (i / 32) & 1) << 2);
    }
    for (int i = 0; i < 16; i++) {
        const int four = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4;
        out.scale[i] = uint8_t((four | ((scales[8 + i % 4] >> (i / 4 * 2)) & 3) << 4) - 32);
    }
    out.d = read16(b + 108);
}

inline void take_q4_k(const uint8_t* b, Parts& out) {
    out.d = read16(b), out.m = read16(b + 2);
    six_bits(b + 4, out);
    for (int j = 0; j < 4; j++) low_and_high(b + 16 + 32 * j, out.code + 64 * j, 32);
}

inline void take_q5_k(const uint8_t* b, Parts& out) {
    out.d = read16(b), out.m = read16(b + 2);
    six_bits(b + 4, out);
    for (int j = 0; j < 4; j++) low_and_high(b + 48 + 32 * j, out.code + 64 * j, 32);
    for (int i = 0; i < 256; i += 16) {
        const Sixteen fifth = read_sixteen(b + 16 + i % 32) >> (i / 32) & 1;
        put_sixteen(out.code + i, read_sixteen(out.code + i) | fifth << 4);
    }
}

inline void take_q6_k(const uint8_t* b, Parts& out) {
    for (int part = 0; part < 2; part++) {
        const uint8_t *low = b + 64 * part, *high = b + 128 + 32 * part;
        uint8_t* code = out.code + 128 * part;
        low_and_high(low, code, 64);  // quarters 0 and 2 come from the first 32 bytes, 1 and 3 from the next
        for (int i = 0; i < 128; i += 16)
            put_sixteen(code + i, read_sixteen(code + i) | (read_sixteen(high + i % 32) >> (i / 32 * 2) & 3) << 4);
    }
    std::memcpy(out.scale, b + 192, 16);
    out.d = read16(b + 208);
}

inline void take_iq4_xs(const uint8_t* b, Parts& out) {
    out.d = read16(b);
    const uint16_t high = read16(b + 2);
    for (int j = 0; j < 8; j++) {
        const int low = (b[4 + j / 2] >> (j % 2 * 4)) & 15;
        out.scale[j] = uint8_t((low | ((high >> 2 * j) & 3) << 4) - 32);
        low_and_high(b + 8 + 16 * j, out.code + 32 * j, 16);
    }
}

// Eight signs in seven bits: the eighth makes the number of minus signs even.
inline int eight_signs(int seven) { return seven | (__builtin_parity(unsigned(seven)) << 7); }

inline void take_iq2_xs(const uint8_t* b, Parts& out) {
    out.d = read16(b);
    for (int j = 0; j < 32; j++) {
        const int packed = read16(b + 2 + 2 * j);
        uint64_t values;
        std::memcpy(&values, grid_iq2_xs + 8 * (packed & 511), 8);
        const uint64_t minus = spread(uint8_t(eight_signs(packed >> 9))) * 255;
        const uint64_t plus = (values >> 4 & 0x0303030303030303u) + 0x0303030303030303u;  // 8, 25, 43: 3, 4, 5
        const uint64_t code = (plus & ~minus) | ((0x0505050505050505u - plus) & minus);
        std::memcpy(out.code + 8 * j, &code, 8);
    }
    for (int i = 0; i < 16; i++) out.scale[i] = uint8_t(2 * ((b[66 + i / 2] >> (i % 2 * 4)) & 15) + 1);  // eighths
}

inline void take_iq3_s(const uint8_t* b, Parts& out) {
    const uint8_t *low = b + 2, *high = b + 66, *signs = b + 74, *scales = b + 106;
    out.d = read16(b);
    for (int j = 0; j < 32; j++) {
        const int ninth = high[j / 4] >> (j % 4 * 2);
        uint32_t values[2];
        std::memcpy(values, grid_iq3_s + 4 * (low[2 * j] | (ninth & 1) << 8), 4);
        std::memcpy(values + 1, grid_iq3_s + 4 * (low[2 * j + 1] | (ninth & 2) << 7), 4);
        const uint64_t both = values[0] | uint64_t(values[1]) << 32;
        const uint64_t plus = (both >> 1 & 0x0707070707070707u) | 0x0808080808080808u;  // 1, 3 … 15: 8, 9 … 15
        const uint64_t code = plus ^ spread(signs[j]) * 15;
        std::memcpy(out.code + 8 * j, &code, 8);
    }
    for (int j = 0; j < 8; j++) out.scale[j] = uint8_t(2 * ((scales[j / 2] >> (j % 2 * 4)) & 15) + 1);
}

// Bytes of a block, or of one number.
inline int block_bytes(int type) {
    switch (type) {
        case F32: return 4;
        case F16: case BF16: return 2;
        case Q4_0: case IQ4_NL: case NF4: case FP4: return 18;
        case Q4_1: return 20;
        case Q5_0: return 22;
        case Q5_1: return 24;
        case Q8_0: return 34;
        case MXFP4: return 17;
        case Q2_K: return 84;
        case Q3_K: return 110;
        case Q4_K: return 144;
        case Q5_K: return 176;
        case Q6_K: return 210;
        case IQ2_XS: return 74;
        case IQ3_S: return 110;
        case IQ4_XS: return 136;
        default: return 0;
    }
}

// Weights in a block: 256, 32 or 1.
inline int block_weights(int type) {
    switch (type) {
        case F32: case F16: case BF16: return 1;
        case Q4_0: case Q4_1: case Q5_0: case Q5_1: case Q8_0: case IQ4_NL: case MXFP4: case NF4: case FP4:
            return 32;
        default: return 256;
    }
}

inline float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 1023;
    uint32_t bits = sign | (exponent + 112) << 23 | fraction << 13;
    if (exponent == 31) bits = sign | 0x7f800000 | fraction << 13;
    float value;
    std::memcpy(&value, &bits, 4);
    if (exponent == 0) value = (sign ? -1.0f : 1.0f) * float(fraction) * 5.9604644775390625e-8f;
    return value;
}

inline void take_block(int type, const uint8_t* b, Parts& out) {
    switch (type) {
        case Q4_0: case IQ4_NL: case NF4: case FP4: return take_q4_0(b, out);
        case Q4_1: return take_q4_1(b, out);
        case Q5_0: return take_q5_0(b, out);
        case Q5_1: return take_q5_1(b, out);
        case Q8_0: return take_q8_0(b, out);
        case MXFP4: return take_mxfp4(b, out);
        case Q2_K: return take_q2_k(b, out);
        case Q3_K: return take_q3_k(b, out);
        case Q4_K: return take_q4_k(b, out);
        case Q5_K: return take_q5_k(b, out);
        case Q6_K: return take_q6_k(b, out);
        case IQ2_XS: return take_iq2_xs(b, out);
        case IQ3_S: return take_iq3_s(b, out);
        case IQ4_XS: return take_iq4_xs(b, out);
    }
}

// What a code of a type stands for.
inline float code_value(int type, uint8_t code) {
    switch (type) {
        case Q4_0: return float(code) - 8;
        case Q5_0: return float(code) - 16;
        case Q8_0: return float(int8_t(code));
        case Q3_K: return float(code) - 4;
        case Q6_K: return float(code) - 32;
        case IQ4_NL: case IQ4_XS: return kValuesIQ4[code];
        case MXFP4: return kValuesMXFP4[code];
        case NF4: return kValuesNF4[code];
        case FP4: return kValuesFP4[code];
        case IQ3_S: return kValuesIQ3[code];
        case IQ2_XS: return kValuesIQ2[code];
        default: return float(code);
    }
}

inline void unpack_block(int type, const uint8_t* block, float* out) {
    Parts parts;
    take_block(type, block, parts);
    if (block_weights(type) == 32) {
        const bool minimum = type == Q4_1 || type == Q5_1;
        const float d = type == MXFP4 ? std::ldexp(0.5f, int(parts.d) - 127) : half_to_float(parts.d);
        const float m = minimum ? half_to_float(parts.m) : 0;
        for (int i = 0; i < 32; i++) out[i] = d * code_value(type, parts.code[i]) + m;
        return;
    }
    const bool minimum = type == Q2_K || type == Q4_K || type == Q5_K, is_signed = !minimum;
    const int group = type == Q2_K || type == Q3_K || type == Q6_K || type == IQ2_XS ? 16 : 32;
    const float d = half_to_float(parts.d) * (type == IQ2_XS ? 0.125f : 1), m = minimum ? half_to_float(parts.m) : 0;
    for (int i = 0; i < 256; i++) {
        const int g = i / group;
        const float scale = d * (is_signed ? float(int8_t(parts.scale[g])) : float(parts.scale[g]));
        out[i] = scale * code_value(type, parts.code[i]) - (minimum ? m * float(parts.min[g]) : 0);
    }
}

// One stored row as floats.
inline void unpack_row(int type, const uint8_t* row, int64_t cols, float* out) {
    if (type == F32) {
        std::memcpy(out, row, size_t(cols) * 4);
    } else if (type == F16) {
        for (int64_t i = 0; i < cols; i++) out[i] = half_to_float(read16(row + 2 * i));
    } else if (type == BF16) {
        for (int64_t i = 0; i < cols; i++) {
            const uint32_t bits = uint32_t(read16(row + 2 * i)) << 16;
            std::memcpy(out + i, &bits, 4);
        }
    } else {
        const int weights = block_weights(type), bytes = block_bytes(type);
        for (int64_t i = 0; i < cols / weights; i++) unpack_block(type, row + i * bytes, out + i * weights);
    }
}

}  // namespace mull
