// The kernels for x86-64 with AVX2, without and with VNNI in its VEX form.
#include "target.h"

#if MULL_X86
#include <cpuid.h>
#include <immintrin.h>

#define MULL_VNNI 0
MULL_TARGET_BEGIN("avx2,fma,f16c")
namespace mull::avx2_fma {
#include "simd_avx2.h"
#include "variant.h"
}  // namespace mull::avx2_fma
MULL_TARGET_END

#undef MULL_VNNI
#undef MULL_SHORT_SUMS
#define MULL_VNNI 1
MULL_TARGET_BEGIN("avx2,fma,f16c,avxvnni")
namespace mull::avx2_vnni {
#include "simd_avx2.h"
#include "variant.h"
}  // namespace mull::avx2_vnni
MULL_TARGET_END

namespace mull {
static bool has_avx2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");  // all of these have F16C
}

static bool has_avx_vnni() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

const Isa avx2 = avx2_fma::variant("avx2", has_avx2);
const Isa avx_vnni = avx2_vnni::variant("avx_vnni", has_avx_vnni);
}  // namespace mull
#endif
