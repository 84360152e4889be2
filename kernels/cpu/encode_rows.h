// The encoders of one instruction set. Included inside its namespace and target region, after its simd_*.h.

inline void write16(uint8_t* p, uint16_t value) { __builtin_memcpy(p, &value, 2); }

// binary16, rounded to nearest even.
inline uint16_t to_half(float x) {
    uint32_t u;
    __builtin_memcpy(&u, &x, 4);
    const uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a >= 0x47800000) return uint16_t(sign | (a > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (a >= 0x38800000) return uint16_t(sign | (a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13);
    float shifted;  // at 0.5 a float's last bit is worth 2^-24
    __builtin_memcpy(&shifted, &a, 4);
    shifted += 0.5f;
    __builtin_memcpy(&u, &shifted, 4);
    return uint16_t(sign | (u - 0x3f000000));
}

// To nearest even, below 2^22.
MULL_INLINE F32s nearest(F32s x) { return (x + 12582912.0f) - 12582912.0f; }
MULL_INLINE F32s clamp(F32s x, float least, float most) { return smaller(larger(x, floats(least)), floats(most)); }
// Towards 0.
MULL_INLINE I32s truncate(F32s x) { return __builtin_convertvector(x, I32s); }

// A stored row as floats; false where one is not finite.
inline bool open_row(int type, const uint8_t* row, int64_t cols, float* out) {
    int64_t i = 0;
    if (type == F16)
        for (; i + R <= cols; i += R) store(out + i, load_halves(row + 2 * i));
    if (type == F16 || type == F32 || type == BF16) {
        const int bytes = block_bytes(type);
        unpack_row(type, row + bytes * i, cols - i, out + i);
    } else {
        unpack_row(type, row, cols, out);
    }
    F32s odd = floats(0);
    float rest = 0;
    for (i = 0; i + R <= cols; i += R) odd += load(out + i) * 0.0f;
    for (; i < cols; i++) rest += out[i] * 0.0f;
    return sum(odd) + rest == 0;
}

#include "encode_put.h"
#include "encode_search.h"
#include "encode_simple.h"
#include "encode_k.h"
// The types with codebooks or uneven levels.
#include "encode_iq_weights.h"
#include "encode_iq_points.h"
#include "encode_iq_grid.h"
#include "encode_iq2.h"
#include "encode_iq3.h"
#include "encode_iq4.h"

inline EncodeRow find_encoder(int type) {
    switch (type) {
        case Q4_0: return encode_q4_0;
        case Q4_1: return encode_q4_1;
        case Q5_0: return encode_q5_0;
        case Q5_1: return encode_q5_1;
        case Q8_0: return encode_q8_0;
        case MXFP4: return encode_mxfp4;
        case TQ1_0: return encode_tq1_0;
        case TQ2_0: return encode_tq2_0;
        case Q2_K: return encode_q2_k;
        case Q3_K: return encode_q3_k;
        case Q4_K: return encode_q4_k;
        case Q5_K: return encode_q5_k;
        case Q6_K: return encode_q6_k;
        case IQ2_XXS: return encode_iq2_xxs;
        case IQ2_XS: return encode_iq2_xs;
        case IQ2_S: return encode_iq2_s;
        case IQ3_XXS: return encode_iq3_xxs;
        case IQ3_S: return encode_iq3_s;
        case IQ4_NL: return encode_iq4_nl;
        case IQ4_XS: return encode_iq4_xs;
        default: return nullptr;
    }
}
