// Scales for groups of weights, by search: R groups at a time, one to a lane. Included inside an instruction set's
// namespace.
//
// For a scale that is guessed, the nearest codes l follow, and for those the best scale, by weighted least squares:
//
//   symmetric   x = s·l        s = Σwxl / Σwl²                       leaves  Σwx² - (Σwxl)² / Σwl²
//   affine      x = s·l - m    s = cov(x, l) / var(l), m ≥ 0         leaves  var(x) - cov(x, l)² / var(l)
//
// so that a guess costs one pass over the group, and what is to be compared needs no second one. Guesses: the scale
// that gives the largest weight the outermost code, and some a few percent around it, as ggml-quants.c tries them.

// Weight i of every group, and how much its error counts.
template <int N>
struct Groups {
    F32s x[N], w[N];
};

// `count` groups of N weights that follow one another; the other lanes are 0.
template <int N>
inline void gather(const float* x, const float* w, int count, Groups<N>& out) {
    float *to_x = (float*)out.x, *to_w = (float*)out.w;
    if (count < R) __builtin_memset(&out, 0, sizeof out);
    for (int lane = 0; lane < count; lane++)
        for (int i = 0; i < N; i++) {
            to_x[i * R + lane] = x[lane * N + i];
            to_w[i * R + lane] = w[lane * N + i];
        }
}

// What errors count in a group, as shares; equally where none counts.
template <int N>
MULL_INLINE void to_shares(const F32s* w, F32s* shares) {
    F32s total = floats(0);
    for (int i = 0; i < N; i++) total += w[i];
    const I32s some = total > floats(1e-30f);
    const F32s factor = choose(some, floats(1) / total, floats(0)), rest = choose(some, floats(0), floats(1.0f / N));
    for (int i = 0; i < N; i++) shares[i] = fma(w[i], factor, rest);
}

// Guesses after those, each the best line so far.
constexpr int kPolish = 2;

// What is better by less than this factor is so by rounding; the first guess is then kept, which most groups that a
// code can tell exactly have in common.
constexpr float kBetter = 1.000001f;

// Codes of either sign up to which both signs of a scale are tried.
constexpr float kFew = 8;

// Values below which a group is 0.
constexpr float kTiny = 1e-30f;

// The scales of x = scale · code, with codes from -most to most - 1; `tries` guesses on either side. The largest
// magnitude gets the least code; where codes are few, the largest code too, one step short of it.
template <int N>
inline F32s fit_symmetric(const Groups<N>& g, float most, int tries, float step) {
    F32s u[N], w[N], wu[N];
    F32s top = floats(0);
    for (int i = 0; i < N; i++) top = choose(magnitude(g.x[i]) > magnitude(top), g.x[i], top);
    const I32s any = magnitude(top) > floats(kTiny);
    const F32s inverse = choose(any, floats(1) / top, floats(0));
    to_shares<N>(g.w, w);
    for (int i = 0; i < N; i++) u[i] = g.x[i] * inverse, wu[i] = w[i] * u[i];
    F32s best = floats(-1), scale = floats(0);
    for (int side = 0; side < (most <= kFew ? 2 : 1); side++)
        for (int t = -tries - 1; t <= tries; t++) {
            const float k = (side ? 1.0f : -1.0f) * (most + step * float(t < -tries ? 0 : t));
            F32s products = floats(0), squares = floats(0);
            for (int i = 0; i < N; i++) {
                const F32s code = clamp(nearest(u[i] * k), -most, most - 1);
                products = fma(wu[i], code, products);
                squares = fma(w[i] * code, code, squares);
            }
            const F32s fitted = products / larger(squares, floats(kTiny)), gain = fitted * products;
            scale = choose(gain > best * kBetter, fitted, scale);
            best = larger(gain, best);
        }
    return choose(any, scale * top, floats(0));
}

struct Line {
    F32s scale, minimum;  // x = scale · code - minimum
};

// The same for codes from 0 to most, with minimums that are not negative. Guesses: the range from the best line's
// beginning so far to the largest weight, divided by most, then most + first, most + first + step ...
template <int N>
inline Line fit_line(const Groups<N>& g, float most, float first, float step, int tries) {
    F32s u[N], w[N], wu[N];
    F32s low = floats(0), high = g.x[0], mean = floats(0);
    for (int i = 0; i < N; i++) low = smaller(low, g.x[i]), high = larger(high, g.x[i]);
    const F32s range = high - low;
    const I32s any = range > floats(kTiny);
    const F32s inverse = choose(any, floats(1) / range, floats(0)), zero = (floats(0) - low) * inverse;
    to_shares<N>(g.w, w);
    for (int i = 0; i < N; i++) u[i] = (g.x[i] - low) * inverse, mean = fma(w[i], u[i], mean);
    for (int i = 0; i < N; i++) wu[i] = w[i] * (u[i] - mean);
    const F32s above = mean - zero;
    F32s best = floats(-4), scale = floats(1 / most), begin = floats(0);
    for (int t = -1; t < tries + kPolish; t++) {
        const float guess = t < 0 ? most : most + first + step * float(t);
        const F32s span = t < tries ? floats(1) - begin : scale * guess;
        const F32s k = floats(guess) / larger(span, floats(1e-3f));
        const F32s shift = floats(0) - begin * k;
        F32s products = floats(0), squares = floats(0), sums = floats(0);
        for (int i = 0; i < N; i++) {
            const F32s code = nearest(clamp(fma(u[i], k, shift), 0, most)), weighted = w[i] * code;
            products = fma(wu[i], code, products);
            sums += weighted;
            squares = fma(weighted, code, squares);
        }
        // Codes that are all alike say nothing about the slope.
        const F32s variance = squares - sums * sums;
        const I32s differ = variance > squares * 1e-5f;
        const F32s slope = choose(differ, products / larger(variance, floats(kTiny)), floats(0));
        const F32s offset = mean - slope * sums;
        // Where the line would begin above 0, the best one that begins there.
        const F32s pinned = fma(above, sums, products), steep = pinned / larger(squares, floats(kTiny));
        const I32s is_above = offset > zero;
        const F32s free = choose(differ, slope * products, floats(-4));
        const F32s gain = choose(is_above, steep * pinned - above * above, free);
        const I32s better = gain > best * kBetter;
        scale = choose(better, choose(is_above, steep, slope), scale);
        begin = choose(better, choose(is_above, zero, offset), begin);
        best = larger(gain, best);
    }
    return {choose(any, scale * range, floats(0)), choose(any, floats(0) - fma(begin, range, low), floats(0) - low)};
}

// What is left by given scales, codes being the nearest: Σ w (x - scale · code)², and with minimums.
template <int N>
inline F32s error_of(const Groups<N>& g, F32s scale, float most) {
    const F32s inverse = choose(magnitude(scale) > floats(kTiny), floats(1) / scale, floats(0));
    F32s error = floats(0);
    for (int i = 0; i < N; i++) {
        const F32s code = clamp(nearest(clamp(g.x[i] * inverse, -300, 300)), -most, most - 1);
        const F32s left = fma(scale, code, floats(0) - g.x[i]);
        error = fma(g.w[i] * left, left, error);
    }
    return error;
}

template <int N>
inline F32s error_of(const Groups<N>& g, Line line, float most) {
    const F32s inverse = choose(line.scale > floats(kTiny), floats(1) / line.scale, floats(0));
    const F32s offset = line.minimum * inverse;
    F32s error = floats(0);
    for (int i = 0; i < N; i++) {
        const F32s code = nearest(clamp(fma(g.x[i], inverse, offset), 0, most));
        const F32s left = fma(line.scale, code, floats(0) - line.minimum - g.x[i]);
        error = fma(g.w[i] * left, left, error);
    }
    return error;
}
