// Operations that treat each row on its own: norms, residuals, rotation, gating.
#include <algorithm>

#include "executor.h"

namespace mull {
namespace {

void norm(const Run& run, const mull_op& op, int64_t t) {
    const float* from = run.at(op.a[0], op.a[1]).row(t);
    float* to = run.at(op.a[2], op.a[3]).row(t);
    const int64_t cols = op.a[4], groups = op.a[6];
    for (int64_t g = 0; g < groups; g++)
        run.isa.rms_norm(from + g * cols, (const float*)op.a[5], float(op.f[0]), cols, to + g * cols);
}

void residual(const Run& run, const mull_op& op, int64_t t) {
    float *x = run.at(op.a[0]).row(t), *y = run.at(op.a[1]).row(t);
    const float* weight = (const float*)op.a[3];
    if (weight) run.isa.rms_norm(y, weight, float(op.f[1]), op.a[2], y);
    run.isa.add_scaled(x, y, float(op.f[0]), op.a[2]);
}

void rotate(const Run& run, const mull_op& op, int64_t t) {
    float* x = run.at(op.a[0], op.a[1]).row(t);
    const float* table = run.at(op.a[4]).row(t);
    for (int64_t h = 0; h < op.a[2]; h++)
        run.isa.rotate(x + h * op.a[3], table, table + op.a[5], op.a[5], op.a[6] != 0);
}

// `count` columns of a row.
void gate(const Run& run, const mull_op& op, int64_t t, int64_t first, int64_t count) {
    run.isa.gate_row(int(op.a[6]), run.at(op.a[0], op.a[1]).row(t) + first, run.at(op.a[2], op.a[3]).row(t) + first, count,
                     run.at(op.a[4]).row(t) + first);
}

// Rows from which on a row's gating is one thread's; the rows of a few tokens are divided.
constexpr int64_t kGatedRows = 8;

}  // namespace

bool by_rows(const Run& run, const mull_op& op) {
    return op.code == kNorm || op.code == kResidual || op.code == kRotate || (op.code == kGate && run.rows >= kGatedRows);
}

void compute_rows(const Run& run, const RowOps& ops, int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++)
        for (size_t i = 0; i < ops.count; i++) {
            const mull_op& op = ops.first[i];
            if (op.code == kNorm) norm(run, op, t);
            else if (op.code == kResidual) residual(run, op, t);
            else if (op.code == kRotate) rotate(run, op, t);
            else gate(run, op, t, 0, op.a[5]);
        }
}

void gate_parts(Run& run, const mull_op& op) {
    const int64_t part = 1024, parts = (op.a[5] + part - 1) / part;
    run.pieces(0).each(run.rows * parts, 1, [&](int64_t i, int64_t) {
        const int64_t first = i % parts * part;
        gate(run, op, i / parts, first, std::min(part, op.a[5] - first));
    });
}

}  // namespace mull
