// The codebooks of IQ2 and IQ3 as the encoders want them: a row of floats for each place of a point.
#pragma once
#include <cstdint>

namespace mull {

// The most points of a codebook.
constexpr int kMostTable = 1024;

struct PointTable {
    int count, dims;
    const float* values;  // [dims][count], null until the codebook has been set
};

extern PointTable points_iq2_xxs, points_iq2_xs, points_iq2_s, points_iq3_xxs, points_iq3_s;

// Lay out the codebook [count][dims] of a type, if it has one; it is done once.
void set_points(int type, const uint8_t* values);
// Whether this type needs no codebook, or has it.
bool has_points(int type);

}  // namespace mull
