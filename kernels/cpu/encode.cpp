// mull_encode: rows are opened as floats in a thread's own memory and encoded there, by all threads.
#include "encode.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <vector>

#include "encode_iq_tables.h"
#include "fault.h"
#include "mull.h"
#include "pool.h"

using namespace mull;

namespace {

const Encoding* find_encoding(int type) {
    const auto is_it = [&](const Encoding& e) { return e.type == type; };
    const auto found = std::find_if(std::begin(kEncodings), std::end(kEncodings), is_it);
    return found == std::end(kEncodings) ? nullptr : found;
}

// Whether a scale of the row is too large for binary16; of MXFP4, for float: 8 · 2^(253 - 128).
bool overflows(const Encoding& encoding, const uint8_t* row, int64_t blocks) {
    for (int64_t i = 0; encoding.type == MXFP4 && i < blocks; i++)
        if (row[i * encoding.bytes] > 252) return true;
    for (int where : {encoding.d, encoding.m})
        for (int64_t i = 0; where >= 0 && i < blocks; i++)
            if ((read16(row + i * encoding.bytes + where) & 0x7c00) == 0x7c00) return true;
    return false;
}

struct Job {
    const Encoding& encoding;
    const Encoder& encoder;
    EncodeRow encode;
    int source_type;
    const uint8_t* source;
    int64_t rows, cols;
    const float* importance;
    uint8_t* out;

    bool row(int64_t r, float* opened) const {
        const int64_t stored = cols / block_weights(source_type) * block_bytes(source_type);
        const int64_t blocks = cols / encoding.weights;
        uint8_t* const to = out + r * blocks * encoding.bytes;
        if (!encoder.open(source_type, source + r * stored, cols, opened)) return false;
        encode(opened, cols, importance, to);
        return !overflows(encoding, to, blocks);
    }
};

int run(const Job& job) {
    std::vector<float> opened;
    std::atomic<int> result{0};
    Pieces pieces;
    const int64_t stride = (job.cols + 15) / 16 * 16;
    run_together(
        [&](const Team& team) {
            float* const mine = opened.data() + team.thread * stride;
            const bool read = guarded([&] {
                pieces.each(job.rows, 1, [&](int64_t r, int64_t) {
                    if (!result && !job.row(r, mine)) result = MULL_NOT_FINITE;
                });
            });
            if (!read) result = MULL_FAULT;
        },
        [&](int count) { opened.resize(size_t(count * stride)); });
    return result;
}

}  // namespace

extern "C" int mull_encode(int isa, int type, int source_type, const void* source, int64_t rows, int64_t cols,
                           const float* importance, void* out) {
    const Encoding* const encoding = find_encoding(type);
    if (isa < 0 || !mull_isa(isa) || !encoding) return MULL_NO_KERNEL;
    if (!block_bytes(source_type) || lacks_grid(source_type)) return MULL_NO_KERNEL;
    if (cols % encoding->weights || cols % block_weights(source_type)) return MULL_NO_KERNEL;
    const Encoder& encoder = *kEncoders[isa];
    const EncodeRow encode = encoder.find(type);
    if (!encode || !has_points(type)) return MULL_NO_KERNEL;
    try {
        return run({*encoding, encoder, encode, source_type, (const uint8_t*)source, rows, cols, importance,
                    (uint8_t*)out});
    } catch (const std::bad_alloc&) {
        return MULL_NO_MEMORY;
    }
}
