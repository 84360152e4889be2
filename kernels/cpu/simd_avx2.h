// Vectors of 8 lanes for AVX2, with VNNI in its VEX form if MULL_VNNI. Included inside a namespace and a target
// region of its own.

constexpr int R = 8;          // lanes, and rows of a panel
constexpr int kMostRows = 6;  // rows of activations in a tile: as many as leave registers for the weights
constexpr int kBias = MULL_VNNI ? 128 : 0;  // what is added to signed codes

typedef float F32s __attribute__((vector_size(32)));
typedef int32_t I32s __attribute__((vector_size(32)));
typedef uint8_t Codes __attribute__((vector_size(32)));
typedef uint16_t Words __attribute__((vector_size(32)));

MULL_INLINE F32s floats(float x) { return (F32s)_mm256_set1_ps(x); }
MULL_INLINE I32s ints(int32_t x) { return (I32s)_mm256_set1_epi32(x); }
MULL_INLINE F32s load(const float* p) { return (F32s)_mm256_loadu_ps(p); }
MULL_INLINE void store(float* p, F32s x) { _mm256_storeu_ps(p, (__m256)x); }
MULL_INLINE Codes load_codes(const void* p) { return (Codes)_mm256_loadu_si256((const __m256i*)p); }
MULL_INLINE F32s to_float(I32s x) { return (F32s)_mm256_cvtepi32_ps((__m256i)x); }
MULL_INLINE I32s to_int(F32s x) { return (I32s)_mm256_cvtps_epi32((__m256)x); }  // to nearest even
MULL_INLINE F32s fma(F32s a, F32s b, F32s c) { return (F32s)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
MULL_INLINE F32s larger(F32s a, F32s b) { return (F32s)_mm256_max_ps((__m256)a, (__m256)b); }
MULL_INLINE F32s smaller(F32s a, F32s b) { return (F32s)_mm256_min_ps((__m256)a, (__m256)b); }
MULL_INLINE F32s root(F32s x) { return (F32s)_mm256_sqrt_ps((__m256)x); }
MULL_INLINE F32s magnitude(F32s x) { return (F32s)((I32s)x & 0x7fffffff); }
MULL_INLINE float sum(F32s x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
MULL_INLINE float largest(F32s x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
// A bit for each lane whose mask is set.
MULL_INLINE uint32_t lanes_of(I32s mask) { return uint32_t(_mm256_movemask_ps((__m256)mask)); }
MULL_INLINE I32s bits(F32s x) { return (I32s)x; }
MULL_INLINE F32s from_bits(I32s x) { return (F32s)x; }
MULL_INLINE F32s choose(I32s mask, F32s a, F32s b) { return (F32s)(((I32s)a & mask) | ((I32s)b & ~mask)); }

// R numbers of 16 or 8 bits, widened.
MULL_INLINE F32s load_halves(const void* p) { return (F32s)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
MULL_INLINE void store_halves(void* p, F32s x) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
MULL_INLINE I32s load_u16(const void* p) { return (I32s)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)); }
MULL_INLINE I32s load_u8(const void* p) { return (I32s)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
MULL_INLINE I32s load_s8(const void* p) { return (I32s)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
// The low 16 or 8 bits of each lane.
MULL_INLINE __m128i low_words(I32s x) {
    const __m256i picks = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                           0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i words = _mm256_shuffle_epi8((__m256i)x, picks);
    return _mm_unpacklo_epi64(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
MULL_INLINE void store_u16(void* p, I32s x) { _mm_storeu_si128((__m128i*)p, low_words(x)); }
MULL_INLINE void store_s8(void* p, I32s x) {
    const __m128i words = low_words(x & 255);
    _mm_storel_epi64((__m128i*)p, _mm_packus_epi16(words, words));
}

MULL_INLINE int32_t read_int(const void* p) {
    int32_t value;
    __builtin_memcpy(&value, p, 4);
    return value;
}

#if MULL_VNNI
// sum + four products of a code and a signed byte per lane; the four bytes at `x` serve all lanes.
MULL_INLINE I32s dot(I32s sum, Codes codes, const void* x) {
    return (I32s)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)codes, _mm256_set1_epi32(read_int(x)));
}
// The same for codes that stand for signed values, biased by kBias.
MULL_INLINE I32s dot_signed(I32s sum, Codes codes, const void* x) { return dot(sum, codes, x); }
// sum + two products of 16-bit numbers per lane; the two at `x` serve all lanes.
MULL_INLINE I32s dot_pairs(I32s sum, I32s pairs, const void* x) {
    return (I32s)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)pairs, _mm256_set1_epi32(read_int(x)));
}
#else
// sum + two products of 16-bit numbers per lane; the two at `x` serve all lanes.
MULL_INLINE I32s dot_pairs(I32s sum, I32s pairs, const void* x) {
    return sum + (I32s)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi32(read_int(x)));
}

// Sums of two products each in 16 bits, while they fit; add_short adds them up by two.
#define MULL_SHORT_SUMS 1
MULL_INLINE Words dot_short(Words sum, Codes codes, const void* x) {
    sum += (Words)_mm256_maddubs_epi16((__m256i)codes, _mm256_set1_epi32(read_int(x)));
    asm("" : "+x"(sum));  // keeps GCC from adding up in another order, with more numbers than there are registers
    return sum;
}
MULL_INLINE I32s add_short(I32s sum, Words shorts) {
    sum += (I32s)_mm256_madd_epi16((__m256i)shorts, _mm256_set1_epi16(1));
    asm("" : "+x"(sum));
    return sum;
}

// sum + four products of a code, at most 127, and a signed byte per lane; the four bytes at `x` serve all lanes.
MULL_INLINE I32s dot(I32s sum, Codes codes, const void* x) { return add_short(sum, dot_short(Words{}, codes, x)); }
// The same for codes that are signed: their magnitudes times x with their signs. x is never -128.
MULL_INLINE I32s dot_signed(I32s sum, Codes codes, const void* x) {
    const __m256i w = (__m256i)codes, signs = _mm256_sign_epi8(_mm256_set1_epi32(read_int(x)), w);
    return add_short(sum, (Words)_mm256_maddubs_epi16(_mm256_abs_epi8(w), signs));
}
#endif
// table[code & 15] for every byte.
MULL_INLINE Codes look_up(Codes codes, const uint8_t* table) {
    const __m128i values = _mm_load_si128((const __m128i*)table);
    return (Codes)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), (__m256i)codes);
}

// Pairs of binary16 per lane, apart.
MULL_INLINE void halves_of_pairs(I32s pairs, F32s& a, F32s& b) {
    a = (F32s)_mm256_cvtph_ps(low_words(pairs));
    b = (F32s)_mm256_cvtph_ps(low_words((I32s)_mm256_srli_epi32((__m256i)pairs, 16)));
}
