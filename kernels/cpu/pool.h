// Threads that compute together: every one runs the same function, meeting at barriers.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

namespace mull {

// Where threads wait for each other. They spin, then sleep: on a busy machine the core that a sleeper leaves is the
// one that whoever it waits for can go on with.
class Barrier {
  public:
    void wait(int count);

  private:
    std::atomic<int> arrived_{0}, sleepers_{0};
    std::atomic<uint32_t> round_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
};

// One thread's view of the job.
struct Team {
    int thread, count;
    Barrier* barrier;
    void wait() const {
        if (count > 1) barrier->wait(count);
    }
};

// Run `body` on every thread, the caller's included; one job at a time, from whichever thread. `prepare` runs before
// it on the caller's, with the number of threads, which stays until the job is done; what it throws ends the job.
void run_together(const std::function<void(const Team&)>& body, const std::function<void(int)>& prepare = {});

void set_threads(int count);

// Work that threads take piece by piece.
class Pieces {
  public:
    void reset() { next_.store(0, std::memory_order_relaxed); }
    // Call body(first, last) for pieces of `grain` until none of `total` is left.
    template <class Body>
    void each(int64_t total, int64_t grain, const Body& body) {
        for (;;) {
            const int64_t first = next_.fetch_add(grain, std::memory_order_relaxed);
            if (first >= total) return;
            body(first, first + grain < total ? first + grain : total);
        }
    }

  private:
    alignas(64) std::atomic<int64_t> next_{0};
};

}  // namespace mull
