// Encoding on every instruction set of this machine: any finite rows give blocks that decode to finite weights, in the
// memory that they may have; what is refused; threads. Arguments: names of instruction sets; none: all.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "checks.h"
#include "encode.h"
#include "sets.h"

using namespace mull;

namespace {

int failures = 0;
int current = 0;  // the instruction set at hand

void expect(bool good, const char* what, int type, const char* which) {
    if (!good && ++failures <= 20) std::printf("FAILED %s %s: type %d, %s\n", mull_isa(current), what, type, which);
}

struct Rows {
    const char* name;
    float (*value)(Random& g, int64_t at);
};

float any_float(Random& g, int64_t) {
    float value;
    do {
        const uint32_t u = uint32_t(g());
        std::memcpy(&value, &u, 4);
    } while (!std::isfinite(value));
    return value;
}

const Rows kRows[] = {
    {"ordinary", [](Random& g, int64_t) { return uniform(g) * uniform(g); }},
    {"zeros", [](Random&, int64_t at) { return at % 3 ? 0.0f : -0.0f; }},
    {"constant", [](Random&, int64_t) { return 0.3f; }},
    {"one outlier", [](Random& g, int64_t at) { return at % 256 == 77 ? -9.0f : uniform(g) * 0.01f; }},
    {"subnormal", [](Random& g, int64_t) { return uniform(g) * 1e-38f; }},
    {"smallest", [](Random& g, int64_t) { return float(below(g, 3) - 1) * 1.4e-45f; }},
    {"tiny", [](Random& g, int64_t) { return uniform(g) * 1e-25f; }},
    {"largest", [](Random& g, int64_t) { return g() & 1 ? 3.4028234e38f : -3.4028234e38f; }},
    {"any", any_float},
};

const Rows kImportances[] = {
    {"no importance", nullptr},
    {"an importance", [](Random& g, int64_t) { return uniform(g) * uniform(g) * uniform(g) * uniform(g) + 1e-3f; }},
    {"no importance anywhere", [](Random&, int64_t) { return 0.0f; }},
    {"few columns that matter", [](Random& g, int64_t) { return below(g, 16) ? 0.0f : 1.0f; }},
    {"a tiny importance", [](Random&, int64_t) { return 1e-38f; }},
    {"a large importance", [](Random& g, int64_t) { return std::fabs(uniform(g)) * 1e10f; }},
};

std::vector<float> numbers(const Rows& rows, int64_t count, Random& g) {
    std::vector<float> out(size_t(rows.value ? count : 0));
    for (size_t i = 0; i < out.size(); i++) out[i] = std::fabs(rows.value(g, int64_t(i)));
    return out;
}

bool is_read(int type) {
    float weights[256];
    const uint8_t block[512] = {};
    return mull_unpack(type, block, 1, 256, weights) == 0;
}

void check_rows(int isa, const Encoding& e, const Rows& rows, const Rows& by, int64_t cols, Random& g) {
    constexpr int64_t kCount = 3;
    std::vector<float> x(size_t(kCount * cols)), importance = numbers(by, cols, g), back(x.size());
    for (size_t i = 0; i < x.size(); i++) x[i] = rows.value(g, int64_t(i));
    std::vector<uint8_t> out(size_t(kCount * cols / e.weights * e.bytes), 0xaa), again(out.size(), 0x55);
    const float* counts = importance.empty() ? nullptr : importance.data();
    const int result = mull_encode(isa, e.type, F32, x.data(), kCount, cols, counts, out.data());
    if (result == MULL_NO_KERNEL) return;  // its codebook is not there
    const std::string which = std::string(rows.name) + ", " + by.name;
    expect(result == 0 || result == MULL_NOT_FINITE, "encode", e.type, which.c_str());
    if (result) return;
    expect(mull_encode(isa, e.type, F32, x.data(), kCount, cols, counts, again.data()) == 0 && out == again,
           "every byte is written, and the same again", e.type, which.c_str());
    if (!is_read(e.type)) return;
    mull_unpack(e.type, out.data(), kCount, cols, back.data());
    double energy = 0, left = 0;
    for (size_t i = 0; i < x.size(); i++) energy += double(x[i]) * x[i], left += std::pow(double(x[i]) - back[i], 2);
    expect(std::isfinite(left), "what comes back is finite", e.type, which.c_str());
    if (rows.name == std::string("ordinary") && !counts)
        expect(left < 0.3 * energy, "what comes back is near", e.type, which.c_str());
}

void check_refusals(int isa) {
    std::vector<float> x(512, 1.0f);
    std::vector<uint8_t> out(4096);
    const auto encode = [&](int type, int source, int64_t cols) {
        return mull_encode(isa, type, source, x.data(), 1, cols, nullptr, out.data());
    };
    for (int type : {-1, 4, 5, 9, 15, 1000, int(F32), int(F16)})
        expect(encode(type, F32, 256) == MULL_NO_KERNEL, "a type that is none", type, "");
    for (int type : {-1, 4, 5, 9, 15, 1000})
        expect(encode(Q8_0, type, 256) == MULL_NO_KERNEL, "a source of no type", type, "");
    expect(encode(Q4_K, F32, 128) == MULL_NO_KERNEL, "half a block", Q4_K, "");
    expect(encode(Q8_0, Q4_K, 128) == MULL_NO_KERNEL, "half a block of the source", Q4_K, "");
    expect(mull_encode(99, Q8_0, F32, x.data(), 1, 256, nullptr, out.data()) == MULL_NO_KERNEL, "no set", 99, "");
    for (const float bad : {INFINITY, -INFINITY, NAN})
        for (const size_t at : {size_t(0), size_t(31), size_t(255)}) {
            x[at] = bad;
            expect(encode(Q8_0, F32, 256) == MULL_NOT_FINITE, "a weight that is not finite", Q8_0, "");
            expect(encode(Q4_K, F32, 256) == MULL_NOT_FINITE, "a weight that is not finite", Q4_K, "");
            x[at] = 1;
        }
}

void check_sources(int isa, Random& g) {
    for (const Format& format : kFormats) {
        const int64_t cols = 512, bytes = cols / block_weights(format.type) * block_bytes(format.type);
        std::vector<uint8_t> raw(size_t(5 * bytes)), out(5 * 16 * 34), plain(out.size());
        fill_blocks(format, g, -1, 0x2c00, raw);
        std::vector<float> x(size_t(5 * cols));
        if (mull_unpack(format.type, raw.data(), 5, cols, x.data())) continue;
        const int a = mull_encode(isa, Q8_0, format.type, raw.data(), 5, cols, nullptr, out.data());
        const int b = mull_encode(isa, Q8_0, F32, x.data(), 5, cols, nullptr, plain.data());
        expect(a == 0 && b == 0 && out == plain, "a source is opened as it is read", format.type, format.name);
    }
}

void check_threads(int isa, Random& g) {
    constexpr int64_t kCount = 50, kCols = 512;
    std::vector<float> x(size_t(kCount * kCols));
    for (float& v : x) v = uniform(g);
    std::vector<uint8_t> one(size_t(kCount * kCols / 256 * 144)), many(one.size());
    mull_set_threads(1);
    mull_encode(isa, Q4_K, F32, x.data(), kCount, kCols, nullptr, one.data());
    for (int threads : {2, 3, 7}) {
        mull_set_threads(threads);
        for (int again = 0; again < 5; again++) {
            mull_encode(isa, Q4_K, F32, x.data(), kCount, kCols, nullptr, many.data());
            expect(one == many, "threads change the result", Q4_K, "");
        }
    }
    mull_set_threads(1);
}

}  // namespace

int main(int count, char** names) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const std::vector<int> sets = chosen_indices(count, names);
    Random g(11);
    for (int isa : sets) {
        const uint8_t block[2048] = {};
        uint8_t out[2048];
        for (int type : {IQ2_XS, IQ3_S})
            expect(mull_encode(isa, Q8_0, type, block, 1, 256, nullptr, out) == MULL_NO_KERNEL, "no codebook", type, "");
    }
    const auto grid2 = random_grid(g, IQ2_XS), grid3 = random_grid(g, IQ3_S);
    mull_set_grid(IQ2_XS, grid2.data()), mull_set_grid(IQ3_S, grid3.data());
    for (int isa : sets) {
        const int before = failures;
        current = isa;
        for (const Encoding& e : kEncodings)
            for (const Rows& rows : kRows)
                for (const Rows& by : kImportances)
                    for (int64_t cols : {e.weights == 32 ? 96 : 256, 768}) check_rows(isa, e, rows, by, cols, g);
        check_refusals(isa);
        check_sources(isa, g);
        check_threads(isa, g);
        std::printf("%-12s encoding: %d failures\n", mull_isa(isa), failures - before);
    }
    return failures != 0 || sets.empty();
}
