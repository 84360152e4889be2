// Products of every type of weights on every instruction set of this machine, against sums in double precision.
// Arguments: names of instruction sets; none: all that the machine has.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "checks.h"
#include "sets.h"

using namespace mull;

namespace mull {
const uint8_t* grid_iq2_xs;
const uint8_t* grid_iq3_s;
}  // namespace mull

namespace {

// ---- weights, one by one

int nibble(const uint8_t* p, int i) { return i % 2 ? p[i / 2] >> 4 : p[i / 2] & 15; }
// Codes of blocks of 32: the first 16 in the low halves, the others in the high ones.
int split_nibble(const uint8_t* p, int i) { return i < 16 ? p[i] & 15 : p[i - 16] >> 4; }
int bit(const uint8_t* p, int i) { return p[i / 8] >> (i % 8) & 1; }

struct Weight {
    double scaled, minimum;  // the weight is their sum
};

Weight weight_of_32(int type, const uint8_t* b, int i) {
    static const double e2m1[16] = {0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6};
    switch (type) {
        case Q4_0: return {half(b) * (split_nibble(b + 2, i) - 8), 0};
        case Q4_1: return {half(b) * split_nibble(b + 4, i), half(b + 2)};
        case Q5_0: return {half(b) * (split_nibble(b + 6, i) + 16 * bit(b + 2, i) - 16), 0};
        case Q5_1: return {half(b) * (split_nibble(b + 8, i) + 16 * bit(b + 4, i)), half(b + 2)};
        case Q8_0: return {half(b) * int8_t(b[2 + i]), 0};
        case IQ4_NL: return {half(b) * kValuesIQ4[split_nibble(b + 2, i)], 0};
        default: return {std::ldexp(e2m1[split_nibble(b + 1, i)], b[0] - 127), 0};
    }
}

// Q4_K, Q5_K: 6 bits of scale or minimum j, in 12 bytes.
int six_of(const uint8_t* p, int j, bool minimum) {
    if (j < 4) return p[j + 4 * minimum] & 63;
    return (minimum ? p[j + 4] >> 4 : p[j + 4] & 15) + 16 * (p[j - 4 + 4 * minimum] >> 6);
}

Weight weight_of_256(int type, const uint8_t* b, int i) {
    const int j = i / 32, l = i % 32, g = i / 16;
    if (type == Q2_K) {
        const int code = b[16 + i / 128 * 32 + l] >> (2 * (j % 4)) & 3;
        return {half(b + 80) * (b[g] & 15) * code, -half(b + 82) * (b[g] >> 4)};
    }
    if (type == Q3_K) {
        const uint8_t* s = b + 96;
        const int scale = (g < 8 ? s[g] & 15 : s[g - 8] >> 4) + 16 * (s[8 + g % 4] >> (2 * (g / 4)) & 3) - 32;
        const int low = b[32 + i / 128 * 32 + l] >> (2 * (j % 4)) & 3;
        return {half(b + 108) * scale * (low - (b[l] >> j & 1 ? 0 : 4)), 0};
    }
    if (type == Q4_K || type == Q5_K) {
        const uint8_t* q = b + (type == Q4_K ? 16 : 48) + j / 2 * 32;
        const int low = j % 2 ? q[l] >> 4 : q[l] & 15, high = type == Q5_K ? b[16 + l] >> j & 1 : 0;
        return {half(b) * six_of(b + 4, j, false) * (low + 16 * high), -half(b + 2) * six_of(b + 4, j, true)};
    }
    if (type == Q6_K) {
        const int part = i / 128, quarter = j % 4;
        const int byte = b[64 * part + 32 * (quarter % 2) + l], low = quarter < 2 ? byte & 15 : byte >> 4;
        const int high = b[128 + 32 * part + l] >> (2 * quarter) & 3;
        return {half(b + 208) * int8_t(b[192 + g]) * (low + 16 * high - 32), 0};
    }
    if (type == IQ4_XS) {
        const int scale = nibble(b + 4, j) + 16 * (b[2 + j / 4] >> (2 * (j % 4)) & 3) - 32;
        return {half(b) * scale * kValuesIQ4[split_nibble(b + 8 + 16 * j, l)], 0};
    }
    if (type == IQ3_S) {
        const int entry = b[2 + i / 4] + 256 * bit(b + 66, i / 4);
        const double value = grid_iq3_s[4 * entry + i % 4] * (1 + 2 * nibble(b + 106, j));
        return {half(b) * (bit(b + 74, i) ? -value : value), 0};
    }
    const int packed = b[2 + i / 8 * 2] + 256 * b[3 + i / 8 * 2], seven = packed >> 9;  // IQ2_XS
    bool minus = seven >> (i % 8) & 1;
    for (int k = 0; i % 8 == 7 && k < 7; k++) minus ^= seven >> k & 1;
    const double value = grid_iq2_xs[8 * (packed & 511) + i % 8] * (0.5 + nibble(b + 66, g)) / 4;
    return {half(b) * (minus ? -value : value), 0};
}

Weight weight(int type, const uint8_t* row, int64_t i) {
    float single;
    if (type == F16) return {half(row + 2 * i), 0};
    if (type == BF16) {
        const uint8_t four[4] = {0, 0, row[2 * i], row[2 * i + 1]};
        std::memcpy(&single, four, 4);
        return {single, 0};
    }
    if (type == F32) {
        std::memcpy(&single, row + 4 * i, 4);
        return {single, 0};
    }
    const int n = block_weights(type);
    const uint8_t* block = row + i / n * block_bytes(type);
    return n == 32 ? weight_of_32(type, block, int(i % n)) : weight_of_256(type, block, int(i % n));
}

// ---- cases

struct Matrix {
    Format format;
    int64_t rows, cols, row_bytes;
    std::vector<uint8_t> raw;
    std::vector<double> value, parts;  // parts: the magnitudes that a weight is the difference of

    Matrix(const Format& which, int64_t num_rows, int64_t num_cols) : format(which), rows(num_rows), cols(num_cols) {
        row_bytes = cols / block_weights(format.type) * block_bytes(format.type);
        raw.resize(size_t(rows * row_bytes));
    }
    // Bytes at random, or all alike where byte is not negative; scales (binary16) up to `most`.
    void fill(Random& g, int byte, int most) {
        fill_blocks(format, g, byte, most, raw);
        value.assign(size_t(rows * cols), 0), parts = value;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < cols; i++) {
                const Weight w = weight(format.type, &raw[size_t(r * row_bytes)], i);
                value[size_t(r * cols + i)] = w.scaled + w.minimum;
                parts[size_t(r * cols + i)] = std::abs(w.scaled) + std::abs(w.minimum);
            }
    }
};

struct Activations {
    int64_t count, cols;
    std::vector<float> x;
    Activations(int64_t rows, int64_t num_cols) : count(rows), cols(num_cols), x(size_t(rows * num_cols)) {}
};

// Whole numbers up to 127, which rounding to 8 bits keeps as they are.
Activations whole_numbers(Random& g, int64_t rows, int64_t cols) {
    Activations a(rows, cols);
    for (auto& v : a.x) v = float(int(g() % 255) - 127);
    for (size_t i = 0; i < a.x.size(); i += 32) a.x[i + g() % 32] = g() & 1 ? 127.0f : -127.0f;
    return a;
}

float awkward(Random& g, int64_t row, int64_t i) {
    const float u = uniform(g);
    switch (row % 14) {
        case 0: return 127.0f;
        case 1: return -127.0f;
        case 2: return i % 2 ? 127.0f : -127.0f;
        case 3: return i == 5 ? 1e4f : u;
        case 4: return 0.0f;
        case 5: return i == 17 ? NAN : u;
        case 6: return i == 3 ? INFINITY : u;
        case 7: return i == 30 ? -INFINITY : u;
        case 8: return u * 1e-40f;
        case 9: return u * 1e-36f;
        case 10: return u * 1e30f;
        case 11: return i % 64 < 32 ? -0.0f : u;
        case 12: return 3.0f;
        default: return u;
    }
}

Activations awkward_rows(Random& g, int64_t rows, int64_t cols) {
    Activations a(rows, cols);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < cols; i++) a.x[size_t(t * cols + i)] = awkward(g, t, i);
    return a;
}

// What products may be: the exact sum, and how far rounding may take them from it.
struct Expected {
    double sum, magnitude, weights;  // Σ w·x, Σ |w||x|, Σ |w|
    double rounding;                 // Σ over columns that share a scale of half a step of x8 · Σ |w|
};

std::vector<Expected> expect(const Matrix& w, const Activations& a) {
    const int64_t span = block_weights(w.format.type) == 256 ? 256 : 32;
    std::vector<Expected> out;
    for (int64_t t = 0; t < a.count; t++)
        for (int64_t r = 0; r < w.rows; r++) {
            Expected e{0, 0, 0, 0};
            const float* x = &a.x[size_t(t * a.cols)];
            const double *value = &w.value[size_t(r * w.cols)], *parts = &w.parts[size_t(r * w.cols)];
            for (int64_t s = 0; s < w.cols; s += span) {
                double weights = 0, largest = 0;
                for (int64_t i = s; i < std::min(s + span, w.cols); i++) {
                    e.sum += value[i] * x[i], e.magnitude += parts[i] * std::abs(double(x[i]));
                    weights += std::abs(value[i]), largest = std::max(largest, std::abs(double(x[i])));
                }
                // Magnitudes up to 1.5e-36 may be taken for 0; those of float's own steps near it are lost.
                e.weights += weights;
                e.rounding += std::max(0.5001 * largest / 127, std::min(largest, 1.5e-36)) * weights + 1e-40;
            }
            out.push_back(e);
        }
    return out;
}

// ---- runs

struct Worst {
    double exact = 0, rounded = 0;  // relative to Σ|w||x|; relative to what rounding allows
    int failures = 0;
};

// Sums in float of n numbers are off by n·2^-24 of their magnitudes at most, and by far less as a rule: `steps`.
double allowed(const Isa& isa, int type, const Expected& e, bool exact, double steps) {
    const int form = isa.form_of(type);
    double most = steps * e.magnitude + 1e-40;
    if ((form == kBytes256 || form == kBytes32) && !exact) most += e.rounding;
    // bfloat16 rounds the activations by up to 1/256, and binary16 weights; products of it lose subnormal numbers.
    if (form == kPairs) most += ((type == F16) + !exact) / 255.0 * e.magnitude + 1.2e-38 * (4096 + e.weights);
    return most;
}

constexpr float kUntouched = -12345.0f;

std::vector<float> run(const Isa& isa, const Matrix& w, int64_t rows, const Activations& a, int64_t m, bool biased) {
    const int type = w.format.type;
    const int64_t bytes = isa.panel_bytes(type, w.cols), panels = (rows + isa.lanes - 1) / isa.lanes, stride = rows + 3;
    const int64_t wide_bytes = 2 * isa.lanes * w.cols;
    std::vector<uint8_t> packed(size_t(bytes * panels)), wide(size_t(wide_bytes * panels));
    for (int64_t p = 0; p < panels; p++)
        isa.pack_panel(type, w.raw.data(), rows, w.cols, p, packed.data() + p * bytes, wide.data() + p * wide_bytes);
    const int form = isa.form_of(type);
    const int64_t tile_bytes = isa.form_row_bytes(form, w.cols);
    std::vector<uint8_t> tiles(size_t(m * tile_bytes));
    for (int64_t t = 0, n; t < m; t += n) {
        n = isa.tile_rows(m - t);
        isa.put_tile(form, &a.x[size_t(t * w.cols)], w.cols, w.cols, 0, w.cols, int(n), &tiles[size_t(t * tile_bytes)]);
    }
    std::vector<float> bias(size_t(rows), 0.5f), y(size_t(m * stride), kUntouched);
    const int64_t middle = panels / 2;
    const auto multiply = [&](std::vector<float>& to, uint8_t* opened) {
        for (int64_t first : {int64_t(0), middle})
            isa.multiply(type, packed.data(), rows, w.cols, first, first ? panels : (middle ? middle : panels), tiles.data(), m,
                         biased ? bias.data() : nullptr, to.data(), stride, opened);
    };
    multiply(y, nullptr);
    if (const int64_t opened_bytes = isa.opened_bytes(type, w.cols)) {
        std::vector<uint8_t> opened(size_t(opened_bytes * panels + 64));
        std::vector<float> again(y.size(), kUntouched);
        multiply(again, opened.data() + (64 - uintptr_t(opened.data()) % 64) % 64);
        // NaN to NaN; a row with one tells nothing of the sums' order.
        for (size_t i = 0; i < y.size(); i++)
            if (std::isfinite(y[i]) ? y[i] != again[i] : std::isfinite(again[i])) return {};
    }
    return y;
}

void check(const Isa& isa, const Matrix& w, int64_t rows, const Activations& a, const std::vector<Expected>& expected,
           int64_t m, bool exact, Worst& worst) {
    const bool biased = exact && m % 3 == 2;
    const std::vector<float> y = run(isa, w, rows, a, m, biased);
    const int64_t stride = rows + 3;
    if (y.empty()) {
        if (++worst.failures <= 4) std::printf("FAILED %s %s: opened panels differ\n", isa.name, w.format.name);
        return;
    }
    for (int64_t i = 0; i < m * stride; i++) {
        const float got = y[size_t(i)];
        bool good = got == kUntouched;
        double want = kUntouched;
        if (i % stride < rows) {
            const Expected& e = expected[size_t(i / stride * w.rows + i % stride)];
            want = e.sum + (biased ? 0.5 : 0);
            const double error = std::abs(got - want);
            const double most = allowed(isa, w.format.type, e, exact, exact ? 1e-6 : double(w.cols) / (1 << 24)) + biased * 1e-7;
            good = std::isfinite(want) ? error <= most : !std::isfinite(got);
            if (std::isfinite(want) && exact && e.magnitude > 0)
                worst.exact = std::max(worst.exact, std::max(0.0, error - biased * 1e-7) / e.magnitude);
            if (std::isfinite(want) && !exact) worst.rounded = std::max(worst.rounded, error / most);
        }
        if (!good && ++worst.failures <= 4)
            std::printf("FAILED %s %s: %ld x %ld, row %ld of %ld, column %ld: %.9g, not %.9g%s\n", isa.name, w.format.name,
                        long(rows), long(w.cols), long(i / stride), long(m), long(i % stride), double(got), want,
                        exact ? "" : " (rounded)");
    }
}

void check_type(const std::vector<const Isa*>& sets, const Format& format, std::vector<Worst>& worst) {
    constexpr int64_t kRows[] = {1, 5, 16, 33};
    Random g(unsigned(format.type) + 1);
    for (int64_t cols : {32, 64, 96, 256, 512, 768, 2048}) {
        if (cols % block_weights(format.type)) {
            for (const Isa* isa : sets)
                if (isa->panel_bytes(format.type, cols) != -1) std::printf("FAILED: columns\n"), worst[0].failures++;
            continue;
        }
        Matrix w(format, 33, cols);
        const Activations whole = whole_numbers(g, 64, cols), hard = awkward_rows(g, 31, cols);
        w.fill(g, -1, 0x2c00);
        const auto expected = expect(w, whole);
        for (size_t k = 0; k < sets.size(); k++)
            for (int64_t rows : kRows)
                for (int64_t m = 1; m <= 64; m += m == 33 ? 31 : 1)
                    if (cols <= 768 || rows == 33) check(*sets[k], w, rows, whole, expected, m, true, worst[k]);
        for (int byte : {-1, -2, 0, 0x7f, 0x80, 0xff}) {
            w.fill(g, byte, byte == -2 ? 0x80 : 0x2c00);  // -2: with scales below binary16's normal ones
            const auto rounded = expect(w, hard);
            for (size_t k = 0; k < sets.size(); k++)
                for (int64_t m : {1, 31}) check(*sets[k], w, 33, hard, rounded, m, false, worst[k]);
        }
    }
}

}  // namespace

int main(int count, char** names) {
    Random g(7);
    const std::vector<uint8_t> grid2 = random_grid(g, IQ2_XS), grid3 = random_grid(g, IQ3_S);
    grid_iq2_xs = grid2.data(), grid_iq3_s = grid3.data();

    const std::vector<const Isa*> sets = chosen_sets(count, names);
    int failures = sets.empty();
    for (const Format& format : kFormats) {
        std::vector<Worst> worst(sets.size());
        check_type(sets, format, worst);
        for (size_t k = 0; k < sets.size(); k++) {
            std::printf("%-12s %-7s exact %.1e of the magnitudes, rounded %.2f of what may be\n", sets[k]->name, format.name,
                        worst[k].exact, worst[k].rounded);
            failures += worst[k].failures;
        }
    }
    if (failures) std::printf("%d FAILED\n", failures);
    return failures != 0;
}
