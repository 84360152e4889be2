// The kernels for x86-64 with AVX-512 and VNNI; products in bfloat16 where the processor has them.
#include "target.h"

#if MULL_X86
#include <immintrin.h>

MULL_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c")
namespace mull::avx512_vnni {
#include "simd_avx512.h"
#include "variant.h"
}  // namespace mull::avx512_vnni
MULL_TARGET_END

namespace mull {
static bool has_avx512() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

const Isa avx512 = avx512_vnni::variant("avx512_vnni", has_avx512);
}  // namespace mull
#endif
