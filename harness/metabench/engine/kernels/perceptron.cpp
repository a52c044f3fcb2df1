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

// target[r][c] = Σ terms Σ k left[r][k] right[k][c] for R rows and N vectors of columns.
template <int R, int N>
__attribute__((noinline)) void product_tile(const Term* terms, long count, long row, long column, long pitch, Real* target) {
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
        for (int j = 0; j < N; j++) store(target + (row + r) * pitch + column + j * LANES, sums[r][j], LANES);
}

// target [rows][columns] = the sum of the terms; columns in whole vectors.
template <class... Terms> void product(Real* target, long rows, long columns, const Terms&... sum) {
    const Term terms[] = {sum...};
    in_columns(columns, [&](auto n, long column) {
        in_runs(rows, [&](auto r, long row) {
            product_tile<decltype(r)::value, decltype(n)::value>(terms, sizeof...(sum), row, column, columns, target);
        });
    });
}

// What one task's passes leave behind, in memory of the thread that is kept from task to task.
struct Pass {
    const Shape& s;
    long lanes, layers;
    std::array<Real*, 17> a, da, turned, turned_da;  // inputs of layers, their tangents; both [example][unit]
    std::array<Real*, 16> d, dd;                     // gradients of layers' outputs, and their tangents
    Real *y, *p;                                     // targets, and predictions: the last layer's outputs

    explicit Pass(const Shape& shape) : s(shape), lanes(shape.lanes()), layers(shape.layers) {
        long count = 0;
        for (int round = 0; round < 2; round++) {  // count, then share out
            Real* memory = round ? scratch(4, count) : nullptr;
            long used = 0;
            auto take = [&](long numbers) { return memory + (used += numbers) - numbers; };
            for (long l = 0; l < layers; l++) {
                a[l] = take(s.pitch(l) * lanes), da[l] = take(s.pitch(l) * lanes);
                turned[l] = take(lanes * s.pitch(l)), turned_da[l] = take(lanes * s.pitch(l));
                d[l] = take(s.outputs(l) * lanes), dd[l] = take(s.outputs(l) * lanes);
            }
            long out = s.outputs(layers - 1) * lanes;
            y = take(out), p = take(out), a[layers] = take(out), da[layers] = take(out);
            count = used;
        }
        for (long l = 0; l < layers; l++) {
            std::fill_n(a[l], s.pitch(l) * lanes, Real(0)), std::fill_n(da[l], s.pitch(l) * lanes, Real(0));
            std::fill_n(a[l] + s.widths[l] * lanes, lanes, Real(1));
        }
    }

    // x [examples][inputs]; target [examples][outputs], or class numbers [examples].
    void examples(const Real* x, const Real* target, const int64_t* classes) {
        for (long i = 0; i < s.examples; i++)
            for (long k = 0; k < s.widths[0]; k++) a[0][k * lanes + i] = x[i * s.widths[0] + k];
        long outputs = s.outputs(layers - 1);
        std::fill_n(y, outputs * lanes, Real(0));
        for (long i = 0; i < s.examples; i++)
            for (long o = 0; o < outputs; o++)
                y[o * lanes + i] = s.classes ? Real(classes[i] == o) : target[i * outputs + o];
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

    // Zero where the layer's input is: the derivative of ReLU.
    void mask(Real* to, long layer) const {
        for (long i = 0; i < s.widths[layer] * lanes; i++) to[i] = a[layer][i] <= 0 ? Real(0) : to[i];
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
            product(a[l + 1], s.outputs(l), lanes, onward(weights, l, a[l], s.inputs(l)));
            if (l + 1 == layers) break;
            for (long i = 0; i < s.outputs(l) * lanes; i++) a[l + 1][i] = a[l + 1][i] < 0 ? Real(0) : a[l + 1][i];
            turn(a[l + 1], turned[l + 1], l + 1);
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
        for (long l = layers - 1; l > 0; l--) {
            product(d[l - 1], s.widths[l], lanes, back(weights, l, d[l]));
            mask(d[l - 1], l);
        }
    }

    void gradient(Real* to) const {
        for (long l = 0; l < layers; l++)
            product(to + s.offset(l), s.outputs(l), s.pitch(l), outer(d[l], turned[l]));
    }

    // H v, the derivative of the gradient along v (Pearlmutter 1994), after `forward`, `loss` and `backward`.
    void second(const Real* weights, const Real* v, Real* to) {
        product(da[1], s.outputs(0), lanes, onward(v, 0, a[0], s.inputs(0)));  // the input has no tangent
        for (long l = 1; l < layers; l++) {
            mask(da[l], l);
            turn(da[l], turned_da[l], l);
            product(da[l + 1], s.outputs(l), lanes, onward(v, l, a[l], s.inputs(l)),
                    onward(weights, l, da[l], s.widths[l]));
        }
        second_of_loss();
        for (long l = layers - 1; l > 0; l--) {
            product(dd[l - 1], s.widths[l], lanes, back(weights, l, dd[l]), back(v, l, d[l]));
            mask(dd[l - 1], l);
        }
        product(to, s.outputs(0), s.pitch(0), outer(dd[0], turned[0]));
        for (long l = 1; l < layers; l++)
            product(to + s.offset(l), s.outputs(l), s.pitch(l), outer(dd[l], turned[l]), outer(d[l], turned_da[l]));
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

// A task's weights or gradients out of torch's tensors, two a layer; a null pointer counts as zeros.
void pack(const Shape& s, const Strided* tensors, long task, Real* to) {
    for (long l = 0; l < s.layers; l++, tensors += 2)
        for (long o = 0; o < s.outputs(l); o++, to += s.pitch(l)) {
            std::fill_n(to, s.pitch(l), Real(0));
            const Strided &w = tensors[0], &b = tensors[1];
            const Real* row = w.data + task * w.task + o * w.row;
            for (long i = 0; w.data && i < s.widths[l]; i++) to[i] = row[i * w.column];
            if (b.data) to[s.widths[l]] = b.data[task * b.task + o * b.row];
        }
}

struct Targets {
    const void* y;
    const Real* of(const Shape& s, long task) const {
        return s.classes ? nullptr : (const Real*)y + task * s.examples * s.outputs(s.layers - 1);
    }
    const int64_t* classes(const Shape& s, long task) const {
        return s.classes ? (const int64_t*)y + task * s.examples : nullptr;
    }
};

}  // namespace

// Each task's weights before every step and after the last, path [task][steps + 1][size]; where not `keep`,
// those after the last one alone, [task][size]. rates: a step's size for each weight.
EXPORT void descend(const Shape& s, const Strided* weights, const Strided* rates, const Real* x, const void* y,
                    int64_t steps, int64_t keep, Real* path, int threads) {
    parallel(s.tasks, threads, [&](long task) {
        Pass pass(s);
        long size = s.size();
        Real *w = path + task * (keep ? steps + 1 : 1) * size, *slope = scratch(0, size), *rate = scratch(1, size);
        pass.examples(x + task * s.examples * s.widths[0], Targets{y}.of(s, task), Targets{y}.classes(s, task));
        pack(s, weights, task, w), pack(s, rates, task, rate);
        for (long step = 0; step < steps; step++) {
            pass.forward(w), pass.loss(), pass.backward(w), pass.gradient(slope);
            Real* next = keep ? w + size : w;
            for (long i = 0; i < size; i++) next[i] = w[i] - rate[i] * slope[i];
            w = next;
        }
    });
}

// The gradient of the first weights, [task][size], for `incoming` ones of the last, and that of the rates where
// asked for: step by step, the rates' gradient is the sum of −∇L ∘ v, and v ← v − H (rate ∘ v) for a second order.
EXPORT void descend_pullback(const Shape& s, const Strided* incoming, const Strided* rates, const Real* x,
                             const void* y, int64_t steps, int64_t second_order, const Real* path, Real* gradient,
                             Real* of_rates, int threads) {
    parallel(s.tasks, threads, [&](long task) {
        Pass pass(s);
        long size = s.size();
        Real *v = gradient + task * size, *result = scratch(0, size), *rate = scratch(1, size);
        Real *direction = scratch(2, size), *sum = of_rates ? of_rates + task * size : nullptr;
        pass.examples(x + task * s.examples * s.widths[0], Targets{y}.of(s, task), Targets{y}.classes(s, task));
        pack(s, incoming, task, v), pack(s, rates, task, rate);
        if (sum) std::fill_n(sum, size, Real(0));
        for (long step = steps - 1; step >= 0; step--) {
            const Real* w = path + (task * (steps + 1) + step) * size;
            pass.forward(w), pass.loss(), pass.backward(w);
            if (sum) {
                pass.gradient(result);
                for (long i = 0; i < size; i++) sum[i] -= result[i] * v[i];
            }
            if (!second_order) continue;
            for (long i = 0; i < size; i++) direction[i] = rate[i] * v[i];
            pass.second(w, direction, result);
            for (long i = 0; i < size; i++) v[i] -= result[i];
        }
    });
}

// Each task's loss [task], and its gradient [task][size] where asked for.
EXPORT void task_loss(const Shape& s, const Strided* weights, const Real* x, const void* y, Real* losses,
                      Real* gradient, int threads) {
    parallel(s.tasks, threads, [&](long task) {
        Pass pass(s);
        Real* w = scratch(0, s.size());
        pass.examples(x + task * s.examples * s.widths[0], Targets{y}.of(s, task), Targets{y}.classes(s, task));
        pack(s, weights, task, w);
        pass.forward(w);
        losses[task] = Real(pass.loss());
        if (gradient) pass.backward(w), pass.gradient(gradient + task * s.size());
    });
}

EXPORT int lanes() { return LANES; }
