// Functions of vectors of floats, to about 2 units in the last place; NaN stays NaN. Included inside an
// instruction set's namespace. Polynomials: our own Chebyshev fits.

// c[0] + c[1]·x + …, by Horner's rule.
template <int N>
MULL_INLINE F32s polynomial(F32s x, const float (&c)[N]) {
    F32s y = floats(c[N - 1]);
    each<N - 1>([&](auto i) MULL_INLINE_LAMBDA { y = fma(y, x, floats(c[N - 2 - decltype(i)::value])); });
    return y;
}

// e^x · 2^(Bias - 127), where x = n·ln 2 + r and n + Bias lies in 1 … 254. Adding 1.5·2^23 rounds to whole
// numbers and leaves them in the low bits.
template <int Bias>
MULL_INLINE F32s scaled_exponential(F32s x) {
    constexpr float kRound = 12582912.0f + Bias;
    const F32s t = fma(x, floats(1.44269504f), floats(kRound)), n = t - floats(kRound);
    const F32s r = fma(n, floats(-1.42860677e-6f), fma(n, floats(-0.693145752f), x));
    const F32s y = polynomial(r, {1.0f, 1.0f, 0.5f, 0.1666657658f, 0.04166655411f, 0.00836324667f,
                                  0.001392626805f});
    return y * from_bits(bits(t) << 23);
}

// e^x for x ≤ 0; 0 below 2^-126.
MULL_INLINE F32s exponential_of_negative(F32s x) {
    return choose(x < floats(-87.3f), floats(0), scaled_exponential<127>(x));
}

// e^x; 0 below 2^-125.
MULL_INLINE F32s exponential(F32s x) {
    const F32s y = scaled_exponential<126>(choose(x > floats(89), floats(89), x));
    return choose(x < floats(-86.9f), floats(0), y + y);
}

MULL_INLINE F32s tanh(F32s x) {
    const F32s size = magnitude(x), z = x * x;
    const F32s rest = polynomial(z, {-0.3333332843f, 0.1333271885f, -0.05384326318f, 0.02096132911f,
                                     -0.006045165097f});
    const F32s small = fma(x * z, rest, x);
    const F32s most = floats(1) - floats(2) / (exponential(size + size) + floats(1));
    return choose(size < floats(0.625f), small, choose(x < floats(0), floats(0) - most, most));
}

MULL_INLINE F32s silu(F32s x) { return x / (floats(1) + exponential(floats(0) - x)); }

// x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), where (1 + tanh u)/2 = 1/(1 + e^-2u). Far below 0, where next
// to nothing is left, the rounding of u costs up to 200 units in the last place.
MULL_INLINE F32s gelu_tanh(F32s x) {
    const F32s inner = x * fma(x * x, floats(-2 * 0.7978845608f * 0.044715f), floats(-2 * 0.7978845608f));
    return x / (floats(1) + exponential(inner));
}
