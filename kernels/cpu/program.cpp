// The executor of programs (program.h).
#include "program.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "blocks.h"
#include "executor.h"
#include "fault.h"
#include "isa.h"

namespace mull {

Memory::Memory(int64_t bytes) : data(bytes > 0 ? (uint8_t*)std::aligned_alloc(64, size_t((bytes + 127) / 64 * 64)) : nullptr) {
    if (bytes > 0 && !data) throw std::bad_alloc();
}

Memory::~Memory() { std::free(data); }

Program::Program(const Isa& set, const mull_op* first, int64_t num_ops, const int64_t* widths, int64_t num_buffers,
                 int64_t most)
    : isa(set), ops(first, first + num_ops), max_tokens(most), pieces(size_t(num_ops) * kPhases) {
    for (int64_t i = 0; i < num_buffers; i++) {
        memory.emplace_back(new Memory(most * widths[i] * 4));
        buffers.push_back({(float*)memory.back()->data, widths[i]});
    }
    int64_t row_bytes = 0, expert_bytes = 0;
    for (const mull_op& op : ops) {
        if (op.code == kProduct) {
            row_bytes = std::max(row_bytes, isa.form_row_bytes(isa.form_of(int(op.a[5])), op.a[2]));
            if (op.a[7] < 0) logits_width = op.a[6];
            opened_bytes = std::max(opened_bytes, mull::opened_bytes(isa, op));
            gating_bytes = std::max(gating_bytes, mull::gating_bytes(isa, op, most));
        }
        if (op.code == kExperts) expert_bytes = std::max(expert_bytes, experts_bytes(isa, op, most));
    }
    converted.reset(new Memory(most * row_bytes));
    experts.reset(new Memory(expert_bytes));
}

namespace {

void embed(Run& run, const mull_op& op) {
    const Rows out = run.at(op.a[0]);
    const uint8_t* table = (const uint8_t*)op.a[1];
    const float factor = float(op.f[0]);
    run.pieces(0).each(run.rows, 1, [&](int64_t t, int64_t) {
        float* row = out.row(t);
        const bool whole = guarded([&] { unpack_row(int(op.a[2]), table + run.step.tokens[t] * op.a[3], op.a[4], row); });
        if (!whole) run.program.fault = true;
        for (int64_t i = 0; i < op.a[4]; i++) row[i] *= factor;
    });
}

// Let go of a mapped table's pages when many of its rows were read: with each the system brings in its neighbours.
void forget_rows(const Run& run, const mull_op& op) {
    constexpr int64_t kManyRowsRead = 64;
    if (run.team.thread || !op.a[5] || (run.program.rows_read += run.rows) <= kManyRowsRead) return;
    run.program.rows_read = 0;
#ifdef __linux__
    const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE)), begin = uintptr_t(op.a[1]), end = begin + uintptr_t(op.a[5]);
    const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
    if (first < last) madvise((void*)first, last - first, MADV_DONTNEED);
#endif
}

void angles(Run& run, const mull_op& op) {
    const Rows out = run.at(op.a[0]);
    const int64_t half = op.a[1];
    const float* frequencies = (const float*)op.a[2];
    run.pieces(0).each(run.rows, 4, [&](int64_t first, int64_t last) {
        for (int64_t t = first; t < last; t++)
            for (int64_t i = 0; i < half; i++) {
                const float angle = float(run.step.positions[t]) * frequencies[i];
                out.row(t)[i] = std::cos(angle) * float(op.f[0]);
                out.row(t)[half + i] = std::sin(angle) * float(op.f[0]);
            }
    });
}

void select(Run& run, const mull_op& op) {
    const Rows from = run.at(op.a[0]), to = run.at(op.a[1]);
    run.rows = run.step.num_wanted;
    // By columns, each from the first row to the last: then both may be one buffer, as no row moves downwards.
    run.pieces(0).each(op.a[2], 1024, [&](int64_t first, int64_t last) {
        for (int64_t i = 0; i < run.rows; i++)
            std::memmove(to.row(i) + first, from.row(run.step.wanted[i]) + first, size_t(last - first) * 4);
    });
}

void cap(Run& run, const mull_op& op) {
    const Rows x = run.at(op.a[0]);
    const int64_t cols = op.a[1], part = 8192, parts = (cols + part - 1) / part;
    run.pieces(0).each(run.rows * parts, 1, [&](int64_t i, int64_t) {
        const int64_t first = i % parts * part;
        run.isa.cap_row(x.row(i / parts) + first, std::min(part, cols - first), float(op.f[0]), float(op.f[1]));
    });
}

void execute(Run& run, const mull_op& op, const RowOps& before) {
    switch (op.code) {
        case kEmbed: return embed(run, op);
        case kAngles: return angles(run, op);
        case kSelect: return select(run, op);
        case kProduct: return product(run, op, before);
        case kAttend: return attend(run, op);
        case kGate: return gate_parts(run, op);
        case kExperts: return experts(run, op);
        case kCap: return cap(run, op);
    }
}

// Walk the list. Operations by rows that follow one another are done together, a few rows at a time; if a product is
// next, its rows are laid out right after, while they are in the cache.
void walk(Run& run, const std::vector<mull_op>& ops) {
    constexpr int64_t kRowsAtOnce = 4;
    for (size_t i = 0; i < ops.size(); i++) {
        RowOps before{&ops[i], 0};
        while (i < ops.size() && by_rows(run, ops[i])) i++, before.count++;
        run.index = i;
        const bool joined = i < ops.size() && ops[i].code == kProduct;
        if (before.count && !joined) {
            run.index = --i;
            run.pieces(0).each(run.rows, kRowsAtOnce, [&](int64_t a, int64_t b) { compute_rows(run, before, a, b); });
        } else {
            execute(run, ops[i], before);
        }
        run.team.wait();
        if (i < ops.size() && ops[i].code == kEmbed) forget_rows(run, ops[i]);
    }
}

}  // namespace

int Program::run(const mull_step& step) {
    if (step.num_tokens > max_tokens || step.num_wanted > max_tokens) return MULL_NO_KERNEL;
    for (Pieces& piece : pieces) piece.reset();
    fault = false;
    const auto compute = [&](const Team& team) {
        Run run{*this, isa, step, team, step.num_tokens, 0};
        walk(run, ops);
    };
    run_together(compute, [&](int threads) {
        if (opened_threads < threads) {
            opened.reset();
            opened.reset(new Memory(threads * opened_bytes));
            gating.reset();
            gating.reset(new Memory(threads * gating_bytes));
            opened_threads = threads;
        }
        plan_attention(step, threads);
    });
    return fault ? MULL_FAULT : 0;
}

}  // namespace mull
