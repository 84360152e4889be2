// Encoders of IQ2_XXS, IQ2_XS and IQ2_S. Included inside an instruction set's namespace, after encode_iq_grid.h.

constexpr GridFormat kFormatIQ2XXS{8, 32, true, 0.125f, 8, 43}, kFormatIQ2XS{8, 16, true, 0.125f, 8, 43};
constexpr GridFormat kFormatIQ2S{8, 16, false, 0.125f, 8, 43};

// 66 bytes: d, then for each group 4 bytes of points, and 4 of 7-bit signs with the code on top.
inline void encode_iq2_xxs(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    GridBlock b;
    uint16_t points[32];
    for (int64_t at = 0; at < cols; at += 256, out += 66) {
        __builtin_memset(out, 0, 66);
        if (!search_block<8>(kFormatIQ2XXS, points_iq2_xxs, x + at, importance ? importance + at : nullptr, b, points))
            continue;
        write16(out, b.d);
        for (int g = 0; g < 8; g++) {
            uint32_t upper = uint32_t(b.code[g]) << 28;
            for (int k = 0; k < 4; k++) {
                out[2 + 8 * g + k] = uint8_t(points[4 * g + k]);
                upper |= uint32_t(b.signs[4 * g + k] & 127) << 7 * k;
            }
            __builtin_memcpy(out + 6 + 8 * g, &upper, 4);
        }
    }
}

// 74 bytes: d, 9 bits of point and 7 of signs for every eight weights, two groups' codes in a byte.
inline void encode_iq2_xs(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    GridBlock b;
    uint16_t points[32];
    for (int64_t at = 0; at < cols; at += 256, out += 74) {
        __builtin_memset(out, 0, 74);
        if (!search_block<8>(kFormatIQ2XS, points_iq2_xs, x + at, importance ? importance + at : nullptr, b, points))
            continue;
        write16(out, b.d);
        for (int k = 0; k < 32; k++) write16(out + 2 + 2 * k, uint16_t(points[k] | (b.signs[k] & 127) << 9));
        for (int i = 0; i < 8; i++) out[66 + i] = uint8_t(b.code[2 * i] | b.code[2 * i + 1] << 4);
    }
}

// 82 bytes: d, 32 low bytes of points, 32 of signs, four points' upper bits in a byte, two groups' codes in a byte.
inline void encode_iq2_s(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    GridBlock b;
    uint16_t points[32];
    for (int64_t at = 0; at < cols; at += 256, out += 82) {
        __builtin_memset(out, 0, 82);
        if (!search_block<8>(kFormatIQ2S, points_iq2_s, x + at, importance ? importance + at : nullptr, b, points))
            continue;
        write16(out, b.d);
        for (int k = 0; k < 32; k++) {
            out[2 + k] = uint8_t(points[k]);
            out[34 + k] = b.signs[k];
            out[66 + k / 4] |= uint8_t(points[k] >> 8 << k % 4 * 2);
        }
        for (int i = 0; i < 8; i++) out[74 + i] = uint8_t(b.code[2 * i] | b.code[2 * i + 1] << 4);
    }
}
