// Vectors of 16 lanes for AVX-512 with VNNI. Included inside a namespace and a target region of its own.

constexpr int R = 16;        // lanes, and rows of a panel
constexpr int kMostRows = 12;  // rows of activations in a tile: as many as leave registers for the weights
constexpr int kBias = 128;   // what is added to signed codes, as VNNI multiplies unsigned by signed bytes

typedef float F32s __attribute__((vector_size(64)));
typedef int32_t I32s __attribute__((vector_size(64)));
typedef uint8_t Codes __attribute__((vector_size(64)));
typedef uint16_t Words __attribute__((vector_size(64)));

MULL_INLINE F32s floats(float x) { return (F32s)_mm512_set1_ps(x); }
MULL_INLINE I32s ints(int32_t x) { return (I32s)_mm512_set1_epi32(x); }
MULL_INLINE F32s load(const float* p) { return (F32s)_mm512_loadu_ps(p); }
MULL_INLINE void store(float* p, F32s x) { _mm512_storeu_ps(p, (__m512)x); }
MULL_INLINE Codes load_codes(const void* p) { return (Codes)_mm512_loadu_si512(p); }
MULL_INLINE F32s to_float(I32s x) { return (F32s)_mm512_cvtepi32_ps((__m512i)x); }
MULL_INLINE I32s to_int(F32s x) { return (I32s)_mm512_cvtps_epi32((__m512)x); }  // to nearest even
MULL_INLINE F32s fma(F32s a, F32s b, F32s c) { return (F32s)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
MULL_INLINE F32s larger(F32s a, F32s b) { return (F32s)_mm512_max_ps((__m512)a, (__m512)b); }
MULL_INLINE F32s smaller(F32s a, F32s b) { return (F32s)_mm512_min_ps((__m512)a, (__m512)b); }
MULL_INLINE F32s root(F32s x) { return (F32s)_mm512_sqrt_ps((__m512)x); }
MULL_INLINE F32s magnitude(F32s x) { return (F32s)_mm512_abs_ps((__m512)x); }
MULL_INLINE float sum(F32s x) { return _mm512_reduce_add_ps((__m512)x); }
MULL_INLINE float largest(F32s x) { return _mm512_reduce_max_ps((__m512)x); }
// A bit for each lane whose mask is set.
MULL_INLINE uint32_t lanes_of(I32s mask) { return _mm512_movepi32_mask((__m512i)mask); }
MULL_INLINE I32s bits(F32s x) { return (I32s)x; }
MULL_INLINE F32s from_bits(I32s x) { return (F32s)x; }
MULL_INLINE F32s choose(I32s mask, F32s a, F32s b) { return (F32s)(((I32s)a & mask) | ((I32s)b & ~mask)); }

// R numbers of 16 or 8 bits, widened.
MULL_INLINE F32s load_halves(const void* p) { return (F32s)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
MULL_INLINE void store_halves(void* p, F32s x) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
MULL_INLINE I32s load_u16(const void* p) { return (I32s)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)); }
MULL_INLINE I32s load_u8(const void* p) { return (I32s)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
MULL_INLINE I32s load_s8(const void* p) { return (I32s)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }
// The low 16 or 8 bits of each lane.
MULL_INLINE void store_u16(void* p, I32s x) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16((__m512i)x)); }
MULL_INLINE void store_s8(void* p, I32s x) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8((__m512i)x)); }

MULL_INLINE int32_t read_int(const void* p) {
    int32_t value;
    __builtin_memcpy(&value, p, 4);
    return value;
}

// sum + four products of a code and a signed byte per lane; the four bytes at `x` serve all lanes.
MULL_INLINE I32s dot(I32s sum, Codes codes, const void* x) {
    return (I32s)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)codes, _mm512_set1_epi32(read_int(x)));
}
// The same for codes that stand for signed values, biased by kBias.
MULL_INLINE I32s dot_signed(I32s sum, Codes codes, const void* x) { return dot(sum, codes, x); }
// sum + two products of 16-bit numbers per lane; the two at `x` serve all lanes.
MULL_INLINE I32s dot_pairs(I32s sum, I32s pairs, const void* x) {
    return (I32s)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)pairs, _mm512_set1_epi32(read_int(x)));
}
// table[code & 15] for every byte.
MULL_INLINE Codes look_up(Codes codes, const uint8_t* table) {
    const __m128i values = _mm_load_si128((const __m128i*)table);
    return (Codes)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), (__m512i)codes);
}

// Pairs of binary16 per lane, apart.
MULL_INLINE void halves_of_pairs(I32s pairs, F32s& a, F32s& b) {
    a = (F32s)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)pairs));
    b = (F32s)_mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)pairs, 16)));
}

// The low or the high 8 bytes of every 16 of a and b, in turns; and the other way: words below 256 as bytes.
MULL_INLINE I32s weave_low(Codes a, Codes b) { return (I32s)_mm512_unpacklo_epi8((__m512i)a, (__m512i)b); }
MULL_INLINE I32s weave_high(Codes a, Codes b) { return (I32s)_mm512_unpackhi_epi8((__m512i)a, (__m512i)b); }
MULL_INLINE Codes narrow(Words a, Words b) { return (Codes)_mm512_packus_epi16((__m512i)a, (__m512i)b); }

#define MULL_PAIRS 1
const bool kHasPairs = __builtin_cpu_supports("avx512bf16");

// sum + two products of bfloat16 numbers per lane; the two at `x` serve all lanes.
MULL_INLINE F32s dot_bf16(F32s sum, I32s pairs, const void* x) {
    return (F32s)_mm512_dpbf16_ps((__m512)sum, (__m512bh)pairs, (__m512bh)_mm512_set1_epi32(read_int(x)));
}
// Pairs of binary16, rounded to bfloat16.
MULL_INLINE I32s pairs_to_bf16(I32s pairs) {
    const __m512i p = (__m512i)pairs;
    const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(p)), high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(p, 1));
    return (I32s)_mm512_cvtne2ps_pbh(high, low);
}
// R pairs of floats, rounded to bfloat16, the first one low.
MULL_INLINE I32s pair_bf16(F32s a, F32s b) {
    alignas(64) static constexpr uint16_t kPlaces[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                         8,  24, 9,  25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (I32s)_mm512_permutexvar_epi16(_mm512_load_si512(kPlaces), (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a));
}
// 2·R numbers that follow one another, rounded to bfloat16.
MULL_INLINE void store_bf16(void* p, F32s a, F32s b) { _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a)); }
