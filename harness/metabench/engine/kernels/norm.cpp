// Batch norm of each task's channels on a CPU, with the ReLU that follows it, and its first and second gradient.
//
// Tensors lie task by task and channels last: [task][row][channel], a row for every pixel of every image.

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "parallel.h"

namespace {

struct Norm {
    int64_t tasks, rows, channels, relu;  // rows: numbers of a channel that are normalised together
    int64_t weight_stride, bias_stride;   // from a task's to the next one's, 0 where all are the same
};

constexpr int STRIP = 64;  // channels at once, whose sums stay in registers

template <class F> void in_strips(long channels, F f) {
    long first = 0;
    for (; first + STRIP <= channels; first += STRIP) f(first, std::integral_constant<long, STRIP>());
    if (first < channels) f(first, channels - first);
}

// sums[q][c] = Σ rows f(index of the row's channel c, c)[q], in blocks of rows so that float sums stay exact.
template <int Q, class Width, class F>
void sum_rows(long rows, long channels, Width width, F f, double (&sums)[Q][STRIP]) {
    constexpr long BLOCK = 64;
    std::memset(sums, 0, sizeof sums);
    for (long start = 0; start < rows; start += BLOCK) {
        Real part[Q][STRIP] = {};
        for (long row = start; row < std::min(start + BLOCK, rows); row++)
            for (long c = 0; c < width; c++) {
                auto terms = f(row * channels + c, c);
                for (int q = 0; q < Q; q++) part[q][c] += terms[q];
            }
        for (int q = 0; q < Q; q++)
            for (long c = 0; c < width; c++) sums[q][c] += part[q][c];
    }
}

// Calls f(index of the row's channel c, c) for all.
template <class Width, class F> void for_rows(long rows, long channels, Width width, F f) {
    for (long row = 0; row < rows; row++)
        for (long c = 0; c < width; c++) f(row * channels + c, c);
}

// A strip of one task, as both gradients see it.
struct Strip {
    Real m[STRIP], r[STRIP], w[STRIP];
    template <class Width>
    Strip(const Norm& n, long task, long first, Width width, const Real* weight, const Real* mean, const Real* rate) {
        for (long c = 0; c < width; c++) {
            m[c] = mean[task * n.channels + first + c];
            r[c] = rate[task * n.channels + first + c];
            w[c] = weight[task * n.weight_stride + first + c];
        }
    }
};

// Calls f with a function that masks numbers by y > 0 where the norm has a ReLU, else leaves them.
template <class F> void masked(const Norm& n, const Real* y, F f) {
    if (n.relu) f([y](long i, Real v) { return y[i] <= 0 ? Real(0) : v; });
    else f([](long, Real v) { return v; });
}

}  // namespace

// y = w (x − m) r + b, with m and r = 1/√(variance + eps) of each task's channels; its ReLU where asked for.
EXPORT void norm(const Norm& n, double eps, const Real* x, const Real* weight, const Real* bias, Real* y, Real* mean, Real* rate, int threads) {
    parallel(n.tasks, threads, [&](long task) {
        in_strips(n.channels, [&](long first, auto width) {
            const Real* in = x + task * n.rows * n.channels + first;
            Real* out = y + task * n.rows * n.channels + first;
            Real *m = mean + task * n.channels + first, *r = rate + task * n.channels + first;
            Real centre[STRIP], scale[STRIP], shift[STRIP];
            double sums[1][STRIP];
            sum_rows<1>(n.rows, n.channels, width, [&](long i, long) { return std::array<Real, 1>{in[i]}; }, sums);
            for (long c = 0; c < width; c++) m[c] = centre[c] = Real(sums[0][c] / n.rows);
            sum_rows<1>(n.rows, n.channels, width, [&](long i, long c) {
                Real d = in[i] - centre[c];
                return std::array<Real, 1>{d * d};
            }, sums);
            for (long c = 0; c < width; c++) {
                r[c] = Real(1 / std::sqrt(sums[0][c] / n.rows + eps));
                scale[c] = weight[task * n.weight_stride + first + c] * r[c];
                shift[c] = bias[task * n.bias_stride + first + c];
            }
            auto normal = [&](long i, long c) { return (in[i] - centre[c]) * scale[c] + shift[c]; };
            if (n.relu)
                for_rows(n.rows, n.channels, width, [&](long i, long c) {
                    Real v = normal(i, c);
                    out[i] = v < 0 ? Real(0) : v;  // keeps NaN
                });
            else
                for_rows(n.rows, n.channels, width, [&](long i, long c) { out[i] = normal(i, c); });
        });
    });
}

// gx = w r (g − Σ g / M − x̂ Σ g x̂ / M), gw = Σ g x̂, gb = Σ g, with x̂ = (x − m) r, M rows, g = gy masked by ReLU.
EXPORT void norm_gradient(const Norm& n, const Real* gy, const Real* x, const Real* y, const Real* weight, const Real* mean, const Real* rate,
                   Real* gx, Real* gw, Real* gb, int threads) {
    parallel(n.tasks, threads, [&](long task) {
        in_strips(n.channels, [&](long first, auto width) {
            long offset = task * n.rows * n.channels + first, sums_offset = task * n.channels + first;
            const Real *slope = gy + offset, *in = x + offset;
            Real* out = gx + offset;
            Strip s(n, task, first, width, weight, mean, rate);
            masked(n, y + offset, [&](auto mask) {
                double sums[2][STRIP];
                sum_rows<2>(n.rows, n.channels, width, [&](long i, long c) {
                    Real g = mask(i, slope[i]);
                    return std::array<Real, 2>{g, g * ((in[i] - s.m[c]) * s.r[c])};
                }, sums);
                Real of_g[STRIP], of_x[STRIP], rest[STRIP];  // gx = of_g g + of_x (x − m) + rest
                for (long c = 0; c < width; c++) {
                    gb[sums_offset + c] = Real(sums[0][c]);
                    gw[sums_offset + c] = Real(sums[1][c]);
                    of_g[c] = s.w[c] * s.r[c];
                    of_x[c] = -of_g[c] * s.r[c] * Real(sums[1][c] / n.rows);
                    rest[c] = -of_g[c] * Real(sums[0][c] / n.rows);
                }
                for_rows(n.rows, n.channels, width, [&](long i, long c) {
                    out[i] = of_g[c] * mask(i, slope[i]) + of_x[c] * (in[i] - s.m[c]) + rest[c];
                });
            });
        });
    });
}

// The gradient of `norm_gradient`, whose outputs gx, gw, gb have the incoming gradients v, p, q:
//   to_gy = w r (v − v̄ − x̂ a) + p x̂ + q, masked;   to_w = r s;
//   to_x  = r (h − h̄ − x̂ mean(h x̂)) − x̂ w r² s / M,  h = p g − w r (c v + a g),
// where v̄, ḡ are means, a = mean(v x̂), c = mean(g x̂) and s = Σ v g − M (v̄ ḡ + a c).
EXPORT void norm_second(const Norm& n, const Real* v, const Real* p, const Real* q, const Real* gy, const Real* x, const Real* y,
                 const Real* weight, const Real* mean, const Real* rate, Real* to_gy, Real* to_x, Real* to_weight, int threads) {
    parallel(n.tasks, threads, [&](long task) {
        in_strips(n.channels, [&](long first, auto width) {
            long offset = task * n.rows * n.channels + first, sums_offset = task * n.channels + first;
            const Real *vs = v + offset, *slope = gy + offset, *in = x + offset;
            Real *out_g = to_gy + offset, *out_x = to_x + offset;
            Strip s(n, task, first, width, weight, mean, rate);
            masked(n, y + offset, [&](auto mask) {
                double sums[5][STRIP];
                sum_rows<5>(n.rows, n.channels, width, [&](long i, long c) {
                    Real g = mask(i, slope[i]), normal = (in[i] - s.m[c]) * s.r[c];
                    return std::array<Real, 5>{vs[i], vs[i] * normal, g, g * normal, vs[i] * g};
                }, sums);
                Real g_v[STRIP], g_x[STRIP], g_rest[STRIP], x_v[STRIP], x_g[STRIP], x_x[STRIP], x_rest[STRIP];
                for (long c = 0; c < width; c++) {
                    double count = n.rows, w = s.w[c], r = s.r[c], pc = p[sums_offset + c], qc = q[sums_offset + c];
                    double v_mean = sums[0][c] / count, a = sums[1][c] / count;
                    double g_mean = sums[2][c] / count, b = sums[3][c] / count;
                    double joint = sums[4][c] - count * (v_mean * g_mean + a * b);
                    double of_v = -w * r * b, of_g = pc - w * r * a;  // h = of_v v + of_g g
                    double h_mean = of_v * v_mean + of_g * g_mean, hx_mean = of_v * a + of_g * b;
                    to_weight[sums_offset + c] = Real(r * joint);
                    g_v[c] = Real(w * r), g_x[c] = Real(of_g * r), g_rest[c] = Real(qc - w * r * v_mean);
                    x_v[c] = Real(r * of_v), x_g[c] = Real(r * of_g), x_rest[c] = Real(-r * h_mean);
                    x_x[c] = Real(-r * (r * hx_mean + w * r * r * joint / count));
                }
                for_rows(n.rows, n.channels, width, [&](long i, long c) {
                    Real g = mask(i, slope[i]), d = in[i] - s.m[c];
                    out_g[i] = mask(i, g_v[c] * vs[i] + g_x[c] * d + g_rest[c]);
                    out_x[i] = x_v[c] * vs[i] + x_g[c] * g + x_x[c] * d + x_rest[c];
                });
            });
        });
    });
}
