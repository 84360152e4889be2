// Attention over the paged cache, and what happens to rows of floats, on every instruction set of this machine,
// against double precision. Arguments: names of instruction sets; none: all that the machine has.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "checks.h"
#include "sets.h"

using namespace mull;

namespace mull {
const uint8_t *grid_iq2_xs, *grid_iq3_s;
}  // namespace mull

namespace {

const int kTypes[] = {F32, F16, BF16, Q8_0, Q4_0};
int failures = 0;
double worst = 0;  // error relative to what is allowed

using Bytes = std::vector<uint8_t>;
using Floats = std::vector<float>;

float gauss(Random& g) {
    float total = 0;
    for (int i = 0; i < 6; i++) total += uniform(g);
    return total * 0.7071f;
}
Floats gauss_row(Random& g, int size, float factor = 1) {
    Floats row(size_t(size), 0);
    for (auto& v : row) v = gauss(g) * factor;
    return row;
}

// Whether `got` is within `most` of `want`, and NaN where that is.
bool near(double got, double want, double most) {
    if (std::isnan(want)) return std::isnan(got);
    worst = std::max(worst, std::abs(got - want) / most);
    return std::abs(got - want) <= most;
}
void expect(const Isa& isa, const char* what, bool good, double got = 0, double want = 0) {
    if (!good && ++failures <= 20) std::printf("FAILED %s: %s: %.9g, not %.9g\n", isa.name, what, got, want);
}

// ---- the cache's layouts, number by number

double stored(int type, const uint8_t* block, int dims, int slot, int i, bool key) {
    const size_t at = size_t(key ? i * kSlots + slot : slot * dims + i);
    uint32_t u = 0;
    float single;
    if (type == F32) {
        std::memcpy(&single, block + 4 * at, 4);
        return single;
    }
    if (type == F16) return half(block + 2 * at);
    if (type == BF16) {
        u = uint32_t(block[2 * at]) << 16 | uint32_t(block[2 * at + 1]) << 24;
        std::memcpy(&single, &u, 4);
        return single;
    }
    const uint8_t *group = block + i / 32 * kSlots * (type == Q8_0 ? 34 : 18), *codes = group + 2 * kSlots;
    const int j = i % 32, k = type == Q8_0 ? j : j % 16, width = type == Q8_0 ? 32 : 16;
    const uint8_t code = key ? codes[k * kSlots + slot] : codes[slot * width + k];
    const int value = type == Q8_0 ? int8_t(code) : (j < 16 ? code & 15 : code >> 4) - 8;
    return half(group + 2 * slot) * value;
}

// binary16, to nearest even, found by halving.
double nearest_half(double x) {
    if (!(std::abs(x) < 65520)) return x != x ? x : std::copysign(INFINITY, x);
    const auto value = [](int h) {
        const uint8_t bytes[2] = {uint8_t(h), uint8_t(h >> 8)};
        return half(bytes);
    };
    int low = 0, high = 0x7bff;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (value(middle) <= std::abs(x)) low = middle;
        else high = middle - 1;
    }
    if (low < 0x7bff) {
        const double down = std::abs(x) - value(low), up = value(low + 1) - std::abs(x);
        low += up < down || (up == down && low % 2);
    }
    return std::copysign(low == 0x7bff ? 65504 : value(low), x);
}

double nearest_bf16(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000;
    std::memcpy(&x, &u, 4);
    return x;
}

// 32 numbers as Q8_0 or Q4_0 keep them, by the arithmetic of GGUF's reference, in single precision step by step.
void quantized(int type, const float* x, double* out) {
    float most = 0;
    for (int i = 0; i < 32; i++)
        if (std::abs(x[i]) > std::abs(most)) most = x[i];
    volatile float d = type == Q8_0 ? std::abs(most) / 127 : most / -8, inverse = d != 0 ? 1 / d : 0;
    const double scale = nearest_half(d);
    for (int i = 0; i < 32; i++) {
        volatile float scaled = x[i] * inverse, moved = scaled + 8.5f;
        if (scale == 0) out[i] = 0;
        else out[i] = scale * (type == Q8_0 ? std::round(double(scaled)) : std::min(15, int(moved)) - 8);
    }
}

Floats awkward_row(Random& g, int dims, int round) {
    Floats x = gauss_row(g, dims, std::exp(gauss(g) * (round % 3 ? 1 : 6)));
    for (size_t i = 0; i < x.size(); i++) {
        if (round % 7 == 1) x[i] = std::round(x[i] * 4) / 4;
        if (round % 11 == 1 && i < 32) x[i] = 0;
        if (round % 13 == 1) x[i] = i % 32 == 5 ? 63.5f : float(below(g, 255) - 127) * 0.5f;  // halves of a step
        if (round % 17 == 1) x[i] *= 1e-39f;
        if (round % 19 == 1) x[i] = std::ldexp(i % 32 == 5 ? 63.5f : float(below(g, 255) - 127) * 0.5f, -20);
    }
    return x;
}

void check_append(const Isa& isa, int type, int dims, int round, Random& g) {
    const Floats x = awkward_row(g, dims, round);
    Floats odd = x;
    odd[3] = round % 2 ? NAN : INFINITY;
    const int slot = below(g, kSlots), next = (slot + 1) % kSlots;
    std::vector<double> want(x.begin(), x.end());
    for (auto& v : want) v = type == F16 ? nearest_half(v) : type == BF16 ? nearest_bf16(float(v)) : v;
    for (size_t i = 0; i < x.size() && (type == Q8_0 || type == Q4_0); i += 32) quantized(type, &x[i], &want[i]);
    for (const bool key : {true, false}) {
        Bytes block(size_t(cache_bytes(type, dims)), 0xcc);
        const Bytes before = block;
        const auto append = key ? isa.append_key : isa.append_value;
        append(type, x.data(), dims, block.data(), slot);
        append(type, odd.data(), dims, block.data(), next);
        const double lost = stored(type, block.data(), dims, next, 3, key);
        expect(isa, "what is not finite, appended", !std::isfinite(lost), lost, double(odd[3]));
        for (int i = 0; i < dims; i++) {
            const double got = stored(type, block.data(), dims, slot, i, key);
            const bool lost_too = std::isnan(got) && std::isnan(want[size_t(i)]);  // binary16's scales end at 65504
            expect(isa, "appended", lost_too || got == want[size_t(i)], got, want[size_t(i)]);
            for (int s = 0; s < kSlots; s++) {
                const double other = stored(type, block.data(), dims, s, i, key);
                const double was = stored(type, before.data(), dims, s, i, key);
                if (s != slot && s != next) expect(isa, "another slot", other == was, other, was);
            }
        }
    }
}

// ---- attention

struct Case {
    int key_type, value_type, dims, rows, length, window;
    float softcap;
    int parts;
    bool sink;
    int mode;    // 1: large scores; 2: a key or value is NaN
    int spread;  // of the rows' positions
};

// One sequence's cache of a few heads, one of which is looked at; what was never appended is all ones: NaN.
struct Cache {
    int heads, head, dims, key_type, value_type;
    int64_t key_bytes, value_bytes;
    std::vector<int32_t> blocks;
    Bytes keys, values;

    Cache(const Case& c, Random& g)
        : heads(1 + below(g, 3)), head(below(g, heads)), dims(c.dims), key_type(c.key_type), value_type(c.value_type),
          key_bytes(cache_bytes(key_type, dims)), value_bytes(cache_bytes(value_type, dims)) {
        const int count = (c.length + kSlots - 1) / kSlots;
        for (int i = 0; i < count + 2; i++) blocks.insert(blocks.begin() + below(g, i + 1), i);
        keys.assign(blocks.size() * size_t(heads * key_bytes), 0xff);
        values.assign(blocks.size() * size_t(heads * value_bytes), 0xff);
        blocks.resize(size_t(count));
    }
    size_t place(int64_t k) const { return size_t(blocks[size_t(k / kSlots)] * heads + head); }
    uint8_t* key_block(int64_t k) { return &keys[place(k) * size_t(key_bytes)]; }
    uint8_t* value_block(int64_t k) { return &values[place(k) * size_t(value_bytes)]; }
    void append(const Isa& isa, int k, const Floats& key, const Floats& value) {
        isa.append_key(key_type, key.data(), dims, key_block(k), k % kSlots);
        isa.append_value(value_type, value.data(), dims, value_block(k), k % kSlots);
    }
    double key(int k, int i) { return stored(key_type, key_block(k), dims, k % kSlots, i, true); }
    double value(int k, int i) { return stored(value_type, value_block(k), dims, k % kSlots, i, false); }
};

Cache filled_cache(const Isa& isa, const Case& c, Random& g) {
    Cache cache(c, g);
    const int odd = c.mode == 2 ? below(g, c.length) : -1;
    for (int k = 0; k < c.length; k++) {
        Floats key = gauss_row(g, c.dims, c.mode == 1 ? 30.0f : 1.0f), value = gauss_row(g, c.dims);
        if (k == odd) (below(g, 2) ? key : value)[size_t(below(g, c.dims))] = NAN;
        cache.append(isa, k, key, value);
    }
    return cache;
}

// What one row's attention should be, and how far rounding may take it from there; pairs: rounding to bfloat16.
double expected(const Attention& a, Cache& cache, const Floats& q, int position, float sink, bool pairs,
                std::vector<double>& out) {
    const int first = a.window ? std::max(0, position + 1 - a.window) : 0;
    std::vector<double> scores;
    double most = sink, largest = 0, total = 0;
    for (int k = first; k <= position; k++) {
        double score = 0, magnitudes = 0;
        for (int i = 0; i < a.head_dim; i++) {
            const double product = double(q[size_t(i)]) * cache.key(k, i) * double(a.scale);
            score += product, magnitudes += std::abs(product);
        }
        if (a.softcap != 0) score = double(a.softcap) * std::tanh(score / double(a.softcap));
        scores.push_back(score), most = std::max(most, score), largest = std::max(largest, magnitudes);
    }
    out.assign(size_t(a.head_dim), 0);
    for (size_t k = 0; k < scores.size(); k++) {
        const double weight = std::exp(scores[k] - most);
        total += weight;
        for (int i = 0; i < a.head_dim; i++) out[size_t(i)] += weight * cache.value(first + int(k), i);
    }
    total += std::exp(sink - most);
    for (auto& v : out) v /= total;
    return pairs ? 0.002 * (2 + largest) : 1e-6 * (8 + 2 * largest);
}

void check_attend(const Isa& isa, const Case& c, Random& g) {
    Cache cache = filled_cache(isa, c, g);
    const Attention a{{cache.keys.data(), c.key_type, cache.heads * cache.key_bytes, cache.key_bytes},
                      {cache.values.data(), c.value_type, cache.heads * cache.value_bytes, cache.value_bytes},
                      c.dims, cache.blocks.data(), 1 / std::sqrt(float(c.dims)), c.softcap, c.window};
    std::vector<Floats> queries;
    std::vector<const float*> pointers;
    std::vector<int32_t> positions;
    const int start = c.length - 1 - (c.spread ? below(g, std::min(c.length, c.spread)) : 0);
    for (int t = 0; t < c.rows; t++) {
        queries.push_back(gauss_row(g, c.dims, c.mode == 1 ? 30.0f : 1.0f));
        pointers.push_back(queries.back().data());
        const int further = c.spread > 8 ? below(g, c.spread) : t / 2;
        positions.push_back(std::min(c.length - 1, start + (c.spread ? further : c.length)));
    }
    const int64_t dims = c.dims, n = c.rows, parts = c.parts;
    Floats acc(size_t(parts * n * dims), NAN), largest(size_t(parts * n), NAN), sums = largest, out(size_t(dims), 0);
    // Parts of any lengths, some of them empty.
    std::vector<int64_t> ends(size_t(parts), c.length);
    for (int64_t p = 0; p + 1 < parts; p++) ends[size_t(p)] = below(g, 4) ? c.length * (p + 1) / parts : below(g, c.length + 1);
    std::sort(ends.begin(), ends.end());
    for (int64_t p = 0; p < parts; p++)
        isa.attend(a, cache.head, pointers.data(), positions.data(), c.rows, p ? ends[size_t(p - 1)] : 0, ends[size_t(p)],
                   &acc[size_t(p * n * dims)], &largest[size_t(p * n)], &sums[size_t(p * n)]);
    std::vector<double> want;
    for (int64_t t = 0; t < n; t++) {
        const float sink = c.sink ? gauss(g) * 3 : -INFINITY;
        isa.merge({c.parts, c.dims, &acc[size_t(t * dims)], n * dims, &largest[size_t(t)], &sums[size_t(t)], n, sink}, out.data());
        const double most = expected(a, cache, queries[size_t(t)], positions[size_t(t)], sink, n > kMaxQueries, want);
        int off = 0;
        for (int i = 0; i < c.dims; i++)
            if (!near(out[size_t(i)], want[size_t(i)], most) && !off++)
                expect(isa, "attention", false, out[size_t(i)], want[size_t(i)]);
        if (off && failures <= 20)
            std::printf("  types %d %d, dims %d, row %d of %d, length %d, window %d, softcap %g, parts %d, sink %g, mode %d, spread %d\n",
                        c.key_type, c.value_type, c.dims, int(t), c.rows, c.length, c.window, double(c.softcap), c.parts,
                        double(sink), c.mode, c.spread);
    }
}

void check_attention(const Isa& isa) {
    Random g(11);
    const int windows[] = {0, 0, 1, 5, 64, 100}, spreads[] = {0, 4, 8, 100};
    const float caps[] = {0, 0, 30, 2};
    for (int dims : {16, 32, 64, 80, 96, 128, 256})
        for (int k = 0; k < 5; k++)
            for (int n = 1; n <= 8; n++) {
                const int key_type = kTypes[k], value_type = kTypes[(k + n) % 5];
                if (cache_bytes(key_type, dims) < 0 || cache_bytes(value_type, dims) < 0) continue;
                const int length = n == 3 ? 500 + below(g, 500) : 1 + below(g, 200);
                for (int mode : {0, below(g, 3)})
                    check_attend(isa, {key_type, value_type, dims, n, length, windows[below(g, 6)], caps[below(g, 4)],
                                       1 + below(g, 4), below(g, 3) == 0, mode, spreads[below(g, 4)]}, g);
            }
    for (int length = 1; length <= 200; length++) {
        const int type = kTypes[length % 5];
        check_attend(isa, {type, type, 64, 1 + length % 8, length, length % 3 ? 0 : 17, 0, 1 + length % 3, false, 0, length % 4 * 4}, g);
    }
    // Many rows at once, where the set can take them.
    for (int k = 1; k < 5; k++)
        for (int dims : {16, 32, 64, 80, 96, 128, 256}) {
            const int key_type = kTypes[k], value_type = kTypes[1 + (k + dims / 32) % 4];
            if (cache_bytes(key_type, dims) < 0 || cache_bytes(value_type, dims) < 0) continue;
            if (isa.queries_at_once(key_type, value_type, 512) == kMaxQueries) continue;
            for (int n : {9, 12, 13, 31, 47, 48})
                check_attend(isa, {key_type, value_type, dims, n, 1 + below(g, 300), windows[below(g, 6)], caps[below(g, 4)],
                                   1 + below(g, 4), below(g, 3) == 0, 2 * below(g, 2), spreads[below(g, 4)]}, g);
        }
    // Few tokens and float32 are never rounded.
    for (int type : kTypes) {
        expect(isa, "queries of few tokens", isa.queries_at_once(type, type, 16) == kMaxQueries);
        expect(isa, "queries of float32", isa.queries_at_once(F32, type, 512) == kMaxQueries);
        expect(isa, "queries of float32", isa.queries_at_once(type, F32, 512) == kMaxQueries);
    }
    // A row that sees nothing: 0, with a sink or without.
    const float none[2] = {-INFINITY, -INFINITY}, zeros[2] = {0, 0};
    const Floats acc(2 * 16, 0);
    for (float sink : {-INFINITY, 2.0f}) {
        Floats out(16, NAN);
        isa.merge({2, 16, acc.data(), 16, none, zeros, 1, sink}, out.data());
        for (float v : out) expect(isa, "attention to nothing", v == 0, v, 0);
    }
}

// ---- rows

// Row lengths are multiples of 16; what lies behind a row stays as it is.
Floats guarded_row(const Floats& x) {
    Floats row = x;
    row.push_back(-12345);
    return row;
}

double activation(int kind, double x) {
    const double inner = kind == kSilu ? x : 2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    return x / (1 + std::exp(-inner));
}

void check_gates(const Isa& isa, int cols, Random& g) {
    Floats gate = gauss_row(g, cols, 4), up = gauss_row(g, cols, 2), out = guarded_row(gate);
    const float special[] = {0, -0.0f, 100, -100, 1e-39f, -12, 88.9f, -88.9f, NAN, 1e10f, -1e10f};
    for (size_t i = 0; i < 11; i++) gate[size_t(below(g, cols))] = special[i];
    for (int kind : {kSilu, kGelu}) {
        isa.gate_row(kind, gate.data(), up.data(), cols, out.data());
        for (size_t i = 0; i < gate.size(); i++) {
            const double want = activation(kind, gate[i]) * double(up[i]);
            const double most = (kind == kSilu ? 1e-6 : 1e-6 + 1e-4 * (gate[i] < -2)) * std::abs(want) + 1e-35;
            expect(isa, kind == kSilu ? "silu" : "gelu", near(out[i], want, most), out[i], want);
        }
        expect(isa, "beyond a row of gates", out.back() == -12345);
    }
}

void check_rows(const Isa& isa, int cols, Random& g) {
    const Floats y = gauss_row(g, cols), weight = gauss_row(g, cols);
    for (float factor : {1.0f, 1e-4f, 1e4f}) {
        const Floats x = gauss_row(g, cols, factor);
        double squares = 0;
        for (float v : x) squares += double(v) * double(v);
        Floats apart = guarded_row(y), placed = guarded_row(x), added = guarded_row(x);
        isa.rms_norm(x.data(), weight.data(), 1e-6f, cols, apart.data());
        isa.rms_norm(placed.data(), weight.data(), 1e-6f, cols, placed.data());
        isa.add_scaled(added.data(), y.data(), factor, cols);
        for (size_t i = 0; i < x.size(); i++) {
            const double want = double(x[i]) * double(weight[i]) / std::sqrt(squares / cols + double(1e-6f));
            expect(isa, "rms_norm", near(apart[i], want, 2e-6 * std::abs(want)), apart[i], want);
            expect(isa, "rms_norm in place", placed[i] == apart[i], placed[i], apart[i]);
            const double sum = double(x[i]) + double(factor) * double(y[i]);
            const double most = 2e-7 * (std::abs(double(x[i])) + std::abs(double(factor * y[i])));
            expect(isa, "add_scaled", near(added[i], sum, most), added[i], sum);
        }
        expect(isa, "beyond a row", apart.back() == -12345 && placed.back() == -12345 && added.back() == -12345);
    }
    check_gates(isa, cols, g);
}

void check_cap(const Isa& isa, int cols, Random& g) {
    for (float cap : {0.0f, 30.0f, 0.5f}) {
        const Floats x = gauss_row(g, cols, 10);
        Floats got = guarded_row(x);
        isa.cap_row(got.data(), cols, 0.75f, cap);
        for (size_t i = 0; i < x.size(); i++) {
            const double scaled = 0.75 * double(x[i]), want = cap != 0 ? double(cap) * std::tanh(scaled / double(cap)) : scaled;
            expect(isa, "cap_row", near(got[i], want, 1e-6 * std::abs(want) + 1e-37), got[i], want);
        }
        expect(isa, "beyond a row of logits", got.back() == -12345);
    }
}

void check_rotate(const Isa& isa, int half_dims, bool interleaved, Random& g) {
    const size_t half = size_t(half_dims);
    const Floats x = gauss_row(g, 2 * half_dims + 6);  // six dims are not turned
    Floats cosines(half, 0), sines(half, 0), got = x;
    for (size_t i = 0; i < half; i++) {
        const float angle = gauss(g) * 100;
        cosines[i] = std::cos(angle), sines[i] = std::sin(angle);
    }
    isa.rotate(got.data(), cosines.data(), sines.data(), half_dims, interleaved);
    for (size_t i = 0; i < half; i++) {
        const size_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
        const double a = x[first], b = x[second], c = cosines[i], s = sines[i], most = 2e-7 * (std::abs(a) + std::abs(b));
        expect(isa, "rotate", near(got[first], a * c - b * s, most), got[first], a * c - b * s);
        expect(isa, "rotate", near(got[second], a * s + b * c, most), got[second], a * s + b * c);
    }
    for (size_t i = 2 * half; i < x.size(); i++) expect(isa, "not rotated", got[i] == x[i], got[i], x[i]);
}

}  // namespace

int main(int count, char** names) {
    const std::vector<const Isa*> sets = chosen_sets(count, names);
    for (const Isa* isa : sets) {
        const int before = failures;
        worst = 0;
        Random g(5);
        for (int type : kTypes)
            for (int dims : {32, 96})
                for (int round = 0; round < 60; round++) check_append(*isa, type, dims, round, g);
        for (int cols : {16, 48, 80, 256, 1040, 4096}) check_rows(*isa, cols, g);
        for (int cols : {1, 3, 7, 16, 33, 100, 1001}) check_cap(*isa, cols, g);
        for (int half_dims : {1, 4, 20, 64})
            for (bool interleaved : {false, true}) check_rotate(*isa, half_dims, interleaved, g);
        check_attention(*isa);
        std::printf("%-12s attention and rows: %.2f of what rounding may do, %d failures\n", isa->name, worst, failures - before);
    }
    return failures != 0 || sets.empty();
}
