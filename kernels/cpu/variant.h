// All kernels of one instruction set. Included inside its namespace and target region, after its simd_*.h.
#include "panels.h"
#include "forms.h"
#include "products.h"
#ifdef MULL_PAIRS
#include "twelve.h"
#endif
#include "multiply.h"
#include "functions.h"
#include "rows.h"
#include "append.h"
#include "attention.h"
#include "pairs.h"
#include "plain.h"

constexpr Isa variant(const char* name, bool (*supported)()) {
    return {name,      R,          supported, panel_bytes, pack_panel, form_of,    form_row_bytes, tile_rows, put_tile, multiply, opened_bytes,
            rms_norm,  add_scaled, rotate,    gate_row,    run_maxima, cap_row,    queries_at_once, append_key, append_value,   attend,    merge,
            plain_scores, plain_weights, plain_values};
}
