// The encoders for x86-64 with AVX2.
#include "target.h"

#include "encode.h"

#if MULL_X86
#include <immintrin.h>

#define MULL_VNNI 0
MULL_TARGET_BEGIN("avx2,fma,f16c")
MULL_NO_CONTRACTION
namespace mull::encode_avx2 {
#include "simd_avx2.h"
#include "encode_rows.h"
}  // namespace mull::encode_avx2
MULL_TARGET_END

namespace mull {
const Encoder avx2_encoder = {encode_avx2::find_encoder, encode_avx2::open_row};
}  // namespace mull
#endif
