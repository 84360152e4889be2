// Which kernel multiplies a type's panels with a tile, and matrices of any size by them; packing by type. Included inside
// an instruction set's namespace, after products.h.

using PanelProduct = void (*)(const uint8_t* w, int64_t cols, const uint8_t* tile, float* out, int64_t stride);

template <template <int> class Pick>
PanelProduct for_rows(int n) {
    switch (n) {
        case 12: if constexpr (kMostRows >= 12) return Pick<12>::product; else return nullptr;
        case 8: if constexpr (kMostRows >= 8) return Pick<8>::product; else return nullptr;
        case 6: if constexpr (kMostRows >= 6) return Pick<6>::product; else return nullptr;
        case 4: return Pick<4>::product;
        case 3: return Pick<3>::product;
        case 2: return Pick<2>::product;
        default: return Pick<1>::product;
    }
}

template <class T>
struct Whole {
    template <int N>
    struct Pick { static constexpr PanelProduct product = panel_product<T, N>; };
};
template <int Id>
struct Floating {
    template <int N>
    struct Pick { static constexpr PanelProduct product = panel_product_floats<Id, N>; };
};

#ifdef MULL_PAIRS
template <int N>
struct Pairs { static constexpr PanelProduct product = panel_product_pairs<F16, N>; };
template <int N>
struct Twelve { static constexpr PanelProduct product = panel_product_twelve<N>; };
template <int N>
struct Widened { static constexpr PanelProduct product = widened_product<N>; };
inline PanelProduct find_pairs_product(int type, int rows) {
    return type == F16 ? for_rows<Pairs>(rows) : for_rows<Twelve>(rows);
}
inline PanelProduct find_widened_product(int rows) { return for_rows<Widened>(rows); }
inline bool is_twelve(int type) { return type == BF16 && pairs_form(type); }
#else
inline PanelProduct find_pairs_product(int, int) { return nullptr; }
inline PanelProduct find_widened_product(int) { return nullptr; }
inline bool is_twelve(int) { return false; }
inline int64_t wide_bytes(int64_t) { return 0; }
inline int64_t twelve_bytes(int64_t) { return 0; }
inline int64_t widened_bytes(int64_t) { return 0; }
inline void widen_panel(const uint8_t*, int64_t, uint8_t*) {}
inline bool pack_twelve(const uint8_t*, int64_t, int, uint8_t*, uint8_t*) { return false; }
#endif

template <class T>
struct Open {
    template <int N>
    struct Pick { static constexpr PanelProduct product = opened_product<T, N>; };
};

struct FindProduct {
    int rows;
    PanelProduct found = nullptr;
    template <class T>
    void visit() { found = for_rows<Whole<T>::template Pick>(rows); }
};

struct FindOpened {
    int rows;
    PanelProduct found = nullptr;
    template <class T>
    void visit() {
        if constexpr (T::block == 256) found = for_rows<Open<T>::template Pick>(rows);
    }
};

// Opens panels of types of 256, one after the other; bytes is 0 for other types.
struct OpenPanels {
    const uint8_t* panels;
    int64_t cols, count;
    uint8_t* out;
    int64_t bytes = 0;
    template <class T>
    void visit() {
        if constexpr (T::block == 256) {
            bytes = cols / 256 * int64_t(sizeof(OpenBlock<T>));
            for (int64_t p = 0; out && p < count; p++)
                open_panel<T>(panels + p * (cols / 256 * T::bytes), cols, (OpenBlock<T>*)(out + p * bytes));
        }
    }
};

// The same for all types: bytes of an opened panel, 0 for those that are multiplied as they are packed.
inline int64_t open_panels(int type, const uint8_t* panels, int64_t cols, int64_t count, uint8_t* out) {
    if (is_twelve(type)) {
        for (int64_t p = 0; out && p < count; p++)
            widen_panel(panels + p * twelve_bytes(cols), cols, out + p * widened_bytes(cols));
        return widened_bytes(cols);
    }
    OpenPanels open{panels, cols, count, out};
    with_type(type, open);
    return open.bytes;
}
inline int64_t opened_bytes(int type, int64_t cols) { return open_panels(type, nullptr, cols, 0, nullptr); }

// The kernel for opened panels of a type and a tile's rows.
inline PanelProduct find_opened(int type, int rows) {
    if (is_twelve(type)) return find_widened_product(rows);
    FindOpened find{rows};
    with_type(type, find);
    return find.found;
}

// The kernel for a type and a tile's rows; null for a type without one.
inline PanelProduct find_product(int type, int rows) {
    FindProduct find{rows};
    if (with_type(type, find)) return find.found;
    if (pairs_form(type)) return find_pairs_product(type, rows);
    switch (type) {
        case F32: return for_rows<Floating<F32>::Pick>(rows);
        case F16: return for_rows<Floating<F16>::Pick>(rows);
        case BF16: return for_rows<Floating<BF16>::Pick>(rows);
        default: return nullptr;
    }
}

struct FindBytes {
    int64_t cols, bytes = 0;
    template <class T>
    void visit() { bytes = cols % T::block ? -1 : cols / T::block * T::bytes; }
};

// Bytes of a panel, or -1 where this type and these columns cannot be packed.
inline int64_t panel_bytes(int type, int64_t cols) {
    FindBytes find{cols};
    if (cols <= 0 || cols % 32) return -1;
    if (with_type(type, find)) return find.bytes;
    if (type == F32) return 4 * R * cols;
    if (is_twelve(type)) return twelve_bytes(cols);
    return type == F16 || type == BF16 ? 2 * R * cols : -1;
}

struct PackRows {
    const uint8_t* weights;
    int64_t row_bytes, cols;
    int count;
    uint8_t* panel;
    template <class T>
    void visit() { pack_rows<T>(weights, row_bytes, cols, count, panel); }
};

// Pack panel `index` of a matrix, whose rows follow one another; wide: 2 · R · cols bytes that the panel may need besides.
// False if it needs them and they are missing.
inline bool pack_panel(int type, const uint8_t* weights, int64_t rows, int64_t cols, int64_t index, uint8_t* panel,
                       uint8_t* wide) {
    const int64_t row_bytes = cols / block_weights(type) * block_bytes(type), left = rows - index * R;
    const int count = int(left < R ? left : R);
    PackRows pack{weights + index * R * row_bytes, row_bytes, cols, count, panel};
    if (is_twelve(type)) return pack_twelve(pack.weights, row_bytes, count, panel, wide);
    if (!with_type(type, pack)) pack_floats(pack.weights, row_bytes, count, panel);
    return true;
}

inline int form_of(int type) {
    if (block_weights(type) > 1) return block_weights(type) == 256 ? kBytes256 : kBytes32;
    return pairs_form(type) ? kPairs : kSingles;
}

// One tile of n rows times `count` panels that begin at row 16 · first of the matrix.
inline void multiply_tile(PanelProduct product, const uint8_t* panels, int64_t bytes, int64_t rows, int64_t cols, int64_t first,
                          int64_t last, const uint8_t* tile, int64_t n, const float* bias, float* y, int64_t y_stride) {
    for (int64_t p = first; p < last; p++, panels += bytes) {
        float* out = y + p * R;
        const int64_t count = rows - p * R < R ? rows - p * R : R;
        alignas(64) float partial[kMostRows * R];
        const bool whole = count == R;
        product(panels, cols, tile, whole ? out : partial, whole ? y_stride : R);
        for (int64_t i = 0; i < n; i++) {
            if (!whole) __builtin_memcpy(out + i * y_stride, partial + i * R, size_t(4 * count));
            for (int64_t r = 0; bias && r < count; r++) out[i * y_stride + r] += bias[p * R + r];
        }
    }
}

// y [m, rows], `y_stride` apart, of panels first to last - 1; x: all tiles of m rows; opened: memory for as many opened
// panels, or null.
inline void multiply(int type, const uint8_t* panels, int64_t rows, int64_t cols, int64_t first, int64_t last,
                     const uint8_t* x, int64_t m, const float* bias, float* y, int64_t y_stride, uint8_t* opened) {
    const int64_t tile_row = form_row_bytes(form_of(type), cols);
    int64_t bytes = panel_bytes(type, cols);
    panels += first * bytes;
    if (opened) {
        bytes = open_panels(type, panels, cols, last - first, opened);
        panels = opened;
    }
    for (int64_t t = 0, n; t < m; t += n) {
        n = tile_rows(m - t);
        const PanelProduct product = opened ? find_opened(type, int(n)) : find_product(type, int(n));
        multiply_tile(product, panels, bytes, rows, cols, first, last, x + t * tile_row, n, bias, y + t * y_stride, y_stride);
    }
}
