// The handler of SIGBUS behind fault.h; what is not ours goes on to whoever had it before.
#include "fault.h"

#include <signal.h>

namespace mull {

thread_local sigjmp_buf* fault_return = nullptr;

namespace {

struct sigaction before;

void handle(int signal, siginfo_t* info, void* context) {
    if (fault_return) siglongjmp(*fault_return, 1);
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else {
        sigaction(signal, &before, nullptr);  // the read is tried again, and ends the process
    }
}

bool install() {
    struct sigaction ours = {};
    ours.sa_sigaction = handle;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGBUS, &ours, &before);
    return true;
}

}  // namespace

void catch_faults() {
    static const bool installed = install();
    (void)installed;
}

}  // namespace mull
