// Rows of activations as the products read them: tiles of a few rows, interleaved so that every address in a tile
// is a constant away from one running pointer. Included inside an instruction set's namespace.
//
//   Bytes256:  for n rows:  int8 [cols/4][n][4], float scale [cols/256][n], int32 -sum [cols/32][n] and -32·sum [cols/16][n],
//              int16 sums in pairs [cols/64][n][2] and [cols/32][n][2]
//   Bytes32:   the same, with scale [cols/32][n]
//   Singles:   float [cols][n]
//   Pairs:     bfloat16 [cols/2][n][2]

// Columns that share a scale.
inline int span_of(int form) { return form == kBytes256 ? 256 : 32; }

// Rows of the tile that comes next when m are left.
inline int tile_rows(int64_t m) {
    for (int n : {12, 8, 6, 4, 3, 2})
        if (n <= kMostRows && m >= n) return n;
    return 1;
}

struct Bytes8 {
    const int8_t* q;
    const float* scale;
    const int32_t *minus32, *minus16;
    const int16_t *sums32, *sums16;

    Bytes8(const uint8_t* tile, int64_t cols, int n, int span) {
        q = (const int8_t*)tile;
        scale = (const float*)(q + n * cols);
        minus32 = (const int32_t*)(scale + n * ((cols + span - 1) / span));
        minus16 = minus32 + n * (cols / 32);
        sums32 = (const int16_t*)(minus16 + n * (cols / 16));
        sums16 = sums32 + n * ((cols / 32 + 1) & ~int64_t(1));
    }
    static int64_t row_bytes(int64_t cols, int span) {
        return cols + 4 * ((cols + span - 1) / span) + 4 * (cols / 32 + cols / 16) + 2 * (((cols / 32 + 1) & ~int64_t(1)) + cols / 16);
    }
};

inline int64_t form_row_bytes(int form, int64_t cols) {
    if (form == kSingles) return 4 * cols;
    return form == kPairs ? 2 * cols : Bytes8::row_bytes(cols, span_of(form));
}

// Sum of 16 signed bytes: eight at a time as unsigned ones, in lanes of 16 bits.
inline int32_t sum_of_16(const int8_t* q) {
    constexpr uint64_t kSigns = 0x8080808080808080u, kEven = 0x00ff00ff00ff00ffu;
    uint64_t a, b;
    __builtin_memcpy(&a, q, 8);
    __builtin_memcpy(&b, q + 8, 8);
    a ^= kSigns, b ^= kSigns;
    const uint64_t lanes = (a & kEven) + (a >> 8 & kEven) + (b & kEven) + (b >> 8 & kEven);
    return int32_t(lanes * 0x0001000100010001u >> 48) - 16 * 128;
}

// Round `count` entries to 8 bits: nearest, ties to even; the scale is the largest magnitude / 127. An entry that is not
// finite makes the scale NaN, so that it comes out of the product.
inline float round_entries(const float* x, int count, int8_t* q) {
    F32s most = floats(0), odd = floats(0);
    for (int i = 0; i < count; i += R) {
        most = larger(most, magnitude(load(x + i)));
        odd += load(x + i) * 0.0f;  // NaN where an entry is infinite or NaN: comparisons may pass over those
    }
    const float top = largest(most), not_finite = sum(odd);
    if (not_finite != 0) {
        __builtin_memset(q, 0, size_t(count));
        return not_finite;
    }
    // Magnitudes below 127 times the smallest normal number would overflow the inverse: they are rounded to 0.
    const F32s inverse = floats(top > 1.5e-36f ? 127.0f / top : 0.0f);
    for (int i = 0; i < count; i += R) store_s8(q + i, to_int(load(x + i) * inverse));
    return top / 127.0f;
}

// Columns first to last - 1; first is a multiple of 256.
inline void quantize_row(const float* x, int64_t first, int64_t last, int span, int row, int n, const Bytes8& out) {
    alignas(64) int8_t q[256];
    float* scale = (float*)out.scale + first / span * n + row;
    int32_t *to_q = (int32_t*)out.q + first / 4 * n + row;
    int32_t *minus16 = (int32_t*)out.minus16 + first / 16 * n + row, *minus32 = (int32_t*)out.minus32 + first / 32 * n + row;
    // Pairs, the first one low.
    uint32_t *sums16 = (uint32_t*)out.sums16 + first / 32 * n + row, *sums32 = (uint32_t*)out.sums32 + first / 64 * n + row;
    const auto pair = [](int32_t a, int32_t b) { return uint32_t(a & 0xffff) | uint32_t(b) << 16; };
    for (int64_t at = first; at < last; at += 256) {
        const int count = int(last - at < 256 ? last - at : 256);
        for (int i = 0; i < count; i += span, scale += n)
            *scale = round_entries(x + at + i, count - i < span ? count - i : span, q + i);
        for (int i = 0; i < count / 4; i++, to_q += n) __builtin_memcpy(to_q, q + 4 * i, 4);
        int32_t before = 0;
        for (int i = 0; i < count / 32; i++, minus16 += 2 * n, minus32 += n, sums16 += n) {
            const int32_t a = sum_of_16(q + 32 * i), b = sum_of_16(q + 32 * i + 16);
            minus16[0] = -32 * a, minus16[n] = -32 * b, *minus32 = -a - b;
            *sums16 = pair(a, b);
            sums32[i / 2 * n] = i % 2 ? pair(before, a + b) : pair(a + b, 0);
            before = a + b;
        }
        sums32 += 4 * n;
    }
}

// bfloat16 of floats, rounded to nearest even; NaN stays NaN.
MULL_INLINE I32s to_bf16(F32s x) {
    const I32s u = bits(x), even = u + 0x7fff + ((u >> 16) & 1), is_nan = (u & 0x7fffffff) > 0x7f800000;
    return ((is_nan & (u | 0x400000)) | (~is_nan & even)) >> 16;
}

// The same as pairs of bfloat16.
inline void round_pairs(const float* x, int64_t first, int64_t last, int row, int n, uint32_t* out) {
    for (int64_t i = first; i < last; i += 32) {
        alignas(64) uint16_t rounded[32];
        for (int j = 0; j < 32; j += R) store_u16(rounded + j, to_bf16(load(x + i + j)));
        for (int j = 0; j < 16; j++) __builtin_memcpy(out + (i / 2 + j) * n + row, rounded + 2 * j, 4);
    }
}

// Put columns first to last - 1 of n rows of floats, `stride` apart, into a tile; first is a multiple of 256.
inline void put_tile(int form, const float* x, int64_t stride, int64_t cols, int64_t first, int64_t last, int n,
                     uint8_t* tile) {
    const Bytes8 bytes(tile, cols, n, span_of(form));
    for (int t = 0; t < n; t++) {
        const float* row = x + t * stride;
        if (form == kBytes256 || form == kBytes32) {
            quantize_row(row, first, last, span_of(form), t, n, bytes);
        } else if (form == kPairs) {
            round_pairs(row, first, last, t, n, (uint32_t*)tile);
        } else {
            for (int64_t i = first; i < last; i++) ((float*)tile)[i * n + t] = row[i];
        }
    }
}
