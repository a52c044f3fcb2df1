// Where the taps of a convolution fall: output positions that use the same taps of the image form a group, in
// which each tap is one offset from a position's base. So no input is rearranged, and no zero is multiplied.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

struct Geometry {
    int64_t tasks, images, inputs, outputs;  // inputs, outputs: channels of x and of y
    int64_t rows, columns, out_rows, out_columns, kernel_rows, kernel_columns;
    int64_t stride_rows, stride_columns, padding_rows, padding_columns, dilation_rows, dilation_columns;
    long taps() const { return kernel_rows * kernel_columns; }
    long pixels() const { return images * rows * columns; }          // of x, for a task
    long places() const { return images * out_rows * out_columns; }  // of y, for a task
    long weights() const { return taps() * inputs * outputs; }       // of a task
};

// Indices along one axis that use the same taps, with the index that each reads under its first tap.
struct Class {
    std::vector<std::pair<long, long>> members;  // target, source
    std::vector<std::pair<long, long>> taps;     // tap, offset of its source from the first tap's
};

// source(target, tap): the index that the target reads under this tap, negative where there is none.
template <class Source> std::vector<Class> classes(long targets, long taps, Source source) {
    std::map<std::vector<long>, Class> by_taps;
    for (long target = 0; target < targets; target++) {
        std::vector<long> used;
        std::vector<std::pair<long, long>> offsets;
        long first = 0;
        for (long tap = 0; tap < taps; tap++) {
            long at = source(target, tap);
            if (at < 0) continue;
            if (used.empty()) first = at;
            used.push_back(tap);
            offsets.emplace_back(tap, at - first);
        }
        Class& same = by_taps[used];
        same.members.emplace_back(target, first);
        same.taps = offsets;
    }
    std::vector<Class> all;
    for (auto& entry : by_taps) all.push_back(std::move(entry.second));
    return all;
}

struct Tap { long index, offset; };      // offset in pixels of the source
struct Place { long target, source; };   // pixels
struct Group { std::vector<Tap> taps; std::vector<Place> places; };
using Plan = std::vector<Group>;

struct Plane { long rows, columns; };

inline Plan cross(const std::vector<Class>& vertical, const std::vector<Class>& horizontal, long images, Plane target,
           Plane source, long kernel_columns) {
    Plan plan;
    for (auto& v : vertical)
        for (auto& h : horizontal) {
            Group group;
            for (auto [ky, dy] : v.taps)
                for (auto [kx, dx] : h.taps)
                    group.taps.push_back({ky * kernel_columns + kx, dy * source.columns + dx});
            for (long image = 0; image < images; image++)
                for (auto [y, sy] : v.members)
                    for (auto [x, sx] : h.members)
                        group.places.push_back({(image * target.rows + y) * target.columns + x,
                                                (image * source.rows + sy) * source.columns + sx});
            plan.push_back(std::move(group));
        }
    return plan;
}

// How y gathers from x.
inline Plan plan_of_output(const Geometry& g) {
    auto along = [](long size, long stride, long padding, long dilation) {
        return [=](long target, long tap) {
            long at = stride * target + dilation * tap - padding;
            return at < size ? at : -1;
        };
    };
    auto down = along(g.rows, g.stride_rows, g.padding_rows, g.dilation_rows);
    auto across = along(g.columns, g.stride_columns, g.padding_columns, g.dilation_columns);
    return cross(classes(g.out_rows, g.kernel_rows, down), classes(g.out_columns, g.kernel_columns, across),
                 g.images, {g.out_rows, g.out_columns}, {g.rows, g.columns}, g.kernel_columns);
}

// How the gradient with respect to x gathers from the gradient with respect to y.
inline Plan plan_of_input(const Geometry& g) {
    auto along = [](long size, long stride, long padding, long dilation) {
        return [=](long target, long tap) {
            long at = target + padding - dilation * tap;
            return at >= 0 && at % stride == 0 && at / stride < size ? at / stride : -1;
        };
    };
    auto down = along(g.out_rows, g.stride_rows, g.padding_rows, g.dilation_rows);
    auto across = along(g.out_columns, g.stride_columns, g.padding_columns, g.dilation_columns);
    return cross(classes(g.rows, g.kernel_rows, down), classes(g.columns, g.kernel_columns, across), g.images,
                 {g.rows, g.columns}, {g.out_rows, g.out_columns}, g.kernel_columns);
}

// Every place by itself, under one tap.
inline Plan plan_of_rows(const Geometry& g) {
    Group all{{{0, 0}}, {}};
    for (long i = 0; i < g.places(); i++) all.places.push_back({i, i});
    return {all};
}

// What `make` gives for a geometry, made once for all numbers of tasks and of channels.
inline const Plan& kept(Plan (*make)(const Geometry&), const Geometry& g) {
    using Key = std::pair<Plan (*)(const Geometry&), std::array<int64_t, 13>>;
    static std::map<Key, Plan> plans;
    static std::mutex mutex;
    Key key{make, {g.images, g.rows, g.columns, g.out_rows, g.out_columns, g.kernel_rows, g.kernel_columns,
                   g.stride_rows, g.stride_columns, g.padding_rows, g.padding_columns, g.dilation_rows,
                   g.dilation_columns}};
    std::lock_guard<std::mutex> lock(mutex);
    auto found = plans.find(key);
    return found != plans.end() ? found->second : plans.emplace(key, make(g)).first->second;
}
