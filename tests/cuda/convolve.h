// Convolutions on the CPU for the fake cuDNN (cudnn.cpp). Tensors are copied into dense ones of f32, the input's map
// with its padding, so that the loops know no strides of wider maps, no element types and no edges. Products and sums
// are in f32, in an order that depends on shapes alone; results are rounded once, to nearest even. Knows nothing of
// cuDNN or of a driver.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

enum class Direction : int64_t { Forward, ByInput, ByWeights };

// Maps NHWC, strides in elements; channels lie side by side. Weights are maps, too: one for each output channel.
struct Tensor {
    int64_t count, channels, height, width;
    int64_t of_map, of_row, of_pixel;
    int64_t is_bf16, number, alignment;

    int64_t element() const { return is_bf16 ? 2 : 4; }
    // Bytes from the first element to the end of the last one.
    uint64_t extent() const {
        int64_t last = (count - 1) * of_map + (height - 1) * of_row + (width - 1) * of_pixel + channels - 1;
        return static_cast<uint64_t>((last + 1) * element());
    }
};

struct Pair { int64_t vertical, horizontal; };

// `x`, `w` and `y` are the input's map, the weights and the output's map, or their gradients.
struct Convolution {
    Direction direction;
    Tensor x, w, y;
    Pair before, after, stride;  // `before` and `after`: padding
    int64_t accumulate;

    const Tensor &written() const {
        return direction == Direction::Forward ? y : direction == Direction::ByInput ? x : w;
    }
    uint64_t multiplications() const {
        return static_cast<uint64_t>(y.count * y.height * y.width * y.channels * w.height * w.width * w.channels);
    }
};

float from_bf16(uint16_t bits) {
    uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

uint16_t to_bf16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A tensor without gaps between pixels.
struct Dense {
    int64_t count, height, width, channels;
    std::vector<float> values;

    Dense(int64_t count, int64_t height, int64_t width, int64_t channels)
        : count(count), height(height), width(width), channels(channels),
          values(static_cast<size_t>(count * height * width * channels)) {}

    float *at(int64_t map, int64_t row, int64_t pixel) {
        return values.data() + ((map * height + row) * width + pixel) * channels;
    }
    // All pixels as one row.
    void flatten() { width *= count * height; count = height = 1; }
    void unflatten(const Tensor &as) { count = as.count, height = as.height, width = as.width; }
};

// Zeros of the size of `tensor`, padded.
Dense zeros(const Tensor &tensor, Pair before = {0, 0}, Pair after = {0, 0}) {
    int64_t height = before.vertical + tensor.height + after.vertical;
    return Dense(tensor.count, height, before.horizontal + tensor.width + after.horizontal, tensor.channels);
}

// Calls `visit(pixel of memory, pixel of dense)` for all pixels of a tensor.
template <class T, class F>
void each_pixel(const Tensor &tensor, uint64_t address, Dense &dense, Pair before, F visit) {
    T *memory = reinterpret_cast<T *>(address);
    for (int64_t map = 0; map < tensor.count; map++)
        for (int64_t row = 0; row < tensor.height; row++)
            for (int64_t pixel = 0; pixel < tensor.width; pixel++)
                visit(memory + map * tensor.of_map + row * tensor.of_row + pixel * tensor.of_pixel,
                      dense.at(map, row + before.vertical, pixel + before.horizontal));
}

Dense read(const Tensor &tensor, uint64_t address, Pair before = {0, 0}, Pair after = {0, 0}) {
    Dense dense = zeros(tensor, before, after);
    int64_t channels = tensor.channels;
    if (tensor.is_bf16) {
        each_pixel<const uint16_t>(tensor, address, dense, before, [=](const uint16_t *from, float *to) {
            for (int64_t i = 0; i < channels; i++) to[i] = from_bf16(from[i]);
        });
    } else {
        each_pixel<const float>(tensor, address, dense, before, [=](const float *from, float *to) {
            std::copy_n(from, channels, to);
        });
    }
    return dense;
}

void write(Dense &dense, const Tensor &tensor, uint64_t address, Pair before, bool add) {
    int64_t channels = tensor.channels;
    if (tensor.is_bf16) {
        each_pixel<uint16_t>(tensor, address, dense, before, [=](uint16_t *to, const float *from) {
            for (int64_t i = 0; i < channels; i++) to[i] = to_bf16(add ? from_bf16(to[i]) + from[i] : from[i]);
        });
    } else {
        each_pixel<float>(tensor, address, dense, before, [=](float *to, const float *from) {
            for (int64_t i = 0; i < channels; i++) to[i] = add ? to[i] + from[i] : from[i];
        });
    }
}

// A matrix: element (i, j) is at `start[i * row + j * column]`.
struct Matrix { const float *start; int64_t row, column; };

constexpr int64_t LANES = 8;
using Lanes = float __attribute__((vector_size(4 * LANES)));
using LanesInMemory = float __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// Adds ROWS x (8 * VECTORS) elements of a product, whose sums stay in registers.
template <int ROWS, int VECTORS>
void whole(Matrix a, const float *b, int64_t b_row, int64_t length, float *out, int64_t out_row) {
    Lanes sums[ROWS][VECTORS] = {};
    for (int64_t l = 0; l < length; l++) {
        const LanesInMemory *row = reinterpret_cast<const LanesInMemory *>(b + l * b_row);
        for (int i = 0; i < ROWS; i++)
            for (int v = 0; v < VECTORS; v++) sums[i][v] += a.start[i * a.row + l * a.column] * row[v];
    }
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < VECTORS; v++) reinterpret_cast<LanesInMemory *>(out + i * out_row)[v] += sums[i][v];
}

// The same for `rows` rows of less than 8 columns.
void narrow(int64_t rows, int64_t columns, Matrix a, const float *b, int64_t b_row, int64_t length, float *out,
            int64_t out_row) {
    for (int64_t i = 0; i < rows; i++) {
        float sums[LANES] = {};
        for (int64_t l = 0; l < length; l++) {
            float factor = a.start[i * a.row + l * a.column];
            for (int64_t j = 0; j < columns; j++) sums[j] += factor * b[l * b_row + j];
        }
        for (int64_t j = 0; j < columns; j++) out[i * out_row + j] += sums[j];
    }
}

template <int VECTORS>
void all_rows(int64_t rows, Matrix a, const float *b, int64_t b_row, int64_t length, float *out, int64_t out_row) {
    int64_t i = 0;
    auto from = [&] { return Matrix{a.start + i * a.row, a.row, a.column}; };
    for (; i + 4 <= rows; i += 4) whole<4, VECTORS>(from(), b, b_row, length, out + i * out_row, out_row);
    for (; i < rows; i++) whole<1, VECTORS>(from(), b, b_row, length, out + i * out_row, out_row);
}

// out += a * b, for `rows` x `columns` elements. Long sums are taken in parts, for their precision.
void multiply(int64_t rows, int64_t columns, int64_t length, Matrix a, const float *b, int64_t b_row, float *out,
              int64_t out_row) {
    constexpr int64_t PART = 256;
    for (int64_t start = 0; start < length; start += PART) {
        int64_t part = std::min(PART, length - start), j = 0;
        Matrix left = {a.start + start * a.column, a.row, a.column};
        const float *top = b + start * b_row;
        for (; j + 2 * LANES <= columns; j += 2 * LANES)
            all_rows<2>(rows, left, top + j, b_row, part, out + j, out_row);
        for (; j + LANES <= columns; j += LANES) all_rows<1>(rows, left, top + j, b_row, part, out + j, out_row);
        if (j < columns) narrow(rows, columns - j, left, top + j, b_row, part, out + j, out_row);
    }
}

// (out, height, width, in) to (height, width, in, out).
std::vector<float> outputs_last(const Dense &w) {
    int64_t of_output = w.height * w.width * w.channels;
    std::vector<float> turned(w.values.size());
    for (int64_t out = 0; out < w.count; out++)
        for (int64_t i = 0; i < of_output; i++) turned[i * w.count + out] = w.values[out * of_output + i];
    return turned;
}

// In each of the three, a row of the kernel and of a map are one or a few matrix products: the pixels below a row of
// the kernel lie side by side, and so do the weights of the row.

void forward(Dense &x, Dense &w, Dense &y, Pair stride) {
    std::vector<float> turned = outputs_last(w);
    int64_t length = w.width * w.channels, out = y.channels;
    for (int64_t map = 0; map < y.count; map++)
        for (int64_t row = 0; row < y.height; row++)
            for (int64_t r = 0; r < w.height; r++) {
                Matrix pixels = {x.at(map, row * stride.vertical + r, 0), stride.horizontal * x.channels, 1};
                const float *weights = turned.data() + r * length * out;
                multiply(y.width, out, length, pixels, weights, out, y.at(map, row, 0), out);
            }
}

void by_input(Dense &x, Dense &w, Dense &y, Pair stride) {
    int64_t of_output = w.height * w.width * w.channels;
    for (int64_t map = 0; map < y.count; map++)
        for (int64_t row = 0; row < y.height; row++)
            for (int64_t r = 0; r < w.height; r++)
                for (int64_t s = 0; s < w.width; s++) {
                    Matrix gradient = {y.at(map, row, 0), y.channels, 1};
                    float *to = x.at(map, row * stride.vertical + r, s);
                    multiply(y.width, x.channels, y.channels, gradient, w.at(0, r, s), of_output, to,
                             stride.horizontal * x.channels);
                }
}

void by_weights(Dense &x, Dense &w, Dense &y, Pair stride) {
    int64_t of_output = w.height * w.width * w.channels;
    for (int64_t map = 0; map < y.count; map++)
        for (int64_t row = 0; row < y.height; row++)
            for (int64_t r = 0; r < w.height; r++) {
                Matrix gradient = {y.at(map, row, 0), 1, y.channels};
                const float *pixels = x.at(map, row * stride.vertical + r, 0);
                multiply(y.channels, w.width * w.channels, y.width, gradient, pixels, stride.horizontal * x.channels,
                         w.at(0, r, 0), of_output);
            }
}

// Computes a convolution on memory that was checked before.
void convolve(const Convolution &c, uint64_t x_address, uint64_t w_address, uint64_t y_address) {
    bool to_x = c.direction == Direction::ByInput, to_w = c.direction == Direction::ByWeights;
    bool to_y = c.direction == Direction::Forward, add = c.accumulate != 0;
    Dense x = to_x ? zeros(c.x, c.before, c.after) : read(c.x, x_address, c.before, c.after);
    Dense w = to_w ? zeros(c.w) : read(c.w, w_address);
    Dense y = to_y ? zeros(c.y) : read(c.y, y_address);
    // A kernel of one pixel is one matrix product for the whole batch.
    bool flat = w.height == 1 && w.width == 1 && c.stride.vertical == 1 && c.stride.horizontal == 1 &&
                c.x.height == c.y.height && c.x.width == c.y.width;
    if (flat) x.flatten(), y.flatten();
    (to_x ? by_input : to_w ? by_weights : forward)(x, w, y, c.stride);
    if (flat) x.unflatten(c.x), y.unflatten(c.y);
    if (to_x) write(x, c.x, x_address, c.before, add);
    if (to_w) write(w, c.w, w_address, {0, 0}, add);
    if (to_y) write(y, c.y, y_address, {0, 0}, add);
}

}  // namespace
