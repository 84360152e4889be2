// What happens to one row of floats at a time: norms, rotation, gating. Included inside an instruction set's namespace.
// Lengths are multiples of 16 where a row is taken R by R.

// x / rms(x) · weight (Zhang and Sennrich, 2019).
inline void rms_norm(const float* x, const float* weight, float eps, int64_t cols, float* out) {
    F32s squares = floats(0);
    for (int64_t i = 0; i < cols; i += R) squares = fma(load(x + i), load(x + i), squares);
    const F32s scale = floats(1.0f / std::sqrt(sum(squares) / float(cols) + eps));
    for (int64_t i = 0; i < cols; i += R) store(out + i, load(x + i) * scale * load(weight + i));
}

// x += factor · y
inline void add_scaled(float* x, const float* y, float factor, int64_t cols) {
    for (int64_t i = 0; i < cols; i += R) store(x + i, fma(load(y + i), floats(factor), load(x + i)));
}

// Turn pairs (i, i + half), or neighbours, by angles with the given cosines and sines (Su et al., 2021).
inline void rotate(float* x, const float* cosines, const float* sines, int64_t half, bool interleaved) {
    for (int64_t i = 0; i < half; i++) {
        float &a = interleaved ? x[2 * i] : x[i], &b = interleaved ? x[2 * i + 1] : x[i + half];
        const float turned = a * cosines[i] - b * sines[i];
        b = a * sines[i] + b * cosines[i];
        a = turned;
    }
}

// act(gate) · up, with SiLU or the tanh form of GELU (Shazeer, 2020).
inline void gate_row(int kind, const float* gate, const float* up, int64_t cols, float* out) {
    for (int64_t i = 0; i < cols; i += R) {
        const F32s g = load(gate + i);
        store(out + i, (kind == kSilu ? silu(g) : gelu_tanh(g)) * load(up + i));
    }
}

// The largest of every kRun numbers, the last run being shorter; NaN where one of them is.
inline void run_maxima(const float* x, int64_t count, float* out) {
    for (int64_t first = 0; first < count; first += kRun) {
        const int64_t length = count - first < kRun ? count - first : kRun;
        F32s most = floats(-INFINITY), odd = floats(0);
        int64_t i = first;
        for (; i + R <= first + length; i += R) {
            const F32s now = load(x + i);
            most = larger(most, now);
            odd += choose((I32s)(now != now), now, floats(0));
        }
        float top = largest(most) + sum(odd);
        for (; i < first + length; i++) top = x[i] > top || x[i] != x[i] ? x[i] : top;
        *out++ = top;
    }
}

// cap · tanh(factor · x / cap), or factor · x where there is no cap.
inline void cap_row(float* x, int64_t cols, float factor, float cap) {
    int64_t i = 0;
    for (; i + R <= cols; i += R) {
        const F32s scaled = load(x + i) * factor;
        store(x + i, cap ? tanh(scaled * (1.0f / cap)) * cap : scaled);
    }
    for (; i < cols; i++) x[i] = cap ? cap * std::tanh(x[i] * factor / cap) : x[i] * factor;
}
