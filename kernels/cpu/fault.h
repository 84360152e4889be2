// Reading mapped files that may be cut short by another process: a fault becomes a return value.
#pragma once
#include <setjmp.h>

namespace mull {

extern thread_local sigjmp_buf* fault_return;
void catch_faults();  // install the handler, once

// Run `body`, which must own nothing; false if it read beyond the end of a mapped file.
template <class Body>
bool guarded(const Body& body) {
    catch_faults();
    sigjmp_buf here;
    sigjmp_buf* const outer = fault_return;
    if (sigsetjmp(here, 0)) {
        fault_return = outer;
        return false;
    }
    fault_return = &here;
    body();
    fault_return = outer;
    return true;
}

}  // namespace mull
