// Weights as the products read them. A panel holds R rows; R lanes of a register hold one row each, four
// consecutive weights of it per lane. Included inside an instruction set's namespace.
//
//   types of 32:   for every 32 columns:   d [R] binary16 (MXFP4: a byte), m [R] if there are minimums, codes
//   types of 256:  for every 256 columns:  d [R], m [R] if there are minimums, scales, 8 times the codes of 32
//   floats:        for every 2 columns (F32: 1):  R pairs
//
// Codes of 32 columns are eight steps of four columns; their low bits lie in one register's width per two steps
// (4 bits) or per four (2 bits), further bits in planes behind.

constexpr int kWidth = 4 * R;

template <int Bits>
struct Planes;

template <>
struct Planes<8> {
    static constexpr int bytes = 8 * kWidth;
    template <int S>
    static MULL_INLINE Codes code(const uint8_t* p) { return load_codes(p + S * kWidth); }
    static void put(uint32_t* out, const uint32_t* c) {
        for (int s = 0; s < 8; s++) out[s * R] = c[s];
    }
};

MULL_INLINE Codes right(Codes x, int n) { return (Codes)((Words)x >> n); }
MULL_INLINE Codes left(Codes x, int n) { return (Codes)((Words)x << n); }
MULL_INLINE Codes same(uint8_t x) { return (Codes){} + x; }
template <int N>
MULL_INLINE Codes shifted(Codes x) { return N >= 0 ? left(x, N > 0 ? N : 0) : right(x, N < 0 ? -N : 0); }

template <>
struct Planes<4> {
    static constexpr int bytes = 4 * kWidth;
    template <int S>
    static MULL_INLINE Codes code(const uint8_t* p) {
        const Codes both = load_codes(p + S % 4 * kWidth);
        return (S < 4 ? both : right(both, 4)) & same(15);
    }
    static void put(uint32_t* out, const uint32_t* c) {
        for (int s = 0; s < 4; s++) out[s * R] = (c[s] & 0x0f0f0f0f) | (c[s + 4] & 0x0f0f0f0f) << 4;
    }
};

template <>
struct Planes<5> {
    static constexpr int bytes = 5 * kWidth;
    template <int S>
    static MULL_INLINE Codes code(const uint8_t* p) {
        return Planes<4>::code<S>(p) | (shifted<4 - S>(load_codes(p + 4 * kWidth)) & same(16));
    }
    static void put(uint32_t* out, const uint32_t* c) {
        Planes<4>::put(out, c);
        uint32_t high = 0;
        for (int s = 0; s < 8; s++) high |= ((c[s] >> 4) & 0x01010101) << s;
        out[4 * R] = high;
    }
};

template <>
struct Planes<6> {
    static constexpr int bytes = 6 * kWidth;
    template <int S>
    static MULL_INLINE Codes code(const uint8_t* p) {
        const Codes high = load_codes(p + (4 + S % 2) * kWidth);
        return Planes<4>::code<S>(p) | (shifted<4 - S / 2 * 2>(high) & same(48));
    }
    static void put(uint32_t* out, const uint32_t* c) {
        Planes<4>::put(out, c);
        for (int v = 0; v < 2; v++) {
            uint32_t high = 0;
            for (int s = v; s < 8; s += 2) high |= ((c[s] >> 4) & 0x03030303) << s / 2 * 2;
            out[(4 + v) * R] = high;
        }
    }
};

template <>
struct Planes<2> {
    static constexpr int bytes = 2 * kWidth;
    template <int S>
    static MULL_INLINE Codes code(const uint8_t* p) {
        return right(load_codes(p + S % 2 * kWidth), S / 2 * 2) & same(3);
    }
    static void put(uint32_t* out, const uint32_t* c) {
        for (int v = 0; v < 2; v++) {
            uint32_t all = 0;
            for (int s = v; s < 8; s += 2) all |= (c[s] & 0x03030303) << s / 2 * 2;
            out[v * R] = all;
        }
    }
};

template <>
struct Planes<3> {
    static constexpr int bytes = 3 * kWidth;
    template <int S>
    static MULL_INLINE Codes code(const uint8_t* p) {
        return Planes<2>::code<S>(p) | (shifted<2 - S>(load_codes(p + 2 * kWidth)) & same(4));
    }
    static void put(uint32_t* out, const uint32_t* c) {
        Planes<2>::put(out, c);
        uint32_t high = 0;
        for (int s = 0; s < 8; s++) high |= ((c[s] >> 2) & 0x01010101) << s;
        out[2 * R] = high;
    }
};

// What a type's codes stand for: an unsigned number less an offset of 2^n (kNone: less nothing), or a signed one.
constexpr int kNone = -1;
enum Scales { Own, SixBits, Nibbles, Bytes };  // of types of 256: 6 bits and minimums, 4 and minimums, 8 signed

// A type: its planes, columns that share a scale, its scales, log2 of its offset.
template <int Id, void (*Take)(const uint8_t*, Parts&), int Block, int Bits, int Group, Scales Kind, int Offset, bool Mins = false>
struct Quantized {
    using Plane = Planes<Bits>;
    static constexpr int id = Id, block = Block, group = Group, groups = Block / Group;
    static constexpr Scales kind = Kind;
    static constexpr bool mins = Mins, is_signed = false;
    static constexpr int offset = Offset, largest = (1 << Bits) - 1;  // of the codes
    static constexpr float unit = 1.0f;  // what d is multiplied by
    static constexpr bool exponent = Id == MXFP4;
    static void take(const uint8_t* p, Parts& out) { Take(p, out); }
    static MULL_INLINE Codes value(Codes codes) { return codes; }

    static constexpr int head = exponent ? R : (Mins ? 4 : 2) * R;
    static constexpr int scales = Kind == Own ? 0 : Kind == SixBits ? 12 * R : groups * R;
    static constexpr int bytes = head + scales + Block / 32 * Plane::bytes;  // of one block of the panel
};

// What is added to a table's signed values to have codes of at most 127, or kBias.
constexpr int bias_of(const int8_t* table) {
    int most = 0;
    for (int i = 0; i < 16; i++) most = table[i] > most ? table[i] : -table[i] > most ? -table[i] : most;
    return most <= 16 ? 16 : most <= 64 ? 64 : kBias;
}

// The same with a table of signed values.
template <int Id, void (*Take)(const uint8_t*, Parts&), int Block, int Bits, int Group, Scales Kind, const int8_t* Table, int Bias = bias_of(Table)>
struct Coded : Quantized<Id, Take, Block, Bits, Group, Kind, Bias == 16 ? 4 : Bias == 64 ? 6 : Bias ? 7 : kNone> {
    static constexpr bool is_signed = Bias == kBias;
    static constexpr int largest = Bias ? 2 * Bias - 1 : 255;
    static constexpr float unit = Id == IQ2_XS ? 0.125f : Id == MXFP4 ? 0.5f : 1.0f;
    struct Values {
        alignas(16) uint8_t v[16];
        constexpr Values() : v() {
            for (int i = 0; i < 16; i++) v[i] = uint8_t(Table[i] + Bias);
        }
    };
    static constexpr Values values{};
    static MULL_INLINE Codes value(Codes codes) { return look_up(codes, values.v); }
};

inline void take_q8_0_biased(const uint8_t* p, Parts& out) {
    take_q8_0(p, out);
    for (int i = 0; i < 32; i++) out.code[i] = uint8_t(out.code[i] + kBias);
}

struct TypeQ8_0 : Quantized<Q8_0, take_q8_0_biased, 32, 8, 32, Own, kBias ? 7 : kNone> {
    static constexpr bool is_signed = true;
    static constexpr int largest = 255;
};
using TypeQ4_0 = Quantized<Q4_0, take_q4_0, 32, 4, 32, Own, 3>;
using TypeQ4_1 = Quantized<Q4_1, take_q4_1, 32, 4, 32, Own, kNone, true>;
using TypeQ5_0 = Quantized<Q5_0, take_q5_0, 32, 5, 32, Own, 4>;
using TypeQ5_1 = Quantized<Q5_1, take_q5_1, 32, 5, 32, Own, kNone, true>;
using TypeQ2_K = Quantized<Q2_K, take_q2_k, 256, 2, 16, Nibbles, kNone, true>;
using TypeQ3_K = Quantized<Q3_K, take_q3_k, 256, 3, 16, Bytes, 2>;
using TypeQ4_K = Quantized<Q4_K, take_q4_k, 256, 4, 32, SixBits, kNone, true>;
using TypeQ5_K = Quantized<Q5_K, take_q5_k, 256, 5, 32, SixBits, kNone, true>;
using TypeQ6_K = Quantized<Q6_K, take_q6_k, 256, 6, 16, Bytes, 5>;
using TypeIQ4_NL = Coded<IQ4_NL, take_q4_0, 32, 4, 32, Own, kValuesIQ4>;
using TypeIQ4_XS = Coded<IQ4_XS, take_iq4_xs, 256, 4, 32, Bytes, kValuesIQ4>;
using TypeIQ3_S = Coded<IQ3_S, take_iq3_s, 256, 4, 32, Bytes, kValuesIQ3>;
using TypeIQ2_XS = Coded<IQ2_XS, take_iq2_xs, 256, 3, 16, Bytes, kValuesIQ2>;
using TypeMXFP4 = Coded<MXFP4, take_mxfp4, 32, 4, 32, Own, kValuesMXFP4>;
using TypeNF4 = Coded<NF4, take_q4_0, 32, 4, 32, Own, kValuesNF4>;
using TypeFP4 = Coded<FP4, take_q4_0, 32, 4, 32, Own, kValuesFP4>;

// Call visitor.template visit<TypeX>() for a quantized type; false for others.
template <class Visitor>
bool with_type(int type, Visitor&& visitor) {
    switch (type) {
        case Q4_0: visitor.template visit<TypeQ4_0>(); return true;
        case Q4_1: visitor.template visit<TypeQ4_1>(); return true;
        case Q5_0: visitor.template visit<TypeQ5_0>(); return true;
        case Q5_1: visitor.template visit<TypeQ5_1>(); return true;
        case Q8_0: visitor.template visit<TypeQ8_0>(); return true;
        case Q2_K: visitor.template visit<TypeQ2_K>(); return true;
        case Q3_K: visitor.template visit<TypeQ3_K>(); return true;
        case Q4_K: visitor.template visit<TypeQ4_K>(); return true;
        case Q5_K: visitor.template visit<TypeQ5_K>(); return true;
        case Q6_K: visitor.template visit<TypeQ6_K>(); return true;
        case IQ4_NL: visitor.template visit<TypeIQ4_NL>(); return true;
        case IQ4_XS: visitor.template visit<TypeIQ4_XS>(); return true;
        case IQ3_S: visitor.template visit<TypeIQ3_S>(); return true;
        case IQ2_XS: visitor.template visit<TypeIQ2_XS>(); return true;
        case MXFP4: visitor.template visit<TypeMXFP4>(); return true;
        case NF4: visitor.template visit<TypeNF4>(); return true;
        case FP4: visitor.template visit<TypeFP4>(); return true;
        default: return false;
    }
}

// Six-bit scales and minimums of R rows: eight times R bytes with a scale's and a minimum's low four bits, then
// four times R bytes with the high two bits of blocks j and j + 4.
inline void put_six_bits(uint8_t* out, int row, const Parts& parts) {
    for (int j = 0; j < 8; j++) out[j * R + row] = uint8_t((parts.scale[j] & 15) | (parts.min[j] & 15) << 4);
    for (int j = 0; j < 4; j++)
        out[(8 + j) * R + row] = uint8_t(parts.scale[j] >> 4 | parts.min[j] >> 4 << 2 | parts.scale[j + 4] >> 4 << 4 |
                                         parts.min[j + 4] >> 4 << 6);
}

template <class T>
void put_scales(uint8_t* out, int row, const Parts& parts) {
    if (T::kind == SixBits) put_six_bits(out, row, parts);
    if (T::kind == Nibbles)
        for (int j = 0; j < T::groups; j++) out[j * R + row] = uint8_t(parts.scale[j] | parts.min[j] << 4);
    if (T::kind == Bytes)
        for (int j = 0; j < T::groups; j++) out[j * R + row] = parts.scale[j];
}

// Pack one block of one row of a panel. Rows beyond the matrix are never packed: their bytes stay zero.
template <class T>
void pack_block(const uint8_t* block, int row, uint8_t* panel) {
    Parts parts;
    T::take(block, parts);
    if (T::exponent) {
        panel[row] = uint8_t(parts.d);
    } else {
        __builtin_memcpy(panel + 2 * row, &parts.d, 2);
        if (T::mins) __builtin_memcpy(panel + 2 * R + 2 * row, &parts.m, 2);
    }
    put_scales<T>(panel + T::head, row, parts);
    for (int g = 0; g < T::block / 32; g++) {
        uint32_t codes[8];
        __builtin_memcpy(codes, parts.code + 32 * g, 32);
        T::Plane::put((uint32_t*)(panel + T::head + T::scales + g * T::Plane::bytes) + row, codes);
    }
}

// Pack the first `count` rows of a panel, block by block so that what is written stays in the cache.
template <class T>
void pack_rows(const uint8_t* weights, int64_t row_bytes, int64_t cols, int count, uint8_t* panel) {
    for (int64_t b = 0; b < cols / T::block; b++, panel += T::bytes)
        for (int row = 0; row < count; row++)
            pack_block<T>(weights + row * row_bytes + b * block_bytes(T::id), row, panel);
}

// Four bytes of each of two rows after one another, 64 bytes of both: a line of the cache is read only once, though
// rows are often a power of two apart and fall on the same few places in it.
inline void interleave(const uint8_t* row, const uint8_t* next, uint8_t* out) {
    constexpr uint64_t low = 0xffffffffu;
    for (int at = 0; at < 64; at += 8) {
        uint64_t a, b = 0;
        __builtin_memcpy(&a, row + at, 8);
        if (next) __builtin_memcpy(&b, next + at, 8);
        const uint64_t first = (a & low) | b << 32, second = a >> 32 | (b & ~low);
        __builtin_memcpy(out + at * R, &first, 8);
        __builtin_memcpy(out + (at + 4) * R, &second, 8);
    }
}

// The same for all rows of a panel: 64 · R bytes.
inline void interleave_rows(const uint8_t* weights, int64_t row_bytes, int64_t at, int count, uint8_t* out) {
    for (int row = 0; row < count; row += 2) {
        const uint8_t* from = weights + row * row_bytes + at;
        interleave(from, row + 1 < count ? from + row_bytes : nullptr, out + 4 * row);
    }
}

// Floats: pairs of 16-bit numbers, or single ones of 32; all are four bytes.
inline void pack_floats(const uint8_t* weights, int64_t row_bytes, int count, uint8_t* panel) {
    for (int64_t at = 0; at < row_bytes; at += 64) interleave_rows(weights, row_bytes, at, count, panel + at * R);
}
