// Work shared out to threads: to those of the OpenMP that torch runs on, else to threads of our own.

#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

using Real = METABENCH_REAL;  // float or double: the compiler's command line says which

using Body = std::function<void(long)>;
using Fork = void (*)(void (*)(void*), void*, unsigned, unsigned);  // GOMP_parallel
inline Fork fork_join = nullptr;  // null: none is known

struct Loop {
    const Body& body;
    long count;
    std::atomic<long> next{0};
    void drain() {
        for (long i; (i = next.fetch_add(1)) < count;) body(i);
    }
};

// Calls body(0 … count - 1), each once, on up to so many threads.
inline void parallel(long count, int threads, const Body& body) {
    Loop loop{body, count};
    threads = (int)std::min<long>(threads, count);
    if (threads <= 1) return loop.drain();
    if (fork_join) return fork_join([](void* l) { static_cast<Loop*>(l)->drain(); }, &loop, threads, 0);
    std::vector<std::thread> others;
    for (int t = 1; t < threads; t++) others.emplace_back([&] { loop.drain(); });
    loop.drain();
    for (auto& other : others) other.join();
}
