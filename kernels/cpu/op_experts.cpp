// A mixture of experts in programs: each token goes through the few gated networks that its router prefers.
//
// Rows (a token and one of its experts) are sorted by expert; then all chosen experts' products are shared out together.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "executor.h"

namespace mull {
namespace {

// Panels handed out at a time.
constexpr int64_t kPanels = 8;

// The numbers of an Experts operation, by name, and where its parts work.
struct Mixture {
    int64_t hidden, inner, experts, chosen;
    bool renormalise;
    int kind, gate_type, up_type, down_type;
    const int64_t *gates, *ups, *downs;
    int x_form, inner_form;
    int64_t x_bytes, inner_bytes;

    // For `rows` rows: what each is (token · chosen + rank) and its share; where each expert's rows begin.
    int32_t *first, *places, *active, *num_active;
    float *shares, *gate, *up, *down;
    uint8_t *x, *h;
    int64_t bytes;

    Mixture(const Isa& isa, const mull_op& op, uint8_t* memory, int64_t tokens)
        : hidden(op.a[3]), inner(op.a[4]), experts(op.a[5]), chosen(op.a[6]), renormalise(op.a[7] != 0), kind(int(op.a[8])),
          gate_type(int(op.a[12])), up_type(int(op.a[13])), down_type(int(op.a[14])), gates((const int64_t*)op.a[9]),
          ups((const int64_t*)op.a[10]), downs((const int64_t*)op.a[11]), x_form(isa.form_of(gate_type)),
          inner_form(isa.form_of(down_type)), x_bytes(isa.form_row_bytes(x_form, hidden)),
          inner_bytes(isa.form_row_bytes(inner_form, inner)) {
        const int64_t rows = tokens * chosen;
        bytes = 0;
        const auto take = [&](int64_t size) {
            uint8_t* at = memory + bytes;
            bytes += (size + 63) / 64 * 64;
            return at;
        };
        first = (int32_t*)take(4 * (experts + 1)), active = (int32_t*)take(4 * experts), num_active = (int32_t*)take(4);
        places = (int32_t*)take(4 * rows), shares = (float*)take(4 * rows);
        gate = (float*)take(4 * std::max(rows * inner, experts));  // route() counts there
        up = (float*)take(4 * rows * inner), down = (float*)take(4 * rows * hidden);
        x = take(rows * x_bytes), h = take(rows * inner_bytes);
    }
    int64_t count(int64_t expert) const { return first[expert + 1] - first[expert]; }
};

// The `chosen` largest of a row of logits, and their shares by softmax over all.
void choose(const float* logits, int64_t count, int64_t chosen, bool renormalise, int32_t* ids, float* shares) {
    const float largest = *std::max_element(logits, logits + count);
    float total = 0, taken = 0;
    for (int64_t e = 0; e < count; e++) total += std::exp(logits[e] - largest);
    for (int64_t k = 0; k < chosen; k++) {
        int32_t best = -1;
        for (int32_t e = 0; e < count; e++)
            if (std::find(ids, ids + k, e) == ids + k && (best < 0 || logits[e] > logits[best])) best = e;
        ids[k] = best;
        shares[k] = std::exp(logits[best] - largest) / total;
        taken += shares[k];
    }
    for (int64_t k = 0; renormalise && k < chosen; k++) shares[k] /= taken;
}

// Choose for all tokens and sort the rows by expert. One thread's work; `ids` lies where `up` will.
void route(const Mixture& mix, const Rows& logits, int64_t tokens) {
    int32_t* ids = (int32_t*)mix.up;
    std::memset(mix.first, 0, size_t(4 * (mix.experts + 1)));
    for (int64_t t = 0; t < tokens; t++) {
        choose(logits.row(t), mix.experts, mix.chosen, mix.renormalise, ids + t * mix.chosen, mix.shares + t * mix.chosen);
        for (int64_t k = 0; k < mix.chosen; k++) mix.first[ids[t * mix.chosen + k] + 1]++;
    }
    *mix.num_active = 0;
    for (int64_t e = 0; e < mix.experts; e++) {
        if (mix.first[e + 1]) mix.active[(*mix.num_active)++] = int32_t(e);
        mix.first[e + 1] += mix.first[e];
    }
    int32_t* next = (int32_t*)mix.gate;
    std::memcpy(next, mix.first, size_t(4 * mix.experts));
    for (int32_t i = 0; i < tokens * mix.chosen; i++) mix.places[next[ids[i]]++] = i;
}

// Call body(expert, tile) for every tile of every chosen expert, shared out.
template <class Body>
void each_tile(Run& run, int phase, const Mixture& mix, const Body& body) {
    int64_t total = 0;
    for (int i = 0; i < *mix.num_active; i++) total += num_tiles(run.isa, mix.count(mix.active[i]));
    run.pieces(phase).each(total, 1, [&](int64_t index, int64_t) {
        int i = 0;
        for (int64_t tiles; index >= (tiles = num_tiles(run.isa, mix.count(mix.active[i]))); i++) index -= tiles;
        body(mix.active[i], index);
    });
}

// y = x · Wᵀ for the panels of every chosen expert's matrix, in one or two lists of matrices.
void multiply(Run& run, int phase, const Mixture& mix, int lists, const int64_t* const* matrices, const int* types,
              int64_t rows, int64_t cols, const uint8_t* x, int64_t x_bytes, float* const* y) {
    const int64_t panels = (rows + run.isa.lanes - 1) / run.isa.lanes, parts = (panels + kPanels - 1) / kPanels;
    run.pieces(phase).each(*mix.num_active * lists * parts, 1, [&](int64_t index, int64_t) {
        const int64_t part = index % parts, list = index / parts % lists, expert = mix.active[index / parts / lists];
        run.isa.multiply(types[list], (const uint8_t*)matrices[list][expert], rows, cols, part * kPanels,
                         std::min(panels, (part + 1) * kPanels), x + mix.first[expert] * x_bytes, mix.count(expert), nullptr,
                         y[list] + mix.first[expert] * rows, rows, nullptr);
    });
}

}  // namespace

int64_t experts_bytes(const Isa& isa, const mull_op& op, int64_t max_tokens) {
    return Mixture(isa, op, nullptr, max_tokens).bytes;
}

void experts(Run& run, const mull_op& op) {
    const Rows x = run.at(op.a[0]), logits = run.at(op.a[1]), out = run.at(op.a[2]);
    const Mixture mix(run.isa, op, run.program.experts->data, run.rows);
    if (run.team.thread == 0) route(mix, logits, run.rows);
    run.team.wait();
    each_tile(run, 0, mix, [&](int64_t expert, int64_t tile) {
        const int64_t first = mix.first[expert], count = mix.count(expert);
        const Rows gathered{mix.down + first * mix.hidden, mix.hidden};
        const int64_t t = tile_start(run.isa, count, tile);
        for (int64_t i = t; i < t + run.isa.tile_rows(count - t); i++)
            std::memcpy(gathered.row(i), x.row(mix.places[first + i] / mix.chosen), size_t(4 * mix.hidden));
        convert_tile(run.isa, mix.x_form, gathered, mix.hidden, count, tile, mix.x + first * mix.x_bytes);
    });
    run.team.wait();
    const int64_t* first_lists[] = {mix.gates, mix.ups};
    const int first_types[] = {mix.gate_type, mix.up_type};
    float* first_outputs[] = {mix.gate, mix.up};
    multiply(run, 1, mix, 2, first_lists, first_types, mix.inner, mix.hidden, mix.x, mix.x_bytes, first_outputs);
    run.team.wait();
    each_tile(run, 2, mix, [&](int64_t expert, int64_t tile) {
        const int64_t first = mix.first[expert], count = mix.count(expert);
        const int64_t t = tile_start(run.isa, count, tile);
        for (int64_t i = first + t; i < first + t + run.isa.tile_rows(count - t); i++)
            run.isa.gate_row(mix.kind, mix.gate + i * mix.inner, mix.up + i * mix.inner, mix.inner, mix.gate + i * mix.inner);
        convert_tile(run.isa, mix.inner_form, {mix.gate + first * mix.inner, mix.inner}, mix.inner, count, tile,
                     mix.h + first * mix.inner_bytes);
    });
    run.team.wait();
    float* last_outputs[] = {mix.down};
    multiply(run, 3, mix, 1, &mix.downs, &mix.down_type, mix.hidden, mix.inner, mix.h, mix.inner_bytes, last_outputs);
    run.team.wait();
    // Rows are found again by their places; a thread takes every count-th token.
    for (int64_t t = run.team.thread; t < run.rows; t += run.team.count) std::memset(out.row(t), 0, size_t(4 * mix.hidden));
    for (int64_t i = 0; i < run.rows * mix.chosen; i++) {
        const int64_t place = mix.places[i], t = place / mix.chosen;
        if (t % run.team.count == run.team.thread) run.isa.add_scaled(out.row(t), mix.down + i * mix.hidden, mix.shares[place], mix.hidden);
    }
}

}  // namespace mull
