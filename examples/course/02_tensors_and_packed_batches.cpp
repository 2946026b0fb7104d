// SPDX-License-Identifier: MIT
// Who owns memory (Tensor), who looks at it (MatrixView), how sequences of different length share a batch (Packed).
// Run time: no time at all.
// expected last line: [Packed::append] a sequence of 4 tokens does not fit: 5 of 8 tokens and 2 of 2 sequences are...
#include <iostream>

#include <storylm/storylm.hpp>

using namespace storylm;

void print(const char* name, MatrixView<const float> m) {
  std::cout << name << " (" << m.rows << ", " << m.cols << "):";
  for (index_t r = 0; r < m.rows; ++r) {
    for (index_t c = 0; c < m.cols; ++c) std::cout << ' ' << m(r, c);
    std::cout << (r + 1 < m.rows ? " |" : "\n");
  }
}

int main() {
  const Cpu device({.threads = 1});  // a cheap handle: its copies share threads and scratch memory

  // A tensor owns its memory and can be moved; a copy has to be asked for.
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  auto x = Tensor<float, Cpu>::from_host({2, 3}, values, device);  // (2, 3)
  const auto copy = x.clone();                                     // (2, 3)
  x.matrix()(0, 0) = 10;
  print("x", x.matrix());
  print("its copy", copy.matrix());
  print("its last two columns", x.matrix().slice_cols(1, 2));  // a view: no memory of its own, the stride is still 3

  // Functions in ops/ take views, check shapes and write where they are told to.
  Tensor<float, Cpu> y({2, 2}, device);  // (2, 2), zeros
  ops::matmul(device, y.matrix(), x.matrix(), copy.matrix(), {.transpose_b = true});
  print("x copy^T", y.matrix());

  // Activations are (tokens, width): sequences lie one after another, and nothing is computed for padding.
  Packed<Cpu> batch({.tokens = 8, .sequences = 2, .longest = 4}, device);
  const std::vector<token_t> ids = {1, 7, 8, 9};
  const std::vector<token_t> targets = {7, 8, 9, 2};
  batch.append(std::span(ids).first(3), std::span(targets).first(3), 0);
  batch.append(std::span(ids).first(2), {}, 1);  // without targets it takes no part in the loss
  const PackedView view = batch.view();
  std::cout << view.tokens << " tokens in " << view.sequences << " sequences, " << batch.target_count() << " targets\n";
  for (index_t t = 0; t < view.tokens; ++t)
    std::cout << "row " << t << ": sequence " << view.sequence[t] << ", position " << view.positions[t] << '\n';

  // Whatever is wrong is said with the actual values.
  try {
    batch.append(ids, targets, 2);
  } catch (const ShapeError& error) {
    std::cout << error.what() << '\n';
  }
}
