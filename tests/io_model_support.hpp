// SPDX-License-Identifier: MIT
/// @file
/// @brief Small models of every kind, and checkpoints with one thing changed.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <storylm/core/random.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/nn/transformer_stack.hpp>

namespace storylm::test {

/// Every combination of kinds that a config can have, with all biases and with none, tied and not, grouped and not.
inline std::vector<TransformerConfig> all_configs() {
  std::vector<TransformerConfig> all;
  for (const NormKind norm : {NormKind::layer_norm, NormKind::rms_norm})
    for (const FeedForwardKind feed_forward :
         {FeedForwardKind::relu, FeedForwardKind::gelu_tanh, FeedForwardKind::gelu_erf, FeedForwardKind::swiglu})
      for (const PositionKind positions :
           {PositionKind::sinusoidal, PositionKind::learned, PositionKind::rope_half, PositionKind::rope_interleaved})
        for (unsigned bits = 0; bits < 16; ++bits) {
          const bool bias = (bits & 1U) != 0;
          all.push_back({.vocab_size = 7,
                         .d_model = 8,
                         .d_ff = 6,
                         .n_layers = 2,
                         .n_heads = 4,
                         .n_kv_heads = (bits & 2U) != 0 ? 2 : 4,
                         .max_len = 5,
                         .norm = norm,
                         .pre_norm = (bits & 4U) != 0,
                         .feed_forward = feed_forward,
                         .positions = positions,
                         .tie_head = (bits & 8U) != 0,
                         .qkv_bias = bias,
                         .attention_out_bias = bias,
                         .feed_forward_bias = bias,
                         .norm_bias = bias,
                         .head_bias = bias});
        }
  return all;
}

/// Gives every parameter random values, all of them different from what constructors set.
template <class Stack>
void randomise(Stack& model, std::uint64_t seed) {
  RandomStream random(seed, 3, 0x7E57);
  nn::for_each_parameter(model, [&](const std::string&, auto& p) {
    std::vector<float> values(static_cast<std::size_t>(p.size()));
    for (float& v : values) v = static_cast<float>(random.normal());
    p.assign(values);
  });
}

/// The values of every parameter by name.
template <class Stack>
std::map<std::string, std::vector<float>> weights_of(const Stack& model) {
  std::map<std::string, std::vector<float>> all;
  nn::for_each_parameter(model, [&](const std::string& name, const auto& p) { all[name] = p.to_host(); });
  return all;
}

template <class Stack>
void save_model(const std::filesystem::path& path, const Stack& model) {
  io::CheckpointWriter writer(io::model_metadata(model));
  io::add_model(writer, model);
  writer.save(path);
}

/// Copies a checkpoint tensor by tensor. `change(writer, tensor)` returns true when it has written the tensor, or left
/// it out, itself; `metadata` replaces what it names.
template <class F>
void rewrite(const std::filesystem::path& from, const std::filesystem::path& to, F&& change,
             const io::Metadata& metadata = {}) {
  const io::SafetensorsFile file(from);
  io::Metadata all = metadata;
  for (const auto& [key, value] : file.metadata())
    if (!key.ends_with("checksums") && !key.ends_with("header_checksum")) all.emplace(key, value);
  io::SafetensorsWriter writer({.metadata = all, .checksums = true});
  for (const io::StoredTensor& tensor : file.tensors()) {
    if (change(writer, tensor)) continue;
    Shape shape;
    for (const index_t extent : tensor.shape) shape.append(extent);
    writer.add(tensor.name, tensor.dtype, shape,
               [&file, &tensor](const io::SafetensorsWriter::Sink& sink) { sink(file.raw(tensor)); });
  }
  writer.save(to);
}

}  // namespace storylm::test
