// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Models in checkpoints: bit for bit there and back in every family, every mismatch named, all or nothing.
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/model_file.hpp>
#include <storylm/models/presets.hpp>

#include "io_model_support.hpp"
#include "io_support.hpp"

using namespace storylm;
using test::contains;
using test::error_of;
using test::save_model;
using test::TemporaryFolder;
using test::weights_of;

namespace {

constexpr TransformerConfig encoder = {
    .vocab_size = 11, .d_model = 8, .d_ff = 12, .n_layers = 2, .n_heads = 2, .max_len = 6, .scale_embedding = true};
constexpr TransformerConfig gpt2 = {.vocab_size = 11,
                                    .d_model = 8,
                                    .d_ff = 12,
                                    .n_layers = 2,
                                    .n_heads = 2,
                                    .max_len = 6,
                                    .pre_norm = true,
                                    .feed_forward = FeedForwardKind::gelu_tanh,
                                    .positions = PositionKind::learned,
                                    .tie_head = true,
                                    .head_bias = false};
constexpr TransformerConfig llama = {.vocab_size = 11,
                                     .d_model = 8,
                                     .d_ff = 12,
                                     .n_layers = 2,
                                     .n_heads = 4,
                                     .n_kv_heads = 2,
                                     .max_len = 6,
                                     .norm = NormKind::rms_norm,
                                     .pre_norm = true,
                                     .feed_forward = FeedForwardKind::swiglu,
                                     .positions = PositionKind::rope_half,
                                     .attention_out_bias = false,
                                     .feed_forward_bias = false,
                                     .head_bias = false};

using Encoder = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;
using Llama = nn::TransformerStack<float, Cpu, nn::RmsNorm, nn::SwiGlu>;

template <class Stack>
Stack model_of(const TransformerConfig& config, std::uint64_t seed) {
  Stack model(config, Cpu{});
  test::randomise(model, seed);
  return model;
}

/// Saves, loads into another model, compares every bit; saves that again, compares every byte.
template <class Stack>
void check_round_trip(const TransformerConfig& config, const TemporaryFolder& folder) {
  const auto model = model_of<Stack>(config, 1);
  save_model(folder / "a", model);
  const io::ModelFile file(folder / "a");
  CHECK(file.config() == config.resolved());
  CHECK(file.options().initialisation == Initialisation::none);
  CHECK(!file.tokenizer_hash());
  auto other = model_of<Stack>(config, 2);
  REQUIRE(weights_of(other) != weights_of(model));
  file.load_into(other);
  CHECK(weights_of(other) == weights_of(model));
  save_model(folder / "b", other);
  CHECK(test::read_bytes(folder / "a") == test::read_bytes(folder / "b"));
}

/// Elements of a tensor as they lie in the file.
std::vector<float> stored(const io::ModelFile& file, const std::string& name) {
  const auto bytes = file.reader().file().raw(name);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// Loads a changed copy of a model's file into a model of that shape and returns the error; nothing may have changed.
template <class Stack = Encoder, class F>
std::string load_error(const TransformerConfig& config, F&& change) {
  const TemporaryFolder folder;
  save_model(folder / "good", model_of<Stack>(config, 1));
  test::rewrite(folder / "good", folder / "changed", change);
  auto model = model_of<Stack>(config, 2);
  const auto before = weights_of(model);
  const std::string message = error_of([&] { io::ModelFile(folder / "changed").load_into(model); });
  CHECK(weights_of(model) == before);
  const std::string path = (folder / "changed").string();
  const auto at = message.find(path);
  return at == std::string::npos ? message : std::string(message).replace(at, path.size(), "FILE");
}
const std::string head = "head.weight";  // the last parameter: everything before it may not change either

}  // namespace

TEST_CASE("weights come back bit for bit: plain, transposed and split tensors") {
  const TemporaryFolder folder;
  check_round_trip<Encoder>(encoder, folder);
  check_round_trip<Encoder>(gpt2, folder);
  check_round_trip<Llama>(llama, folder);
}

TEST_CASE("GPT-2's matrices lie transposed in the file, embeddings do not") {
  const TemporaryFolder folder;
  const auto model = model_of<Encoder>(gpt2, 1);
  save_model(folder / "x", model);
  const io::ModelFile file(folder / "x");
  const auto weights = weights_of(model);
  const auto& up = weights.at("blocks.1.feed_forward.up.weight");  // (12, 8)
  const auto in_file = stored(file, "transformer.h.1.mlp.c_fc.weight");
  CHECK(file.reader().file().at("transformer.h.1.mlp.c_fc.weight").shape_text() == "(8, 12)");
  for (std::size_t out = 0; out < 12; ++out)
    for (std::size_t in = 0; in < 8; ++in) CHECK(in_file[in * 12 + out] == up[out * 8 + in]);
  CHECK(stored(file, "transformer.wte.weight") == weights.at("embedding.weight"));
  CHECK(stored(file, "transformer.wpe.weight") == weights.at("embedding.positions"));
  CHECK(stored(file, "transformer.h.0.attn.c_attn.bias") == weights.at("blocks.0.attention.qkv.bias"));
}

TEST_CASE("Llama's fused matrices are cut at the heads, biases too") {
  const TemporaryFolder folder;
  const auto model = model_of<Llama>(llama, 1);
  save_model(folder / "x", model);
  const io::ModelFile file(folder / "x");
  const auto weights = weights_of(model);
  const auto joined = [&](std::initializer_list<const char*> names, const std::string& end) {
    std::vector<float> all;
    for (const char* name : names) {
      const auto part = stored(file, "model.layers.1." + std::string(name) + end);
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  };
  CHECK(file.reader().file().at("model.layers.1.self_attn.q_proj.weight").shape_text() == "(8, 8)");
  CHECK(file.reader().file().at("model.layers.1.self_attn.k_proj.weight").shape_text() == "(4, 8)");
  CHECK(file.reader().file().at("model.layers.1.self_attn.v_proj.bias").shape_text() == "(4)");
  const auto qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
  CHECK(joined(qkv, ".weight") == weights.at("blocks.1.attention.qkv.weight"));
  CHECK(joined(qkv, ".bias") == weights.at("blocks.1.attention.qkv.bias"));
  CHECK(joined({"mlp.gate_proj", "mlp.up_proj"}, ".weight") == weights.at("blocks.1.feed_forward.gate_up.weight"));
}

TEST_CASE("tensors that are missing, of another shape, no numbers or not the model's: named, and nothing changes") {
  const auto only = [](const std::string& name, auto&& write) {
    return [name, write](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
      if (tensor.name != name) return false;
      write(writer);
      return true;
    };
  };
  CHECK(load_error(encoder, only(head, [](auto&) {})) == "[safetensors] FILE: tensor head.weight is missing");
  const std::vector<float> values(88, 7.0F);
  CHECK(load_error(encoder, only(head, [&](auto& writer) {
                     writer.template add<float>(head, {8, 11}, values);
                   })) == "[safetensors] FILE: tensor head.weight is (8, 11), expected (11, 8)");
  const std::vector<std::int32_t> integers(88, 7);
  CHECK(contains(load_error(encoder, only(head,
                                          [&](auto& writer) {
                                            writer.template add<std::int32_t>(head, {11, 8}, integers);
                                          })),
                 "tensor head.weight is I32, expected F32 or another float type"));
  const auto more = [&](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
    if (tensor.name == head) writer.add<float>("encoder.layers.2.norm1.weight", {8}, std::span(values).first(8));
    return false;
  };
  CHECK(load_error(encoder, more) == "[model] FILE: tensor encoder.layers.2.norm1.weight is not one of the model's");
  const std::string key = "model.layers.1.self_attn.k_proj.weight";
  CHECK(load_error<Llama>(llama, only(key, [](auto&) {})) == "[safetensors] FILE: tensor " + key + " is missing");
}

TEST_CASE("a damaged tensor is named, and nothing changes") {
  const TemporaryFolder folder;
  save_model(folder / "x", model_of<Encoder>(encoder, 1));
  const io::StoredTensor tensor = io::SafetensorsFile(folder / "x").at(head);
  test::poke(folder / "x", tensor.end - 2, 'x');
  auto model = model_of<Encoder>(encoder, 2);
  const auto before = weights_of(model);
  CHECK(contains(error_of([&] { io::ModelFile(folder / "x").load_into(model); }), "tensor head.weight is damaged"));
  CHECK(weights_of(model) == before);
}

TEST_CASE("a model of another shape or other constants: field, expected and found") {
  const TemporaryFolder folder;
  save_model(folder / "x", model_of<Encoder>(encoder, 1));
  const io::ModelFile file(folder / "x");
  const auto message = [&](const TransformerConfig& config, const TransformerOptions& options = {}) {
    Encoder model(config, Cpu{}, options);
    const auto before = weights_of(model);
    const std::string text = error_of([&] { file.load_into(model); });
    CHECK(weights_of(model) == before);
    return text;
  };
  const std::string start = "[model] " + (folder / "x").string() + ": ";
  TransformerConfig config = encoder;
  config.n_layers = 3;
  CHECK(message(config) == start + "n_layers is 2, expected 3");
  config = encoder;
  config.n_heads = 4;
  CHECK(message(config) == start + "n_heads is 2, expected 4");
  config = encoder;
  config.scale_embedding = false;
  CHECK(message(config) == start + "scale_embedding is true, expected false");
  config = encoder;
  config.pre_norm = true;
  CHECK(message(config) == start + "pre_norm is false, expected true");
  config = encoder;
  config.positions = PositionKind::rope_half;
  CHECK(message(config) == start + "positions is \"sinusoidal\", expected \"rope_half\"");
  config = encoder;
  config.max_len = 5;
  CHECK(message(config) == start + "max_len is 6, expected 5");
  // The same weights with another eps are another model.
  CHECK(message(encoder, {.norm_eps = 1e-6}) == start + "norm_eps is 1E-5, expected 1E-6");
}

TEST_CASE("rope_theta must agree where there are rotary positions") {
  const TemporaryFolder folder;
  save_model(folder / "llama", model_of<Llama>(llama, 1));
  Llama other(llama, Cpu{}, {.rope_theta = 5e5});
  CHECK(
      contains(error_of([&] { io::ModelFile(folder / "llama").load_into(other); }), "rope_theta is 1E4, expected 5E5"));
  save_model(folder / "encoder", model_of<Encoder>(encoder, 1));
  Encoder unused(encoder, Cpu{}, {.rope_theta = 5e5});
  CHECK_NOTHROW(io::ModelFile(folder / "encoder").load_into(unused));
}

TEST_CASE("other float types are converted, a run's own tensors are left aside, the tokenizer is named") {
  const TemporaryFolder folder;
  const auto model = model_of<Encoder>(encoder, 1);
  {
    io::CheckpointWriter writer(io::model_metadata(model, 0x0123456789ABCDEFU));
    io::add_model(writer, model);
    const std::vector<double> moments{1.0};
    writer.add_tensor<double>("run.optimizer.first_moment", {1}, std::span(moments));
    writer.save(folder / "x");
  }
  CHECK(io::ModelFile(folder / "x").tokenizer_hash() == detail::hash_text(0x0123456789ABCDEFU));
  const auto weights = weights_of(model).at("head.weight");
  std::vector<double> wide(weights.begin(), weights.end());
  std::vector<bf16> narrow(weights.begin(), weights.end());
  for (const bool as_double : {true, false}) {
    test::rewrite(folder / "x", folder / "y", [&](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
      if (tensor.name != head) return false;
      if (as_double) {
        writer.add<double>(head, {11, 8}, wide);
      } else {
        writer.add<bf16>(head, {11, 8}, narrow);
      }
      return true;
    });
    auto other = model_of<Encoder>(encoder, 2);
    io::ModelFile(folder / "y").load_into(other);
    const auto loaded = weights_of(other).at("head.weight");
    if (as_double) CHECK(loaded == weights);
    for (std::size_t i = 0; i < weights.size(); ++i)
      CHECK(loaded[i] == (as_double ? weights[i] : static_cast<float>(narrow[i])));
  }
  wide[13] = -1e300;
  test::rewrite(folder / "x", folder / "y", [&](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
    if (tensor.name == head) writer.add<double>(head, {11, 8}, wide);
    return tensor.name == head;
  });
  auto other = model_of<Encoder>(encoder, 2);
  const auto before = weights_of(other);
  CHECK(contains(error_of([&] { io::ModelFile(folder / "y").load_into(other); }),
                 "has -1e+300 at element 13, which is too large for F32"));
  CHECK(weights_of(other) == before);
}

TEST_CASE("a file without a config is no model") {
  const TemporaryFolder folder;
  io::CheckpointWriter({.library_version = "1"}).save(folder / "x");
  CHECK(contains(error_of([&] { const io::ModelFile file(folder / "x"); }), "its metadata has no config"));
}

TEST_CASE("a small file that asks for a huge model is refused before memory is taken") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "huge.safetensors";
  const auto refusal = [&](TransformerConfig config) {
    io::CheckpointWriter writer(
        {.library_version = "0", .config = io::json_text(io::config_to_json({.config = config, .options = {}}))});
    const std::vector<float> one{1.0F};
    writer.add_tensor<float>("embedding.weight", {1}, one);
    writer.save(path);
    return error_of<FormatError>([&] { io::ModelFile file(path); });
  };
  TransformerConfig config = encoder;
  CHECK(contains(refusal(config), "the config asks for"));
  config.n_layers = 2'000'000'000;
  CHECK(contains(refusal(config), "n_layers must be in [0, 4194304]: 2000000000"));
  config = encoder;
  config.max_len = 2'000'000'000;
  CHECK(contains(refusal(config), "max_len must be in [0, 4194304]: 2000000000"));
  // Enough elements cost a sparse file nothing; every layer has tensors of its own.
  config = {.vocab_size = 1, .d_model = 2, .d_ff = 1, .n_layers = 1000, .n_heads = 1, .max_len = 4};
  io::CheckpointWriter writer(
      {.library_version = "0", .config = io::json_text(io::config_to_json({.config = config, .options = {}}))});
  const std::vector<float> zeros(100'000);
  writer.add_tensor<float>("embedding.weight", {100'000}, zeros);
  writer.save(path);
  CHECK(contains(error_of<FormatError>([&] { io::ModelFile file(path); }),
                 "the config asks for 1000 layers, the file holds 1 tensors"));
}
