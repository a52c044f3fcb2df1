// Inner steps of small perceptrons on a CPU, each task with its own weights, and the pullback of a gradient
// through them: linear layers with ReLU between, the mean squared error or the cross entropy of each task.
//
// A layer's weights and biases are one matrix [output][input and, as the last column, bias], rows padded to
// whole registers. Activations lie [unit][example]: a register holds one unit for several examples, so that
// forward, backward and gradient are all products of numbers of the left side with registers of the right one.

#include <array>
#include <cmath>

#include "vector.h"

namespace {

struct Shape {
    int64_t tasks, examples, layers, classes;  // classes: whether targets are class numbers
    int64_t widths[17];                        // of the input and of each layer's output
    long lanes() const { return round_up(examples, LANES); }
    long inputs(long layer) const { return widths[layer] + 1; }  // with the one that biases multiply
    long outputs(long layer) const { return widths[layer + 1]; }
    long pitch(long layer) const { return round_up(inputs(layer), LANES); }
    long offset(long layer) const {  // of a layer's matrix in a task's weights; of `layers`: their number
        long sum = 0;
        for (long l = 0; l < layer; l++) sum += outputs(l) * pitch(l);
        return sum;
    }
    long size() const { return offset(layers); }
};

// A tensor's numbers: [task][row][column], a bias [task][row].
struct Strided { const Real* data; int64_t task, row, column; };

// One term of a sum of products: left [rows][depth], with its distances between rows and columns, times right
// [depth][columns].
struct Term { const Real* left; long row, column, depth; const Real* right; };

// Zeros where `by` is zero or less: ReLU, and its derivative. NaN stays.
inline Vector masked(Vector v, Vector by) { return by <= 0 ? Vector{} : v; }

// target[r][c] = Σ terms Σ k left[r][k] right[k][c] for R rows and N vectors of columns, masked by `mask`, which
// may be the target itself, where there is one.
template <int R, int N>
__attribute__((noinline)) void product_tile(const Term* terms, long count, long row, long column, long pitch,
                                            Real* target, const Real* mask) {
    Vector sums[R][N] = {};
    for (long t = 0; t < count; t++) {
        const Term term = terms[t];
        const Real *left = term.left + row * term.row, *right = term.right + column;
        for (long k = 0; k < term.depth; k++, left += term.column, right += pitch) {
            Vector b[N];
            for (int j = 0; j < N; j++) b[j] = load(right + j * LANES);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < N; j++) sums[r][j] += left[r * term.row] * b[j];
        }
    }
    for (int r = 0; r < R; r++)
        for (int j = 0; j < N; j++) {
            long at = (row + r) * pitch + column + j * LANES;
            if (mask) sums[r][j] = masked(sums[r][j], mask == target ? sums[r][j] : load(mask + at));
            store(target + at, sums[r][j], LANES);
        }
}

// target [rows][columns] = the sum of the terms, masked; columns in whole vectors.
template <class... Terms>
void product(Real* target, long rows, long columns, const Real* mask, const Terms&... sum) {
    const Term terms[] = {sum...};
    in_columns(columns, [&](auto n, long column) {
        in_runs(rows, [&](auto r, long row) {
            product_tile<decltype(r)::value, decltype(n)::value>(terms, sizeof...(sum), row, column, columns,
                                                                 target, mask);
        });
    });
}

// What one task's passes leave behind, in memory of the thread that is kept from task to task; that of each step
// by itself: `at` turns to it.
struct Pass {
    const Shape& s;
    long lanes, layers, kept = 0;
    std::array<Real*, 17> a, da, turned, turned_da;  // inputs of layers, their tangents; both [example][unit]
    std::array<Real*, 16> d, dd;                     // gradients of layers' outputs, and their tangents
    Real *y, *p, *steps;                             // targets, predictions: the last layer's outputs; of steps

    Pass(const Shape& shape, int slot, long count) : s(shape), lanes(shape.lanes()), layers(shape.layers) {
        long used = 0, out = s.outputs(layers - 1) * lanes;
        for (long l = 0; l < layers; l++) {
            used += 2 * s.pitch(l) * lanes + s.outputs(l) * lanes;
            kept += 2 * s.pitch(l) * lanes + s.outputs(l) * lanes;
        }
        kept += 2 * out;
        Real* memory = scratch(slot, used + 2 * out + 2 * s.pitch(0) * lanes + count * kept);
        auto take = [&](long numbers) { return (memory += numbers) - numbers; };
        y = take(out), da[layers] = take(out), a[0] = take(s.pitch(0) * lanes), turned[0] = take(s.pitch(0) * lanes);
        for (long l = 0; l < layers; l++) {
            da[l] = take(s.pitch(l) * lanes), turned_da[l] = take(s.pitch(l) * lanes), dd[l] = take(s.outputs(l) * lanes);
            std::fill_n(da[l] + s.widths[l] * lanes, (s.pitch(l) - s.widths[l]) * lanes, Real(0));
        }
        steps = memory;
        pad(0);
        at(0);
    }

    void at(long step) {
        Real* memory = steps + step * kept;
        auto take = [&](long numbers) { return (memory += numbers) - numbers; };
        for (long l = 0; l < layers; l++) {
            if (l) a[l] = take(s.pitch(l) * lanes), turned[l] = take(s.pitch(l) * lanes), pad(l);
            d[l] = take(s.outputs(l) * lanes);
        }
        p = take(s.outputs(layers - 1) * lanes), a[layers] = take(s.outputs(layers - 1) * lanes);
    }

    // The input that biases multiply, and zeros up to whole registers.
    void pad(long layer) const {
        Real* end = a[layer] + s.widths[layer] * lanes;
        std::fill_n(end, lanes, Real(1));
        std::fill_n(end + lanes, (s.pitch(layer) - s.inputs(layer)) * lanes, Real(0));
    }

    // The task's examples: x [task][examples][inputs]; y [task][examples][outputs], or class numbers.
    void examples(const Real* x, const void* targets, long task) {
        long outputs = s.outputs(layers - 1), first = task * s.examples;
        for (long k = 0; k < s.widths[0]; k++) {
            for (long i = 0; i < s.examples; i++) a[0][k * lanes + i] = x[(first + i) * s.widths[0] + k];
            for (long i = s.examples; i < lanes; i++) a[0][k * lanes + i] = 0;
        }
        std::fill_n(y, outputs * lanes, Real(0));
        for (long i = 0; i < s.examples; i++)
            for (long o = 0; o < outputs; o++)
                y[o * lanes + i] = s.classes ? Real(((const int64_t*)targets)[first + i] == o)
                                             : ((const Real*)targets)[(first + i) * outputs + o];
        turn(a[0], turned[0], 0);
    }

    // [unit][example] → [example][unit].
    void turn(const Real* from, Real* to, long layer) const {
        for (long unit = 0; unit < s.pitch(layer); unit += LANES)
            for (long i = 0; i < lanes; i += LANES) {
                Vector square[LANES];
                for (int k = 0; k < LANES; k++) square[k] = load(from + (unit + k) * lanes + i);
                transpose_square(square);
                for (int k = 0; k < LANES; k++) store(to + (i + k) * s.pitch(layer) + unit, square[k], LANES);
            }
    }

    // Terms of sums: matrix · input, matrixᵀ · gradient, gradient · inputᵀ.
    Term onward(const Real* weights, long l, const Real* right, long depth) const {
        return {weights + s.offset(l), s.pitch(l), 1, depth, right};
    }
    Term back(const Real* weights, long l, const Real* right) const {
        return {weights + s.offset(l), 1, s.pitch(l), s.outputs(l), right};
    }
    Term outer(const Real* gradient, const Real* turned_input) const {
        return {gradient, lanes, 1, s.examples, turned_input};
    }

    void forward(const Real* weights) {
        for (long l = 0; l < layers; l++) {
            bool last = l + 1 == layers;
            product(a[l + 1], s.outputs(l), lanes, last ? nullptr : a[l + 1], onward(weights, l, a[l], s.inputs(l)));
            if (!last) turn(a[l + 1], turned[l + 1], l + 1);
        }
    }

    // The mean loss, and its gradient with respect to the last layer's outputs.
    double loss() {
        long outputs = s.outputs(layers - 1);
        double sum = 0;
        for (long o = 0; o < outputs; o++) std::fill_n(d[layers - 1] + o * lanes, lanes, Real(0));
        for (long i = 0; i < s.examples; i++) sum += s.classes ? cross_entropy(i) : squared_error(i);
        return sum / (s.examples * (s.classes ? 1 : outputs));
    }

    double squared_error(long i) {
        long outputs = s.outputs(layers - 1);
        double sum = 0;
        for (long at = i; at < outputs * lanes; at += lanes) {
            Real error = a[layers][at] - y[at];
            d[layers - 1][at] = 2 * error / (s.examples * outputs);
            sum += error * error;
        }
        return sum;
    }

    double cross_entropy(long i) {
        long end = s.outputs(layers - 1) * lanes;
        Real most = a[layers][i], logit = 0;
        for (long at = i; at < end; at += lanes) most = std::max(most, a[layers][at]);
        double total = 0;
        for (long at = i; at < end; at += lanes) {
            p[at] = std::exp(a[layers][at] - most), total += p[at];
            if (y[at] > 0) logit = a[layers][at];
        }
        for (long at = i; at < end; at += lanes) {
            p[at] /= Real(total);
            d[layers - 1][at] = (p[at] - y[at]) / s.examples;
        }
        return std::log(total) + most - logit;
    }

    void backward(const Real* weights) {
        for (long l = layers - 1; l > 0; l--) product(d[l - 1], s.widths[l], lanes, a[l], back(weights, l, d[l]));
    }

    void gradient(Real* to) const {
        for (long l = 0; l < layers; l++)
            product(to + s.offset(l), s.outputs(l), s.pitch(l), nullptr, outer(d[l], turned[l]));
    }

    // H v, the derivative of the gradient along v (Pearlmutter 1994), after `forward`, `loss` and `backward`.
    void second(const Real* weights, const Real* v, Real* to) {
        auto mask = [&](long l) { return l == layers ? nullptr : a[l]; };
        product(da[1], s.outputs(0), lanes, mask(1), onward(v, 0, a[0], s.inputs(0)));  // inputs have no tangent
        for (long l = 1; l < layers; l++) {
            turn(da[l], turned_da[l], l);
            product(da[l + 1], s.outputs(l), lanes, mask(l + 1), onward(v, l, a[l], s.inputs(l)),
                    onward(weights, l, da[l], s.widths[l]));
        }
        second_of_loss();
        for (long l = layers - 1; l > 0; l--)
            product(dd[l - 1], s.widths[l], lanes, a[l], back(weights, l, dd[l]), back(v, l, d[l]));
        product(to, s.outputs(0), s.pitch(0), nullptr, outer(dd[0], turned[0]));
        for (long l = 1; l < layers; l++)
            product(to + s.offset(l), s.outputs(l), s.pitch(l), nullptr, outer(dd[l], turned[l]),
                    outer(d[l], turned_da[l]));
    }

    // The tangent of the last layer's gradient: of 2 (a − y) / N, or of (softmax a − y) / N.
    void second_of_loss() {
        long outputs = s.outputs(layers - 1), end = outputs * lanes;
        std::fill_n(dd[layers - 1], end, Real(0));
        for (long i = 0; i < s.examples; i++) {
            Real mean = 0;
            for (long at = i; s.classes && at < end; at += lanes) mean += p[at] * da[layers][at];
            for (long at = i; at < end; at += lanes)
                dd[layers - 1][at] = s.classes ? p[at] * (da[layers][at] - mean) / s.examples
                                               : 2 * da[layers][at] / (s.examples * outputs);
        }
    }
};

// A task's weights or gradients out of torch's tensors, two a layer.
void pack(const Shape& s, const Strided* tensors, long task, Real* to) {
    for (long l = 0; l < s.layers; l++, tensors += 2)
        for (long o = 0; o < s.outputs(l); o++, to += s.pitch(l)) {
            const Strided &w = tensors[0], &b = tensors[1];
            const Real* row = w.data + task * w.task + o * w.row;
            if (w.column == 1) std::copy_n(row, s.widths[l], to);
            else if (w.column == 0) std::fill_n(to, s.widths[l], *row);
            else for (long i = 0; i < s.widths[l]; i++) to[i] = row[i * w.column];
            to[s.widths[l]] = b.data[task * b.task + o * b.row];
            std::fill_n(to + s.inputs(l), s.pitch(l) - s.inputs(l), Real(0));
        }
}

// The steps of one task, and the way back through them.
struct Path {
    Pass& pass;
    long size;
    Real *rate, *result, *direction;

    Path(Pass& own, const Strided* rates, long task) : pass(own), size(own.s.size()) {
        rate = scratch(0, 3 * size), result = rate + size, direction = result + size;
        pack(pass.s, rates, task, rate);
    }

    void step(const Real* w, Real* next) {
        pass.forward(w), pass.loss(), pass.backward(w), pass.gradient(result);
        for (long i = 0; i < size; i++) next[i] = w[i] - rate[i] * result[i];
    }

    // After a step from w: the rates' gradient is the sum of −∇L ∘ v; v ← v − H (rate ∘ v) for a second order.
    void back(const Real* w, Real* v, Real* of_rates, bool second_order) {
        if (of_rates) {
            pass.gradient(result);
            for (long i = 0; i < size; i++) of_rates[i] -= result[i] * v[i];
        }
        if (!second_order) return;
        for (long i = 0; i < size; i++) direction[i] = rate[i] * v[i];
        pass.second(w, direction, result);
        for (long i = 0; i < size; i++) v[i] -= result[i];
    }
};

}  // namespace

// Each task's weights after the steps, [task][size]. rates: a step's size for each weight.
EXPORT void descend(const Shape& s, const Strided* weights, const Strided* rates, const Real* x, const void* y,
                    int64_t steps, Real* stepped, int threads) {
    parallel(s.tasks, threads, [&](long task) {
        Pass pass(s, 4, 1);
        Path way(pass, rates, task);
        Real* w = stepped + task * way.size;
        pass.examples(x, y, task), pack(s, weights, task, w);
        for (long step = 0; step < steps; step++) way.step(w, w);
    });
}

// The loss [task] of each task's query examples after the steps, and where asked for its gradient with respect to
// the first weights and to the rates, [task][size] both. All passes of a task stay in the cache. With `incoming`
// gradients of the last weights in place of queries: these taken back to the first weights and to the rates.
EXPORT void adapted_loss(const Shape& s, const Shape& q, const Strided* weights, const Strided* rates,
                         const Strided* incoming, const Real* x, const void* y, const Real* query_x,
                         const void* query_y, int64_t steps, int64_t second_order, Real* losses, Real* gradient,
                         Real* of_rates, int threads) {
    parallel(s.tasks, threads, [&](long task) {
        Pass pass(s, 4, steps), query(q, 3, 1);
        Path way(pass, rates, task);
        long size = way.size;
        Real *w = scratch(5, (steps + 1) * size), *end = w + steps * size, *v = gradient + task * size;
        pass.examples(x, y, task), pack(s, weights, task, w);
        for (long step = 0; step < steps; step++) pass.at(step), way.step(w + step * size, w + (step + 1) * size);
        if (incoming) {
            pack(s, incoming, task, v);
        } else {
            query.examples(query_x, query_y, task), query.forward(end);
            losses[task] = Real(query.loss());
            if (!gradient) return;
            query.backward(end), query.gradient(v);
        }
        Real* sum = of_rates ? of_rates + task * size : nullptr;
        if (sum) std::fill_n(sum, size, Real(0));
        for (long step = steps - 1; step >= 0; step--) pass.at(step), way.back(w + step * size, v, sum, second_order);
    });
}

EXPORT int lanes() { return LANES; }
