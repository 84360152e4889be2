// GGUF's blocks, put together from codes and scales: the opposite of blocks.h. Included inside an instruction set's
// namespace.

// Codes i and i + half share a byte.
inline void put_nibbles(const uint8_t* code, int half, uint8_t* to) {
    for (int i = 0; i < half; i += 16)
        put_sixteen(to + i, (read_sixteen(code + i) & 15) | read_sixteen(code + half + i) << 4);
}

// The fifth bits of 32 codes.
inline void put_fifth_bits(const uint8_t* code, uint8_t* to) {
    for (int j = 0; j < 4; j++) {
        uint64_t eight;
        __builtin_memcpy(&eight, code + 8 * j, 8);
        to[j] = uint8_t(((eight >> 4 & 0x0101010101010101u) * 0x0102040810204080u) >> 56);
    }
}

// Two bits of 256 codes: 128 in 32 bytes.
inline void put_pairs(const uint8_t* code, int shift, uint8_t* to) {
    for (int i = 0; i < 64; i += 16) {
        const uint8_t* from = code + i / 32 * 128 + i % 32;
        Sixteen all = read_sixteen(from) >> shift & 3;
        for (int j = 1; j < 4; j++) all |= (read_sixteen(from + 32 * j) >> shift & 3) << 2 * j;
        put_sixteen(to + i, all);
    }
}

// One bit of 256 codes: bit j of byte i is code 32 j + i's.
inline void put_bits(const uint8_t* code, int shift, uint8_t* to) {
    for (int i = 0; i < 32; i += 16) {
        Sixteen all = read_sixteen(code + i) >> shift & 1;
        for (int j = 1; j < 8; j++) all |= (read_sixteen(code + 32 * j + i) >> shift & 1) << j;
        put_sixteen(to + i, all);
    }
}

// Q4_K's and Q5_K's eight 6-bit scales and minimums.
inline void put_six_bits(const Parts& parts, uint8_t* to) {
    for (int j = 0; j < 4; j++) {
        to[j] = uint8_t(parts.scale[j] | parts.scale[j + 4] >> 4 << 6);
        to[j + 4] = uint8_t(parts.min[j] | parts.min[j + 4] >> 4 << 6);
        to[j + 8] = uint8_t((parts.scale[j + 4] & 15) | (parts.min[j + 4] & 15) << 4);
    }
}

inline void put_q2_k(const Parts& parts, uint8_t* to) {
    for (int i = 0; i < 16; i++) to[i] = uint8_t(parts.scale[i] | parts.min[i] << 4);
    put_pairs(parts.code, 0, to + 16);
    write16(to + 80, parts.d), write16(to + 82, parts.m);
}

inline void put_q3_k(const Parts& parts, uint8_t* to) {
    put_bits(parts.code, 2, to);
    put_pairs(parts.code, 0, to + 32);
    for (int i = 0; i < 8; i++)
        to[96 + i] = uint8_t((uint8_t(parts.scale[i] + 32) & 15) | (uint8_t(parts.scale[i + 8] + 32) & 15) << 4);
    for (int i = 0; i < 4; i++) {
        to[104 + i] = 0;
        for (int j = 0; j < 4; j++) to[104 + i] |= uint8_t(uint8_t(parts.scale[4 * j + i] + 32) >> 4 << 2 * j);
    }
    write16(to + 108, parts.d);
}

inline void put_q4_k(const Parts& parts, uint8_t* to) {
    write16(to, parts.d), write16(to + 2, parts.m);
    put_six_bits(parts, to + 4);
    for (int j = 0; j < 4; j++) put_nibbles(parts.code + 64 * j, 32, to + 16 + 32 * j);
}

inline void put_q5_k(const Parts& parts, uint8_t* to) {
    write16(to, parts.d), write16(to + 2, parts.m);
    put_six_bits(parts, to + 4);
    put_bits(parts.code, 4, to + 16);
    for (int j = 0; j < 4; j++) put_nibbles(parts.code + 64 * j, 32, to + 48 + 32 * j);
}

inline void put_q6_k(const Parts& parts, uint8_t* to) {
    for (int half = 0; half < 2; half++) put_nibbles(parts.code + 128 * half, 64, to + 64 * half);
    put_pairs(parts.code, 4, to + 128);
    __builtin_memcpy(to + 192, parts.scale, 16);
    write16(to + 208, parts.d);
}
