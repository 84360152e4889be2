// One token's key or value, written into its slot of a block of the cache (layouts: cache.h). Included inside
// an instruction set's namespace.

inline uint16_t to_half(float x) {
    uint16_t all[R];
    store_halves(all, floats(x));
    return all[0];
}

// A row of 16-bit floats; head_dim is a multiple of 16.
inline void round_row(int type, const float* x, int head_dim, uint16_t* out) {
    for (int i = 0; i < head_dim; i += R) {
        if (type == F16) {
            store_halves(out + i, load(x + i));
        } else {
            store_u16(out + i, to_bf16(load(x + i)));
        }
    }
}

// x · factor, or 0 whatever x is; the compiler must not make one rounding of this product and a sum that
// follows.
inline void scale_32(const float* x, float factor, float* out) {
    for (int i = 0; i < 32; i += R) store(out + i, factor != 0 ? load(x + i) * floats(factor) : floats(0));
    asm volatile("" : : "r"(out) : "memory");
}

inline bool finite_32(const float* x) {
    F32s odd = floats(0);
    for (int i = 0; i < 32; i += R) odd += load(x + i) * floats(0);
    return sum(odd) == 0;
}

constexpr uint16_t kHalfNaN = 0x7e00;

// d is the largest magnitude / 127, and halves are rounded away from zero, as in GGUF's reference. Returns d;
// it is NaN if a number is not finite, so that the block comes out as NaN.
inline uint16_t quantize_q8_0(const float* x, int8_t* codes) {
    F32s most = floats(0);
    for (int i = 0; i < 32; i += R) most = larger(most, magnitude(load(x + i)));
    const float d = largest(most) / 127.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
    const bool ok = finite_32(x);
    alignas(64) float scaled[32];
    scale_32(x, ok && inverse <= 3.4e38f ? inverse : 0.0f, scaled);  // a d that small is 0 in binary16
    for (int i = 0; i < 32; i++) {
        const int whole = int(scaled[i]);
        const float rest = scaled[i] - float(whole);
        codes[i] = int8_t(whole + (rest >= 0.5f) - (rest <= -0.5f));
    }
    return ok ? to_half(d) : kHalfNaN;
}

// The number of largest magnitude, the first of them, becomes code 0, which stands for -8.
inline uint16_t quantize_q4_0(const float* x, uint8_t* packed) {
    float most = 0, at = 0;
    for (int i = 0; i < 32; i++)
        if (most < fabsf(x[i])) most = fabsf(x[i]), at = x[i];
    const float d = at / -8, inverse = d != 0 ? 1.0f / d : 0.0f;
    const bool ok = finite_32(x);
    alignas(64) float scaled[32];
    scale_32(x, ok && fabsf(inverse) <= 3.4e38f ? inverse : 0.0f, scaled);
    for (int i = 0; i < 16; i++) {
        const int low = int(scaled[i] + 8.5f), high = int(scaled[i + 16] + 8.5f);
        packed[i] = uint8_t((low < 15 ? low : 15) | (high < 15 ? high : 15) << 4);
    }
    return ok ? to_half(d) : kHalfNaN;
}

// 32 dims: bytes from one group to the next, and of its codes in one slot.
inline int group_bytes(int type) { return kSlots * block_bytes(type); }
inline int code_bytes(int type) { return block_bytes(type) - 2; }

inline uint16_t quantize_32(int type, const float* x, uint8_t* codes) {
    return type == Q8_0 ? quantize_q8_0(x, (int8_t*)codes) : quantize_q4_0(x, codes);
}

inline void append_key(int type, const float* x, int head_dim, uint8_t* block, int offset) {
    if (type == F32) {
        for (int i = 0; i < head_dim; i++) __builtin_memcpy(block + 4 * (i * kSlots + offset), x + i, 4);
    } else if (type == F16 || type == BF16) {
        uint16_t row[kMaxHeadDim];
        round_row(type, x, head_dim, row);
        for (int i = 0; i < head_dim; i++) __builtin_memcpy(block + 2 * (i * kSlots + offset), row + i, 2);
    } else {
        for (int g = 0; g < head_dim / 32; g++, block += group_bytes(type)) {
            uint8_t codes[32];
            const uint16_t d = quantize_32(type, x + 32 * g, codes);
            __builtin_memcpy(block + 2 * offset, &d, 2);
            for (int i = 0; i < code_bytes(type); i++) block[(2 + i) * kSlots + offset] = codes[i];
        }
    }
}

inline void append_value(int type, const float* x, int head_dim, uint8_t* block, int offset) {
    if (type == F32) {
        __builtin_memcpy(block + 4 * offset * head_dim, x, size_t(4 * head_dim));
    } else if (type == F16 || type == BF16) {
        round_row(type, x, head_dim, (uint16_t*)block + offset * head_dim);
    } else {
        for (int g = 0; g < head_dim / 32; g++, block += group_bytes(type)) {
            uint8_t* codes = block + 2 * kSlots + offset * code_bytes(type);
            const uint16_t d = quantize_32(type, x + 32 * g, codes);
            __builtin_memcpy(block + 2 * offset, &d, 2);
        }
    }
}
