// SPDX-License-Identifier: MIT
/// @file
/// @brief op::activation on the CPU: ReLU and both GELUs with dropout in the same pass.

template <Real T>
struct kernel<op::activation, T> {
  /// ReLU's derivative is seen from its output: positive means kept by the function and by dropout alike.
  [[nodiscard]] static constexpr bool needs_input(Activation activation) { return activation != Activation::relu; }

  /// y = dropout(f(x)), both (tokens, width).
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> x, Activation activation,
                  const DropoutSpec& dropout, const PackedView& batch) {
    switch (activation) {
      case Activation::relu:
        return forward(device, y, x, dropout, batch, [](T v) { return select(v < T{0}, T{0}, v); });
      case Activation::gelu_tanh:
        return forward(device, y, x, dropout, batch, [](T v) { return T{0.5} * v * (T{1} + tanh(tanh_argument(v))); });
      case Activation::gelu_erf:
        return forward(device, y, x, dropout, batch, [](T v) { return T{0.5} * v * (T{1} + erf(v * inverse_sqrt2)); });
    }
  }

  /// dx = f'(x) dropout'(dy), all (tokens, width); x is read where needs_input, else y.
  static void backward(const Cpu& device, MatrixView<T> dx, MatrixView<const T> dy, MatrixView<const T> x,
                       MatrixView<const T> y, Activation activation, const DropoutSpec& dropout,
                       const PackedView& batch) {
    switch (activation) {
      case Activation::relu:
        return relu_backward(device, dx, dy, y, RowDropout<T>(dropout, batch).scale());
      case Activation::gelu_tanh:
        return gelu_backward(device, dx, dy, x, dropout, batch, [](T v) {
          const T t = tanh(tanh_argument(v));
          const T slope = sqrt_2_over_pi * (T{1} + T{3} * cubic * v * v);
          return T{0.5} * (T{1} + t) + T{0.5} * v * (T{1} - t * t) * slope;
        });
      case Activation::gelu_erf:
        return gelu_backward(device, dx, dy, x, dropout, batch, [](T v) {
          const T cumulative = T{0.5} * (T{1} + erf(v * inverse_sqrt2));
          return cumulative + v * exp(T{-0.5} * v * v) * inverse_sqrt_2pi;
        });
    }
  }

 private:
  static constexpr T cubic = static_cast<T>(0.044715);
  static constexpr T inverse_sqrt2 = static_cast<T>(1.0 / std::numbers::sqrt2);
  static constexpr T sqrt_2_over_pi = static_cast<T>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  static constexpr T inverse_sqrt_2pi = static_cast<T>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);

  static T tanh_argument(T v) { return sqrt_2_over_pi * (v + cubic * v * v * v); }

  template <class F>
  static void forward(const Cpu& device, MatrixView<T> y, MatrixView<const T> x, const DropoutSpec& dropout,
                      const PackedView& batch, const F& f) {
    const RowDropout<T> mask(dropout, batch);
    parallel_blocks(device, y.rows, row_grain(y.cols), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        mask.for_each_piece(r, y.cols, [&](index_t first, index_t count, const T* factors) {
          const T* const from = x.row(r) + first;
          lane_map(count, y.row(r) + first, [=](index_t i) { return f(from[i]) * factors[i]; });
        });
      }
    });
  }

  static void relu_backward(const Cpu& device, MatrixView<T> dx, MatrixView<const T> dy, MatrixView<const T> y,
                            T scale) {
    parallel_blocks(device, dx.rows, row_grain(dx.cols), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        const T* const value = y.row(r);
        const T* const gradient = dy.row(r);
        lane_map(dx.cols, dx.row(r), [=](index_t i) { return select(value[i] <= T{0}, T{0}, gradient[i] * scale); });
      }
    });
  }

  template <class F>
  static void gelu_backward(const Cpu& device, MatrixView<T> dx, MatrixView<const T> dy, MatrixView<const T> x,
                            const DropoutSpec& dropout, const PackedView& batch, const F& derivative) {
    const RowDropout<T> mask(dropout, batch);
    parallel_blocks(device, dx.rows, row_grain(dx.cols), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r) {
        mask.for_each_piece(r, dx.cols, [&](index_t first, index_t count, const T* factors) {
          const T* const from = x.row(r) + first;
          const T* const gradient = dy.row(r) + first;
          lane_map(count, dx.row(r) + first, [=](index_t i) { return gradient[i] * factors[i] * derivative(from[i]); });
        });
      }
    });
  }
};
