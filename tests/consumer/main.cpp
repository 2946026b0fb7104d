// SPDX-License-Identifier: MIT
// A user's program: it uses one thing of each target that it linked, and it must link.
#include <iostream>
#include <vector>

#include <storylm_presets/small_gpt2.hpp>
#include <storylm_presets/small_llama.hpp>
#include <storylm_presets/small_mistral.hpp>

#include <storylm/storylm.hpp>

static_assert(storylm::presets::small_mistral.sliding_window == 64);
static_assert(storylm::presets::small_llama_options.rope_theta == 500.0);
static_assert(storylm::presets::small_gpt2.tie_head);

#ifdef STORYLM_WITH_IO
/// What CMake made of a config.json is what the library reads from it.
bool is_preset_of(const char* name, const storylm::TransformerConfig& config,
                  const storylm::TransformerOptions& options) {
  const std::string path = std::string(FOLDERS "/") + name + "/config.json";
  const auto document = storylm::io::read_json(path);
  const auto read = storylm::io::read_hugging_face_config(storylm::io::as_object(document, path), path).model;
  return storylm::io::config_to_json(read) == storylm::io::config_to_json({config, options}) &&
         read.options.initialisation == options.initialisation;
}
#endif

int main() {
  std::cout << "storylm " << storylm::version << '\n';
  storylm::Cpu device;
  const std::vector<float> numbers = {1, 2, 3, 4, 5, 6};
  auto tensor = storylm::Tensor<float, storylm::Cpu>::from_host({2, 3}, numbers, device);
  storylm::ops::add(device, tensor.matrix(), tensor.matrix());
  if (tensor.to_host()[5] != 12.0F) return 1;
#ifdef STORYLM_WITH_IO
  if (storylm::io::parse_json("[1, 2, 3]").as_array().size() != 3) return 1;
  using namespace storylm::presets;
  if (!is_preset_of("gpt2", small_gpt2, small_gpt2_options)) return 1;
  if (!is_preset_of("llama", small_llama, small_llama_options)) return 1;
  if (!is_preset_of("mistral", small_mistral, small_mistral_options)) return 1;
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
