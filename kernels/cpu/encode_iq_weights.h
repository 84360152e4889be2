// What errors weigh in the types with codebooks and uneven levels. Included inside an instruction set's namespace,
// after its simd_*.h. Counts are multiples of 16.

// Weights below this are 0: their scale would be less than binary16 holds.
constexpr float kLeastMagnitude = 1e-12f;

// u = x over the largest magnitude, which is returned; 0 where all are too small.
inline float to_unit(const float* x, int count, float* u) {
    F32s most = floats(0);
    for (int i = 0; i < count; i += R) most = larger(most, magnitude(load(x + i)));
    const float peak = largest(most);
    if (!(peak > kLeastMagnitude)) return 0;
    for (int i = 0; i < count; i += R) store(u + i, load(x + i) / floats(peak));
    return peak;
}

// Importances over their largest; 1 where there are none.
inline void share_out(const float* importance, int count, float* shares) {
    F32s most = floats(0);
    if (importance)
        for (int i = 0; i < count; i += R) most = larger(most, load(importance + i));
    const float peak = largest(most);
    for (int i = 0; i < count; i += R) store(shares + i, peak > 0 ? load(importance + i) / floats(peak) : floats(1));
}

// sqrt(2 · mean u² + u²): errors of large weights count this much more than their importance says, llama.cpp's rule.
inline void to_sizes(const float* u, int count, float* sizes) {
    F32s squares = floats(0);
    for (int i = 0; i < count; i += R) squares = fma(load(u + i), load(u + i), squares);
    const F32s base = floats(2 * sum(squares) / float(count));
    for (int i = 0; i < count; i += R) store(sizes + i, root(fma(load(u + i), load(u + i), base)));
}

// What errors weigh where scales are chosen: no column counts less than a fiftieth of the others' mean.
inline void to_weights(const float* u, const float* shares, int count, float* w) {
    F32s total = floats(0);
    for (int i = 0; i < count; i += R) total += load(shares + i);
    const F32s least = floats(0.02f * sum(total) / float(count));
    to_sizes(u, count, w);
    for (int i = 0; i < count; i += R) store(w + i, load(w + i) * (load(shares + i) + least));
}
