// SPDX-License-Identifier: MIT
// A user's program: it uses one thing of each target that it linked, and it must link.
#include <iostream>

#include <storylm/storylm.hpp>

int main() {
  std::cout << "storylm " << storylm::version << '\n';
  storylm::Cpu device;
  const storylm::Tensor<float, storylm::Cpu> tensor({2, 3}, device);
  if (tensor.size() != 6) return 1;
#ifdef STORYLM_WITH_IO
  if (storylm::io::parse_json("[1, 2, 3]").as_array().size() != 3) return 1;
#endif
#ifdef STORYLM_WITH_SENTENCEPIECE
  try {
    (void)storylm::SentencePieceTokenizer::load("no such file");
    return 1;
  } catch (const storylm::IoError& error) {
    std::cout << error.what() << '\n';
  }
#endif
  return 0;
}
