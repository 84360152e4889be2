// Attention in programs: append the step's keys and values, attend in parts, merge the parts of long contexts; or,
// to compare, keep all scores of all heads in memory.
#include <algorithm>
#include <cmath>

#include "cache.h"
#include "executor.h"

namespace mull {
namespace {

// Keys below which a context is not worth dividing.
constexpr int64_t kLeastPart = 256;
constexpr int kSequenceInts = 4;
// Rows of scores are whole tiles of this many keys (plain.h).
constexpr int64_t kScoreTile = 64;

struct Span {
    int64_t first_row, count, before;
    const int32_t* blocks;
    int64_t context() const { return before + count; }
};

Span span_of(const mull_step& step, int64_t index) {
    const int32_t* s = step.sequences + index * kSequenceInts;
    return {s[0], s[1], s[2], step.blocks + s[3]};
}

// The numbers of an Attend operation, by name.
struct Shape {
    Rows q, k, v, out;
    int64_t heads, kv_heads, head_dim;
    const float* sinks;
    Attention attention;

    Shape(const Run& run, const mull_op& op)
        : q(run.at(op.a[0], op.a[1])), k(run.at(op.a[2], op.a[3])), v(run.at(op.a[4], op.a[5])), out(run.at(op.a[6])),
          heads(op.a[7]), kv_heads(op.a[8]), head_dim(op.a[9]) {
        attention = {};
        const mull_cache& cache = *run.step.cache;
        attention.keys = region(cache.layers[op.a[10]], int(cache.key_type), cache.key_stride);
        attention.values = region(cache.layers[cache.num_layers + op.a[10]], int(cache.value_type), cache.value_stride);
        attention.head_dim = int(head_dim);
        attention.window = int(op.a[11]), sinks = (const float*)op.a[12];
        attention.scale = float(op.f[0]), attention.softcap = float(op.f[1]);
    }
    int64_t group() const { return heads / kv_heads; }
    Cached region(const void* layer, int type, int64_t stride) const {
        return {(const uint8_t*)layer, type, stride, cache_bytes(type, int(head_dim))};
    }
};

uint8_t* place(const Cached& region, int64_t block, int64_t head) {
    return (uint8_t*)region.data + block * region.block_stride + head * region.head_stride;
}

void append(Run& run, const Shape& shape) {
    const Cached &keys = shape.attention.keys, &values = shape.attention.values;
    const int dim = int(shape.head_dim);
    for (int64_t s = 0; s < run.step.num_sequences; s++) {
        const Span span = span_of(run.step, s);
        for (int64_t i = 0; i < span.count; i++) {
            const int64_t at = span.before + i, row = span.first_row + i;
            // Tokens of one block go to one thread, as they share its cache lines.
            if ((at / kSlots) % run.team.count != run.team.thread) continue;
            for (int64_t h = 0; h < shape.kv_heads; h++) {
                const int64_t block = span.blocks[at / kSlots];
                run.isa.append_key(keys.type, shape.k.row(row) + h * dim, dim, place(keys, block, h), int(at % kSlots));
                run.isa.append_value(values.type, shape.v.row(row) + h * dim, dim, place(values, block, h), int(at % kSlots));
            }
        }
    }
}

int64_t tiles_of(const Span& span, int64_t group, int64_t queries) { return (span.count * group + queries - 1) / queries; }

// Floats that one item's findings take: sums of values, largest scores, sums of weights.
int64_t item_floats(int64_t queries, int64_t head_dim) { return queries * (head_dim + 2); }

struct Item {
    Span span;
    int64_t sequence, kv_head, first_query, num_queries, part, parts;
    int64_t queries;  // of a whole tile
};

Item item_of(const Run& run, const AttendPlan& plan, int64_t index, int64_t group) {
    int64_t s = 0;
    while (plan.first_item[size_t(s) + 1] <= index) s++;
    Item item{span_of(run.step, s), s, 0, 0, 0, 0, plan.parts[size_t(s)], plan.queries[size_t(s)]};
    index -= plan.first_item[size_t(s)];
    const int64_t tiles = tiles_of(item.span, group, item.queries);
    item.part = index % item.parts, index /= item.parts;
    // Last tiles first: they see the most keys.
    item.first_query = (tiles - 1 - index % tiles) * item.queries, item.kv_head = index / tiles;
    item.num_queries = std::min<int64_t>(item.queries, item.span.count * group - item.first_query);
    return item;
}

void attend_item(const Run& run, const Shape& shape, const Item& item, float* found) {
    const int64_t group = shape.group(), n = item.num_queries, dim = shape.head_dim;
    const float* queries[kManyQueries];
    int32_t positions[kManyQueries];
    for (int64_t i = 0; i < n; i++) {
        const int64_t token = (item.first_query + i) / group, head = item.kv_head * group + (item.first_query + i) % group;
        queries[i] = shape.q.row(item.span.first_row + token) + head * dim;
        positions[i] = int32_t(item.span.before + token);
    }
    const int64_t window = shape.attention.window;
    const int64_t end = positions[n - 1] + 1, begin = window ? std::max<int64_t>(0, positions[0] + 1 - window) : 0;
    const int64_t part = ((end - begin + item.parts - 1) / item.parts + 63) / 64 * 64;
    const int64_t first = begin + item.part * part, last = std::min(end, first + part);
    Attention attention = shape.attention;
    attention.blocks = item.span.blocks;
    run.isa.attend(attention, int(item.kv_head), queries, positions, int(n), std::min(first, last), last, found,
                   found + item.queries * dim, found + item.queries * (dim + 1));
}

// Bring the findings of `parts` items that follow one another to the output.
void finish(const Run& run, const Shape& shape, const Item& item, const float* found) {
    const int64_t group = shape.group(), dim = shape.head_dim, stride = run.program.plan.item_floats;
    for (int64_t i = 0; i < item.num_queries; i++) {
        const int64_t token = (item.first_query + i) / group, head = item.kv_head * group + (item.first_query + i) % group;
        AttentionParts parts{int(item.parts), int(dim), found + i * dim, stride, found + item.queries * dim + i,
                             found + item.queries * (dim + 1) + i, stride, -INFINITY};
        if (shape.sinks) parts.sink = shape.sinks[head];
        run.isa.merge(parts, shape.out.row(item.span.first_row + token) + head * dim);
    }
}

int64_t score_cols(const Span& span) { return (span.context() + kScoreTile - 1) / kScoreTile * kScoreTile; }

PlainRows plain_rows(const Run& run, const Shape& shape, const Item& item) {
    const int64_t group = shape.group(), first_row = item.kv_head * item.span.count * group + item.first_query;
    PlainRows rows = {};
    rows.kv_head = int(item.kv_head), rows.n = int(item.num_queries);
    rows.scores = (float*)run.program.plan.partial->data + run.program.plan.first_score[size_t(item.sequence)] +
                  first_row * score_cols(item.span);
    for (int64_t i = 0; i < item.num_queries; i++) {
        const int64_t token = (item.first_query + i) / group, head = item.kv_head * group + (item.first_query + i) % group;
        rows.queries[i] = shape.q.row(item.span.first_row + token) + head * shape.head_dim;
        rows.out[i] = shape.out.row(item.span.first_row + token) + head * shape.head_dim;
        rows.positions[i] = int32_t(item.span.before + token);
        rows.sinks[i] = shape.sinks ? shape.sinks[head] : -INFINITY;
    }
    return rows;
}

// All scores, then all weights, then all sums of values.
void attend_plainly(Run& run, const Shape& shape) {
    const auto each_tile = [&](int phase, void (*kernel)(const Attention&, const PlainRows&)) {
        run.pieces(phase).each(run.program.plan.first_item.back(), 1, [&](int64_t index, int64_t) {
            const Item item = item_of(run, run.program.plan, index, shape.group());
            Attention attention = shape.attention;
            attention.blocks = item.span.blocks;
            kernel(attention, plain_rows(run, shape, item));
        });
    };
    each_tile(0, run.isa.plain_scores);
    run.team.wait();
    each_tile(1, run.isa.plain_weights);
    run.team.wait();
    each_tile(2, run.isa.plain_values);
}

}  // namespace

void attend(Run& run, const mull_op& op) {
    const Shape shape(run, op);
    AttendPlan& plan = run.program.plan;
    append(run, shape);
    run.team.wait();
    if (plan.plain) return attend_plainly(run, shape);
    const int64_t total = plan.first_item.back(), floats = plan.item_floats;
    float* partial = (float*)plan.partial->data;
    run.pieces(0).each(total, 1, [&](int64_t index, int64_t) {
        const Item item = item_of(run, plan, index, shape.group());
        float* found = partial + (item.parts > 1 ? run.team.count + index : run.team.thread) * floats;
        attend_item(run, shape, item, found);
        if (item.parts == 1) finish(run, shape, item, found);
    });
    if (!plan.divided) return;
    run.team.wait();
    run.pieces(1).each(total, 1, [&](int64_t index, int64_t) {
        const Item item = item_of(run, plan, index, shape.group());
        if (item.parts > 1 && item.part == 0) finish(run, shape, item, partial + (run.team.count + index) * floats);
    });
}

void Program::plan_attention(const mull_step& step, int threads) {
    const auto first = std::find_if(ops.begin(), ops.end(), [](const mull_op& op) { return op.code == kAttend; });
    if (first == ops.end()) return;
    const int64_t group = first->a[7] / first->a[8], kv_heads = first->a[8], dim = first->a[9];
    plan.first_item.assign(1, 0);
    plan.first_score.assign(1, 0);
    plan.parts.clear();
    plan.queries.clear();
    plan.divided = false;
    int64_t whole = 0, most_queries = kMaxQueries;
    for (int64_t s = 0; s < step.num_sequences; s++) {
        const Span span = span_of(step, s);
        const int queries = step.attention != MULL_FAST ? kMaxQueries
                                       : isa.queries_at_once(int(step.cache->key_type), int(step.cache->value_type), span.count);
        plan.queries.push_back(queries);
        most_queries = std::max<int64_t>(most_queries, queries);
        whole += kv_heads * tiles_of(span, group, queries);
    }
    plan.item_floats = item_floats(most_queries, dim);
    for (int64_t s = 0; s < step.num_sequences; s++) {
        const Span span = span_of(step, s);
        const int64_t wanted = (4 * threads + whole - 1) / std::max<int64_t>(1, whole);
        const int64_t parts = step.attention != MULL_FAST ? 1 : std::max<int64_t>(1, std::min(wanted, span.context() / kLeastPart));
        plan.parts.push_back(int(parts));
        plan.divided |= parts > 1;
        plan.first_item.push_back(plan.first_item.back() + kv_heads * tiles_of(span, group, plan.queries[size_t(s)]) * parts);
        plan.first_score.push_back(plan.first_score.back() + first->a[7] * span.count * score_cols(span));
    }
    const int64_t findings = (plan.divided ? plan.first_item.back() : 0) + threads;
    const bool plain = step.attention == MULL_PLAIN;
    const int64_t bytes = (plain ? plan.first_score.back() : findings * plan.item_floats) * 4;
    // Scores take much: nothing else keeps their memory.
    if (!plan.partial || plan.partial_bytes < bytes || plan.plain != plain) {
        plan.partial.reset();
        plan.partial_bytes = 0;
        plan.partial.reset(new Memory(bytes));
        plan.partial_bytes = bytes;
    }
    plan.plain = plain;
    plan.most_bytes = std::max(plan.most_bytes, bytes);
}

}  // namespace mull
