// SPDX-License-Identifier: MIT
// A user's program: it uses one thing of each target that it linked, and it must link.
#include <iostream>
#include <vector>

#include <storylm/storylm.hpp>

int main() {
  std::cout << "storylm " << storylm::version << '\n';
  storylm::Cpu device;
  const std::vector<float> numbers = {1, 2, 3, 4, 5, 6};
  auto tensor = storylm::Tensor<float, storylm::Cpu>::from_host({2, 3}, numbers, device);
  storylm::ops::add(device, tensor.matrix(), tensor.matrix());
  if (tensor.to_host()[5] != 12.0F) return 1;
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
#ifdef STORYLM_WITH_CUDA
  try {
    const storylm::Cuda cuda;
    const std::vector<storylm::bf16> ones(6, storylm::bf16(1.0F));
    auto y = storylm::Tensor<storylm::bf16, storylm::Cuda>::from_host({2, 3}, ones, cuda);
    storylm::ops::add(cuda, y.matrix(), y.matrix());
    if (static_cast<float>(y.to_host()[5]) != 2.0F) return 1;
  } catch (const storylm::CudaError& error) {  // where there is no GPU
    std::cout << error.what() << '\n';
  }
#endif
  return 0;
}
