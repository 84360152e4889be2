// Encoders of IQ3_XXS and IQ3_S. Included inside an instruction set's namespace, after encode_iq_grid.h.

constexpr GridFormat kFormatIQ3XXS{4, 32, true, 0.25f, 4, 62}, kFormatIQ3S{4, 32, false, 1, 1, 15};

// 98 bytes: d, 64 points, then for each group 4 bytes of 7-bit signs with the code on top.
inline void encode_iq3_xxs(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    GridBlock b;
    uint16_t points[64];
    for (int64_t at = 0; at < cols; at += 256, out += 98) {
        __builtin_memset(out, 0, 98);
        if (!search_block<4>(kFormatIQ3XXS, points_iq3_xxs, x + at, importance ? importance + at : nullptr, b, points))
            continue;
        write16(out, b.d);
        for (int k = 0; k < 64; k++) out[2 + k] = uint8_t(points[k]);
        for (int g = 0; g < 8; g++) {
            uint32_t upper = uint32_t(b.code[g]) << 28;
            for (int j = 0; j < 4; j++) upper |= uint32_t(b.signs[4 * g + j] & 127) << 7 * j;
            __builtin_memcpy(out + 66 + 4 * g, &upper, 4);
        }
    }
}

// 110 bytes: d, 64 low bytes of points, their ninth bits, 32 bytes of signs, two groups' codes in a byte.
inline void encode_iq3_s(const float* x, int64_t cols, const float* importance, uint8_t* out) {
    GridBlock b;
    uint16_t points[64];
    for (int64_t at = 0; at < cols; at += 256, out += 110) {
        __builtin_memset(out, 0, 110);
        if (!search_block<4>(kFormatIQ3S, points_iq3_s, x + at, importance ? importance + at : nullptr, b, points))
            continue;
        write16(out, b.d);
        for (int k = 0; k < 64; k++) {
            out[2 + k] = uint8_t(points[k]);
            out[66 + k / 8] |= uint8_t(points[k] >> 8 << k % 8);
        }
        for (int j = 0; j < 32; j++) out[74 + j] = b.signs[j];
        for (int i = 0; i < 4; i++) out[106 + i] = uint8_t(b.code[2 * i] | b.code[2 * i + 1] << 4);
    }
}
