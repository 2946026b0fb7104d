// SPDX-License-Identifier: MIT
/// @file
/// @brief op::activation on the CPU: ReLU and both GELUs with dropout in the same pass.

/// value(x) = f(x), and gradient(dy, ...) = f'(x) dy, for vectors of the computing type.
template <Activation function, std::floating_point A>
struct ActivationFunction;

/// max(x, 0); a NaN stays. Its slope is seen from its output: positive means kept by the function and by dropout alike.
/// Where it is zero, so is the gradient, even of what is not finite.
template <std::floating_point A>
struct ActivationFunction<Activation::relu, A> {
  static constexpr bool needs_input = false;
  [[gnu::always_inline]] static inline Vector<A> value(Vector<A> x) { return select(x < A{0}, Vector<A>{}, x); }
  /// @param y what value() gave, or dropout of it
  [[gnu::always_inline]] static inline Vector<A> gradient(Vector<A> dy, Vector<A> y) {
    return select(y <= A{0}, Vector<A>{}, dy);
  }
};

/// x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3); (1 + tanh(u)) / 2 is sigmoid(2 u).
template <std::floating_point A>
struct ActivationFunction<Activation::gelu_tanh, A> {
  static constexpr bool needs_input = true;
  static constexpr A cubic = static_cast<A>(0.044715);
  static constexpr A twice_sqrt_2_over_pi = static_cast<A>(2.0 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi);

  [[gnu::always_inline]] static inline Vector<A> share(Vector<A> x) {
    return sigmoid(Vector<A>(twice_sqrt_2_over_pi * multiply_add(Vector<A>(cubic * x * x), x, x)));
  }
  [[gnu::always_inline]] static inline Vector<A> value(Vector<A> x) { return x * share(x); }
  [[gnu::always_inline]] static inline Vector<A> gradient(Vector<A> dy, Vector<A> x) {
    const Vector<A> s = share(x);
    Vector<A> near = select(x < A{-32}, broadcast(A{-32}), x);  // beyond, s (1 - s) is 0, and x^2 may be infinite
    near = select(near > A{32}, broadcast(A{32}), near);
    const Vector<A> du = multiply_add(Vector<A>(A{3} * cubic * near), near, broadcast(A{1}));
    return dy * multiply_add(Vector<A>(near * s * (A{1} - s)), Vector<A>(twice_sqrt_2_over_pi * du), s);
  }
};

/// x/2 (1 + erf(x / sqrt 2)).
template <std::floating_point A>
struct ActivationFunction<Activation::gelu_erf, A> {
  static constexpr bool needs_input = true;
  static constexpr A inverse_sqrt2 = static_cast<A>(1.0 / std::numbers::sqrt2);
  static constexpr A inverse_sqrt_2pi = static_cast<A>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);

  [[gnu::always_inline]] static inline Vector<A> cumulative(Vector<A> x) {
    return A{0.5} * (A{1} + erf(Vector<A>(x * inverse_sqrt2)));
  }
  [[gnu::always_inline]] static inline Vector<A> value(Vector<A> x) { return x * cumulative(x); }
  [[gnu::always_inline]] static inline Vector<A> gradient(Vector<A> dy, Vector<A> x) {
    const Vector<A> density = inverse_sqrt_2pi * exp(Vector<A>(A{-0.5} * x * x));
    return dy * multiply_add(x, density, cumulative(x));
  }
};

/// f(ActivationFunction<function, A>{}): a loop's function is known when it is compiled.
template <std::floating_point A, class F>
void with_activation(Activation function, const F& f) {
  switch (function) {
    case Activation::relu:
      return f(ActivationFunction<Activation::relu, A>{});
    case Activation::gelu_tanh:
      return f(ActivationFunction<Activation::gelu_tanh, A>{});
    case Activation::gelu_erf:
      return f(ActivationFunction<Activation::gelu_erf, A>{});
  }
}

template <FloatDtype T>
struct kernel<op::activation, T> {
  using A = accumulator_t<T>;

  [[nodiscard]] static constexpr bool needs_input(Activation function) { return function != Activation::relu; }

  /// y = dropout(f(x)), both (tokens, width).
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> x, Activation activation,
                  const DropoutSpec& dropout, const PackedView& batch) {
    const RowDropout<A> mask(dropout, batch);
    with_activation<A>(activation, [&](auto function) {
      parallel_blocks(device, y.rows, row_grain(y.cols), [&](index_t begin, index_t end) {
        for (index_t r = begin; r < end; ++r) {
          const T* const from = x.row(r);
          T* const to = y.row(r);
          mask.for_each_vector(r, y.cols, [&](index_t i, auto which, Vector<A> factors) {
            store_as<A>(to + i, Vector<A>(function.value(load_as<A>(from + i, which)) * factors), which);
          });
        }
      });
    });
  }

  /// dx = f'(x) dropout'(dy), all (tokens, width); x is read where needs_input, else y.
  static void backward(const Cpu& device, MatrixView<T> dx, MatrixView<const T> dy, MatrixView<const T> x,
                       MatrixView<const T> y, Activation activation, const DropoutSpec& dropout,
                       const PackedView& batch) {
    const RowDropout<A> mask(dropout, batch);
    with_activation<A>(activation, [&](auto function) {
      parallel_blocks(device, dx.rows, row_grain(dx.cols), [&](index_t begin, index_t end) {
        for (index_t r = begin; r < end; ++r) {
          const T* const from = function.needs_input ? x.row(r) : y.row(r);
          const T* const gradient = dy.row(r);
          T* const to = dx.row(r);
          const auto vector = [&](index_t i, auto which, Vector<A> factors) {
            const Vector<A> dropped = load_as<A>(gradient + i, which) * factors;
            store_as<A>(to + i, function.gradient(dropped, load_as<A>(from + i, which)), which);
          };
          if constexpr (function.needs_input) {
            mask.for_each_vector(r, dx.cols, vector);
          } else {  // the output has the mask in it
            const Vector<A> scale = broadcast(mask.scale());
            for_each_vector<A>(dx.cols, [&](index_t i, auto which) { vector(i, which, scale); });
          }
        }
      });
    });
  }
};
