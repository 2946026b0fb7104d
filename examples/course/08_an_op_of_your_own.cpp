// SPDX-License-Identifier: MIT
// An op from outside: a tag, a kernel for a device, a function that checks. Nothing in the library is edited.
// Run time: no time at all.
// expected last line: [square_relu] y is (2, 2), expected (2, 3)
#include <iostream>

#include <storylm/storylm.hpp>

namespace mine::op {
/// <T> run(d, y, x): y = max(x, 0)^2, both (rows, cols). So et al., arXiv:2109.08668.
struct square_relu {};
}  // namespace mine::op

// The kernel assumes what the function below has checked. Rows are cut into pieces by shape alone, so that the bits do
// not depend on the number of threads.
template <storylm::cpu::Real T>
struct storylm::kernel<mine::op::square_relu, storylm::Cpu, T> {
  static void run(const Cpu& device, MatrixView<T> y, MatrixView<const T> x) {
    cpu::parallel_blocks(device, x.rows, cpu::row_grain(x.cols), [&](index_t begin, index_t end) {
      for (index_t r = begin; r < end; ++r)
        for (index_t c = 0; c < x.cols; ++c) y(r, c) = x(r, c) > T{0} ? x(r, c) * x(r, c) : T{0};
    });
  }
};

namespace mine {
using namespace storylm;

/// y = max(x, 0)^2, both (rows, cols). @throws ShapeError when shapes differ
template <Device D, FloatDtype T>
void square_relu(const D& device, MatrixView<T> y, std::type_identity_t<MatrixView<const T>> x) {
  static_assert(Supports<D, mine::op::square_relu, T>, "mine: square_relu has no kernel for this dtype on this device");
  expects<ShapeError>(y.rows == x.rows && y.cols == x.cols, "square_relu", "y is (", y.rows, ", ", y.cols,
                      "), expected (", x.rows, ", ", x.cols, ')');
  kernel<mine::op::square_relu, D, T>::run(device, y, x);
}
}  // namespace mine

int main() {
  using namespace storylm;
  // What nobody wrote is an absent specialisation. A program can ask before it calls.
  static_assert(Supports<Cpu, mine::op::square_relu, double> && !Supports<Cpu, mine::op::square_relu, bf16>);
  const Cpu device;
  const std::vector<double> values = {-1.0, 0.5, 2.0, 3.0, -4.0, 1.5};
  const auto x = Tensor<double, Cpu>::from_host({2, 3}, values, device);  // (2, 3)
  Tensor<double, Cpu> y({2, 3}, device);                                  // (2, 3)
  mine::square_relu(device, y.matrix(), x.matrix());
  for (const double value : y.to_host()) std::cout << value << ' ';
  std::cout << '\n';
  try {
    mine::square_relu(device, y.matrix().slice_cols(0, 2), x.matrix());
  } catch (const ShapeError& error) {
    std::cout << error.what() << '\n';
  }
}
