// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Hugging Face folders: config.json, an index and a shard that its writer may name as it likes. Nothing outside
/// the folder is opened.
#include <string>
#include <string_view>
#include <vector>

#include <storylm/io/hugging_face.hpp>
#include <storylm/io/safetensors.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

namespace {

constexpr char cut = '\0';  // between the files of an input

}  // namespace

void run(std::string_view input) {
  const std::size_t first = input.find(cut);
  if (first == input.npos) return;
  const std::size_t second = input.find(cut, first + 1);
  if (second == input.npos) return;
  static_cast<void>(folder().write("config.json", input.substr(0, first)));
  static_cast<void>(folder().write("model.safetensors.index.json", input.substr(first + 1, second - first - 1)));
  static_cast<void>(folder().write("a.safetensors", input.substr(second + 1)));
  static_cast<void>(refusal<Error>(  // IoError: a shard that is not there
      [&] {
        const io::HuggingFaceFolder model(folder().path());
        for (const io::SafetensorsFile& file : model.weights().files()) {
          must(std::filesystem::path(file.path()).parent_path() == folder().path(), "a file elsewhere", file.path());
          for (const io::StoredTensor& tensor : file.tensors())
            must(model.weights().find(tensor.name).tensor == &tensor, "a tensor is not found", tensor.name);
        }
      },
      folder().path().string()));
}

void seeds(Seeds& made) {
  const std::string config = R"({"model_type": "llama", "vocab_size": 3, "hidden_size": 2, "intermediate_size": 2,
    "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 4, "tie_word_embeddings": true})";
  const std::vector<float> values(64, 0.5F);
  io::SafetensorsWriter writer;
  writer.add<float>("model.embed_tokens.weight", {3, 2}, std::span(values).first(6));
  writer.add<float>("model.norm.weight", {32}, std::span(values).first(32));
  writer.save(folder().path() / "seed");
  Seeds shard;
  shard.add_file(folder().path() / "seed");
  for (const std::string_view name : {"a.safetensors", "../a.safetensors", "b.safetensors"}) {
    std::string index = R"({"metadata": {"total_size": 152}, "weight_map": {"model.embed_tokens.weight": ")";
    (index += name) += R"(", "model.norm.weight": "a.safetensors"}})";
    made.add(config + cut + index + cut + shard.inputs[0]);
  }
  json_words(made);
  made.words({"\"weight_map\"", "a.safetensors", "../", "/", "\\\\", "\\u0000", ".safetensors", "\"data_offsets\"",
              "\"shape\"", "\"num_hidden_layers\"", "4194304", "F16", "BF16"});
}

}  // namespace storylm::fuzz
