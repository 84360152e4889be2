// Products of a tile of activations with panels of weights. Included inside an instruction set's namespace.
//
// Σ w·x over 256 columns = s_x·(Σ_groups d·scale·Σ code·x8 − m·Σ_groups min·Σ x8), where an offset of the codes goes
// into the whole numbers' start: Σ (code − offset)·x8 = −offset·Σ x8 + Σ code·x8.

template <int N, int... I, class F>
MULL_INLINE void each(F&& f, std::integer_sequence<int, I...>) {
    (f(std::integral_constant<int, I>{}), ...);
}
template <int N, class F>
MULL_INLINE void each(F&& f) {
    each<N>(f, std::make_integer_sequence<int, N>{});
}

// Weights that will be wanted are fetched to the second level of caches, evenly. Beside a tile of several rows they leave
// the first level again and again, and then the processor's own fetching no longer follows them; what is fetched all at
// once, or to the first level, stands in the way of what is wanted now. One row waits for memory only.
constexpr int kAhead = 8 << 10;
template <int N>
constexpr int fetched(int bytes) { return N >= 4 ? bytes : 0; }
template <int Bytes>
MULL_INLINE void fetch_ahead(const uint8_t* now) {
    for (int i = 0; i < Bytes; i += 64) __builtin_prefetch(now + kAhead + i, 0, 2);
}

template <class T>
MULL_INLINE F32s scale_of(const uint8_t* head) {
    if constexpr (T::exponent) {
        const I32s e = load_u8(head);
        return from_bits((e << 23) | ((e == 0) & 0x400000)) * T::unit;
    } else {
        return load_halves(head) * T::unit;
    }
}

// The scales of a block of 256, as floats times d; and its minimums, in pairs of 16-bit numbers.
template <class T>
struct Block {
    alignas(64) float scale[16 * R];
    alignas(64) int32_t mins[8 * R];
    F32s below;

    MULL_INLINE void read(const uint8_t* p) {
        const F32s d = scale_of<T>(p);
        const uint8_t* at = p + T::head;
        if constexpr (T::mins) below = floats(0) - load_halves(p + 2 * R);
        if constexpr (T::kind == SixBits) {
            for (int j = 0; j < 8; j += 2) {
                I32s min[2];
                for (int i = 0; i < 2; i++) {
                    const I32s low = load_u8(at + (j + i) * R);
                    const I32s high = load_u8(at + (8 + (j + i) % 4) * R) >> (j < 4 ? 0 : 4);
                    store(scale + (j + i) * R, d * to_float((low & 15) | ((high & 3) << 4)));
                    min[i] = (low >> 4) | ((high & 12) << 2);
                }
                *(I32s*)(mins + j / 2 * R) = min[0] | min[1] << 16;
            }
        } else if constexpr (T::kind == Nibbles) {
            for (int j = 0; j < T::groups; j += 2) {
                const I32s a = load_u8(at + j * R), b = load_u8(at + (j + 1) * R);
                store(scale + j * R, d * to_float(a & 15));
                store(scale + (j + 1) * R, d * to_float(b & 15));
                *(I32s*)(mins + j / 2 * R) = (a >> 4) | (b >> 4) << 16;
            }
        } else if constexpr (T::kind == Bytes) {
            for (int j = 0; j < T::groups; j++) store(scale + j * R, d * to_float(load_s8(at + j * R)));
        }
    }
};

// Σ code·x8 of steps First to Last - 1 for each of N rows, added to `total`.
template <class T, int N, int First, int Last>
MULL_INLINE void steps(const uint8_t* codes, const int8_t* q, I32s (&total)[N]) {
    each<Last - First>([&](auto step) MULL_INLINE_LAMBDA {
        constexpr int s = First + decltype(step)::value;
        const Codes w = T::value(T::Plane::template code<s>(codes));
        each<N>([&](auto t) MULL_INLINE_LAMBDA {
            const int8_t* x = q + 4 * (s * N + t);
            total[t] = T::is_signed ? dot_signed(total[t], w, x) : dot(total[t], w, x);
        });
    });
}

#ifdef MULL_SHORT_SUMS
// Steps that a sum in 16 bits has room for, two products of at most largest·127 each.
template <class T>
constexpr int short_steps = T::largest <= 16 ? 8 : T::largest <= 32 ? 4 : T::largest <= 64 ? 2 : 1;

// The same by sums in 16 bits, where that is worth it.
template <class T, int N, int First, int Last>
MULL_INLINE void short_or_long_steps(const uint8_t* codes, const int8_t* q, I32s (&total)[N]) {
    constexpr int count = short_steps<T> < Last - First ? short_steps<T> : Last - First;
    if constexpr (count > 1) {
        each<(Last - First) / count>([&](auto part) MULL_INLINE_LAMBDA {
            Words sums[N];
            each<count>([&](auto step) MULL_INLINE_LAMBDA {
                constexpr int s = First + decltype(part)::value * count + decltype(step)::value;
                const Codes w = T::value(T::Plane::template code<s>(codes));
                each<N>([&](auto t) MULL_INLINE_LAMBDA {
                    sums[t] = dot_short(decltype(step)::value ? sums[t] : Words{}, w, q + 4 * (s * N + t));
                });
            });
            each<N>([&](auto t) MULL_INLINE_LAMBDA { total[t] = add_short(total[t], sums[t]); });
        });
    } else {
        steps<T, N, First, Last>(codes, q, total);
    }
}
#else
template <class T, int N, int First, int Last>
MULL_INLINE void short_or_long_steps(const uint8_t* codes, const int8_t* q, I32s (&total)[N]) {
    steps<T, N, First, Last>(codes, q, total);
}
#endif

// Where the whole numbers of a group start: -offset·Σ x8, of what is 2^Ready times that sum.
template <class T, int N, int Ready>
MULL_INLINE void begin(const int32_t* minus, I32s (&total)[N]) {
    constexpr int further = T::offset == kNone ? 0 : T::offset - Ready;
    each<N>([&](auto t) MULL_INLINE_LAMBDA {
        if constexpr (T::offset == kNone) total[t] = ints(0);
        else if constexpr (further >= 0) total[t] = ints(minus[t]) << further;
        else total[t] = ints(minus[t]) >> -further;
    });
}

template <int N>
MULL_INLINE void scale_up(const I32s (&whole)[N], F32s scale, F32s (&sum)[N]) {
    each<N>([&](auto t) MULL_INLINE_LAMBDA { sum[t] = fma(to_float(whole[t]), scale, sum[t]); });
}

// The 32 columns of block `b` of the tile, with one scale or two.
template <class T, int N>
MULL_INLINE void thirty_two(const uint8_t* codes, const float* scale, const Bytes8& x, int64_t b, F32s (&sum)[N]) {
    const int8_t* q = x.q + 32 * b * N;
    I32s whole[N];
    if constexpr (T::group == 32) {
        begin<T, N, 0>(x.minus32 + b * N, whole);
        short_or_long_steps<T, N, 0, 8>(codes, q, whole);
        scale_up<N>(whole, load(scale), sum);
    } else {
        begin<T, N, 5>(x.minus16 + 2 * b * N, whole);
        short_or_long_steps<T, N, 0, 4>(codes, q, whole);
        scale_up<N>(whole, load(scale), sum);
        begin<T, N, 5>(x.minus16 + (2 * b + 1) * N, whole);
        short_or_long_steps<T, N, 4, 8>(codes, q, whole);
        scale_up<N>(whole, load(scale + R), sum);
    }
}

// Fetched: how much of what lies ahead is fetched meanwhile.
template <class T, int N, int Fetched>
MULL_INLINE void two_hundred_fifty_six(const Block<T>& block, const uint8_t* codes, const Bytes8& x, int64_t s, F32s (&sum)[N]) {
    for (int b = 0; b < 8; b++) {
        fetch_ahead<Fetched / 8>(codes + b * (Fetched / 8));
        thirty_two<T, N>(codes + b * T::Plane::bytes, block.scale + b * (32 / T::group) * R, x, 8 * s + b, sum);
    }
    if constexpr (T::mins) {
        constexpr int pairs = T::groups / 2;
        const int16_t* sums = (T::group == 32 ? x.sums32 : x.sums16) + s * pairs * N * 2;
        I32s whole[N];
        each<N>([&](auto t) MULL_INLINE_LAMBDA { whole[t] = ints(0); });
        for (int p = 0; p < pairs; p++)
            each<N>([&](auto t) MULL_INLINE_LAMBDA {
                whole[t] = dot_pairs(whole[t], *(const I32s*)(block.mins + p * R), sums + 2 * (p * N + t));
            });
        scale_up<N>(whole, block.below, sum);
    }
}

// 32 columns of a type of 32, whose activations have a scale for each.
template <class T, int N>
MULL_INLINE void block_of_32(const uint8_t* w, const Bytes8& x, int64_t b, F32s (&sum)[N]) {
    const F32s scale = scale_of<T>(w);
    const float* scales = x.scale + b * N;
    if constexpr (T::mins) {
        const F32s m = load_halves(w + 2 * R);
        each<N>([&](auto t) MULL_INLINE_LAMBDA { sum[t] = fma(m, floats(scales[t] * -float(x.minus32[b * N + t])), sum[t]); });
    }
    fetch_ahead<fetched<N>(T::bytes)>(w);
    I32s whole[N];
    begin<T, N, 0>(x.minus32 + b * N, whole);
    short_or_long_steps<T, N, 0, 8>(w + T::head, x.q + 32 * b * N, whole);
    each<N>([&](auto t) MULL_INLINE_LAMBDA { sum[t] = fma(to_float(whole[t]) * floats(scales[t]), scale, sum[t]); });
}

// One panel times a tile of N rows: R results for each.
template <class T, int N>
void panel_product(const uint8_t* w, int64_t cols, const uint8_t* tile, float* out, int64_t stride) {
    const Bytes8 x(tile, cols, N, T::block);
    F32s total[N];
    each<N>([&](auto t) MULL_INLINE_LAMBDA { total[t] = floats(0); });
    for (int64_t b = 0; b < cols / T::block; b++, w += T::bytes) {
        if constexpr (T::block == 32) {
            block_of_32<T, N>(w, x, b, total);
        } else {
            F32s sum[N];
            each<N>([&](auto t) MULL_INLINE_LAMBDA { sum[t] = floats(0); });
            Block<T> block;
            block.read(w);
            two_hundred_fifty_six<T, N, fetched<N>(T::bytes)>(block, w + T::head + T::scales, x, b, sum);
            each<N>([&](auto t) MULL_INLINE_LAMBDA { total[t] = fma(sum[t], floats(x.scale[b * N + t]), total[t]); });
        }
    }
    each<N>([&](auto t) MULL_INLINE_LAMBDA { store(out + t * stride, total[t]); });
}

// For many rows a panel is opened first: codes become bytes, tables are looked up, scales multiplied out, once for
// all tiles.
template <class T>
struct Opened : T {
    using Plane = Planes<8>;
    static MULL_INLINE Codes value(Codes codes) { return codes; }
};

template <class T>
struct OpenBlock {
    Block<Opened<T>> head;
    alignas(64) uint8_t codes[64 * kWidth];
};

template <class T>
void open_panel(const uint8_t* w, int64_t cols, OpenBlock<T>* out) {
    for (int64_t b = 0; b < cols / 256; b++, w += T::bytes, out++) {
        // What comes from memory a few blocks later: the processor's own fetching ends at each 4 KB.
        for (int i = 0; i < T::bytes; i += 64) __builtin_prefetch(w + 2 * T::bytes + i);
        out->head.read(w);
        for (int i = 0; i < 8; i++)
            each<8>([&](auto step) MULL_INLINE_LAMBDA {
                constexpr int s = decltype(step)::value;
                const Codes codes = T::value(T::Plane::template code<s>(w + T::head + T::scales + i * T::Plane::bytes));
                __builtin_memcpy(out->codes + (8 * i + s) * kWidth, &codes, kWidth);
            });
    }
}

template <class T, int N>
void opened_product(const uint8_t* w, int64_t cols, const uint8_t* tile, float* out, int64_t stride) {
    const Bytes8 x(tile, cols, N, 256);
    const OpenBlock<T>* block = (const OpenBlock<T>*)w;
    F32s total[N];
    each<N>([&](auto t) MULL_INLINE_LAMBDA { total[t] = floats(0); });
    for (int64_t b = 0; b < cols / 256; b++, block++) {
        F32s sum[N];
        each<N>([&](auto t) MULL_INLINE_LAMBDA { sum[t] = floats(0); });
        two_hundred_fifty_six<Opened<T>, N, 0>(block->head, block->codes, x, b, sum);
        each<N>([&](auto t) MULL_INLINE_LAMBDA { total[t] = fma(sum[t], floats(x.scale[b * N + t]), total[t]); });
    }
    each<N>([&](auto t) MULL_INLINE_LAMBDA { store(out + t * stride, total[t]); });
}

// Loops over sums would keep the compiler from holding them in registers.
template <int Sums, int N>
MULL_INLINE void set_zero(F32s (&total)[Sums][N]) {
    each<Sums>([&](auto k) MULL_INLINE_LAMBDA {
        each<N>([&](auto t) MULL_INLINE_LAMBDA { total[k][t] = floats(0); });
    });
}
template <int Sums, int N>
MULL_INLINE void add_up(F32s (&total)[Sums][N]) {
    each<Sums - 1>([&](auto k) MULL_INLINE_LAMBDA {
        each<N>([&](auto t) MULL_INLINE_LAMBDA { total[0][t] += total[k + 1][t]; });
    });
}

// The same for weights in floating point: columns two by two, in float32. There are two sums, as one alone would wait for
// its own last addition; as many for every number of rows, so that a row's result does not depend on the others.
template <int Id, int N>
void panel_product_floats(const uint8_t* w, int64_t cols, const uint8_t* tile, float* out, int64_t stride) {
    constexpr int sums = 2;
    const float* x = (const float*)tile;
    F32s total[sums][N];
    set_zero<sums, N>(total);
    for (int64_t i = 0; i < cols; i += 2 * sums) {
        fetch_ahead<fetched<N>((Id == F32 ? 8 : 4) * R * sums)>(w);
        each<sums>([&](auto k) MULL_INLINE_LAMBDA {
            F32s a, b;
            if constexpr (Id == F32) {
                a = load((const float*)w), b = load((const float*)w + R);
                w += 8 * R;
            } else {
                const I32s pairs = (I32s)load_codes(w);
                if constexpr (Id == BF16) a = from_bits(pairs << 16), b = from_bits(pairs & int32_t(0xffff0000));
                else halves_of_pairs(pairs, a, b);
                w += 4 * R;
            }
            each<N>([&](auto t) MULL_INLINE_LAMBDA {
                total[k][t] = fma(b, floats(x[N + t]), fma(a, floats(x[t]), total[k][t]));
            });
            x += 2 * N;
        });
    }
    add_up<sums, N>(total);
    each<N>([&](auto t) MULL_INLINE_LAMBDA { store(out + t * stride, total[0][t]); });
}

#ifdef MULL_PAIRS
// The same for 16-bit weights, in products of bfloat16.
template <int Id, int N>
void panel_product_pairs(const uint8_t* w, int64_t cols, const uint8_t* tile, float* out, int64_t stride) {
    constexpr int sums = 2;
    F32s total[sums][N];
    set_zero<sums, N>(total);
    for (int64_t i = 0; i < cols; i += 2 * sums) {
        fetch_ahead<fetched<N>(4 * R * sums)>(w);
        each<sums>([&](auto k) MULL_INLINE_LAMBDA {
            I32s pairs = (I32s)load_codes(w);
            if constexpr (Id == F16) pairs = pairs_to_bf16(pairs);
            each<N>([&](auto t) MULL_INLINE_LAMBDA { total[k][t] = dot_bf16(total[k][t], pairs, tile + 4 * t); });
            w += 4 * R, tile += 4 * N;
        });
    }
    add_up<sums, N>(total);
    each<N>([&](auto t) MULL_INLINE_LAMBDA { store(out + t * stride, total[0][t]); });
}
inline bool pairs_form(int type) { return kHasPairs && (type == F16 || type == BF16); }
#else
inline bool pairs_form(int) { return false; }
#endif
