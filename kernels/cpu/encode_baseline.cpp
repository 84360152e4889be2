// The encoders for processors without one of the other instruction sets, and for ARM.
#include "target.h"

#include "encode.h"

#if MULL_X86
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define MULL_SDOT 0
MULL_NO_CONTRACTION
namespace mull::encode_portable {
#include "simd_baseline.h"
#include "encode_rows.h"
}  // namespace mull::encode_portable

namespace mull {
const Encoder baseline_encoder = {encode_portable::find_encoder, encode_portable::open_row};
}  // namespace mull
