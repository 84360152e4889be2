// The search for points of a codebook, by which IQ2 and IQ3 are encoded. Included inside an instruction set's
// namespace, after its simd_*.h.
//
// A part of a group, 4 or 8 weights, becomes a point g of the codebook times the group's scale s. Signs taken away, its
// error is
//     Σ w (x - s g)²  =  Σ w x²  +  s (s q + p),     p = -2 Σ w x g,   q = Σ w g²
// so with p and q worked out once, each point is a line in s, and the lowest line is the nearest point. The points that
// are lowest somewhere in a range of scales make a short list; every scale of that range is then tried on it alone.

// Scales that are tried at once: as many as there are codes of a group's scale.
constexpr int kScales = 16;
// A short list holds the range's ends and what is lowest at kScales scales between them.
constexpr int kMostPoints = kScales + 2;
constexpr int kMostCandidates = 256;

constexpr uint8_t kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Points are chosen by p and q; scales by full_p and full_q, where columns weigh as much as their importance says.
struct ShortList {
    int count;
    uint16_t point[kMostPoints];
    float p[kMostPoints], q[kMostPoints], full_p[kMostPoints], full_q[kMostPoints];
};

// The weights of one part: its magnitudes (negative where a sign had to be changed) and what their errors weigh.
struct Part {
    const float *x, *w, *full_w;
};

// The lowest line so far, lane by lane.
struct Lowest {
    F32s value;
    I32s point;

    MULL_INLINE void take(F32s now, I32s points) {
        point = now < value ? points : point;  // compilers make more of this than of choose()
        value = smaller(now, value);
    }
    MULL_INLINE int of_all() const {
        const uint32_t lanes = lanes_of((I32s)(value == floats(-largest(-value))));
        return point[lanes ? __builtin_ctz(lanes) : 0];
    }
};

template <int DIMS>
inline void add_point(const PointTable& table, const Part& part, int point, float p, float q, ShortList& list) {
    float full_p = 0, full_q = 0;
    for (int i = 0; i < DIMS; i++) {
        const float value = table.values[i * table.count + point], weighed = part.full_w[i] * value;
        full_p += weighed * part.x[i], full_q += weighed * value;
    }
    list.point[list.count] = uint16_t(point);
    list.p[list.count] = p, list.q[list.count] = q;
    list.full_p[list.count] = -2 * full_p, list.full_q[list.count++] = full_q;
}

// The lines of all points, and those that are lowest at two scales.
template <int DIMS>
MULL_INLINE void draw_lines(const PointTable& table, const Part& part, float least, float most, float* ps, float* qs,
                            int& first, int& last) {
    Lowest at_least{floats(INFINITY), ints(0)}, at_most = at_least;
    F32s weight[DIMS], twice[DIMS];
    for (int i = 0; i < DIMS; i++) weight[i] = floats(part.w[i]), twice[i] = floats(-2 * part.w[i] * part.x[i]);
    I32s points = load_u8(kLanes);
    for (int at = 0; at < table.count; at += R, points += R) {
        F32s p = floats(0), q = p;
        for (int i = 0; i < DIMS; i++) {
            const F32s value = load(table.values + i * table.count + at);
            p = fma(value, twice[i], p);
            q = fma(value * weight[i], value, q);
        }
        store(ps + at, p), store(qs + at, q);
        at_least.take(fma(floats(least), q, p), points), at_most.take(fma(floats(most), q, p), points);
    }
    first = at_least.of_all(), last = at_most.of_all();
}

// The points that are nearest at some scale from `least` to `most`.
template <int DIMS>
inline void find_points(const PointTable& table, const Part& part, float least, float most, ShortList& list) {
    alignas(64) float ps[kMostTable], qs[kMostTable];
    int first, last;
    draw_lines<DIMS>(table, part, least, most, ps, qs, first, last);
    list.count = 0;
    add_point<DIMS>(table, part, first, ps[first], qs[first], list);
    if (first == last) return;

    // Where these two cross, any other that is lowest somewhere between is lower than both.
    uint16_t found[kMostCandidates];
    int count = 0;
    const float across = (ps[last] - ps[first]) / (qs[first] - qs[last]), bound = across * qs[first] + ps[first];
    for (int at = 0; at < table.count; at += R) {
        uint32_t lanes = lanes_of((I32s)(fma(floats(across), load(qs + at), load(ps + at)) < floats(bound)));
        for (; lanes && count < kMostCandidates; lanes &= lanes - 1)
            found[count++] = uint16_t(at + __builtin_ctz(lanes));
    }

    alignas(64) int32_t winners[kScales];
    const float step = (most - least) / (kScales + 1);
    for (int at = 0; at < kScales; at += R) {
        const F32s scale = fma(to_float(load_u8(kLanes + at)), floats(step), floats(least + step));
        Lowest lowest{fma(scale, floats(qs[first]), floats(ps[first])), ints(first)};
        lowest.take(fma(scale, floats(qs[last]), floats(ps[last])), ints(last));
        for (int j = 0; j < count; j++)
            lowest.take(fma(scale, floats(qs[found[j]]), floats(ps[found[j]])), ints(found[j]));
        __builtin_memcpy(winners + at, &lowest.point, sizeof lowest.point);
    }
    int previous = first;
    for (int i = 0; i < kScales; i++) {
        const int point = winners[i];
        if (point == previous || point == last) continue;
        previous = point;
        add_point<DIMS>(table, part, point, ps[point], qs[point], list);
    }
    add_point<DIMS>(table, part, last, ps[last], qs[last], list);
}

// For kScales scales, the sums over a group's parts of full_p and full_q of each part's best point.
struct Sums {
    alignas(64) float p[kScales], q[kScales];
};

inline void sum_best(const ShortList* parts, int num_parts, const float* scales, Sums& sums) {
    for (int at = 0; at < kScales; at += R) {
        const F32s scale = load(scales + at);
        F32s sum_p = floats(0), sum_q = sum_p;
        for (int k = 0; k < num_parts; k++) {
            const ShortList& list = parts[k];
            F32s p = floats(list.full_p[0]), q = floats(list.full_q[0]);
            F32s lowest = fma(scale, floats(list.q[0]), floats(list.p[0]));
            for (int j = 1; j < list.count; j++) {
                const F32s now = fma(scale, floats(list.q[j]), floats(list.p[j]));
                p = now < lowest ? floats(list.full_p[j]) : p, q = now < lowest ? floats(list.full_q[j]) : q;
                lowest = smaller(now, lowest);
            }
            sum_p += p, sum_q += q;
        }
        store(sums.p + at, sum_p), store(sums.q + at, sum_q);
    }
}

// The best point of a part at one scale.
inline int best_point(const ShortList& list, float scale) {
    int best = 0;
    for (int j = 1; j < list.count; j++)
        if (scale * list.q[j] + list.p[j] < scale * list.q[best] + list.p[best]) best = j;
    return list.point[best];
}
