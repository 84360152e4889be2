// The C ABI (mull.h) over the instruction sets, the pool and the programs.
#include "mull.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "blocks.h"
#include "encode_iq_tables.h"
#include "executor.h"
#include "fault.h"
#include "isa.h"
#include "pool.h"

namespace mull {

const uint8_t* grid_iq2_xs = nullptr;
const uint8_t* grid_iq3_s = nullptr;

namespace {

constexpr int64_t kHugePage = 2 << 20;

constexpr int kNumIsas = sizeof(kIsas) / sizeof(kIsas[0]);

std::atomic<int64_t> nanoseconds{0};

struct Stopwatch {
    std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
    ~Stopwatch() { nanoseconds += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begun).count(); }
};

const Isa* find_isa(int isa) { return isa >= 0 && isa < kNumIsas ? kIsas[isa] : nullptr; }

// Only runs whose maximum is among the k largest maxima can hold one of the k largest numbers.
void find_largest(const Isa& set, const float* x, int64_t count, int64_t k, int64_t* places, float* values) {
    std::vector<float> maxima(size_t((count + kRun - 1) / kRun));
    set.run_maxima(x, count, maxima.data());
    const auto nan = std::find_if(maxima.begin(), maxima.end(), [](float top) { return top != top; });
    if (nan != maxima.end()) {
        std::fill(values, values + k, *nan), std::fill(places, places + k, 0);
        return;
    }
    float least = -INFINITY;
    if (k <= int64_t(maxima.size())) {
        std::vector<float> sorted = maxima;
        std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<float>());
        least = sorted[size_t(k - 1)];
    }
    std::vector<std::pair<float, int64_t>> found;
    for (int64_t run = 0; run < int64_t(maxima.size()); run++) {
        if (maxima[size_t(run)] < least) continue;
        for (int64_t i = run * kRun; i < std::min(count, (run + 1) * kRun); i++)
            if (x[i] >= least) found.emplace_back(-x[i], i);
    }
    std::partial_sort(found.begin(), found.begin() + k, found.end());
    for (int64_t i = 0; i < k; i++) values[i] = -found[size_t(i)].first, places[i] = found[size_t(i)].second;
}

}  // namespace
}  // namespace mull

using namespace mull;

extern "C" {

const char* mull_isa(int isa) { return find_isa(isa) ? kIsas[isa]->name : nullptr; }
int mull_supported(int isa) { return find_isa(isa) && kIsas[isa]->supported(); }
void mull_set_threads(int count) { set_threads(count); }
double mull_seconds(void) { return double(nanoseconds) * 1e-9; }

void mull_set_grid(int type, const uint8_t* values) {
    if (type == IQ2_XS) grid_iq2_xs = values;
    if (type == IQ3_S) grid_iq3_s = values;
    set_points(type, values);
}

void* mull_reserve(int64_t bytes) {
    // One page more than asked for, so that what is returned can begin at a huge page.
    const int64_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    char* all = (char*)mmap(nullptr, size_t(whole + kHugePage), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    const int64_t before = (kHugePage - int64_t(uintptr_t(all) % kHugePage)) % kHugePage;
    if (before) munmap(all, size_t(before));
    munmap(all + before + whole, size_t(kHugePage - before));
#ifdef MADV_HUGEPAGE
    madvise(all + before, size_t(whole), MADV_HUGEPAGE);
#endif
    return all + before;
}

void mull_release(void* memory, int64_t bytes) {
    if (memory) munmap(memory, size_t((bytes + kHugePage - 1) / kHugePage * kHugePage));
}

int64_t mull_packed_bytes(int isa, int type, int64_t rows, int64_t cols) {
    const Isa* set = find_isa(isa);
    if (!set || rows < 1) return MULL_NO_KERNEL;
    const int64_t bytes = set->panel_bytes(type, cols);
    return bytes < 0 ? MULL_NO_KERNEL : (rows + set->lanes - 1) / set->lanes * bytes;
}

int mull_pack(int isa, const mull_rows* parts, int64_t count) {
    const Isa* set = find_isa(isa);
    try {
        std::vector<int64_t> ends;  // panels of all parts up to each
        for (const mull_rows* part = parts; part < parts + count; part++) {
            if (mull_packed_bytes(isa, int(part->type), part->rows, part->cols) < 0 || lacks_grid(int(part->type)))
                return MULL_NO_KERNEL;
            ends.push_back((ends.empty() ? 0 : ends.back()) + (part->rows + set->lanes - 1) / set->lanes);
        }
        Pieces pieces;
        std::atomic<bool> whole{true}, fits{true};
        run_together([&](const Team&) {
            const bool read = guarded([&] {
                pieces.each(ends.empty() ? 0 : ends.back(), 1, [&](int64_t index, int64_t) {
                    const size_t i = size_t(std::upper_bound(ends.begin(), ends.end(), index) - ends.begin());
                    const mull_rows& part = parts[i];
                    const int64_t panel = index - (i ? ends[i - 1] : 0);
                    uint8_t* wide = part.wide ? (uint8_t*)part.wide + 2 * set->lanes * part.cols * panel : nullptr;
                    if (!set->pack_panel(int(part.type), (const uint8_t*)part.weights, part.rows, part.cols, panel,
                                         (uint8_t*)part.packed + panel * set->panel_bytes(int(part.type), part.cols), wide))
                        fits = false;
                });
            });
            if (!read) whole = false;
        });
        return !whole ? MULL_FAULT : fits ? 0 : MULL_FAR_APART;
    } catch (const std::bad_alloc&) {
        return MULL_NO_MEMORY;
    }
}

int mull_multiply(int isa, int type, const void* packed, int64_t rows, int64_t cols, const float* x, int64_t m, float* y) {
    if (mull_packed_bytes(isa, type, rows, cols) < 0 || lacks_grid(type)) return MULL_NO_KERNEL;
    mull_op op = {kProduct, {0, 0, cols, 1, int64_t(packed), type, rows, -1, 0, 0}, {}};
    const int64_t width = 0;
    try {
        Program program(*kIsas[isa], &op, 1, &width, 1, m);
        program.buffers[0] = {(float*)x, cols};
        mull_step step = {};
        step.num_tokens = int32_t(m), step.logits = y;
        Stopwatch watch;
        return program.run(step);
    } catch (const std::bad_alloc&) {
        return MULL_NO_MEMORY;
    }
}

int mull_unpack(int type, const void* weights, int64_t rows, int64_t cols, float* out) {
    if (!block_bytes(type) || cols % block_weights(type) || lacks_grid(type)) return MULL_NO_KERNEL;
    const int64_t row_bytes = cols / block_weights(type) * block_bytes(type);
    const bool whole = guarded([&] {
        for (int64_t r = 0; r < rows; r++) unpack_row(type, (const uint8_t*)weights + r * row_bytes, cols, out + r * cols);
    });
    return whole ? 0 : MULL_FAULT;
}

int mull_largest(int isa, const float* x, int64_t count, int64_t k, int64_t* places, float* values) {
    const Isa* set = find_isa(isa);
    if (!set || count < 1 || k < 1) return MULL_NO_KERNEL;
    Stopwatch watch;
    try {
        find_largest(*set, x, count, std::min(k, count), places, values);
        return 0;
    } catch (const std::bad_alloc&) {
        return MULL_NO_MEMORY;
    }
}

int64_t mull_cache_bytes(int isa, int type, int64_t head_dim) {
    const Isa* set = find_isa(isa);
    const int64_t bytes = set && head_dim > 0 && head_dim <= kMaxHeadDim ? cache_bytes(type, int(head_dim)) : -1;
    return bytes < 0 ? MULL_NO_KERNEL : bytes;
}

void* mull_program(int isa, const mull_op* ops, int64_t num_ops, const int64_t* widths, int64_t num_buffers,
                   int64_t max_tokens) {
    const Isa* set = find_isa(isa);
    const auto unknown = [](const mull_op& op) { return op.code < 0 || op.code >= kCodes; };
    if (!set || std::any_of(ops, ops + num_ops, unknown)) return nullptr;
    try {
        return new Program(*set, ops, num_ops, widths, num_buffers, max_tokens);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

int mull_run(void* program, const mull_step* step) {
    Stopwatch watch;
    try {
        return ((Program*)program)->run(*step);
    } catch (const std::bad_alloc&) {
        return MULL_NO_MEMORY;
    }
}

int64_t mull_attention_bytes(void* program) {
    return std::exchange(((Program*)program)->plan.most_bytes, 0);
}

void mull_free(void* program) { delete (Program*)program; }
}
