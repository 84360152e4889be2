// The C ABI on every instruction set of this machine: packing against unpacking, what is refused, mapped files that are
// cut short, threads that come and go, forks. Arguments: names of instruction sets; none: all that the machine has.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "checks.h"
#include "program.h"
#include "sets.h"

using namespace mull;

namespace {

// ThreadSanitizer blocks all signals in a handler, so that none can jump out of it twice, and lets a forked process
// start no threads.
#if defined(__has_feature)
#define MULL_HAS_FEATURE(name) __has_feature(name)
#else
#define MULL_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_THREAD__) || MULL_HAS_FEATURE(thread_sanitizer)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

int failures = 0;
int current = 0;  // the instruction set at hand

void expect(bool good, const char* what, const char* which = "") {
    if (!good && ++failures <= 20) std::printf("FAILED %s %s %s\n", mull_isa(current), what, which);
}

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Packed = std::unique_ptr<void, Free>;

Packed zeroed(int64_t bytes) {
    Packed memory(std::aligned_alloc(64, size_t((bytes + 63) / 64 * 64)));
    std::memset(memory.get(), 0, size_t(bytes));
    return memory;
}

std::vector<uint8_t> random_rows(const Format& format, int64_t rows, int64_t cols, Random& g) {
    std::vector<uint8_t> raw(size_t(rows * (cols / block_weights(format.type)) * block_bytes(format.type)));
    fill_blocks(format, g, -1, 0x2c00, raw);
    return raw;
}

int pack(int isa, int type, const void* weights, int64_t rows, int64_t cols, void* to) {
    const mull_rows part = {type, rows, cols, weights, to, nullptr};
    return mull_pack(isa, &part, 1);
}

// Products with unit vectors give the weights back, as rounding to 8 bits leaves those vectors alone.
void check_pack(int isa, const Format& format, int64_t cols, Random& g) {
    constexpr int64_t kRows = 37;
    const std::vector<uint8_t> raw = random_rows(format, kRows, cols, g);
    std::vector<float> weights(size_t(kRows * cols)), units(size_t(cols * cols), 0), y(weights.size(), NAN);
    for (int64_t i = 0; i < cols; i++) units[size_t(i * cols + i)] = 1;
    const int64_t bytes = mull_packed_bytes(isa, format.type, kRows, cols);
    if (bytes < 0) return expect(false, "no kernel for", format.name);
    const Packed packed = zeroed(bytes);
    expect(!mull_unpack(format.type, raw.data(), kRows, cols, weights.data()), "unpack", format.name);
    expect(!pack(isa, format.type, raw.data(), kRows, cols, packed.get()), "pack", format.name);
    expect(!mull_multiply(isa, format.type, packed.get(), kRows, cols, units.data(), cols, y.data()), "multiply", format.name);
    int off = 0;
    for (int64_t r = 0; r < kRows; r++)
        for (int64_t block = 0; block < cols; block += 32) {
            double most = 0;  // the largest weight: some are differences of larger numbers
            for (int64_t i = block; i < block + 32; i++) most = std::max(most, double(std::abs(weights[size_t(r * cols + i)])));
            for (int64_t i = block; i < block + 32; i++) {
                const double want = weights[size_t(r * cols + i)];
                // Where products are of bfloat16, binary16 loses 3 bits.
                const double allowed = format.type == F16 ? std::abs(want) / 256 : 1e-5 * most;
                off += !(std::abs(y[size_t(i * kRows + r)] - want) <= allowed + 1e-37);
            }
        }
    expect(!off, "a product with a unit vector", format.name);
}

void check_refusals(int isa) {
    float x[512] = {}, y[512];
    const Packed packed = zeroed(4096);
    const auto refused = [&](int set, int type, int64_t rows, int64_t cols) {
        return mull_packed_bytes(set, type, rows, cols) == MULL_NO_KERNEL &&
               pack(set, type, x, rows, cols, packed.get()) == MULL_NO_KERNEL &&
               mull_multiply(set, type, packed.get(), rows, cols, x, 1, y) == MULL_NO_KERNEL;
    };
    for (int type : {-1, 4, 5, 9, 15, 16, 99}) {
        expect(refused(isa, type, 1, 256), "a type that is none: pack");
        expect(mull_unpack(type, x, 1, 256, y) == MULL_NO_KERNEL, "a type that is none: unpack");
        expect(mull_cache_bytes(isa, type, 64) == MULL_NO_KERNEL, "a type that is none: cache");
    }
    expect(refused(isa, F32, 1, 40) && refused(isa, Q8_0, 1, 100) && refused(isa, Q4_K, 1, 128), "odd columns");
    expect(refused(isa, F32, 0, 256) && refused(-1, F32, 1, 256) && refused(99, F32, 1, 256), "no rows, or no such set");
    expect(mull_unpack(Q4_K, x, 1, 128, y) == MULL_NO_KERNEL, "half a block");
    for (int64_t dims : {int64_t(-32), int64_t(0), int64_t(20), int64_t(33), int64_t(1040), int64_t(1) << 33})
        expect(mull_cache_bytes(isa, F16, dims) == MULL_NO_KERNEL, "a cache of odd heads");
    expect(mull_cache_bytes(isa, Q8_0, 48) == MULL_NO_KERNEL && mull_cache_bytes(99, F16, 64) == MULL_NO_KERNEL, "caches");
    expect(mull_cache_bytes(isa, F16, 48) == 16 * 48 * 2, "bytes of a cache's block");

    const int64_t width = 64;
    const mull_op cap{kCap, {0, 64}, {1, 0}};
    expect(!mull_program(99, &cap, 1, &width, 1, 4) && !mull_program(-1, &cap, 1, &width, 1, 4), "a program for no set");
    expect(!mull_program(isa, &cap, 1, &width, 1, int64_t(1) << 40), "a program that no memory holds");
    for (int64_t code : {int64_t(-1), int64_t(kCodes)}) {
        const mull_op unknown{code, {}, {}};
        expect(!mull_program(isa, &unknown, 1, &width, 1, 4), "a program of an unknown operation");
    }
    void* program = mull_program(isa, &cap, 1, &width, 1, 4);
    mull_step step = {};
    for (int32_t count : {4, 5}) {
        step.num_tokens = count, step.num_wanted = 0;
        expect(mull_run(program, &step) == (count > 4 ? MULL_NO_KERNEL : 0), "a step of too many tokens");
        step.num_tokens = 0, step.num_wanted = count;
        expect(mull_run(program, &step) == (count > 4 ? MULL_NO_KERNEL : 0), "a step that wants too many rows");
    }
    mull_free(program);
    expect(!mull_isa(-1) && !mull_isa(99) && !mull_supported(-1) && !mull_supported(99), "sets that are none");
}

void check_reserve() {
    auto* memory = (uint8_t*)mull_reserve(5 << 20);
    expect(memory && uintptr_t(memory) % (2 << 20) == 0, "reserve");
    expect(std::all_of(memory, memory + (5 << 20), [](uint8_t b) { return b == 0; }), "what is reserved is 0");
    mull_release(memory, 5 << 20);
    mull_release(nullptr, 1);
}

void check_largest(int isa, int64_t count, int64_t k, Random& g) {
    std::vector<float> x(size_t(count), 0), values(size_t(k), NAN);
    for (auto& v : x) v = float(below(g, 200)) - 100;  // many are equal
    x[size_t(below(g, int(count)))] = -INFINITY;
    std::vector<int64_t> places(size_t(k), -1), order;
    for (int64_t i = 0; i < count; i++) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return x[size_t(a)] > x[size_t(b)]; });
    expect(!mull_largest(isa, x.data(), count, k, places.data(), values.data()), "largest");
    for (size_t i = 0; i < size_t(std::min(k, count)); i++)
        expect(places[i] == order[i] && values[i] == x[size_t(order[i])], "the largest of many");
    x[size_t(below(g, int(count)))] = NAN;
    expect(!mull_largest(isa, x.data(), count, k, places.data(), values.data()), "largest");
    for (size_t i = 0; i < size_t(std::min(k, count)); i++) expect(std::isnan(values[i]), "the largest, one being NaN");
}

// ---- programs of one token's embedding, and a product with it

struct Tiny {
    std::vector<uint8_t> table;
    std::vector<float> head, out;
    Packed packed;
    void* program;
    mull_cache* cache;
    std::vector<float> keys, values;

    Tiny(int isa, unsigned seed, const void* mapped = nullptr) : out(kRows) {
        Random g(seed);
        table = random_rows(kFormats[7], 64, kCols, g);
        head.resize(kRows * kCols);
        for (auto& v : head) v = uniform(g);
        packed = zeroed(mull_packed_bytes(isa, F32, kRows, kCols));
        expect(!pack(isa, F32, head.data(), kRows, kCols, packed.get()), "pack");
        const int64_t widths[] = {kCols, kCols}, from = int64_t(mapped ? mapped : table.data());
        const mull_op ops[] = {
            {kEmbed, {0, from, Q8_0, kCols / 32 * 34, kCols}, {1}},
            {kAttend, {0, 0, 0, 0, 0, 64, 1, kCols / 32, 2, 32, 0, 0, 0}, {0.1, 0}},
            {kSelect, {1, 0, kCols}, {}},
            {kProduct, {0, 0, kCols, 1, int64_t(packed.get()), F32, kRows, -1, 0, 0}, {}},
        };
        program = mull_program(isa, ops, 4, widths, 2, 2);
        keys.resize(16 * 64), values.resize(16 * 64);
        cache = (mull_cache*)std::malloc(sizeof(mull_cache) + 2 * sizeof(void*));
        cache->key_type = cache->value_type = F32, cache->num_layers = 1;
        cache->key_stride = cache->value_stride = mull_cache_bytes(isa, F32, 32) * 2;
        cache->layers[0] = keys.data(), cache->layers[1] = values.data();
    }
    Tiny(const Tiny&) = delete;
    ~Tiny() {
        mull_free(program);
        std::free(cache);
    }
    int run(int32_t token) {
        const int32_t tokens[] = {token, 1}, positions[] = {0, 1}, sequence[] = {0, 2, 0, 0}, wanted = 1, block = 0;
        const mull_step step{2, 1, 1, tokens, positions, sequence, &wanted, &block, cache, out.data(), 0};
        return mull_run(program, &step);
    }
    static constexpr int64_t kCols = 256, kRows = 75;
};

// A file of zeros, mapped, then cut short after its first page.
struct CutFile {
    static constexpr int64_t kBytes = 34 * 8 * 4096;
    char name[64];
    int file;
    void* mapped;

    CutFile() {
        const char* folder = std::getenv("TMPDIR");
        std::snprintf(name, sizeof name, "%.40s/mull-check-XXXXXX", folder ? folder : "/tmp");
        file = mkstemp(name);
        expect(file >= 0 && !ftruncate(file, kBytes), "a temporary file");
        mapped = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, file, 0);
        expect(mapped != MAP_FAILED && !ftruncate(file, getpagesize()), "a mapped file");
    }
    ~CutFile() {
        munmap(mapped, kBytes);
        close(file);
        unlink(name);
    }
};

void check_cut_file(int isa) {
    const CutFile cut;
    const Packed packed = zeroed(mull_packed_bytes(isa, Q8_0, 4096, 256));
    std::vector<float> out(4096 * 256);
    Tiny embed(isa, 1, cut.mapped);
    const int last = int(CutFile::kBytes / (34 * 8)) - 1;
    for (int threads : {1, 3}) {
        mull_set_threads(threads);
        for (int again = 0; again < 3; again++) {
            expect(pack(isa, Q8_0, cut.mapped, 4096, 256, packed.get()) == MULL_FAULT, "packing a file cut short");
            expect(mull_unpack(Q8_0, cut.mapped, 4096, 256, out.data()) == MULL_FAULT, "unpacking a file cut short");
            expect(pack(isa, Q8_0, cut.mapped, 8, 256, packed.get()) == 0, "packing what is left of a file");
            expect(mull_unpack(Q8_0, cut.mapped, 8, 256, out.data()) == 0, "unpacking what is left of a file");
            expect(embed.run(last) == MULL_FAULT, "embedding from a file cut short");
            expect(embed.run(3) == 0, "embedding from what is left of a file");
        }
    }
}

// ---- threads

// Steps of a program whose results are known; whether they were right.
bool run_steps(Tiny& tiny, const std::vector<std::vector<float>>& want, int steps) {
    bool good = true;
    for (int i = 0; i < steps; i++) {
        const size_t token = size_t(i) % want.size();
        good &= tiny.run(int32_t(token)) == 0 && tiny.out == want[token];
    }
    return good;
}

std::vector<std::vector<float>> results(Tiny& tiny) {
    std::vector<std::vector<float>> all;
    for (int32_t token = 0; token < 8; token++) expect(!tiny.run(token), "a tiny step"), all.push_back(tiny.out);
    return all;
}

void check_threads(int isa, int steps) {
    mull_set_threads(1);
    Tiny first(isa, 2), second(isa, 3);
    const auto want_first = results(first), want_second = results(second);
    std::atomic<bool> good{true};
    std::thread other([&] {
        for (int round = 0; round < 10; round++)
            if (!run_steps(second, want_second, steps / 10)) good = false;
    });
    for (int round = 0; round < 10; round++) {
        mull_set_threads(1 + round * 5 % 4);
        if (!run_steps(first, want_first, steps / 10)) good = false;
    }
    other.join();
    expect(good, "steps of two callers while threads come and go");

    mull_set_threads(3);
    expect(run_steps(first, want_first, 10), "steps before a fork");
    const pid_t child = fork();
    if (child == 0) {
        bool right = run_steps(first, want_first, 10);
        if (!kThreadSanitizer) mull_set_threads(2);
        right &= run_steps(second, want_second, 10);
        mull_set_threads(1);
        _exit(right ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked process computes");
    expect(run_steps(first, want_first, 10), "steps after a fork");
    mull_set_threads(1);
}

}  // namespace

int main(int count, char** names) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const std::vector<int> sets = chosen_indices(count, names);
    for (int isa : sets)
        for (int type : {IQ2_XS, IQ3_S})
            expect(pack(isa, type, nullptr, 1, 256, nullptr) == MULL_NO_KERNEL, "a type whose codebook is not there yet");
    Random g(7);
    const auto grid2 = random_grid(g, IQ2_XS), grid3 = random_grid(g, IQ3_S);
    mull_set_grid(IQ2_XS, grid2.data()), mull_set_grid(IQ3_S, grid3.data());
    check_reserve();
    for (int isa : sets) {
        const int before = failures;
        current = isa;
        for (const Format& format : kFormats)
            for (int64_t cols : {96, 256, 512})
                if (cols % block_weights(format.type) == 0) check_pack(isa, format, cols, g);
        check_refusals(isa);
        for (int64_t length : {1, 5, 63, 64, 65, 1000, 50000})
            for (int64_t k : {1, 2, 40, 300}) check_largest(isa, length, k, g);
        if (!kThreadSanitizer) check_cut_file(isa);
        check_threads(isa, 400);
        std::printf("%-12s the C ABI: %d failures\n", mull_isa(isa), failures - before);
    }
    expect(mull_seconds() > 0, "the clock of computation");
    return failures != 0 || sets.empty();
}
