// Registers of numbers: loads, stores, transposition, tiles of a product, and a thread's own memory.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "parallel.h"

#if defined(__AVX512F__)
constexpr int BYTES = 64, WIDE = 4;  // bytes of a register; vectors of output channels in a tile
#elif defined(__AVX__)
constexpr int BYTES = 32, WIDE = 2;
#else
constexpr int BYTES = 16, WIDE = 4;
#endif
constexpr int TALL = 6;  // rows of a tile: TALL * WIDE sums and WIDE operands stay in registers

typedef Real Vector __attribute__((vector_size(BYTES)));
constexpr int LANES = BYTES / sizeof(Real);

inline Vector load(const Real* from) {
    Vector v;
    std::memcpy(&v, from, BYTES);
    return v;
}

inline void store(Real* to, Vector v, long lanes) {
    if (lanes >= LANES) std::memcpy(to, &v, BYTES);
    else std::memcpy(to, &v, lanes * sizeof(Real));
}

constexpr long round_up(long n, long unit) { return (n + unit - 1) / unit * unit; }

// A thread's own memory that grows and is kept; `slot` tells apart what is in use at the same time.
inline Real* scratch(int slot, long size) {
    static thread_local std::vector<Real> held[6];
    if ((long)held[slot].size() < size) held[slot].resize(size);
    return held[slot].data();
}

template <int N> struct Count { static constexpr int value = N; };

// Calls f(Count<N>, first) over 0 … size in runs of up to TALL that are as equal as possible.
template <class F> void in_runs(long size, F f) {
    for (long first = 0, runs = (size + TALL - 1) / TALL; first < size; runs--) {
        long n = (size - first + runs - 1) / runs;
        switch (n) {
            case 1: f(Count<1>(), first); break;
            case 2: f(Count<2>(), first); break;
            case 3: f(Count<3>(), first); break;
            case 4: f(Count<4>(), first); break;
            case 5: f(Count<5>(), first); break;
            default: f(Count<6>(), first);
        }
        first += n;
    }
}

// Calls f(Count<N>, first) over 0 … width in blocks of N vectors.
template <class F> void in_columns(long width, F f) {
    long vectors = (width + LANES - 1) / LANES, v = 0;
    for (; vectors - v >= WIDE; v += WIDE) f(Count<WIDE>(), v * LANES);
    if (vectors - v == 3 && WIDE > 3) return f(Count<3>(), v * LANES);
    for (; vectors - v >= 2; v += 2) f(Count<2>(), v * LANES);
    if (v < vectors) f(Count<1>(), v * LANES);
}

// Transposes a square of numbers: by interleaving its first half of rows with its second, log2(LANES) times.
inline void transpose_square(Vector (&rows)[LANES]) {
#ifdef __clang__
    Vector columns[LANES];
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) columns[j][i] = rows[i][j];
    std::copy_n(columns, LANES, rows);
#else
    typedef std::conditional_t<sizeof(Real) == 4, int32_t, int64_t> Lane;
    typedef Lane Order __attribute__((vector_size(BYTES)));
    Order low, high;
    for (int i = 0; i < LANES; i++) low[i] = i / 2 + i % 2 * LANES, high[i] = low[i] + LANES / 2;
    for (int distance = 1; distance < LANES; distance *= 2) {
        Vector woven[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            woven[2 * i] = __builtin_shuffle(rows[i], rows[i + LANES / 2], low);
            woven[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + LANES / 2], high);
        }
        std::copy_n(woven, LANES, rows);
    }
#endif
}
