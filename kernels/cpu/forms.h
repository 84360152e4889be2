// Rows of activations as the products read them: tiles of a few rows, interleaved so that every address in a tile
// is a constant away from one running pointer. Included inside an instruction set's namespace.
//
//   Bytes256:  for n rows:  int8 [cols/4][n][4], float scale [cols/256][n], int32 -sum [cols/32][n] and [cols/16][n],
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

// Round `count` entries to 8 bits: nearest, ties to even; the scale is the largest magnitude / 127. Leaves the sum of
// every 16. An entry that is not finite makes the scale NaN, so that it comes out of the product.
inline float round_entries(const float* x, int count, int8_t* q, int32_t* sums) {
    F32s most = floats(0), odd = floats(0);
    for (int i = 0; i < count; i += R) {
        most = larger(most, magnitude(load(x + i)));
        odd += load(x + i) * 0.0f;  // NaN where an entry is infinite or NaN: comparisons may pass over those
    }
    const float top = largest(most), not_finite = sum(odd);
    if (not_finite != 0) {
        __builtin_memset(q, 0, size_t(count));
        for (int i = 0; i < count / 16; i++) sums[i] = 0;
        return not_finite;
    }
    // Magnitudes below 127 times the smallest normal number would overflow the inverse: they are rounded to 0.
    const F32s inverse = floats(top > 1.5e-36f ? 127.0f / top : 0.0f);
    for (int i = 0; i < count; i += 16) {
        F32s total = floats(0);
        for (int j = 0; j < 16; j += R) {
            const I32s rounded = to_int(load(x + i + j) * inverse);
            store_s8(q + i + j, rounded);
            total += to_float(rounded);
        }
        sums[i / 16] = int32_t(sum(total));
    }
    return top / 127.0f;
}

inline void quantize_row(const float* x, int64_t cols, int span, int row, int n, const Bytes8& out) {
    alignas(64) int8_t q[256];
    int32_t sums[16];
    float* scale = (float*)out.scale + row;
    int32_t *to_q = (int32_t*)out.q + row, *minus16 = (int32_t*)out.minus16 + row, *minus32 = (int32_t*)out.minus32 + row;
    int16_t *sums16 = (int16_t*)out.sums16 + 2 * row, *sums32 = (int16_t*)out.sums32 + 2 * row;
    for (int64_t at = 0; at < cols; at += 256) {
        const int count = int(cols - at < 256 ? cols - at : 256);
        for (int i = 0; i < count; i += span, scale += n)
            *scale = round_entries(x + at + i, count - i < span ? count - i : span, q + i, sums + i / 16);
        for (int i = 0; i < count / 4; i++, to_q += n) __builtin_memcpy(to_q, q + 4 * i, 4);
        for (int i = 0; i < count / 16; i++, minus16 += n) {
            *minus16 = -sums[i];
            sums16[(i / 2 * n) * 2 + i % 2] = int16_t(sums[i]);
        }
        for (int i = 0; i < count / 32; i++, minus32 += n) {
            *minus32 = -sums[2 * i] - sums[2 * i + 1];
            sums32[(i / 2 * n) * 2 + i % 2] = int16_t(-*minus32);
        }
        sums16 += 16 * n, sums32 += 8 * n;
    }
}

// bfloat16 of a float, rounded to nearest even; NaN stays NaN.
inline uint16_t to_bf16(float x) {
    uint32_t u;
    __builtin_memcpy(&u, &x, 4);
    if (x != x) return uint16_t(u >> 16 | 64);
    return uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// Put n rows of floats, `stride` apart, into a tile.
inline void put_tile(int form, const float* x, int64_t stride, int64_t cols, int n, uint8_t* tile) {
    const Bytes8 bytes(tile, cols, n, span_of(form));
    for (int t = 0; t < n; t++) {
        const float* row = x + t * stride;
        if (form == kBytes256 || form == kBytes32) {
            quantize_row(row, cols, span_of(form), t, n, bytes);
        } else if (form == kPairs) {
            for (int64_t i = 0; i < cols; i++) ((uint16_t*)tile)[(i / 2 * n + t) * 2 + i % 2] = to_bf16(row[i]);
        } else {
            for (int64_t i = 0; i < cols; i++) ((float*)tile)[i * n + t] = row[i];
        }
    }
}
