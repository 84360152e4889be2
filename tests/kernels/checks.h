// What the checks share: random numbers, binary16 read by its definition, formats of weights and random blocks of them.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "blocks.h"

namespace mull {

struct Format {
    int type;
    const char* name;
    int d, m;  // where a block's scales of binary16 are, or -1
};
const Format kFormats[] = {
    {F32, "F32", -1, -1},     {F16, "F16", -1, -1},         {BF16, "BF16", -1, -1},      {Q4_0, "Q4_0", 0, -1},
    {Q4_1, "Q4_1", 0, 2},     {Q5_0, "Q5_0", 0, -1},        {Q5_1, "Q5_1", 0, 2},        {Q8_0, "Q8_0", 0, -1},
    {MXFP4, "MXFP4", -1, -1}, {IQ4_NL, "IQ4_NL", 0, -1},    {Q2_K, "Q2_K", 80, 82},      {Q3_K, "Q3_K", 108, -1},
    {Q4_K, "Q4_K", 0, 2},     {Q5_K, "Q5_K", 0, 2},         {Q6_K, "Q6_K", 208, -1},     {IQ4_XS, "IQ4_XS", 0, -1},
    {IQ3_S, "IQ3_S", 0, -1},  {IQ2_XS, "IQ2_XS", 0, -1},
};

using Random = std::mt19937;
inline float uniform(Random& g) { return float(int(g() >> 8) - (1 << 23)) / float(1 << 23); }
inline int below(Random& g, int n) { return int(g() % unsigned(n)); }

inline double half(const uint8_t* p) {
    const int h = p[0] | p[1] << 8, exponent = h >> 10 & 31, fraction = h & 1023;
    double value = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
    if (exponent == 31) value = fraction ? NAN : INFINITY;
    return h >> 15 ? -value : value;
}

inline void put_half(uint8_t* p, Random& g, int most) {
    const int h = below(g, most) | int(g() & 1) << 15;
    p[0] = uint8_t(h), p[1] = uint8_t(h >> 8);
}

// What makes a weight unlike the others: all of them far apart (byte -2), or zero (0) and far away (0x7f) now and then, or
// all just above the least normal number (0x80).
inline float unlike(Random& g, int byte) {
    switch (byte) {
        case -2: return std::ldexp(1.0f, -below(g, 100));
        case 0: return below(g, 3) ? 1.0f : 0.0f;
        case 0x7f: return below(g, 1024) ? 1.0f : below(g, 2) ? 1e-9f : 1e6f;
        case 0x80: return 1e-37f;
        default: return 1.0f;
    }
}

// Blocks of bytes at random, or all alike where byte is not negative; scales (binary16) up to `most`.
inline void fill_blocks(const Format& format, Random& g, int byte, int most, std::vector<uint8_t>& raw) {
    for (auto& b : raw) b = uint8_t(byte < 0 ? g() >> 13 : unsigned(byte));
    const size_t step = size_t(block_bytes(format.type));
    for (size_t at = 0; at < raw.size(); at += step) {
        if (format.type == MXFP4) raw[at] = uint8_t(most < 1024 ? g() % 3 : 118 + g() % 12);
        for (int where : {format.d, format.m})
            if (where >= 0) put_half(&raw[at + size_t(where)], g, most);
        float single = uniform(g);
        if (format.type == BF16) single *= unlike(g, byte);
        if (format.type == BF16 && std::abs(single) < 1.2e-38f) single = 0;  // products lose subnormal numbers
        uint32_t u;
        std::memcpy(&u, &single, 4);
        u += 0x7fff;
        if (format.type == F16) put_half(&raw[at], g, most);
        if (format.type == BF16) raw[at] = uint8_t(u >> 16), raw[at + 1] = uint8_t(u >> 24);
        if (format.type == F32) std::memcpy(&raw[at], &single, 4);
    }
}

// Codebooks of any magnitudes that the types have: IQ2_XS [512][8], IQ3_S [512][4].
inline std::vector<uint8_t> random_grid(Random& g, int type) {
    std::vector<uint8_t> grid(512 * (type == IQ2_XS ? 8 : 4));
    for (auto& v : grid) v = type == IQ2_XS ? uint8_t("\x08\x19\x2b"[below(g, 3)]) : uint8_t(1 + 2 * below(g, 8));
    return grid;
}

}  // namespace mull
