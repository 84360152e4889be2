// Products in programs: one matrix, several that share their input, and the chosen experts of a mixture.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "executor.h"

namespace mull {
namespace {

// Panels handed out at a time: few enough to stay in the second-level cache while all tiles pass over them, and to
// leave every thread several pieces.
constexpr int64_t kPieceBytes = 256 << 10;

int64_t num_panels(const Isa& isa, const Matrix& w) { return (w.rows + isa.lanes - 1) / isa.lanes; }

// Rows of activations from which on it pays to open panels before they are multiplied.
constexpr int64_t kManyRows = 24;
// Rows from which on threads share a tile's layout, if there are few tiles; and the columns of a share.
constexpr int64_t kSharedRows = 4, kSharedCols = 256;
constexpr int64_t kOpenedBytes = 512 << 10;

// How many panels fit, opened or packed.
int64_t panels_at_once(const Isa& isa, const Matrix& w, bool open) {
    return std::max<int64_t>(1, open ? kOpenedBytes / isa.opened_bytes(w.type, w.cols)
                                     : kPieceBytes / isa.panel_bytes(w.type, w.cols));
}

Matrix matrix_of(const mull_op& op, int64_t i) {
    const int64_t* a = op.a + 4 + 6 * i;
    return {(const uint8_t*)a[0], int(a[1]), a[2], op.a[2]};
}

void multiply(const Run& run, const Matrix& w, int64_t first, int64_t last, const uint8_t* x, int64_t m,
              const float* bias, const Rows& y) {
    uint8_t* opened = m >= kManyRows && run.isa.opened_bytes(w.type, w.cols)
                          ? run.program.opened->data + run.team.thread * run.program.opened_bytes
                          : nullptr;
    run.isa.multiply(w.type, w.packed, w.rows, w.cols, first, last, x, m, bias, y.data, y.stride, opened);
}

// Panels handed out at a time, for m rows and all matrices of a product.
int64_t panels_of_piece(const Isa& isa, const mull_op& op, int64_t m, int threads) {
    // A piece begins with weights that nothing has fetched: where that is waited for, pieces are larger.
    const bool few = m >= kSharedRows && m < kManyRows, one = few && num_tiles(isa, m) == 1;
    int64_t total = 0, most = INT64_MAX;
    for (int64_t i = 0; i < op.a[3]; i++) {
        const Matrix w = matrix_of(op, i);
        const int64_t fit = panels_at_once(isa, w, m >= kManyRows && isa.opened_bytes(w.type, w.cols));
        most = std::min(most, one ? 2 * fit : fit);
        if (!op.a[kGating] || i == 0) total += num_panels(isa, w);
    }
    return std::clamp<int64_t>(total / ((few ? 4 : 8) * threads), 1, most);
}

// Panels first to last - 1 of both matrices, and of their products act(first) · second.
void multiply_gated(const Run& run, const mull_op& op, int64_t first, int64_t last, const uint8_t* x) {
    const int64_t *gate = op.a + 4, *up = gate + 6, lanes = run.isa.lanes;
    const int64_t begin = first * lanes, cols = std::min(last * lanes, gate[2]) - begin;
    const Rows to = run.at(gate[3], gate[4]);
    float* part = (float*)(run.program.gating->data + run.team.thread * run.program.gating_bytes);
    multiply(run, matrix_of(op, 0), first, last, x, run.rows, (const float*)gate[5], to);
    multiply(run, matrix_of(op, 1), first, last, x, run.rows, (const float*)up[5], {part - begin, cols});
    for (int64_t t = 0; t < run.rows; t++) {
        float* row = to.row(t) + begin;
        run.isa.gate_row(int(op.a[kGating] - 1), row, part + t * cols, cols, row);
    }
}

}  // namespace

int64_t gating_bytes(const Isa& isa, const mull_op& op, int64_t m) {
    if (!op.a[kGating]) return 0;
    const Matrix w = matrix_of(op, 0);
    const int64_t few = std::min(m, kManyRows - 1) * std::min(num_panels(isa, w), 2 * panels_at_once(isa, w, false));
    const int64_t many = m * std::min(num_panels(isa, w), panels_at_once(isa, w, isa.opened_bytes(w.type, w.cols) > 0));
    return std::max(few, m < kManyRows ? 0 : many) * isa.lanes * 4;
}

int64_t opened_bytes(const Isa& isa, const mull_op& op) {
    int64_t most = 0;
    for (int64_t i = 0; i < op.a[3]; i++) {
        const Matrix w = matrix_of(op, i);
        const int64_t bytes = isa.opened_bytes(w.type, w.cols);
        if (bytes) most = std::max(most, bytes * panels_at_once(isa, w, true));
    }
    return most;
}

int64_t num_tiles(const Isa& isa, int64_t m) {
    int64_t count = 0;
    for (int64_t t = 0; t < m; t += isa.tile_rows(m - t)) count++;
    return count;
}

int64_t tile_start(const Isa& isa, int64_t m, int64_t index) {
    int64_t t = 0;
    while (index--) t += isa.tile_rows(m - t);
    return t;
}

void convert_tile(const Isa& isa, int form, const Rows& x, int64_t cols, int64_t m, int64_t index, uint8_t* out) {
    const int64_t t = tile_start(isa, m, index);
    isa.put_tile(form, x.row(t), x.stride, cols, 0, cols, isa.tile_rows(m - t), out + t * isa.form_row_bytes(form, cols));
}

namespace {

// Do `before` to the rows of a product's input, then lay it out.
void lay_out(Run& run, int form, const Rows& x, int64_t cols, const RowOps& before, uint8_t* out) {
    const Isa& isa = run.isa;
    const int64_t m = run.rows, tiles = num_tiles(isa, m), shares = (cols + kSharedCols - 1) / kSharedCols;
    if (m < kSharedRows || tiles >= 2 * run.team.count) {
        run.pieces(0).each(tiles, 1, [&](int64_t i, int64_t) {
            const int64_t t = tile_start(isa, m, i);
            if (before.count) compute_rows(run, before, t, t + isa.tile_rows(m - t));
            convert_tile(isa, form, x, cols, m, i, out);
        });
        return;
    }
    if (before.count) {
        run.pieces(2).each(m, 1, [&](int64_t first, int64_t last) { compute_rows(run, before, first, last); });
        run.team.wait();
    }
    run.pieces(0).each(tiles * shares, 1, [&](int64_t i, int64_t) {
        const int64_t t = tile_start(isa, m, i / shares), first = i % shares * kSharedCols;
        isa.put_tile(form, x.row(t), x.stride, cols, first, std::min(first + kSharedCols, cols), isa.tile_rows(m - t),
                     out + t * isa.form_row_bytes(form, cols));
    });
}

}  // namespace

void product(Run& run, const mull_op& op, const RowOps& before) {
    const Isa& isa = run.isa;
    const Rows x = run.at(op.a[0], op.a[1]);
    const int64_t cols = op.a[2], count = op.a[3], m = run.rows;
    const int form = isa.form_of(int(op.a[5]));
    uint8_t* converted = run.program.converted->data;
    lay_out(run, form, x, cols, before, converted);
    run.team.wait();
    const int64_t grain = panels_of_piece(isa, op, m, run.team.count);
    if (op.a[kGating]) {
        run.pieces(1).each(num_panels(isa, matrix_of(op, 0)), grain,
                           [&](int64_t first, int64_t last) { multiply_gated(run, op, first, last, converted); });
        return;
    }
    int64_t ends[kMostMatrices], total = 0;
    for (int64_t i = 0; i < count; i++) ends[i] = total += num_panels(isa, matrix_of(op, i));
    run.pieces(1).each(total, grain, [&](int64_t first, int64_t last) {
        for (int64_t i = 0, begin = 0; i < count; begin = ends[i++]) {
            const int64_t a = std::max(first, begin), b = std::min(last, ends[i]);
            const int64_t* to = op.a + 4 + 6 * i + 3;
            if (a < b)
                multiply(run, matrix_of(op, i), a - begin, b - begin, converted, m, (const float*)to[2], run.at(to[0], to[1]));
        }
    });
}

}  // namespace mull
