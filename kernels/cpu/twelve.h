// Weights in bfloat16, kept in 12 bits. Nothing is lost: exponents have little to say, as nearly all weights of a matrix lie
// within a factor of 2^15 of one another (what DFloat11 does by entropy coding, arXiv 2504.11651, in codes of fixed width).
// Included inside the namespace of an instruction set with products of bfloat16, after products.h.
//
// A weight keeps its sign, the 7 bits of its fraction, and how far its exponent lies below the panel's highest: 0 to 14; 15
// stands for the exponent 0, of zero and of numbers below 2^-126. The few other weights count as zero and lie apart. A
// panel that has too many of those lies elsewhere, in 16 bits.
//
//   TwelveHead;  for every 8 columns:  sign and fraction [2][64], two codes in each of [64];  Other [cols / 32]

struct alignas(16) TwelveHead {
    uint8_t high[16], low[16];  // a code's exponent: bits 1 to 7, and bit 0 shifted up by 7
    const uint8_t* wide;        // the panel in 16 bits; null where it is here
    int32_t others;
    int32_t unused[5];
};

struct Other {
    uint32_t place;  // column · R + row
    float weight;
};

constexpr int kTwelveStep = 3 * kWidth;  // of 8 columns
constexpr int kCodeOfZero = 15;

inline int64_t wide_bytes(int64_t cols) { return 2 * R * cols; }
inline int64_t twelve_bytes(int64_t cols) {
    const int64_t bytes = int64_t(sizeof(TwelveHead)) + cols / 8 * kTwelveStep + cols / 32 * int64_t(sizeof(Other));
    return (bytes + 63) / 64 * 64;
}
inline const Other* others_of(const uint8_t* panel, int64_t cols) {
    return (const Other*)(panel + sizeof(TwelveHead) + cols / 8 * kTwelveStep);
}

// Columns 4·S to 4·S + 3 of eight, two by two as bfloat16.
template <int S>
MULL_INLINE void widen(const uint8_t* p, const TwelveHead& head, I32s& a, I32s& b) {
    const Codes bytes = load_codes(p + S * kWidth), both = load_codes(p + 2 * kWidth);
    const Codes code = (S ? right(both, 4) : both) & same(15);
    const Codes high = (bytes & same(128)) | look_up(code, head.high), low = (bytes & same(127)) | look_up(code, head.low);
    a = weave_low(low, high), b = weave_high(low, high);
}

// Store R results for each of N rows, and before that add the products of the weights that lie apart. Not afterwards: rows
// of results are often a power of two apart, and fall on the same few places of the cache.
template <int N>
MULL_INLINE void store_with_others(float (&part)[N * R], const Other* others, int32_t count, const uint8_t* tile, float* out,
                                   int64_t stride) {
    for (const Other* other = others; other < others + count; other++) {
        const uint8_t* x = tile + 4 * N * (other->place / R / 2) + 2 * (other->place / R % 2);
        float* sums = part + other->place % R;
        for (int t = 0; t < N; t++) {
            uint16_t half;
            __builtin_memcpy(&half, x + 4 * t, 2);
            const uint32_t bits = uint32_t(half) << 16;
            float value;
            __builtin_memcpy(&value, &bits, 4);
            sums[t * R] = __builtin_fmaf(other->weight, value, sums[t * R]);
        }
    }
    each<N>([&](auto t) MULL_INLINE_LAMBDA { store(out + t * stride, load(part + t * R)); });
}

// One panel times a tile of N rows, bit by bit what panel_product_pairs has but for the weights that lie apart.
template <int N>
void panel_product_twelve(const uint8_t* w, int64_t cols, const uint8_t* tile, float* out, int64_t stride) {
    const TwelveHead& head = *(const TwelveHead*)w;
    if (head.wide) return panel_product_pairs<BF16, N>(head.wide, cols, tile, out, stride);
    const uint8_t *p = w + sizeof(TwelveHead), *x = tile;
    F32s total[2][N];
    set_zero<2, N>(total);
    for (int64_t i = 0; i < cols; i += 8, p += kTwelveStep) {
        fetch_ahead<fetched<N>(kTwelveStep)>(p);
        each<2>([&](auto half) MULL_INLINE_LAMBDA {
            I32s pairs[2];
            widen<decltype(half)::value>(p, head, pairs[0], pairs[1]);
            each<2>([&](auto k) MULL_INLINE_LAMBDA {
                each<N>([&](auto t) MULL_INLINE_LAMBDA { total[k][t] = dot_bf16(total[k][t], pairs[k], x + 4 * t); });
                x += 4 * N;
            });
        });
    }
    add_up<2, N>(total);
    alignas(64) float part[N * R];
    each<N>([&](auto t) MULL_INLINE_LAMBDA { store(part + t * R, total[0][t]); });
    store_with_others<N>(part, others_of(w, cols), head.others, tile, out, stride);
}

// For many rows a panel is widened first: its head, the pairs, the weights that lie apart.
inline int64_t widened_bytes(int64_t cols) {
    return int64_t(sizeof(TwelveHead)) + wide_bytes(cols) + (cols / 32 * int64_t(sizeof(Other)) + 63) / 64 * 64;
}

inline void widen_panel(const uint8_t* w, int64_t cols, uint8_t* out) {
    const TwelveHead& head = *(const TwelveHead*)w;
    __builtin_memcpy(out, w, sizeof(TwelveHead));
    if (head.wide) return;
    const uint8_t* p = w + sizeof(TwelveHead);
    out += sizeof(TwelveHead);
    for (int64_t i = 0; i < cols; i += 8, p += kTwelveStep) {
        // The processor's own fetching ends at each 4 KB.
        for (int line = 0; line < kTwelveStep; line += 64) __builtin_prefetch(p + (4 << 10) + line);
        each<2>([&](auto half) MULL_INLINE_LAMBDA {
            I32s pairs[2];
            widen<decltype(half)::value>(p, head, pairs[0], pairs[1]);
            __builtin_memcpy(out, pairs, 2 * kWidth);
            out += 2 * kWidth;
        });
    }
    __builtin_memcpy(out, others_of(w, cols), size_t(head.others) * sizeof(Other));
}

template <int N>
void widened_product(const uint8_t* w, int64_t cols, const uint8_t* tile, float* out, int64_t stride) {
    const TwelveHead& head = *(const TwelveHead*)w;
    const uint8_t* pairs = head.wide ? head.wide : w + sizeof(TwelveHead);
    alignas(64) float part[N * R];
    panel_product_pairs<BF16, N>(pairs, cols, tile, part, R);
    store_with_others<N>(part, (const Other*)(pairs + wide_bytes(cols)), head.others, tile, out, stride);
}

MULL_INLINE Words exponents(Words x) { return (x >> 7) & 255; }

// The highest exponent of `count` rows.
inline int highest_exponent(const uint8_t* weights, int64_t row_bytes, int count) {
    Words most = {};
    for (int row = 0; row < count; row++)
        for (int64_t at = 0; at < row_bytes; at += 64) {
            const Words x = (Words)load_codes(weights + row * row_bytes + at) & 0x7fff;
            most = x > most ? x : most;
        }
    int highest = 0;
    for (int i = 0; i < 2 * R; i++) highest = most[i] > highest ? most[i] : highest;
    return highest >> 7;
}

// The exponent below and at which 15 leave the fewest weights apart.
inline int best_exponent(const uint8_t* weights, int64_t row_bytes, int count) {
    int64_t seen[256] = {}, most = -1, now = 0;
    int best = 0;
    for (int64_t at = 0; at < count * row_bytes; at += 2) {
        uint16_t x;
        __builtin_memcpy(&x, weights + at, 2);
        seen[x >> 7 & 255]++;
    }
    for (int top = 1; top < 256; top++) {
        now += seen[top] - (top > kCodeOfZero ? seen[top - kCodeOfZero] : 0);
        if (now > most) most = now, best = top;
    }
    return best;
}

// Pack the first `count` rows of a panel below an exponent; false if too many weights would lie apart.
inline bool pack_below(int top, const uint8_t* weights, int64_t row_bytes, int count, uint8_t* panel) {
    const int64_t cols = row_bytes / 2;
    TwelveHead head = {};
    for (int code = 0; code < kCodeOfZero && code < top; code++)
        head.high[code] = uint8_t((top - code) >> 1), head.low[code] = uint8_t((top - code) << 7);
    uint8_t* p = panel + sizeof(TwelveHead);
    Other* others = (Other*)others_of(panel, cols);
    for (int64_t at = 0; at < row_bytes; at += 64) {  // 32 columns
        alignas(64) uint8_t pairs[16 * kWidth] = {};
        interleave_rows(weights, row_bytes, at, count, pairs);
        for (int eight = 0; eight < 4; eight++, p += kTwelveStep) {
            Codes codes[2];
            for (int s = 0; s < 2; s++) {
                Words bytes[2], below[2];
                for (int k = 0; k < 2; k++) {
                    const int pair = 4 * eight + 2 * s + k;
                    Words x = (Words)load_codes(pairs + pair * kWidth);
                    const Words e = exponents(x), depth = uint16_t(top) - e;
                    const Words apart = (Words)((depth > kCodeOfZero - 1) & (e != 0));
                    if (lanes_of((I32s)apart | (I32s)apart << 16)) {
                        for (int i = 0; i < 2 * R; i++) {
                            if (!apart[i]) continue;
                            if (head.others == cols / 32) return false;
                            const uint32_t bits = uint32_t(x[i]) << 16, col = uint32_t(at / 2 + 2 * pair + i % 2);
                            Other& other = others[head.others++];
                            other.place = col * R + uint32_t(i / 2);
                            __builtin_memcpy(&other.weight, &bits, 4);
                        }
                        x &= ~apart;
                    }
                    bytes[k] = (x >> 8 & 128) | (x & 127);
                    below[k] = exponents(x) == 0 ? Words{} + uint16_t(kCodeOfZero) : depth;
                }
                const Codes packed = narrow(bytes[0], bytes[1]);
                __builtin_memcpy(p + s * kWidth, &packed, kWidth);
                codes[s] = narrow(below[0], below[1]);
            }
            const Codes both = codes[0] | left(codes[1], 4);
            __builtin_memcpy(p + 2 * kWidth, &both, kWidth);
        }
    }
    __builtin_memcpy(panel, &head, sizeof head);
    return true;
}

// Pack the first `count` rows of a panel; wide: memory for them in 16 bits, or null. False if that is wanted and missing.
inline bool pack_twelve(const uint8_t* weights, int64_t row_bytes, int count, uint8_t* panel, uint8_t* wide) {
    if (pack_below(highest_exponent(weights, row_bytes, count), weights, row_bytes, count, panel)) return true;
    if (pack_below(best_exponent(weights, row_bytes, count), weights, row_bytes, count, panel)) return true;
    if (!wide) return false;
    pack_floats(weights, row_bytes, count, wide);
    TwelveHead head = {};
    head.wide = wide;
    __builtin_memcpy(panel, &head, sizeof head);
    return true;
}
