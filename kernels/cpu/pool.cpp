// The pool: one job at a time, handed out piece by piece through an atomic counter.
#include "pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace mull {
namespace {

using Body = std::function<void(int64_t, int64_t)>;

// A few hundred microseconds: longer than the gaps between the products of a step.
constexpr int kSpins = 20000;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

struct Pool {
    std::mutex running;  // one job at a time, from whichever thread
    std::mutex asleep;
    std::condition_variable wake;
    std::vector<std::thread> workers;
    std::atomic<uint64_t> job{0};
    std::atomic<int64_t> next{0};
    std::atomic<int> busy{0};
    std::atomic<bool> stopping{false};
    int64_t count = 0, grain = 1;
    const Body* body = nullptr;

    ~Pool() { stop(); }

    void stop() {
        {
            std::lock_guard<std::mutex> lock(asleep);
            stopping = true;
        }
        wake.notify_all();
        for (auto& worker : workers) worker.join();
        workers.clear();
        stopping = false;
    }

    void start(int threads) {
        const uint64_t seen = job;
        for (int i = 1; i < threads; i++) workers.emplace_back([this, seen] { work(seen); });
    }

    void work(uint64_t seen) {
        for (;;) {
            for (int i = 0; i < kSpins && job.load(std::memory_order_acquire) == seen && !stopping; i++) pause();
            if (job.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(asleep);
                wake.wait(lock, [&] { return stopping || job != seen; });
            }
            if (stopping) return;
            seen = job;
            take();
            busy.fetch_sub(1, std::memory_order_release);
        }
    }

    void take() {
        for (;;) {
            const int64_t first = next.fetch_add(grain);
            if (first >= count) return;
            (*body)(first, std::min(first + grain, count));
        }
    }

    void run(int64_t total, int64_t piece, const Body& function) {
        std::lock_guard<std::mutex> only(running);
        count = total, grain = piece, body = &function;
        next = 0;
        busy = int(workers.size());
        {
            std::lock_guard<std::mutex> lock(asleep);
            job.fetch_add(1, std::memory_order_release);
        }
        wake.notify_all();
        take();
        while (busy.load(std::memory_order_acquire)) pause();
    }
};

Pool* pool = new Pool;  // never destroyed: workers may outlive static objects at exit

// A forked child has none of the parent's threads: it starts with an empty pool, and leaks the old one.
void forget() { pool = new Pool; }
const int registered = pthread_atfork(nullptr, nullptr, forget);

}  // namespace

void parallel(int64_t count, int64_t grain, const Body& body) {
    if (pool->workers.empty() || count <= grain) {
        body(0, count);
        return;
    }
    pool->run(count, grain, body);
}

void set_threads(int count) {
    std::lock_guard<std::mutex> only(pool->running);
    if (int(pool->workers.size()) + 1 == count) return;
    pool->stop();
    pool->start(std::max(count, 1));
}

}  // namespace mull
