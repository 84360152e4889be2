// The encoders for x86-64 with AVX-512.
#include "target.h"

#include "encode.h"

#if MULL_X86
#include <immintrin.h>

MULL_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")
MULL_NO_CONTRACTION
namespace mull::encode_avx512 {
#include "simd_avx512.h"
#include "encode_rows.h"
}  // namespace mull::encode_avx512
MULL_TARGET_END

namespace mull {
const Encoder avx512_encoder = {encode_avx512::find_encoder, encode_avx512::open_row};
}  // namespace mull
#endif
