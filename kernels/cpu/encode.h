// Encoding rows of floats into GGUF's blocks: the table of types, and what an instruction set offers.
#pragma once
#include <cstdint>

#include "blocks.h"
#include "encode_iq_tables.h"
#include "isa.h"

namespace mull {

// Encodes one row: x [cols] is finite; importance [cols], or null, is finite and not negative. All of `out` is written.
using EncodeRow = void (*)(const float* x, int64_t cols, const float* importance, uint8_t* out);

struct Encoder {
    EncodeRow (*find)(int type);  // null where there is none
    // Open a stored row as floats; false where one is not finite.
    bool (*open)(int type, const uint8_t* row, int64_t cols, float* out);
};

extern const Encoder avx512_encoder, avx2_encoder, baseline_encoder;

// In the order of kIsas.
#if defined(__x86_64__)
inline const Encoder* const kEncoders[] = {&avx512_encoder, &avx2_encoder, &avx2_encoder, &baseline_encoder};
#else
inline const Encoder* const kEncoders[] = {&baseline_encoder, &baseline_encoder};
#endif

struct Encoding {
    int type, weights, bytes;  // of a block
    int d, m;                  // where a block's scales of binary16 are, or -1
};

inline const Encoding kEncodings[] = {
    {Q4_0, 32, 18, 0, -1},    {Q4_1, 32, 20, 0, 2},     {Q5_0, 32, 22, 0, -1},     {Q5_1, 32, 24, 0, 2},
    {Q8_0, 32, 34, 0, -1},    {MXFP4, 32, 17, -1, -1},  {TQ1_0, 256, 54, 52, -1},  {TQ2_0, 256, 66, 64, -1},
    {Q2_K, 256, 84, 80, 82},  {Q3_K, 256, 110, 108, -1}, {Q4_K, 256, 144, 0, 2},   {Q5_K, 256, 176, 0, 2},
    {Q6_K, 256, 210, 208, -1},
    {IQ2_XXS, 256, 66, 0, -1}, {IQ2_XS, 256, 74, 0, -1}, {IQ2_S, 256, 82, 0, -1},  {IQ3_XXS, 256, 98, 0, -1},
    {IQ3_S, 256, 110, 0, -1}, {IQ4_NL, 32, 18, 0, -1},  {IQ4_XS, 256, 136, 0, -1},
};

}  // namespace mull
