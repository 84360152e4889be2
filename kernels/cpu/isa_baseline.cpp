// The kernels for processors without one of the other instruction sets; and for ARM with its dot products.
#include "target.h"

#if MULL_X86
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

#define MULL_SDOT 0
namespace mull::portable {
#include "simd_baseline.h"
#include "variant.h"
}  // namespace mull::portable

namespace mull {
static bool always() { return true; }
const Isa baseline = portable::variant("baseline", always);
}  // namespace mull

#if defined(__aarch64__)
#undef MULL_SDOT
#define MULL_SDOT 1
#if defined(__clang__)
MULL_TARGET_BEGIN("dotprod")
#else
MULL_TARGET_BEGIN("arch=armv8.2-a+dotprod")
#endif
namespace mull::neon_dotprod {
#include "simd_baseline.h"
#include "variant.h"
}  // namespace mull::neon_dotprod
MULL_TARGET_END

namespace mull {
static bool has_dotprod() {
#if defined(__ARM_FEATURE_DOTPROD)
    return true;  // the compiler was told so
#elif defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP
#else
    return false;
#endif
}
const Isa neon = neon_dotprod::variant("neon_dotprod", has_dotprod);
}  // namespace mull
#endif
