// Vectors of 4 lanes for any processor, in the compilers' own vectors; NEON and SSE2 where those say it better.
// MULL_SDOT: ARM's dot products may be used. Included inside a namespace of its own.

constexpr int R = 4;          // lanes, and rows of a panel
#if defined(__aarch64__)
constexpr int kMostRows = 8;  // rows of activations in a tile: as many as leave registers for the weights
#else
constexpr int kMostRows = 4;
#endif
constexpr int kBias = 0;      // what is added to signed codes

typedef float F32s __attribute__((vector_size(16)));
typedef int32_t I32s __attribute__((vector_size(16)));
typedef uint8_t Codes __attribute__((vector_size(16)));
typedef uint16_t Words __attribute__((vector_size(16)));
typedef int16_t Shorts __attribute__((vector_size(16)));

template <class V>
MULL_INLINE V load_as(const void* p) {
    V value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
}

MULL_INLINE F32s floats(float x) { return F32s{x, x, x, x}; }
MULL_INLINE I32s ints(int32_t x) { return I32s{x, x, x, x}; }
MULL_INLINE F32s load(const float* p) { return load_as<F32s>(p); }
MULL_INLINE void store(float* p, F32s x) { __builtin_memcpy(p, &x, sizeof x); }
MULL_INLINE Codes load_codes(const void* p) { return load_as<Codes>(p); }
MULL_INLINE F32s to_float(I32s x) { return __builtin_convertvector(x, F32s); }
MULL_INLINE I32s bits(F32s x) { return (I32s)x; }
MULL_INLINE F32s from_bits(I32s x) { return (F32s)x; }
MULL_INLINE F32s choose(I32s mask, F32s a, F32s b) { return (F32s)(((I32s)a & mask) | ((I32s)b & ~mask)); }
// To nearest even, below 2^22: at 1.5·2^23 a float's last bit is worth 1.
MULL_INLINE I32s to_int(F32s x) { return bits(x + 12582912.0f) - 0x4b400000; }
MULL_INLINE F32s larger(F32s a, F32s b) { return choose(a > b, a, b); }
MULL_INLINE F32s smaller(F32s a, F32s b) { return choose(a < b, a, b); }
MULL_INLINE F32s root(F32s x) {
    for (int i = 0; i < R; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
}
MULL_INLINE F32s magnitude(F32s x) { return (F32s)((I32s)x & 0x7fffffff); }
MULL_INLINE float sum(F32s x) { return (x[0] + x[2]) + (x[1] + x[3]); }
MULL_INLINE float largest(F32s x) {
    const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}
// A bit for each lane whose mask is set.
MULL_INLINE uint32_t lanes_of(I32s mask) {
#if defined(__SSE2__)
    return uint32_t(_mm_movemask_ps((__m128)mask));
#else
    const I32s bits = mask & I32s{1, 2, 4, 8};
    return uint32_t(bits[0] | bits[1] | bits[2] | bits[3]);
#endif
}

// R numbers of 16 or 8 bits, widened.
MULL_INLINE I32s load_u16(const void* p) {
    const uint64_t all = load_as<uint64_t>(p);
    return I32s{int32_t(all & 0xffff), int32_t(all >> 16 & 0xffff), int32_t(all >> 32 & 0xffff), int32_t(all >> 48)};
}
MULL_INLINE I32s load_u8(const void* p) {
    const uint32_t all = load_as<uint32_t>(p);
    return I32s{int32_t(all & 255), int32_t(all >> 8 & 255), int32_t(all >> 16 & 255), int32_t(all >> 24)};
}
MULL_INLINE I32s load_s8(const void* p) { return (load_u8(p) ^ 128) - 128; }
// The low 16 or 8 bits of each lane.
MULL_INLINE void store_u16(void* p, I32s x) {
    for (int i = 0; i < R; i++) ((uint16_t*)p)[i] = uint16_t(x[i]);
}
MULL_INLINE void store_s8(void* p, I32s x) {
    for (int i = 0; i < R; i++) ((uint8_t*)p)[i] = uint8_t(x[i]);
}

MULL_INLINE int32_t read_int(const void* p) { return load_as<int32_t>(p); }

#if defined(__ARM_NEON)
MULL_INLINE F32s fma(F32s a, F32s b, F32s c) { return (F32s)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
MULL_INLINE F32s from_halves(I32s low) {
    return (F32s)vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32((uint32x4_t)low)));
}
MULL_INLINE I32s to_halves(F32s x) {
    return (I32s)vmovl_u16(vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x)));
}
MULL_INLINE Codes look_up(Codes codes, const uint8_t* table) {
    return (Codes)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)(codes & 15));
}
#else
MULL_INLINE F32s fma(F32s a, F32s b, F32s c) { return a * b + c; }
// binary16 in the low bits of each lane, to float.
MULL_INLINE F32s from_halves(I32s low) {
    const I32s m = low & 0x7fff;
    const I32s normal = (m << 13) + 0x38000000 + ((m >= 0x7c00) & 0x38000000);  // infinities and NaN twice as far
    const I32s subnormal = bits(to_float(m) * 5.9604644775390625e-8f);
    return from_bits((I32s)choose(m < 0x400, (F32s)subnormal, (F32s)normal) | (low & 0x8000) << 16);
}
// The opposite, rounded to nearest even.
MULL_INLINE I32s to_halves(F32s x) {
    const I32s a = bits(x) & 0x7fffffff;
    const I32s normal = (a - 0x38000000 + 0xfff + ((a >> 13) & 1)) >> 13;
    const I32s subnormal = bits(from_bits(a) + 0.5f) - 0x3f000000;  // at 0.5 a float's last bit is worth 2^-24
    const I32s finite = (I32s)choose(a < 0x38800000, (F32s)subnormal, (F32s)normal);
    const I32s infinite = 0x7c00 | ((a > 0x7f800000) & 0x200);
    return (I32s)choose(a < 0x47800000, (F32s)finite, (F32s)infinite) | ((bits(x) >> 16) & 0x8000);
}
// table[code & 15] for every byte.
MULL_INLINE Codes look_up(Codes codes, const uint8_t* table) {
    Codes found;
    for (int i = 0; i < 4 * R; i++) found[i] = table[codes[i] & 15];
    return found;
}
#endif
MULL_INLINE F32s load_halves(const void* p) { return from_halves(load_u16(p)); }
MULL_INLINE void store_halves(void* p, F32s x) { store_u16(p, to_halves(x)); }

// sum + two products of 16-bit numbers per lane.
MULL_INLINE I32s multiply_pairs(I32s sum, I32s a, I32s b) {
#if defined(__SSE2__)
    return sum + (I32s)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}
// sum + two products of 16-bit numbers per lane; the two at `x` serve all lanes.
MULL_INLINE I32s dot_pairs(I32s sum, I32s pairs, const void* x) { return multiply_pairs(sum, pairs, ints(read_int(x))); }

// sum + four products of signed bytes per lane; the four bytes at `x` serve all lanes.
MULL_INLINE I32s dot_signed(I32s sum, Codes codes, const void* x) {
#if MULL_SDOT
    asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(codes), "w"(ints(read_int(x))));
    return sum;
#elif defined(__ARM_NEON)
    const int8x16_t a = (int8x16_t)codes, b = (int8x16_t)ints(read_int(x));
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return (I32s)vpadalq_s16((int32x4_t)sum, vpaddq_s16(low, high));
#else
    const Shorts a = (Shorts)codes, b = (Shorts)ints(read_int(x));
    return multiply_pairs(multiply_pairs(sum, (I32s)(a << 8 >> 8), (I32s)(b << 8 >> 8)), (I32s)(a >> 8), (I32s)(b >> 8));
#endif
}
// The same for codes of at most 127.
MULL_INLINE I32s dot(I32s sum, Codes codes, const void* x) { return dot_signed(sum, codes, x); }

// Pairs of binary16 per lane, apart.
MULL_INLINE void halves_of_pairs(I32s pairs, F32s& a, F32s& b) {
    a = from_halves(pairs & 0xffff);
    b = from_halves(pairs >> 16 & 0xffff);
}
