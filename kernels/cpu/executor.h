// What the executor's parts share: a program, and one thread's way through it.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "isa.h"
#include "pool.h"
#include "program.h"

namespace mull {

constexpr int kPhases = 4;  // parts of an operation that hand out pieces

struct Memory {
    uint8_t* data;
    explicit Memory(int64_t bytes);  // throws bad_alloc
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
};

// Rows of floats, a fixed distance apart.
struct Rows {
    float* data;
    int64_t stride;
    float* row(int64_t i) const { return data + i * stride; }
};

// A packed matrix.
struct Matrix {
    const uint8_t* packed;
    int type;
    int64_t rows, cols;
};

// How attention goes about one sequence's tokens.
struct AttendSpan {
    int queries;          // rows of its tiles
    int64_t part_keys;    // of a part of the context
    int64_t shares;       // of the parts that a tile sees, for one thread each
    int64_t tile_floats;  // that what a tile's parts find takes
    int64_t found;        // where that begins, if there are several shares
};

// How a step's attention is divided into items (a sequence, a key/value head, a tile of query rows, a share of the
// context's parts); the same for all layers of a model.
struct AttendPlan {
    std::vector<int64_t> first_item;  // of each sequence, and the total
    std::vector<AttendSpan> spans;    // of each sequence
    int64_t thread_floats = 0;        // that a thread's own findings take
    bool divided = false, plain = false;
    std::vector<int64_t> first_score;  // of each sequence, if plain
    std::unique_ptr<Memory> partial;   // what threads and parts found; all scores, if plain
    int64_t partial_bytes = 0, most_bytes = 0;
};

struct Program {
    Program(const Isa& isa, const mull_op* ops, int64_t num_ops, const int64_t* widths, int64_t num_buffers,
            int64_t max_tokens);
    int run(const mull_step& step);

    const Isa& isa;
    std::vector<mull_op> ops;
    int64_t max_tokens;
    std::vector<Pieces> pieces;
    std::vector<std::unique_ptr<Memory>> memory;
    std::vector<Rows> buffers;
    std::unique_ptr<Memory> converted;  // activations as the products read them
    int64_t logits_width = 0;
    AttendPlan plan;
    std::unique_ptr<Memory> opened;  // each thread's opened panels
    int64_t opened_bytes = 0;        // of one thread
    std::unique_ptr<Memory> gating;  // each thread's part of what gates are multiplied with
    int64_t gating_bytes = 0;        // of one thread
    int opened_threads = 0;
    std::unique_ptr<Memory> experts;  // what the chosen experts compute between
    std::atomic<bool> fault{false};
    int64_t rows_read = 0;  // of the table, whose pages are still there

  private:
    void plan_attention(const mull_step& step, int threads);  // throws bad_alloc
};

// One thread's way through a step.
struct Run {
    Program& program;
    const Isa& isa;
    const mull_step& step;
    const Team& team;
    int64_t rows;  // of the operation at hand
    size_t index;  // of the operation at hand

    Pieces& pieces(int phase) const { return program.pieces[index * kPhases + size_t(phase)]; }
    Rows at(int64_t buffer, int64_t column = 0) const {
        if (buffer < 0) return {step.logits + column, program.logits_width};
        const Rows& rows = program.buffers[size_t(buffer)];
        return {rows.data + column, rows.stride};
    }
};

// Operations that follow one another, each by rows.
struct RowOps {
    const mull_op* first;
    size_t count;
};

bool by_rows(const Run& run, const mull_op& op);
// Do the operations, one after the other, to rows first to last - 1.
void compute_rows(const Run& run, const RowOps& ops, int64_t first, int64_t last);
void gate_parts(Run& run, const mull_op& op);

// Does `before` to its input first.
void product(Run& run, const mull_op& op, const RowOps& before);
void experts(Run& run, const mull_op& op);
void attend(Run& run, const mull_op& op);

// Bytes that a thread opens panels in, for a product of many rows.
int64_t opened_bytes(const Isa& isa, const mull_op& op);
// Bytes that a thread keeps the second matrix's part in, for a gated product of at most m rows.
int64_t gating_bytes(const Isa& isa, const mull_op& op, int64_t m);
// Bytes that an Experts operation works in.
int64_t experts_bytes(const Isa& isa, const mull_op& op, int64_t max_tokens);

// Tiles of `m` rows of activations.
int64_t num_tiles(const Isa& isa, int64_t m);
// The first row of tile `index`.
int64_t tile_start(const Isa& isa, int64_t m, int64_t index);
// Lay tile `index` of m rows out for products.
void convert_tile(const Isa& isa, int form, const Rows& x, int64_t cols, int64_t m, int64_t index, uint8_t* out);

}  // namespace mull
