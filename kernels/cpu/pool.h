// A pool of threads for loops over rows: workers spin for a moment between two jobs, then sleep.
#pragma once
#include <cstdint>
#include <functional>

namespace mull {

// Run body(first, last) over [0, count) in pieces of `grain`, on all threads; returns when all is done.
void parallel(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

void set_threads(int count);

}  // namespace mull
