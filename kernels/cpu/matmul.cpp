// Products of float32 rows with weights in their own bits, for processors with AVX-512 VNNI.
//
// A kernel is an unpacker times a dot product. Activations are rounded to 8 bits with a scale per 32 entries; a
// weight w = scale·(q - offset) gives  Σ w·x = Σ_blocks scale·s_x·(Σ q·x8) - Σ_blocks scale·offset·(s_x·Σ x8),
// so that the unsigned quants q go straight into the byte products of VNNI.
#include "mull.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "pool.h"

// GCC alone: the target of a region is set by its pragma.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MULL_X86 1
#else
#define MULL_X86 0
#endif

#if MULL_X86
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")
#include <immintrin.h>

namespace {

struct BlockQ4_0 { uint16_t d; uint8_t qs[16]; };                        // w = d·(q - 8), low nibbles first
struct BlockQ8_0 { uint16_t d; int8_t qs[32]; };                         // w = d·q
struct BlockQ4_K { uint16_t d, dmin; uint8_t scales[12]; uint8_t qs[128]; };               // w = d·sc·q - dmin·m
struct BlockQ5_K { uint16_t d, dmin; uint8_t scales[12]; uint8_t qh[32]; uint8_t qs[128]; };  // the same, 5 bits
struct BlockQ6_K { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; uint16_t d; };      // w = d·sc·(q - 32)
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ8_0) == 34, "as GGUF stores them");
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210, "as GGUF stores them");

inline float half(uint16_t bits) { return _cvtsh_ss(bits); }

// One row of activations. q: 8-bit entries; scale: per 32; sum32, sum16: scale times the sum of 32 or 16 entries.
struct Row {
    const float* x;
    const int8_t* q;
    const float* scale;
    const float* sum32;
    const float* sum16;
};

// The rows of one product; cols is a multiple of 32.
struct Rows {
    int64_t cols;
    const float* x;
    std::vector<int8_t> q;
    std::vector<float> scale, sum32, sum16;

    Rows(const float* data, int64_t m, int64_t columns, bool quantize) : cols(columns), x(data) {
        if (!quantize) return;
        q.resize(size_t(m * cols) + 64);
        scale.resize(size_t(m * cols / 32) + 16);
        sum32.resize(scale.size());
        sum16.resize(size_t(m * cols / 16) + 16);
        for (int64_t i = 0; i < m * cols / 32; i++) round_block(i);
    }

    void round_block(int64_t i) {
        const __m512 a = _mm512_loadu_ps(x + 32 * i), b = _mm512_loadu_ps(x + 32 * i + 16);
        const float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        // Comparisons pass over NaN, so it is looked for: it must come out of the product as it would in float.
        const float s = _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q) ? NAN : most / 127.0f;
        const __m512 inverse = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
        const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
        const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        _mm_storeu_si128((__m128i*)(q.data() + 32 * i), _mm512_cvtsepi32_epi8(qa));
        _mm_storeu_si128((__m128i*)(q.data() + 32 * i + 16), _mm512_cvtsepi32_epi8(qb));
        scale[size_t(i)] = s;
        sum16[size_t(2 * i)] = s * float(_mm512_reduce_add_epi32(qa));
        sum16[size_t(2 * i + 1)] = s * float(_mm512_reduce_add_epi32(qb));
        sum32[size_t(i)] = sum16[size_t(2 * i)] + sum16[size_t(2 * i + 1)];
    }

    Row row(int64_t i) const {
        return {x + i * cols, q.data() + i * cols, scale.data() + i * cols / 32, sum32.data() + i * cols / 32,
                sum16.data() + i * cols / 16};
    }
};

using Dot = float (*)(const void* weights, int64_t cols, const Row& x);

inline __m512i join(__m256i low, __m256i high) { return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1); }

// The products of 64 unsigned quants with 64 entries, four to a lane.
inline __m512 products(__m512i quants, const int8_t* x) {
    return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(_mm512_setzero_si512(), quants, _mm512_loadu_si512(x)));
}

// Lanes 0-7 hold values[2j], lanes 8-15 values[2j+1]: the scales of two blocks of 32.
inline __m512 pair(__m256 values, int j) {
    const __m512i index = _mm512_add_epi32(_mm512_set1_epi32(2 * j),
                                           _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(values));
}

float dot_f32(const void* weights, int64_t cols, const Row& x) {
    const float* w = (const float*)weights;
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i + 16 <= cols; i += 16)
        sum = _mm512_fmadd_ps(_mm512_loadu_ps(w + i), _mm512_loadu_ps(x.x + i), sum);
    return _mm512_reduce_add_ps(sum);
}

float dot_f16(const void* weights, int64_t cols, const Row& x) {
    const uint16_t* w = (const uint16_t*)weights;
    __m512 a = _mm512_setzero_ps(), b = a;
    for (int64_t i = 0; i + 32 <= cols; i += 32) {
        a = _mm512_fmadd_ps(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(w + i))), _mm512_loadu_ps(x.x + i), a);
        b = _mm512_fmadd_ps(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(w + i + 16))),
                            _mm512_loadu_ps(x.x + i + 16), b);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

inline __m512 from_bf16(const uint16_t* w) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)w)), 16));
}

float dot_bf16(const void* weights, int64_t cols, const Row& x) {
    const uint16_t* w = (const uint16_t*)weights;
    __m512 a = _mm512_setzero_ps(), b = a;
    for (int64_t i = 0; i + 32 <= cols; i += 32) {
        a = _mm512_fmadd_ps(from_bf16(w + i), _mm512_loadu_ps(x.x + i), a);
        b = _mm512_fmadd_ps(from_bf16(w + i + 16), _mm512_loadu_ps(x.x + i + 16), b);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

inline __m256i nibbles(const BlockQ4_0& block) {
    const __m128i packed = _mm_loadu_si128((const __m128i*)block.qs);
    const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(packed), _mm_srli_epi16(packed, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

inline __m256i shifted(const BlockQ8_0& block) {
    return _mm256_xor_si256(_mm256_loadu_si256((const __m256i*)block.qs), _mm256_set1_epi8(char(0x80)));
}

// Blocks of 32 with one scale: two of them fill a register; a last odd one is read beside zeros.
template <class Block, __m256i (*Quants)(const Block&), int Offset>
float dot_blocks(const void* weights, int64_t cols, const Row& x) {
    const Block* block = (const Block*)weights;
    const int64_t count = cols / 32;
    __m512 sum = _mm512_setzero_ps();
    float offsets = 0;
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
        const float a = half(block[i].d), b = half(block[i + 1].d);
        const __m512i quants = join(Quants(block[i]), Quants(block[i + 1]));
        const __m512 scale = _mm512_mask_blend_ps(0xFF00, _mm512_set1_ps(a * x.scale[i]), _mm512_set1_ps(b * x.scale[i + 1]));
        sum = _mm512_fmadd_ps(products(quants, x.q + 32 * i), scale, sum);
        offsets += a * x.sum32[i] + b * x.sum32[i + 1];
    }
    if (i < count) {
        const float a = half(block[i].d);
        const __m256i quants = Quants(block[i]), entries = _mm256_loadu_si256((const __m256i*)(x.q + 32 * i));
        const __m256i exact = _mm256_dpbusd_epi32(_mm256_setzero_si256(), quants, entries);
        const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(exact), _mm256_set1_ps(a * x.scale[i]));
        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_inserti64x4(
                                     _mm512_setzero_si512(), _mm256_castps_si256(scaled), 0)));
        offsets += a * x.sum32[i];
    }
    return _mm512_reduce_add_ps(sum) - float(Offset) * offsets;
}

// The eight 6-bit scales and eight 6-bit minimums of a Q4_K or Q5_K block.
inline void unpack_scales(const uint8_t* packed, __m256& scales, __m256& mins) {
    uint32_t u[3];
    std::memcpy(u, packed, 12);
    const uint32_t low = 0x0f0f0f0f, high = 0x03030303, six = 0x3f3f3f3f;
    const uint64_t s = uint64_t(u[0] & six) | uint64_t((u[2] & low) | (((u[0] >> 6) & high) << 4)) << 32;
    const uint64_t m = uint64_t(u[1] & six) | uint64_t(((u[2] >> 4) & low) | (((u[1] >> 6) & high) << 4)) << 32;
    scales = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(s))));
    mins = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(m))));
}

inline __m512i fifth_bits(const BlockQ4_K&, int) { return _mm512_setzero_si512(); }

inline __m512i fifth_bits(const BlockQ5_K& block, int j) {
    const __m256i bits = _mm256_loadu_si256((const __m256i*)block.qh);
    const __m256i one = _mm256_set1_epi8(1);
    const __m256i low = _mm256_and_si256(_mm256_srl_epi16(bits, _mm_cvtsi32_si128(2 * j)), one);
    const __m256i high = _mm256_and_si256(_mm256_srl_epi16(bits, _mm_cvtsi32_si128(2 * j + 1)), one);
    return _mm512_slli_epi16(join(low, high), 4);
}

// 64 quants of a Q4_K or Q5_K block: blocks 2j and 2j+1 of 32.
template <class Block>
inline __m512i quants_k(const Block& block, int j) {
    const __m256i packed = _mm256_loadu_si256((const __m256i*)(block.qs + 32 * j));
    const __m512i both = _mm512_and_si512(join(packed, _mm256_srli_epi16(packed, 4)), _mm512_set1_epi8(15));
    return _mm512_or_si512(both, fifth_bits(block, j));
}

template <class Block>
float dot_k(const void* weights, int64_t cols, const Row& x) {
    const Block* block = (const Block*)weights;
    __m512 sum = _mm512_setzero_ps();
    __m256 below = _mm256_setzero_ps();
    for (int64_t i = 0; i < cols / 256; i++) {
        __m256 scales, mins;
        unpack_scales(block[i].scales, scales, mins);
        const __m256 d = _mm256_set1_ps(half(block[i].d)), dmin = _mm256_set1_ps(half(block[i].dmin));
        const __m256 both = _mm256_mul_ps(_mm256_mul_ps(d, scales), _mm256_loadu_ps(x.scale + 8 * i));
        below = _mm256_fmadd_ps(_mm256_mul_ps(dmin, mins), _mm256_loadu_ps(x.sum32 + 8 * i), below);
        for (int j = 0; j < 4; j++)
            sum = _mm512_fmadd_ps(products(quants_k(block[i], j), x.q + 256 * i + 64 * j), pair(both, j), sum);
    }
    return _mm512_reduce_add_ps(_mm512_sub_ps(sum, _mm512_castsi512_ps(_mm512_inserti64x4(
                                                       _mm512_setzero_si512(), _mm256_castps_si256(below), 0))));
}

// 128 quants of one half of a Q6_K block, in order, in two registers.
inline void quants_q6(const BlockQ6_K& block, int part, __m512i& first, __m512i& second) {
    const __m512i low = _mm512_loadu_si512(block.ql + 64 * part);
    const __m256i high = _mm256_loadu_si256((const __m256i*)(block.qh + 32 * part));
    const __m512i pairs = join(high, _mm256_srli_epi16(high, 2));
    const __m512i nibble = _mm512_set1_epi8(15), two = _mm512_set1_epi8(3);
    first = _mm512_or_si512(_mm512_and_si512(low, nibble), _mm512_slli_epi16(_mm512_and_si512(pairs, two), 4));
    second = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low, 4), nibble),
                             _mm512_slli_epi16(_mm512_and_si512(_mm512_srli_epi16(pairs, 4), two), 4));
}

float dot_q6_k(const void* weights, int64_t cols, const Row& x) {
    const BlockQ6_K* block = (const BlockQ6_K*)weights;
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i four = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512 sum = _mm512_setzero_ps(), below = sum;
    for (int64_t i = 0; i < cols / 256; i++) {
        const __m512 d = _mm512_set1_ps(half(block[i].d));
        const __m512 sixteen = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)block[i].scales)));
        const __m512 scales = _mm512_mul_ps(d, sixteen);
        const __m512 entries = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(x.scale + 8 * i)));
        const __m512 both = _mm512_mul_ps(scales, entries);
        below = _mm512_fmadd_ps(scales, _mm512_loadu_ps(x.sum16 + 16 * i), below);
        for (int part = 0; part < 2; part++) {
            __m512i quants[2];
            quants_q6(block[i], part, quants[0], quants[1]);
            for (int j = 0; j < 2; j++) {
                const __m512i index = _mm512_add_epi32(four, _mm512_set1_epi32(8 * part + 4 * j));
                sum = _mm512_fmadd_ps(products(quants[j], x.q + 256 * i + 128 * part + 64 * j),
                                      _mm512_permutexvar_ps(index, both), sum);
            }
        }
    }
    return _mm512_reduce_add_ps(_mm512_fnmadd_ps(below, _mm512_set1_ps(32), sum));
}

Dot find_dot(int type) {
    switch (type) {
        case MULL_F32: return dot_f32;
        case MULL_F16: return dot_f16;
        case MULL_BF16: return dot_bf16;
        case MULL_Q4_0: return dot_blocks<BlockQ4_0, nibbles, 8>;
        case MULL_Q8_0: return dot_blocks<BlockQ8_0, shifted, 128>;
        case MULL_Q4_K: return dot_k<BlockQ4_K>;
        case MULL_Q5_K: return dot_k<BlockQ5_K>;
        case MULL_Q6_K: return dot_q6_k;
        default: return nullptr;
    }
}

// 16 floats as bfloat16, rounded to nearest even.
inline void store_bf16(uint16_t* out, __m512 values) {
    const __m512i bits = _mm512_castps_si512(values);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
    const __m512i kept = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0));
    _mm256_storeu_si256((__m256i*)out, _mm512_cvtepi32_epi16(kept));
}

// Store 64 quants as (q·scale - below), four registers of 16; scale and below hold a value per 16.
inline void store_quants(uint16_t* out, __m512i quants, const float* scale, const float* below) {
    alignas(64) uint8_t bytes[64];
    _mm512_store_si512(bytes, quants);
    for (int k = 0; k < 4; k++) {
        const __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128((const __m128i*)(bytes + 16 * k))));
        store_bf16(out + 16 * k, _mm512_fmsub_ps(q, _mm512_set1_ps(scale[k]), _mm512_set1_ps(below[k])));
    }
}

template <class Block, __m256i (*Quants)(const Block&), int Offset>
void unpack_blocks(const void* weights, int64_t cols, uint16_t* out) {
    const Block* block = (const Block*)weights;
    for (int64_t i = 0; i < cols / 32; i++) {
        alignas(32) uint8_t bytes[32];
        _mm256_store_si256((__m256i*)bytes, Quants(block[i]));
        const __m512 d = _mm512_set1_ps(half(block[i].d));
        for (int k = 0; k < 2; k++) {
            const __m512i q = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i*)(bytes + 16 * k)));
            const __m512 centred = _mm512_cvtepi32_ps(_mm512_sub_epi32(q, _mm512_set1_epi32(Offset)));
            store_bf16(out + 32 * i + 16 * k, _mm512_mul_ps(centred, d));
        }
    }
}

template <class Block>
void unpack_k(const void* weights, int64_t cols, uint16_t* out) {
    const Block* block = (const Block*)weights;
    for (int64_t i = 0; i < cols / 256; i++) {
        __m256 scales, mins;
        unpack_scales(block[i].scales, scales, mins);
        alignas(32) float scale[8], below[8];
        _mm256_store_ps(scale, _mm256_mul_ps(scales, _mm256_set1_ps(half(block[i].d))));
        _mm256_store_ps(below, _mm256_mul_ps(mins, _mm256_set1_ps(half(block[i].dmin))));
        for (int j = 0; j < 4; j++) {
            const float s[4] = {scale[2 * j], scale[2 * j], scale[2 * j + 1], scale[2 * j + 1]};
            const float b[4] = {below[2 * j], below[2 * j], below[2 * j + 1], below[2 * j + 1]};
            store_quants(out + 256 * i + 64 * j, quants_k(block[i], j), s, b);
        }
    }
}

void unpack_q6_k(const void* weights, int64_t cols, uint16_t* out) {
    const BlockQ6_K* block = (const BlockQ6_K*)weights;
    for (int64_t i = 0; i < cols / 256; i++) {
        const float d = half(block[i].d);
        float scale[16], below[16];
        for (int k = 0; k < 16; k++) scale[k] = d * float(block[i].scales[k]), below[k] = 32 * scale[k];
        for (int part = 0; part < 2; part++) {
            __m512i quants[2];
            quants_q6(block[i], part, quants[0], quants[1]);
            for (int j = 0; j < 2; j++) {
                const int at = 8 * part + 4 * j;
                store_quants(out + 256 * i + 16 * at, quants[j], scale + at, below + at);
            }
        }
    }
}

void unpack_f16(const void* weights, int64_t cols, uint16_t* out) {
    const uint16_t* w = (const uint16_t*)weights;
    for (int64_t i = 0; i < cols; i += 16) store_bf16(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(w + i))));
}

using Unpack = void (*)(const void* weights, int64_t cols, uint16_t* out);

Unpack find_unpack(int type) {
    switch (type) {
        case MULL_F16: return unpack_f16;
        case MULL_Q4_0: return unpack_blocks<BlockQ4_0, nibbles, 8>;
        case MULL_Q8_0: return unpack_blocks<BlockQ8_0, shifted, 128>;
        case MULL_Q4_K: return unpack_k<BlockQ4_K>;
        case MULL_Q5_K: return unpack_k<BlockQ5_K>;
        case MULL_Q6_K: return unpack_q6_k;
        default: return nullptr;
    }
}

bool is_float(int type) { return type == MULL_F32 || type == MULL_F16 || type == MULL_BF16; }

int matmul(int type, const uint8_t* weight, int64_t row_bytes, int64_t rows, int64_t cols, const float* x, int64_t m,
           float* y) {
    const Dot dot = find_dot(type);
    if (!dot || cols % 32) return -1;
    const Rows activations(x, m, cols, !is_float(type));
    // Smaller pieces than this would cost more to hand out than to compute.
    const int64_t grain = std::max<int64_t>(64, (1 << 17) / cols);
    mull::parallel(rows, grain, [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; r++)
            for (int64_t i = 0; i < m; i++) y[i * rows + r] = dot(weight + r * row_bytes, cols, activations.row(i));
    });
    return 0;
}

int unpack_bf16(int type, const uint8_t* weight, int64_t row_bytes, int64_t rows, int64_t cols, uint16_t* out) {
    const Unpack unpack = find_unpack(type);
    if (!unpack || cols % 32) return -1;
    mull::parallel(rows, 16, [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; r++) unpack(weight + r * row_bytes, cols, out + r * cols);
    });
    return 0;
}

}  // namespace
#pragma GCC pop_options
#endif

extern "C" {

int mull_supported(void) {
#if MULL_X86
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

void mull_set_threads(int count) { mull::set_threads(count); }

int mull_matmul(int type, const void* weight, int64_t row_bytes, int64_t rows, int64_t cols, const float* x, int64_t m,
                float* y) {
#if MULL_X86
    return matmul(type, (const uint8_t*)weight, row_bytes, rows, cols, x, m, y);
#else
    return -1;
#endif
}

int mull_unpack_bf16(int type, const void* weight, int64_t row_bytes, int64_t rows, int64_t cols, uint16_t* out) {
#if MULL_X86
    return unpack_bf16(type, (const uint8_t*)weight, row_bytes, rows, cols, out);
#else
    return -1;
#endif
}
}
