// The pool of threads behind pool.h.
#include "pool.h"

#include <pthread.h>

#include <algorithm>
#include <thread>
#include <vector>

namespace mull {
namespace {

// A few hundred microseconds: longer than most gaps between the steps of a reply.
constexpr int kSpins = 20000;
// Some tens of microseconds: past this a thread that is waited for has probably lost its core to another process.
constexpr int kSpinsAtBarrier = 8000;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct Pool {
    using Body = std::function<void(const Team&)>;

    std::mutex running;  // one job at a time
    std::mutex asleep;
    std::condition_variable wake;
    std::vector<std::thread> workers;
    std::atomic<uint64_t> job{0};
    std::atomic<bool> stopping{false};
    Barrier barrier;
    const Body* body = nullptr;

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
        for (int i = 1; i < threads; i++) workers.emplace_back([this, i, threads, seen] { work(i, threads, seen); });
    }

    void work(int thread, int count, uint64_t seen) {
        for (;;) {
            for (int i = 0; i < kSpins && job.load(std::memory_order_acquire) == seen && !stopping; i++) pause();
            if (job.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(asleep);
                wake.wait(lock, [&] { return stopping || job != seen; });
            }
            if (stopping) return;
            seen = job;
            (*body)(Team{thread, count, &barrier});
            barrier.wait(count);
        }
    }

    void run(const Body& function, const std::function<void(int)>& prepare) {
        std::lock_guard<std::mutex> only(running);
        const int others = int(workers.size());
        if (prepare) prepare(others + 1);
        body = &function;
        if (others) {
            {
                std::lock_guard<std::mutex> lock(asleep);
                job.fetch_add(1, std::memory_order_release);
            }
            wake.notify_all();
        }
        function(Team{0, others + 1, &barrier});
        if (others) barrier.wait(others + 1);
    }
};

Pool* pool = new Pool;  // never destroyed: workers may outlive static objects at exit

// A forked child has none of the parent's threads: it starts with an empty pool, and leaks the old one.
void forget() { pool = new Pool; }
const int registered = pthread_atfork(nullptr, nullptr, forget);

}  // namespace

void Barrier::wait(int count) {
    const uint32_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == count - 1) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.store(round + 1);
        // A thread that is about to sleep counts itself first, then looks at the round once more.
        if (sleepers_.load()) {
            std::lock_guard<std::mutex> lock(mutex_);
            wake_.notify_all();
        }
        return;
    }
    for (int spins = 0; spins < kSpinsAtBarrier; spins++) {
        if (round_.load(std::memory_order_acquire) != round) return;
        pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, [&] { return round_.load() != round; });
    sleepers_.fetch_sub(1);
}

void run_together(const std::function<void(const Team&)>& body, const std::function<void(int)>& prepare) {
    pool->run(body, prepare);
}

void set_threads(int count) {
    std::lock_guard<std::mutex> only(pool->running);
    if (int(pool->workers.size()) + 1 == count) return;
    pool->stop();
    pool->start(std::max(count, 1));
}

}  // namespace mull
