// Whole steps of small models through the C ABI, on every instruction set of this machine: against the same model in
// double precision, whole or in chunks, and the same to the bit whatever the number of threads.
// Arguments: names of instruction sets; none: all that the machine has.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "isa.h"
#include "program.h"
#include "sets.h"
#include "small_model.h"

using namespace mull;

namespace {

constexpr int kSlots = 16;
int failures = 0;

const Config kConfigs[] = {
    {"F32", F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, 0, 0, 0, 0, false, false, false, false, 1e-5},
    {"F32, everything", F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, 0, 9, 20, 5, true, true, true, true, 1e-5},
    {"F32, experts", F16, F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, 2, 17, 0, 0, true, false, true, false, 1e-5},
    {"F32, experts' shares", F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, F32, 2, 0, 0, 0, false, false, false, true, 1e-5},
    {"of 256", Q6_K, Q4_K, Q6_K, Q5_K, BF16, Q3_K, IQ4_XS, Q2_K, Q6_K, F16, BF16, 0, 0, 0, 3, false, false, true, false, 0.06},
    {"of 256, gated", Q6_K, Q4_K, Q6_K, Q5_K, BF16, Q6_K, Q6_K, Q2_K, Q6_K, F16, BF16, 0, 0, 0, 3, false, false, true, false, 0.06},
    {"of 32", Q8_0, Q4_0, Q5_1, Q8_0, Q8_0, Q4_1, IQ4_NL, Q5_0, F16, Q8_0, F16, 0, 33, 0, 0, true, true, true, true, 0.06},
    {"experts of both", BF16, BF16, BF16, BF16, Q4_1, IQ3_S, IQ2_XS, MXFP4, Q4_K, BF16, Q8_0, kExpertCount, 0, 0, 0, false,
     false, true, false, 0.06},
};

// ---- the model as a program

enum Buffer { X, H, QKV, A, Y, GateUp, G, Angles, Router, Last, kBuffers };
const int64_t kWidths[kBuffers] = {kHidden, kHidden, kQ + 2 * kKv, kQ, kHidden, 2 * kInner, kInner, 2 * kHalf, 16, kHidden};

int64_t address(const Floats& all) { return int64_t(all.data()); }
int64_t packed(const Matrix& m) { return int64_t(m.packed.get()); }

std::vector<mull_op> layer_ops(const Model& model, size_t index) {
    const Config& c = model.config;
    const Layer& w = model.layers[index];
    const int64_t post = c.norms ? address(w.post_norm) : 0, kind = c.gelu;
    std::vector<mull_op> ops{{kNorm, {X, 0, H, 0, kHidden, address(w.norm), 1}, {double(kEps)}}};
    ops.push_back({kProduct, {H, 0, kHidden, 3, packed(w.q), c.q, kQ, QKV, 0, 0, packed(w.k), c.k, kKv, QKV, kQ, 0,
                              packed(w.v), c.v, kKv, QKV, kQ + kKv, 0}, {}});
    if (c.norms) {
        ops.push_back({kNorm, {QKV, 0, QKV, 0, kDims, address(w.q_norm), kHeads}, {double(kEps)}});
        ops.push_back({kNorm, {QKV, kQ, QKV, kQ, kDims, address(w.k_norm), kKvHeads}, {double(kEps)}});
    }
    ops.push_back({kRotate, {QKV, 0, kHeads, kDims, Angles, kHalf, c.interleaved}, {}});
    ops.push_back({kRotate, {QKV, kQ, kKvHeads, kDims, Angles, kHalf, c.interleaved}, {}});
    ops.push_back({kAttend, {QKV, 0, QKV, kQ, QKV, kQ + kKv, A, kHeads, kKvHeads, kDims, int64_t(index), model.window(index),
                             c.sinks ? address(w.sinks) : 0}, {double(model.scale()), double(c.softcap)}});
    ops.push_back({kProduct, {A, 0, kQ, 1, packed(w.o), c.o, kHidden, Y, 0, address(w.bias)}, {}});
    ops.push_back({kResidual, {X, Y, kHidden, post}, {1, double(kEps)}});
    ops.push_back({kNorm, {X, 0, H, 0, kHidden, address(w.middle_norm), 1}, {double(kEps)}});
    if (c.chosen) {
        ops.push_back({kProduct, {H, 0, kHidden, 1, packed(w.router), F32, kExpertCount, Router, 0, 0}, {}});
        ops.push_back({kExperts, {H, Router, Y, kHidden, kInner, kExpertCount, c.chosen, c.norms, kind, int64_t(w.lists[0].data()),
                                  int64_t(w.lists[1].data()), int64_t(w.lists[2].data()), c.gate, c.up, c.down}, {}});
    } else if (c.gate == c.up) {
        ops.push_back({kProduct, {H, 0, kHidden, 2, packed(w.gates[0]), c.gate, kInner, G, 0, 0, packed(w.ups[0]), c.up, kInner, 0, 0, 0}, {}});
        ops.back().a[kGating] = 1 + kind;
        ops.push_back({kProduct, {G, 0, kInner, 1, packed(w.downs[0]), c.down, kHidden, Y, 0, 0}, {}});
    } else {
        // Two products, as the types may want their input differently.
        ops.push_back({kProduct, {H, 0, kHidden, 1, packed(w.gates[0]), c.gate, kInner, GateUp, 0, 0}, {}});
        ops.push_back({kProduct, {H, 0, kHidden, 1, packed(w.ups[0]), c.up, kInner, GateUp, kInner, 0}, {}});
        ops.push_back({kGate, {GateUp, 0, GateUp, kInner, G, kInner, kind}, {}});
        ops.push_back({kProduct, {G, 0, kInner, 1, packed(w.downs[0]), c.down, kHidden, Y, 0, 0}, {}});
    }
    ops.push_back({kResidual, {X, Y, kHidden, post}, {0.5, double(kEps)}});
    return ops;
}

void* program_of(const Model& model, int isa, int64_t max_tokens) {
    const Matrix& table = model.table;
    std::vector<mull_op> ops{{kEmbed, {X, int64_t(table.raw.data()), table.type, table.row_bytes(), kHidden}, {2}}};
    ops.push_back({kAngles, {Angles, kHalf, address(model.frequencies)}, {1}});
    for (size_t i = 0; i < kLayers; i++)
        for (const mull_op& op : layer_ops(model, i)) ops.push_back(op);
    ops.push_back({kSelect, {X, Last, kHidden}, {}});
    ops.push_back({kNorm, {Last, 0, Last, 0, kHidden, address(model.norm), 1}, {double(kEps)}});
    ops.push_back({kProduct, {Last, 0, kHidden, 1, packed(model.head), model.head.type, kVocabulary, -1, 0, 0}, {}});
    ops.push_back({kCap, {-1, kVocabulary}, {double(model.factor), double(model.config.cap)}});
    return mull_program(isa, ops.data(), int64_t(ops.size()), kWidths, kBuffers, max_tokens);
}

// ---- sequences through a program, some tokens of some of them at a time

using Sequences = std::vector<std::vector<int32_t>>;

struct Session {
    const Sequences& sequences;
    std::vector<std::vector<int32_t>> blocks;
    std::vector<std::vector<uint8_t>> memory;
    mull_cache* cache;
    std::vector<int32_t> done;
    int attention = MULL_FAST;
    std::vector<std::vector<Floats>> logits;  // [sequence][token]; empty where not wanted

    Session(const Config& c, int isa, const Sequences& all, Random& g)
        : sequences(all), blocks(all.size()), done(all.size(), 0), logits(all.size()) {
        std::vector<int32_t> owners;  // of each block: those of a sequence lie anywhere, in any order
        for (size_t s = 0; s < all.size(); s++) {
            owners.insert(owners.end(), (all[s].size() + kSlots - 1) / kSlots, int32_t(s));
            logits[s].resize(all[s].size());
        }
        std::shuffle(owners.begin(), owners.end(), g);
        for (size_t b = 0; b < owners.size(); b++) {
            auto& mine = blocks[size_t(owners[b])];
            mine.insert(mine.begin() + below(g, int(mine.size()) + 1), int32_t(b));
        }
        cache = (mull_cache*)std::malloc(sizeof(mull_cache) + 2 * kLayers * sizeof(void*));
        cache->key_type = c.key_type, cache->value_type = c.value_type, cache->num_layers = kLayers;
        for (int i = 0; i < 2 * kLayers; i++) {
            const int64_t bytes = mull_cache_bytes(isa, i < kLayers ? c.key_type : c.value_type, kDims) * kKvHeads;
            (i < kLayers ? cache->key_stride : cache->value_stride) = bytes;
            memory.emplace_back(owners.size() * size_t(bytes), uint8_t(0xff));
            cache->layers[i] = memory.back().data();
        }
    }
    ~Session() { std::free(cache); }

    // Run the next counts[s] tokens of every sequence; wants the last of each, and a few others.
    int step(void* program, const std::vector<int>& counts, Random& g) {
        std::vector<int32_t> tokens, positions, spans, wanted, places;
        std::vector<std::pair<size_t, size_t>> whose;
        for (size_t s = 0; s < counts.size(); s++) {
            if (!counts[s]) continue;
            spans.insert(spans.end(), {int32_t(tokens.size()), counts[s], done[s], int32_t(places.size())});
            places.insert(places.end(), blocks[s].begin(), blocks[s].end());
            for (int i = 0; i < counts[s]; i++, done[s]++) {
                if (i == counts[s] - 1 || below(g, 4) == 0)
                    wanted.push_back(int32_t(tokens.size())), whose.emplace_back(s, size_t(done[s]));
                tokens.push_back(sequences[s][size_t(done[s])]), positions.push_back(done[s]);
            }
        }
        Floats out(wanted.size() * kVocabulary, NAN);
        const mull_step step{int32_t(tokens.size()), int32_t(spans.size() / 4), int32_t(wanted.size()), tokens.data(),
                             positions.data(), spans.data(), wanted.data(), places.data(), cache, out.data(), attention};
        const int result = mull_run(program, &step);
        for (size_t i = 0; i < whose.size(); i++)
            logits[whose[i].first][whose[i].second].assign(&out[i * kVocabulary], &out[i * kVocabulary] + kVocabulary);
        return result;
    }
};

struct Way {
    int threads;
    bool whole;  // everything at once; or chunk after chunk of random sizes, some sequences resting
    int attention;
};
constexpr int kMostTokens = 80;  // of a step of chunks

int feed(Session& session, void* program, bool whole, Random& g) {
    int result = 0;
    for (bool more = true; more && !result;) {
        std::vector<int> counts;
        const int most = below(g, 2) ? 3 : kMostTokens / int(session.sequences.size());
        for (size_t s = 0; s < session.sequences.size(); s++) {
            const int left = int(session.sequences[s].size()) - session.done[s];
            counts.push_back(whole ? left : std::min(left, below(g, most + 1)));
        }
        more = false;
        result = session.step(program, counts, g);
        for (size_t s = 0; s < counts.size(); s++) more |= session.done[s] < int(session.sequences[s].size());
    }
    return result;
}

using Logits = std::vector<std::vector<Floats>>;

Logits run(const Model& model, int isa, const Sequences& all, const Way& way) {
    Random g(3);  // the same chunks for any number of threads
    mull_set_threads(way.threads);
    int64_t tokens = 0;
    for (const auto& sequence : all) tokens += int64_t(sequence.size());
    Session session(model.config, isa, all, g);
    session.attention = way.attention;
    void* program = program_of(model, isa, way.whole ? tokens : kMostTokens);
    if (!program || feed(session, program, way.whole, g)) failures++, std::printf("FAILED: a step\n");
    mull_free(program);
    return session.logits;
}

// How far the logits are from what they should be, relative to them.
double compare(const Logits& got, const std::vector<std::vector<Doubles>>& want) {
    double error = 0, all = 0;
    for (size_t s = 0; s < got.size(); s++)
        for (size_t t = 0; t < got[s].size(); t++)
            for (size_t i = 0; i < got[s][t].size(); i++) {
                const double off = got[s][t][i] - want[s][t][i];
                error += off * off, all += want[s][t][i] * want[s][t][i];
            }
    return std::sqrt(error / all);
}

Sequences random_sequences(Random& g, const std::vector<int>& lengths) {
    Sequences all;
    for (int length : lengths) {
        all.emplace_back();
        for (int i = 0; i < length; i++) all.back().push_back(below(g, kVocabulary));
    }
    return all;
}

// No bit of a sequence's logits may depend on the sequences beside it, on chunks or on threads.
double check_steady(const Model& model, int isa, const Sequences& all, const std::vector<std::vector<Doubles>>& want) {
    const Logits together = run(model, isa, all, {1, false, MULL_STEADY});
    for (size_t s = 0; s < all.size(); s++)
        for (const bool whole : {false, true}) {
            const Logits alone = run(model, isa, {all[s]}, {whole ? 1 : 2, whole, MULL_STEADY});
            size_t seen = 0, differ = 0;
            for (size_t t = 0; t < all[s].size(); t++)
                if (!alone[0][t].empty() && !together[s][t].empty()) seen++, differ += alone[0][t] != together[s][t];
            if (seen && !differ) continue;
            failures++;
            std::printf("FAILED %s %s: sequence %d alone, %s\n", mull_isa(isa), model.config.name, int(s), whole ? "at once" : "in chunks");
        }
    return compare(together, want);
}

void check_model(const Config& config, const std::vector<int>& sets, const std::vector<int>& lengths) {
    Random g(unsigned(config.embed) + 100);
    const Sequences all = random_sequences(g, lengths);
    Model model(config, g);
    std::vector<std::vector<Doubles>> want;
    for (const auto& sequence : all) want.push_back(logits_of(model, sequence));
    const bool divided = lengths[0] >= 512;  // such contexts are shared out by threads, and merged
    for (int isa : sets) {
        model.pack(isa);
        double worst = compare(run(model, isa, all, {2, true, MULL_PLAIN}), want);
        worst = std::max(worst, check_steady(model, isa, all, want));
        for (const bool whole : {false, true}) {
            if (whole && divided) continue;
            const Logits alone = run(model, isa, all, {1, whole, MULL_FAST});
            worst = std::max(worst, compare(alone, want));
            for (int threads : {2, 3, 7}) {
                if ((threads == 7) != whole || (divided && threads == 2)) continue;  // 7 meet rarely on a few cores
                const Logits again = run(model, isa, all, {threads, whole, MULL_FAST});
                worst = std::max(worst, compare(again, want));
                if (divided || again == alone) continue;
                failures++, std::printf("FAILED %s %s: %d threads\n", mull_isa(isa), config.name, threads);
            }
        }
        const bool good = worst <= config.most;
        failures += !good;
        std::printf("%s%-12s %-22s tokens %d: off by %.1e\n", good ? "" : "FAILED ", mull_isa(isa), config.name, lengths[0], worst);
    }
}

// More experts than the columns of those that one token chooses.
void check_many_experts(int isa) {
    constexpr int kCount = 96, kCols = 32;
    Random g(9);
    std::vector<Matrix> all;
    std::vector<int64_t> lists[3];
    for (int i = 0; i < 3 * kCount; i++) {
        all.emplace_back(g, F32, kCols, kCols);
        all.back().pack(isa), lists[i / kCount].push_back(packed(all.back()));
    }
    Matrix same(g, F32, kCols, kCols);
    for (size_t i = 0; i < kCols * kCols; i++) same.values[i] = i % (kCols + 1) == 0;
    std::memcpy(same.raw.data(), same.values.data(), same.raw.size());
    same.pack(isa);
    Floats x = floats(g, kCols), router = floats(g, kCount), y(kCols, NAN);
    router[90] = 5, router[70] = 4;
    const int64_t widths[] = {kCols, kCount, kCols}, list[] = {int64_t(lists[0].data()), int64_t(lists[1].data()), int64_t(lists[2].data())};
    const mull_op ops[] = {
        {kEmbed, {0, address(x), F32, 4 * kCols, kCols}, {1}},
        {kEmbed, {1, address(router), F32, 4 * kCount, kCount}, {1}},
        {kExperts, {0, 1, 2, kCols, kCols, kCount, 2, 1, kSilu, list[0], list[1], list[2], F32, F32, F32}, {}},
        {kProduct, {2, 0, kCols, 1, packed(same), F32, kCols, -1, 0, 0}, {}},
    };
    void* program = mull_program(isa, ops, 4, widths, 3, 1);
    const int32_t token = 0;
    mull_step step = {};
    step.num_tokens = 1, step.tokens = &token, step.logits = y.data();
    failures += mull_run(program, &step) != 0;
    mull_free(program);
    Doubles want(kCols, 0);
    for (size_t e : {70, 90}) {
        Doubles gate = all[e](Doubles(x.begin(), x.end()));
        const Doubles up = all[e + kCount](Doubles(x.begin(), x.end()));
        for (size_t i = 0; i < kCols; i++) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
        const Doubles down = all[e + 2 * kCount](gate);
        for (size_t i = 0; i < kCols; i++) want[i] += down[i] / (1 + std::exp(e == 90 ? -1.0 : 1.0));
    }
    const double off = compare({{y}}, {{want}});
    if (!(off < 1e-5)) failures++, std::printf("FAILED %s many experts: off by %.1e\n", mull_isa(isa), off);
}

}  // namespace

int main(int count, char** names) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const std::vector<int> sets = chosen_indices(count, names);
    Random g(7);
    const auto grid2 = random_grid(g, IQ2_XS), grid3 = random_grid(g, IQ3_S);
    mull_set_grid(IQ2_XS, grid2.data()), mull_set_grid(IQ3_S, grid3.data());
    for (const Config& config : kConfigs) check_model(config, sets, {45, 1, 64, 19});
    check_model(kConfigs[1], sets, {540, 5});
    mull_set_threads(1);
    for (int isa : sets) check_many_experts(isa);
    return failures != 0 || sets.empty();
}
