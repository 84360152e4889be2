// A small model of random weights of any types, and its logits in double precision.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "checks.h"
#include "mull.h"

namespace mull {

constexpr int kHidden = 256, kHeads = 6, kKvHeads = 2, kDims = 32, kHalf = 12, kInner = 256, kVocabulary = 77;
constexpr int kQ = kHeads * kDims, kKv = kKvHeads * kDims, kLayers = 2, kExpertCount = 5;
constexpr float kEps = 1e-5f;

struct Config {
    const char* name;
    int embed, q, k, v, o, gate, up, down, head;  // types of weights
    int key_type, value_type;
    int chosen;  // experts of a token; 0: one gated network
    int window;  // of the first layer
    float softcap, cap;
    bool sinks, interleaved, norms, gelu;  // norms: also of heads, of what is added, of the chosen's shares
    double most;                           // the error allowed, relative to a row of logits
};

inline const Format& format_of(int type) {
    return *std::find_if(std::begin(kFormats), std::end(kFormats), [&](const Format& f) { return f.type == type; });
}

// Weights as a file has them, and what they stand for.
struct Matrix {
    int type, rows, cols;
    std::vector<uint8_t> raw;
    std::vector<float> values;
    std::unique_ptr<void, void (*)(void*)> packed{nullptr, std::free};

    Matrix(Random& g, int which, int num_rows, int num_cols)
        : type(which), rows(num_rows), cols(num_cols), raw(size_t(rows * row_bytes())), values(size_t(rows * cols)) {
        fill_blocks(format_of(type), g, -1, 0x2c00, raw);
        if (mull_unpack(type, raw.data(), rows, cols, values.data())) std::abort();
    }
    int64_t row_bytes() const { return cols / block_weights(type) * block_bytes(type); }
    void pack(int isa) {
        const size_t bytes = size_t(mull_packed_bytes(isa, type, rows, cols));
        packed.reset(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
        std::memset(packed.get(), 0, bytes);
        const mull_rows part = {type, rows, cols, raw.data(), packed.get(), nullptr};
        if (mull_pack(isa, &part, 1)) std::abort();
    }
    std::vector<double> operator()(const std::vector<double>& x) const {
        std::vector<double> y(size_t(rows), 0);
        for (size_t i = 0; i < values.size(); i++) y[i / size_t(cols)] += double(values[i]) * x[i % size_t(cols)];
        return y;
    }
};
using Doubles = std::vector<double>;
using Floats = std::vector<float>;

inline Floats floats(Random& g, int count, float middle = 0) {
    Floats all(size_t(count), 0);
    for (auto& v : all) v = middle + uniform(g) * 0.5f;
    return all;
}

struct Layer {
    Matrix q, k, v, o, router;
    std::vector<Matrix> gates, ups, downs;
    Floats norm, middle_norm, q_norm, k_norm, post_norm, bias, sinks;
    std::vector<int64_t> lists[3];

    Layer(const Config& c, Random& g)
        : q(g, c.q, kQ, kHidden), k(g, c.k, kKv, kHidden), v(g, c.v, kKv, kHidden), o(g, c.o, kHidden, kQ),
          router(g, F32, kExpertCount, kHidden), norm(floats(g, kHidden, 1)), middle_norm(floats(g, kHidden, 1)),
          q_norm(floats(g, kDims, 1)), k_norm(floats(g, kDims, 1)), post_norm(floats(g, kHidden, 1)),
          bias(floats(g, kHidden)), sinks(floats(g, kHeads)) {
        for (int e = 0; e < (c.chosen ? kExpertCount : 1); e++) {
            gates.emplace_back(g, c.gate, kInner, kHidden), ups.emplace_back(g, c.up, kInner, kHidden);
            downs.emplace_back(g, c.down, kHidden, kInner);
        }
    }
    std::vector<Matrix>& matrices(int list) { return list == 0 ? gates : list == 1 ? ups : downs; }
    void pack(int isa) {
        for (Matrix* m : {&q, &k, &v, &o, &router}) m->pack(isa);
        for (int list = 0; list < 3; list++) {
            lists[list].clear();
            for (Matrix& m : matrices(list)) m.pack(isa), lists[list].push_back(int64_t(m.packed.get()));
        }
    }
};

struct Model {
    Config config;
    Matrix table, head;
    std::vector<Layer> layers;
    Floats norm, frequencies;
    float factor;  // which brings logits to about 3

    Model(const Config& c, Random& g)
        : config(c), table(g, c.embed, kVocabulary, kHidden), head(g, c.head, kVocabulary, kHidden), norm(floats(g, kHidden, 1)) {
        for (int i = 0; i < kLayers; i++) layers.emplace_back(c, g);
        for (int i = 0; i < kHalf; i++) frequencies.push_back(std::pow(100.0f, -float(i) / kHalf));
        double squares = 0;
        for (float v : head.values) squares += double(v) * double(v);
        factor = float(3 / std::sqrt(squares / kVocabulary));
    }
    void pack(int isa) {
        head.pack(isa);
        for (Layer& layer : layers) layer.pack(isa);
    }
    int window(size_t layer) const { return layer ? 0 : config.window; }
    // Of scores: small where heads are not normalised, or softmax would make much of rounding.
    float scale() const { return config.norms ? 0.2f : 0.002f; }
};

// ---- the model in double precision

inline void normalise(double* x, const Floats& weight, double* out) {
    double squares = 0;
    for (size_t i = 0; i < weight.size(); i++) squares += x[i] * x[i];
    for (size_t i = 0; i < weight.size(); i++)
        out[i] = x[i] / std::sqrt(squares / double(weight.size()) + double(kEps)) * double(weight[i]);
}

inline void turn(const Model& model, Doubles& x, int position) {
    for (size_t h = 0; h < x.size() / kDims; h++)
        for (size_t i = 0; i < kHalf; i++) {
            const double angle = double(float(position) * model.frequencies[i]), c = std::cos(angle), s = std::sin(angle);
            double* head = &x[h * kDims];
            double &a = model.config.interleaved ? head[2 * i] : head[i];
            double &b = model.config.interleaved ? head[2 * i + 1] : head[i + kHalf];
            const double turned = a * c - b * s;
            b = a * s + b * c, a = turned;
        }
}

inline void add_gated(const Model& model, const Layer& layer, size_t expert, const Doubles& h, double share, Doubles& out) {
    Doubles gate = layer.gates[expert](h);
    const Doubles up = layer.ups[expert](h);
    for (size_t i = 0; i < gate.size(); i++) {
        const double x = gate[i], inner = model.config.gelu ? 2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x) : x;
        gate[i] = x / (1 + std::exp(-inner)) * up[i];
    }
    const Doubles down = layer.downs[expert](gate);
    for (size_t i = 0; i < out.size(); i++) out[i] += share * down[i];
}

inline Doubles network(const Model& model, const Layer& layer, const Doubles& h) {
    Doubles out(kHidden, 0);
    if (!model.config.chosen) {
        add_gated(model, layer, 0, h, 1, out);
        return out;
    }
    const Doubles logits = layer.router(h);
    std::vector<size_t> order{0, 1, 2, 3, 4};
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
    double total = 0;
    const int counted = model.config.norms ? model.config.chosen : kExpertCount;  // shares of the chosen, or of all
    for (int k = 0; k < counted; k++) total += std::exp(logits[order[size_t(k)]] - logits[order[0]]);
    for (int k = 0; k < model.config.chosen; k++)
        add_gated(model, layer, order[size_t(k)], h, std::exp(logits[order[size_t(k)]] - logits[order[0]]) / total, out);
    return out;
}

inline Doubles attended(const Model& model, size_t index, const Doubles& q, const std::vector<Doubles>& keys,
                 const std::vector<Doubles>& values) {
    const Config& c = model.config;
    Doubles out(kQ, 0);
    const size_t count = keys.size(), window = size_t(model.window(index));
    for (size_t h = 0; h < kHeads; h++) {
        const size_t kv = h / (kHeads / kKvHeads) * kDims;
        Doubles weights;
        double most = c.sinks ? double(model.layers[index].sinks[h]) : -INFINITY, total = 0;
        const size_t first = window && count > window ? count - window : 0;
        for (size_t k = first; k < count; k++) {
            double score = 0;
            for (size_t i = 0; i < kDims; i++) score += q[h * kDims + i] * keys[k][kv + i] * double(model.scale());
            if (c.softcap != 0) score = double(c.softcap) * std::tanh(score / double(c.softcap));
            weights.push_back(score), most = std::max(most, score);
        }
        if (c.sinks) total = std::exp(double(model.layers[index].sinks[h]) - most);
        for (double& w : weights) total += w = std::exp(w - most);
        for (size_t k = first; k < count; k++)
            for (size_t i = 0; i < kDims; i++) out[h * kDims + i] += weights[k - first] / total * values[k][kv + i];
    }
    return out;
}

// Logits after every token of a sequence.
inline std::vector<Doubles> logits_of(const Model& model, const std::vector<int32_t>& tokens) {
    std::vector<Doubles> keys[kLayers], values[kLayers], all;
    const Config& c = model.config;
    const auto add = [&](Doubles& x, Doubles y, double factor, const Layer& layer) {
        if (c.norms) normalise(y.data(), layer.post_norm, y.data());
        for (size_t i = 0; i < x.size(); i++) x[i] += factor * y[i];
    };
    for (size_t t = 0; t < tokens.size(); t++) {
        const float* row = &model.table.values[size_t(tokens[t]) * kHidden];
        Doubles x(row, row + kHidden), h(kHidden, 0);
        for (double& v : x) v *= 2;
        for (size_t l = 0; l < kLayers; l++) {
            const Layer& layer = model.layers[l];
            normalise(x.data(), layer.norm, h.data());
            Doubles q = layer.q(h), k = layer.k(h);
            for (size_t i = 0; c.norms && i < kQ; i += kDims) normalise(&q[i], layer.q_norm, &q[i]);
            for (size_t i = 0; c.norms && i < kKv; i += kDims) normalise(&k[i], layer.k_norm, &k[i]);
            turn(model, q, int(t)), turn(model, k, int(t));
            keys[l].push_back(k), values[l].push_back(layer.v(h));
            Doubles y = layer.o(attended(model, l, q, keys[l], values[l]));
            for (size_t i = 0; i < y.size(); i++) y[i] += double(layer.bias[i]);
            add(x, y, 1, layer);
            normalise(x.data(), layer.middle_norm, h.data());
            add(x, network(model, layer, h), 0.5, layer);
        }
        normalise(x.data(), model.norm, h.data());
        all.push_back(model.head(h));
        for (double& v : all.back()) {
            v *= double(model.factor);
            if (c.cap != 0) v = double(c.cap) * std::tanh(v / double(c.cap));
        }
    }
    return all;
}

}  // namespace mull
