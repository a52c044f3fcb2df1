// Convolution of many tasks on a CPU, each task with its own kernels, and its two gradients.
//
// Every tensor lies task by task and channels last: activations [task][image][row][column][channel], kernels
// [task][tap][input][output] with tap = kernel row * kernel columns + kernel column. A task's activations fit a
// second-level cache, so a task is a unit of work: threads take one after the other. An element is the same sum
// in the same order whatever the number of threads.

#include "plan.h"
#include "vector.h"

namespace {

template <int R, int N>
void put(const Vector (&sums)[R][N], Real* (&rows)[R], long lanes) {
    for (int r = 0; r < R; r++)
        for (int j = 0; j < N && lanes > j * LANES; j++)
            store(rows[r] + j * LANES, sums[r][j], lanes - j * LANES);
}

// The rows with zeros up to whole vectors; the rows themselves where they are whole.
const Real* padded(const Real* rows, long count, long width, int slot) {
    long pitch = round_up(width, LANES);
    if (pitch == width) return rows;
    Real* wide = scratch(slot, count * pitch);
    for (long i = 0; i < count; i++) {
        std::copy(rows + i * width, rows + (i + 1) * width, wide + i * pitch);
        std::fill(wide + i * pitch + width, wide + (i + 1) * pitch, Real(0));
    }
    return wide;
}

// [taps][inputs][outputs] → [taps][outputs][inputs], rows with zeros up to whole vectors.
const Real* transposed(const Real* kernels, const Geometry& g, Real* to) {
    long pitch = round_up(g.inputs, LANES);
    bool whole = g.inputs % LANES == 0 && g.outputs % LANES == 0;
    for (long tap = 0; tap < g.taps(); tap++, kernels += g.inputs * g.outputs, to += g.outputs * pitch)
        for (long o = 0; o < g.outputs; o += LANES)
            for (long i = 0; i < pitch; i += LANES) {
                if (whole) {
                    Vector square[LANES];
                    for (int k = 0; k < LANES; k++) square[k] = load(kernels + (i + k) * g.outputs + o);
                    transpose_square(square);
                    for (int k = 0; k < LANES; k++) store(to + (o + k) * pitch + i, square[k], LANES);
                } else {
                    for (long row = o; row < std::min<long>(o + LANES, g.outputs); row++)
                        for (long k = i; k < i + LANES; k++)
                            to[row * pitch + k] = k < g.inputs ? kernels[k * g.outputs + row] : Real(0);
                }
            }
    return to - g.taps() * g.outputs * pitch;
}

// ------------------------------------------------------------------------------------------- convolutions

// One product of a sum: the channels of `source` pixels times matrices[tap], each [depth][pitch].
struct Factor { const Real* source; const Real* matrices; };

// target[place] = Σ factors Σ taps source[place + tap] · matrices[tap], for R places and N vectors of columns.
template <int R, int N>
void gather_tile(const Factor* factors, int count, const Group& group, long place, long depth, long pitch,
                 long column, Real* target, long width) {
    Vector sums[R][N] = {};
    for (int f = 0; f < count; f++)
        for (const Tap& tap : group.taps) {
            const Real* rows[R];
            for (int r = 0; r < R; r++)
                rows[r] = factors[f].source + (group.places[place + r].source + tap.offset) * depth;
            const Real* matrix = factors[f].matrices + tap.index * depth * pitch + column;
            for (long k = 0; k < depth; k++, matrix += pitch) {
                Vector b[N];
                for (int j = 0; j < N; j++) b[j] = load(matrix + j * LANES);
                for (int r = 0; r < R; r++)
                    for (int j = 0; j < N; j++) sums[r][j] += rows[r][k] * b[j];
            }
        }
    Real* to[R];
    for (int r = 0; r < R; r++) to[r] = target + group.places[place + r].target * width + column;
    put<R, N>(sums, to, width - column);
}

// The share `part` of `parts` of a plan's target pixels, [width] numbers each.
void gather(const Plan& plan, const Factor* factors, int count, long depth, Real* target, long width, long part,
            long parts) {
    long pitch = round_up(width, LANES);
    for (const Group& group : plan) {
        long first = group.places.size() * part / parts, last = group.places.size() * (part + 1) / parts;
        in_columns(width, [&](auto n, long column) {
            in_runs(last - first, [&](auto r, long place) {
                gather_tile<decltype(r)::value, decltype(n)::value>(factors, count, group, first + place, depth,
                                                                       pitch, column, target, width);
            });
        });
    }
}

struct Used { const Group* group; long offset; };  // a group that uses the tap at hand

// target[row] (+)= Σ places x[place + tap][row] ⊗ gy[place], for R rows (channels of x) and N vectors of columns.
template <int R, int N>
void outer_tile(const std::vector<Used>& groups, const Real* x, long inputs, const Real* gy, long pitch, long row,
                long column, Real* target, long width, bool add) {
    Vector sums[R][N] = {};
    Real* to[R];
    for (int r = 0; r < R; r++) to[r] = target + (row + r) * width + column;
    for (const Used& used : groups)
        for (const Place& place : used.group->places) {
            const Real* a = x + (place.source + used.offset) * inputs + row;
            const Real* b = gy + place.target * pitch + column;
            Vector v[N];
            for (int j = 0; j < N; j++) v[j] = load(b + j * LANES);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < N; j++) sums[r][j] += a[r] * v[j];
        }
    if (add)
        for (int r = 0; r < R; r++)
            for (int j = 0; j < N; j++)
                for (long l = 0; l < std::min<long>(LANES, width - column - j * LANES); l++)
                    sums[r][j][l] += to[r][j * LANES + l];
    put<R, N>(sums, to, width - column);
}

// The gradient with respect to the kernels of the taps `part`, `part + parts`, …
void outer(const Plan& plan, long taps, const Real* x, long inputs, const Real* gy, long outputs, Real* target, long part,
           long parts, bool add) {
    long pitch = round_up(outputs, LANES);
    for (long tap = part; tap < taps; tap += parts) {
        std::vector<Used> groups;
        for (const Group& group : plan)
            for (const Tap& used : group.taps)
                if (used.index == tap) groups.push_back({&group, used.offset});
        in_columns(outputs, [&](auto n, long column) {
            in_runs(inputs, [&](auto r, long row) {
                outer_tile<decltype(r)::value, decltype(n)::value>(
                    groups, x, inputs, gy, pitch, row, column, target + tap * inputs * outputs, outputs, add);
            });
        });
    }
}

// Few input channels make short inner loops: their taps are laid side by side, as channels of one tap.
constexpr long FEW = 64;
bool few(const Geometry& g) { return g.taps() > 1 && g.taps() * g.inputs <= FEW; }

// [places][taps][inputs] of x [pixels][inputs], zeros where a tap falls outside the image.
const Real* side_by_side(const Plan& plan, const Geometry& g, const Real* x, int slot) {
    long depth = g.taps() * g.inputs;
    Real* rows = scratch(slot, g.places() * depth);
    std::memset(rows, 0, g.places() * depth * sizeof(Real));
    for (const Group& group : plan)
        for (const Place& place : group.places) {
            Real* row = rows + place.target * depth;
            const Real* pixel = x + place.source * g.inputs;
            for (const Tap& tap : group.taps)
                for (long c = 0; c < g.inputs; c++) row[tap.index * g.inputs + c] = pixel[tap.offset * g.inputs + c];
        }
    return rows;
}

// How many parts a task's work is cut into so that no thread is left without.
long parts_of(const Geometry& g, int threads, long most) {
    return g.tasks >= 2 * threads || threads == 1 ? 1 : std::min<long>(most, (2 * threads + g.tasks - 1) / g.tasks);
}

}  // namespace

// y = x0 ∗ weight0 + x1 ∗ weight1 (the second where there is one). A stride is the distance from a task's
// kernels to the next one's, 0 where all tasks have the same.
EXPORT void convolve(const Geometry& g, const Real* x0, const Real* weight0, int64_t stride0, const Real* x1,
                     const Real* weight1, int64_t stride1, Real* y, int threads) {
    const Real *x[] = {x0, x1}, *weight[] = {weight0, weight1};
    const int64_t stride[] = {stride0, stride1};
    const Plan &taps = kept(plan_of_output, g), &plan = few(g) ? kept(plan_of_rows, g) : taps;
    long depth = few(g) ? g.taps() * g.inputs : g.inputs, parts = parts_of(g, threads, 8);
    int count = x1 ? 2 : 1;
    parallel(g.tasks * parts, threads, [&](long unit) {
        long task = unit / parts;
        Factor factors[2];
        for (int f = 0; f < count; f++) {
            const Real* images = x[f] + task * g.pixels() * g.inputs;
            factors[f].source = few(g) ? side_by_side(taps, g, images, f) : images;
            factors[f].matrices = padded(weight[f] + task * stride[f], g.taps() * g.inputs, g.outputs, 2 + f);
        }
        gather(plan, factors, count, depth, y + task * g.places() * g.outputs, g.outputs, unit % parts, parts);
    });
}

// gx of y = x ∗ weight.
EXPORT void input_gradient(const Geometry& g, const Real* gy, const Real* weight, int64_t stride, Real* gx,
                           int threads) {
    const Plan& plan = kept(plan_of_input, g);
    long size = g.taps() * g.outputs * round_up(g.inputs, LANES), parts = parts_of(g, threads, 8);
    std::vector<Real> same(stride ? 0 : size);
    if (!stride) transposed(weight, g, same.data());
    parallel(g.tasks * parts, threads, [&](long unit) {
        long task = unit / parts;
        const Real* own = stride ? transposed(weight + task * stride, g, scratch(0, size)) : same.data();
        Factor factor{gy + task * g.places() * g.outputs, own};
        gather(plan, &factor, 1, g.outputs, gx + task * g.pixels() * g.inputs, g.inputs, unit % parts, parts);
    });
}

// gw of y = x ∗ weight for each task, or, if summed, for all together: [1][taps][inputs][outputs].
EXPORT void weight_gradient(const Geometry& g, const Real* gy, const Real* x, Real* gw, int summed, int threads) {
    constexpr long BLOCK = 4;  // tasks whose gradients are summed as they are computed, whatever the threads
    const Plan &taps = kept(plan_of_output, g), &plan = few(g) ? kept(plan_of_rows, g) : taps;
    long block = summed ? BLOCK : 1, blocks = (g.tasks + block - 1) / block;
    long count = few(g) ? 1 : g.taps(), depth = few(g) ? g.taps() * g.inputs : g.inputs;
    long parts = parts_of(g, threads, count);
    std::vector<Real> partial(summed && blocks > 1 ? blocks * g.weights() : 0);
    Real* to = partial.empty() ? gw : partial.data();
    parallel(blocks * parts, threads, [&](long unit) {
        long first = unit / parts * block, last = std::min<long>(first + block, g.tasks);
        for (long task = first; task < last; task++) {
            const Real* images = x + task * g.pixels() * g.inputs;
            const Real* rows = few(g) ? side_by_side(taps, g, images, 1) : images;
            const Real* slopes = padded(gy + task * g.places() * g.outputs, g.places(), g.outputs, 0);
            outer(plan, count, rows, depth, slopes, g.outputs, to + unit / parts * g.weights(), unit % parts, parts,
                  task > first);
        }
    });
    if (partial.empty()) return;
    std::copy_n(partial.data(), g.weights(), gw);
    for (long b = 1; b < blocks; b++)
        for (long i = 0; i < g.weights(); i++) gw[i] += partial[b * g.weights() + i];
}

EXPORT void set_fork(void* gomp_parallel) { fork_join = reinterpret_cast<Fork>(gomp_parallel); }
