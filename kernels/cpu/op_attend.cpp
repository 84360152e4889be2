// Attention in programs: append the step's keys and values, attend in parts, merge the parts of long contexts; or,
// to compare, keep all scores of all heads in memory.
#include <algorithm>
#include <cmath>

#include "cache.h"
#include "executor.h"

namespace mull {
namespace {

// Keys of a part of the context.
constexpr int64_t kPart = 256;
// More tokens of a sequence than drafts ever are.
constexpr int64_t kManyTokens = 32;
// Items that a thread takes at once, at most: while it does one it can fetch what the next one reads.
constexpr int64_t kMostItems = 4;
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
    int64_t sequence, kv_head, first_query, num_queries;
    AttendSpan plan;
    int64_t tile, share;  // which of the sequence's tiles, of all heads; which of plan.shares
};

Item item_of(const Run& run, const AttendPlan& plan, int64_t index, int64_t group) {
    int64_t s = 0;
    while (plan.first_item[size_t(s) + 1] <= index) s++;
    Item item{span_of(run.step, s), s, 0, 0, 0, plan.spans[size_t(s)], 0, 0};
    index -= plan.first_item[size_t(s)];
    const int64_t tiles = tiles_of(item.span, group, item.plan.queries);
    item.share = index % item.plan.shares, index /= item.plan.shares, item.tile = index;
    // Last tiles first: they see the most keys.
    item.first_query = (tiles - 1 - index % tiles) * item.plan.queries, item.kv_head = index / tiles;
    item.num_queries = std::min<int64_t>(item.plan.queries, item.span.count * group - item.first_query);
    return item;
}

// The keys that some tokens see, and the parts that hold them.
struct Seen {
    int64_t begin, end, first_part, last_part;
};

Seen seen_by(const Shape& shape, const Item& item, int64_t first_token, int64_t last_token) {
    const int64_t window = shape.attention.window, end = item.span.before + last_token + 1;
    const int64_t begin = window ? std::max<int64_t>(0, item.span.before + first_token + 1 - window) : 0;
    return {begin, end, begin / item.plan.part_keys, (end - 1) / item.plan.part_keys + 1};
}

Seen seen_by(const Shape& shape, const Item& item) {
    const int64_t last_query = item.first_query + item.num_queries - 1;
    return seen_by(shape, item, item.first_query / shape.group(), last_query / shape.group());
}

// Where a tile's findings lie, part by part of those that it sees: the thread's own place, if it does all of them.
float* findings(const Run& run, const Item& item) {
    const AttendPlan& plan = run.program.plan;
    const int64_t at = item.plan.shares > 1 ? item.plan.found + item.tile * item.plan.tile_floats
                                            : run.team.thread * plan.thread_floats;
    return (float*)plan.partial->data + at;
}

// The keys of part `p` of those that an item's tile sees.
Context context_of(const Shape& shape, const Item& item, int64_t p) {
    const Seen seen = seen_by(shape, item);
    const int64_t from = (seen.first_part + p) * item.plan.part_keys, to = from + item.plan.part_keys;
    return {item.span.blocks, int(item.kv_head), std::max(seen.begin, from), std::min(seen.end, to)};
}

// The first part of an item's share, of those that its tile sees.
int64_t first_part(const Shape& shape, const Item& item) {
    const Seen seen = seen_by(shape, item);
    return (seen.last_part - seen.first_part) * item.share / item.plan.shares;
}

// next: what this thread does then, or null.
void attend_item(const Run& run, const Shape& shape, const Item& item, const Item* next) {
    const int64_t group = shape.group(), n = item.num_queries, dim = shape.head_dim, most = item.plan.queries;
    const float* queries[kManyQueries];
    int32_t positions[kManyQueries];
    for (int64_t i = 0; i < n; i++) {
        const int64_t token = (item.first_query + i) / group, head = item.kv_head * group + (item.first_query + i) % group;
        queries[i] = shape.q.row(item.span.first_row + token) + head * dim;
        positions[i] = int32_t(item.span.before + token);
    }
    Attention attention = shape.attention;
    attention.blocks = item.span.blocks;
    const Seen seen = seen_by(shape, item);
    const int64_t parts = seen.last_part - seen.first_part, shares = item.plan.shares;
    for (int64_t p = first_part(shape, item), end = parts * (item.share + 1) / shares; p < end; p++) {
        const Context now = context_of(shape, item, p);
        Context then = {};
        if (p + 1 < end) then = context_of(shape, item, p + 1);
        else if (next) then = context_of(shape, *next, first_part(shape, *next));
        attention.then = &then;
        float* found = findings(run, item) + p * item_floats(most, dim);
        run.isa.attend(attention, int(item.kv_head), queries, positions, int(n), now.first, now.last, found,
                       found + most * dim, found + most * (dim + 1));
    }
}

// Bring what a tile's parts found to the output; each row merges those that it sees, as if it were alone.
void finish(const Run& run, const Shape& shape, const Item& item) {
    const int64_t group = shape.group(), dim = shape.head_dim, most = item.plan.queries, stride = item_floats(most, dim);
    const Seen seen = seen_by(shape, item);
    for (int64_t i = 0; i < item.num_queries; i++) {
        const int64_t token = (item.first_query + i) / group, head = item.kv_head * group + (item.first_query + i) % group;
        const Seen own = seen_by(shape, item, token, token);
        const float* found = findings(run, item) + (own.first_part - seen.first_part) * stride;
        AttentionParts parts{int(own.last_part - own.first_part), int(dim), found + i * dim, stride, found + most * dim + i,
                             found + most * (dim + 1) + i, stride, -INFINITY};
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

// Choose the parts of a sequence's context, and in how many shares threads take them. Drafts must be verified with the
// very numbers that plain decoding gives, whatever else is in the step: so few tokens find what is in each part apart
// from the others even where one thread takes all parts, unless a token alone would never be divided.
void divide(AttendSpan& span, int64_t context, int64_t wanted, bool into_fixed_parts) {
    const int64_t most = into_fixed_parts && context >= 2 * kPart ? (context - 1) / kPart + 1 : context / kPart;
    span.shares = std::max<int64_t>(1, std::min(wanted, most));
    const int64_t part = (context + span.shares - 1) / span.shares;
    span.part_keys = into_fixed_parts ? kPart : (part + kScoreTile - 1) / kScoreTile * kScoreTile;
}

}  // namespace

void attend(Run& run, const mull_op& op) {
    const Shape shape(run, op);
    AttendPlan& plan = run.program.plan;
    append(run, shape);
    run.team.wait();
    if (plan.plain) return attend_plainly(run, shape);
    const int64_t total = plan.first_item.back();
    const int64_t some = std::clamp<int64_t>(total / (8 * run.team.count), 1, kMostItems);
    run.pieces(0).each(total, some, [&](int64_t index, int64_t end) {
        Item item = item_of(run, plan, index, shape.group());
        for (; index < end; index++) {
            const bool last = index + 1 == end;
            const Item next = last ? item : item_of(run, plan, index + 1, shape.group());
            attend_item(run, shape, item, last ? nullptr : &next);
            if (item.plan.shares == 1) finish(run, shape, item);
            item = next;
        }
    });
    if (!plan.divided) return;
    run.team.wait();
    run.pieces(1).each(total, 1, [&](int64_t index, int64_t) {
        const Item item = item_of(run, plan, index, shape.group());
        if (item.plan.shares > 1 && item.share == 0) finish(run, shape, item);
    });
}

void Program::plan_attention(const mull_step& step, int threads) {
    const auto first = std::find_if(ops.begin(), ops.end(), [](const mull_op& op) { return op.code == kAttend; });
    if (first == ops.end()) return;
    const int64_t group = first->a[7] / first->a[8], kv_heads = first->a[8], dim = first->a[9];
    plan.first_item.assign(1, 0);
    plan.first_score.assign(1, 0);
    plan.spans.clear();
    int64_t whole = 0;
    for (int64_t s = 0; s < step.num_sequences; s++) {
        const Span span = span_of(step, s);
        const int queries = step.attention != MULL_FAST ? kMaxQueries
                                       : isa.queries_at_once(int(step.cache->key_type), int(step.cache->value_type), span.count);
        plan.spans.push_back({queries, 0, 0, 0, 0});
        whole += kv_heads * tiles_of(span, group, queries);
    }
    const int64_t wanted = step.attention == MULL_FAST ? (4 * threads + whole - 1) / std::max<int64_t>(1, whole) : 1;
    const bool is_divided = step.attention == MULL_FAST && 4 * threads > kv_heads * ((group + kMaxQueries - 1) / kMaxQueries);
    plan.thread_floats = 0;
    int64_t divided_floats = 0;
    for (int64_t s = 0; s < step.num_sequences; s++) {
        const Span span = span_of(step, s);
        AttendSpan& found = plan.spans[size_t(s)];
        divide(found, span.context(), wanted, is_divided && span.count < kManyTokens);
        const int64_t tiles = kv_heads * tiles_of(span, group, found.queries);
        found.tile_floats = ((span.context() - 1) / found.part_keys + 1) * item_floats(found.queries, dim);
        found.found = divided_floats;
        if (found.shares > 1) divided_floats += tiles * found.tile_floats;
        else plan.thread_floats = std::max(plan.thread_floats, found.tile_floats);
        plan.first_item.push_back(plan.first_item.back() + tiles * found.shares);
        plan.first_score.push_back(plan.first_score.back() + first->a[7] * span.count * score_cols(span));
    }
    plan.divided = divided_floats > 0;
    for (AttendSpan& found : plan.spans) found.found += threads * plan.thread_floats;
    const bool plain = step.attention == MULL_PLAIN;
    const int64_t bytes = (plain ? plan.first_score.back() : threads * plan.thread_floats + divided_floats) * 4;
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
