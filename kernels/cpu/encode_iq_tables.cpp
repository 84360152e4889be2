// The codebooks of IQ2 and IQ3, laid out for the encoders.
#include "encode_iq_tables.h"

#include <mutex>

#include "blocks.h"

namespace mull {

PointTable points_iq2_xxs{256, 8, nullptr}, points_iq2_xs{512, 8, nullptr}, points_iq2_s{1024, 8, nullptr};
PointTable points_iq3_xxs{256, 4, nullptr}, points_iq3_s{512, 4, nullptr};

namespace {

alignas(64) float memory[8 * (256 + 512 + 1024) + 4 * (256 + 512)];
std::mutex setting;

struct Place {
    PointTable* table;
    float* values;
};

Place place_of(int type) {
    switch (type) {
        case IQ2_XXS: return {&points_iq2_xxs, memory};
        case IQ2_XS: return {&points_iq2_xs, memory + 8 * 256};
        case IQ2_S: return {&points_iq2_s, memory + 8 * 768};
        case IQ3_XXS: return {&points_iq3_xxs, memory + 8 * 1792};
        case IQ3_S: return {&points_iq3_s, memory + 8 * 1792 + 4 * 256};
        default: return {nullptr, nullptr};
    }
}

}  // namespace

void set_points(int type, const uint8_t* values) {
    const Place place = place_of(type);
    if (!place.table) return;
    const std::lock_guard<std::mutex> lock(setting);
    PointTable& table = *place.table;
    if (table.values) return;
    for (int point = 0; point < table.count; point++)
        for (int i = 0; i < table.dims; i++) place.values[i * table.count + point] = values[point * table.dims + i];
    table.values = place.values;
}

bool has_points(int type) {
    const Place place = place_of(type);
    const std::lock_guard<std::mutex> lock(setting);
    return !place.table || place.table->values;
}

}  // namespace mull
