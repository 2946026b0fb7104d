// SPDX-License-Identifier: MIT
// LINK: io sentencepiece
#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/hugging_face.hpp>
#include <storylm/io/hugging_face_export.hpp>
#include <storylm/io/safetensors.hpp>

#include "export_support.hpp"
#include "io_support.hpp"
#include "support.hpp"

using namespace storylm;
using namespace storylm::test;
namespace fs = std::filesystem;

namespace {

using Llama = nn::TransformerStack<float, Cpu, nn::RmsNorm, nn::SwiGlu>;
using Gpt2 = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

/// Exports a checkpoint with random weights, loads the folder again and compares what both compute on `tokens` tokens.
/// Returns the folder's config.
template <class Stack>
TransformerConfig round_trip(const TransformerConfig& config, std::string_view architecture, std::size_t tokens = 300) {
  const TemporaryFolder folder;
  const TransformerOptions options{.norm_eps = 2e-5, .rope_theta = 5000.0};
  const Stack model = write_checkpoint<Stack>(folder / "model.safetensors", config, options);
  const io::ExportSummary summary =
      io::export_hugging_face(io::ModelFile(folder / "model.safetensors"), folder / "out");
  CHECK(summary.architecture == architecture);
  CHECK(summary.parameters == parameter_count(config));
  const io::HuggingFaceFolder exported(folder / "out");
  CHECK(exported.description().architecture == architecture);
  CHECK(exported.options().norm_eps == 2e-5);
  if (config.uses_rope()) CHECK(exported.options().rope_theta == 5000.0);
  Stack loaded(exported.config(), Cpu{}, exported.options(), nn::Gradients::no);
  exported.load_into(loaded);
  const auto ids = random_ids(tokens, config.vocab_size);
  CHECK(relative_difference(logits_of(loaded, ids), logits_of(model, ids)) <= 1e-5);
  return exported.config();
}

io::HuggingFaceConfig described(const TransformerConfig& config) {
  return io::read_hugging_face_config(io::hugging_face_config({config, {}}), "config.json");
}

boost::json::object object_of(const fs::path& path) { return io::as_object(io::read_json(path), path.string()); }

}  // namespace

TEST_CASE("parameters of a shape are those that a model of it names") {
  std::size_t compared = 0;
  const auto compare = [&]<class Stack>(const TransformerConfig& config) {
    const Stack model(config, Cpu{}, {.initialisation = Initialisation::none}, nn::Gradients::no);
    std::vector<std::string> expected;
    nn::for_each_parameter(model, [&](const std::string& name, const auto& p) {
      std::string text = name;
      for (int axis = 0; axis < p.shape().rank(); ++axis) text += ' ' + std::to_string(p.shape()[axis]);
      expected.push_back(text);
    });
    std::vector<std::string> found;
    for (const auto& [name, shape] : io::parameter_shapes(config)) {
      std::string text = name;
      for (int axis = 0; axis < shape.rank(); ++axis) text += ' ' + std::to_string(shape[axis]);
      found.push_back(text);
    }
    std::sort(expected.begin(), expected.end());
    std::sort(found.begin(), found.end());
    CHECK(found == expected);
    ++compared;
  };
  for (const TransformerConfig& config : all_configs()) {
    index_t size = 0;
    for (const auto& parameter : io::parameter_shapes(config)) size += parameter.shape.size();
    CHECK(size == parameter_count(config));
    const bool gated = config.feed_forward == FeedForwardKind::swiglu;
    if (config.norm == NormKind::layer_norm && !gated) compare.operator()<Gpt2>(config);
    if (config.norm == NormKind::rms_norm && gated) compare.operator()<Llama>(config);
  }
  CHECK(compared == 256);
}

TEST_CASE("rows of rotated heads: pairs of halves, and halves of pairs again") {
  using io::RowOrder;
  std::vector<index_t> pairs;
  for (index_t row = 0; row < 12; ++row) pairs.push_back(io::source_row(RowOrder::pairs_of_halves, 6, row));
  CHECK(pairs == std::vector<index_t>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11});
  for (index_t row = 0; row < 64; ++row) {
    CHECK(io::source_row(RowOrder::as_stored, 16, row) == row);
    CHECK(io::source_row(RowOrder::halves_of_pairs, 16, io::source_row(RowOrder::pairs_of_halves, 16, row)) == row);
  }
}

TEST_CASE("a Llama comes back: grouped queries, wide heads, tied or not, biases") {
  CHECK(round_trip<Llama>(export_llama, "LlamaForCausalLM") == export_llama.resolved());
  TransformerConfig config = export_llama;
  config.tie_head = true;
  config.qkv_bias = config.attention_out_bias = config.feed_forward_bias = true;
  config.sliding_window = config.max_len;  // never in the way
  CHECK(round_trip<Llama>(config, "LlamaForCausalLM").tie_head);
}

TEST_CASE("a Llama that rotates columns side by side comes back as one that rotates halves") {
  TransformerConfig config = export_llama;
  config.positions = PositionKind::rope_interleaved;
  config.qkv_bias = config.attention_out_bias = true;
  CHECK(round_trip<Llama>(config, "LlamaForCausalLM").positions == PositionKind::rope_half);
  config.qkv_bias = config.attention_out_bias = false;
  config.sliding_window = 64;
  CHECK(round_trip<Llama>(config, "MistralForCausalLM").positions == PositionKind::rope_half);
}

TEST_CASE("a window makes a Mistral") {
  CHECK(round_trip<Llama>(resized(llama_config, export_sizes), "MistralForCausalLM").sliding_window == 64);
}

TEST_CASE("a GPT-2 comes back, with each activation") {
  CHECK(round_trip<Gpt2>(export_gpt2, "GPT2LMHeadModel") == export_gpt2.resolved());
  TransformerConfig config = export_gpt2;
  config.feed_forward = FeedForwardKind::gelu_erf;
  config.tie_head = false;
  const io::HuggingFaceConfig erf = described(config);
  CHECK(erf.model.config == config.resolved());
  config.feed_forward = FeedForwardKind::relu;
  CHECK(described(config).model.config == config.resolved());
}

TEST_CASE("16 bits: every weight is rounded, and one that has no place is refused") {
  const TemporaryFolder folder;
  Gpt2 model = write_checkpoint<Gpt2>(folder / "model.safetensors", export_gpt2);
  const io::ModelFile file(folder / "model.safetensors");
  const io::ExportSummary summary = io::export_hugging_face(file, folder / "out", {.dtype = io::file_dtype<bf16>});
  const io::SafetensorsFile exported(folder / "out/model.safetensors");
  CHECK(exported.metadata().at("format") == "pt");
  CHECK(exported.tensors().size() == summary.tensors);
  CHECK(exported.find("lm_head.weight") == nullptr);  // tied
  for (const io::StoredTensor& tensor : exported.tensors()) {
    CHECK(tensor.dtype == io::file_dtype<bf16>);
    Shape shape;
    for (const index_t extent : tensor.shape) shape.append(extent);
    CHECK(exported.read<float>(tensor.name, shape) == [&] {
      auto values = file.reader().file().read<float>(tensor.name, shape);
      for (float& value : values) value = static_cast<float>(bf16(value));
      return values;
    }());
  }
  CHECK(object_of(folder / "out/config.json").at("dtype") == "bfloat16");
  CHECK(object_of(folder / "out/config.json").at("torch_dtype") == "bfloat16");

  auto weights = model.embedding.weight.to_host();
  weights[77] = 70000.0F;
  model.embedding.weight.assign(weights);
  save_model(folder / "large.safetensors", model);
  const io::ModelFile large(folder / "large.safetensors");
  CHECK(contains(error_of([&] { io::export_hugging_face(large, folder / "half", {.dtype = io::file_dtype<half>}); }),
                 "tensor transformer.wte.weight has 70000 at element 77, which is too large for F16"));
  CHECK(!fs::exists(folder / "half"));
  CHECK(!fs::exists(folder / ".half.partial"));
  io::export_hugging_face(large, folder / "bf16", {.dtype = io::file_dtype<bf16>});
  CHECK(contains(error_of<ArgumentError>(
                     [&] { io::export_hugging_face(file, folder / "double", {.dtype = io::file_dtype<double>}); }),
                 "not as F64"));
}

TEST_CASE("the reference architecture goes to PyTorch under its names") {
  const TemporaryFolder folder;
  const TransformerConfig config = resized(seed_config, export_sizes);
  const Gpt2 model = write_checkpoint<Gpt2>(folder / "model.safetensors", config);
  const io::ModelFile file(folder / "model.safetensors");
  CHECK(io::export_hugging_face(file, folder / "out").architecture == "TransformerEncoder");
  const io::SafetensorsFile exported(folder / "out/model.safetensors");
  CHECK(exported.find("encoder.layers.1.self_attn.in_proj_weight") != nullptr);
  CHECK(exported.read<float>("head.bias", {config.vocab_size}) == model.head.bias->to_host());
  CHECK(io::config_from_json(object_of(folder / "out/config.json"), "config").config == config.resolved());
}

TEST_CASE("the tokenizer goes along") {
  const TemporaryFolder folder;
  write_checkpoint<Llama>(folder / "model.safetensors", export_llama);
  const io::ModelFile file(folder / "model.safetensors");
  const SentencePieceTokenizer tokenizer = export_tokenizer();
  const auto pieces = io::read_sentencepiece_model(tokenizer.model_bytes(), "it");
  io::export_hugging_face(file, folder / "out", {.tokenizer = pieces, .files = {{"README.md", "hello\n"}}});
  CHECK(read_bytes(folder / "out/README.md") == "hello\n");
  CHECK(read_bytes(folder / "out/tokenizer.json") == io::tokenizer_json(pieces, false, true));
  const boost::json::object config = object_of(folder / "out/tokenizer_config.json");
  CHECK(config.at("add_bos_token") == true);
  CHECK(config.at("bos_token") == "<s>");
  CHECK(config.at("model_max_length") == 400);
  const io::HuggingFaceFolder exported(folder / "out");
  CHECK(exported.description().bos == 1);
  CHECK(exported.description().eos == std::vector<token_t>{2});
  CHECK(exported.generation().eos == std::vector<token_t>{2});
  CHECK(exported.description().pad == 3);

  auto fewer = pieces;
  fewer.pieces.pop_back();
  CHECK(contains(error_of<ArgumentError>([&] { io::export_hugging_face(file, folder / "no", {.tokenizer = fewer}); }),
                 "the tokenizer has 289 pieces, the model 290"));
  CHECK(contains(error_of<ArgumentError>([&] { io::export_hugging_face(file, folder / "out"); }), "not empty"));
}

TEST_CASE("both dialects of config.json") {
  const boost::json::object config = io::hugging_face_config({export_llama, {.rope_theta = 5000.0}});
  CHECK(config.at("rope_theta") == 5000.0);
  CHECK(config.at("rope_parameters").at("rope_theta") == 5000.0);
  CHECK(config.at("dtype") == config.at("torch_dtype"));
  CHECK(!config.contains("sliding_window"));
  boost::json::object old = config;
  old.erase("rope_parameters");
  old.erase("dtype");
  CHECK(io::read_hugging_face_config(old, "config.json").model.options.rope_theta == 5000.0);
}

TEST_CASE("a field that no architecture can express is refused by its name") {
  using Change = std::function<void(TransformerConfig&)>;
  const auto error = [](TransformerConfig config, const Change& change) {
    change(config);
    return error_of<ArgumentError>([&] { static_cast<void>(io::hugging_face_architecture(config)); });
  };
  const auto llama = [&](const Change& change) { return error(export_llama, change); };
  CHECK(contains(llama([](auto& c) { c.head_bias = true; }), "head_bias is true, but LlamaForCausalLM has no bias"));
  CHECK(contains(llama([](auto& c) { c.scale_embedding = true; }), "scale_embedding is true, but LlamaForCausalLM"));
  CHECK(contains(llama([](auto& c) { c.pre_norm = false; }), "pre_norm is false"));
  CHECK(contains(llama([](auto& c) { c.positions = PositionKind::sinusoidal; }), "positions is \"sinusoidal\""));
  CHECK(contains(llama([](auto& c) { c.qkv_bias = true; }), "attention_out_bias is false"));
  CHECK(contains(llama([](auto& c) { c.d_model = 30; }), "d_model is 30"));
  const auto mistral = [&](const Change& change) { return error(resized(llama_config, export_sizes), change); };
  CHECK(
      contains(mistral([](auto& c) { c.qkv_bias = true; }), "qkv_bias is true, but MistralForCausalLM has no biases"));
  CHECK(contains(mistral([](auto& c) { c.attention_out_bias = true; }), "attention_out_bias is true"));
  CHECK(contains(mistral([](auto& c) { c.feed_forward_bias = true; }), "feed_forward_bias is true"));
  const auto gpt2 = [&](const Change& change) { return error(export_gpt2, change); };
  CHECK(contains(gpt2([](auto& c) { c.head_bias = true; }), "head_bias is true, but GPT2LMHeadModel"));
  CHECK(contains(gpt2([](auto& c) { c.norm = NormKind::rms_norm; }), "norm is \"rms_norm\""));
  CHECK(contains(gpt2([](auto& c) { c.n_kv_heads = 2; }), "n_kv_heads is 2"));
  CHECK(contains(gpt2([](auto& c) { c.head_dim = 16; }), "head_dim is 16"));
  CHECK(contains(gpt2([](auto& c) { c.sliding_window = 8; }), "sliding_window is 8"));
  CHECK(contains(gpt2([](auto& c) { c.scale_embedding = true; }), "scale_embedding is true"));
  CHECK(contains(gpt2([](auto& c) { c.qkv_bias = false; }), "qkv_bias is false"));
  CHECK(contains(gpt2([](auto& c) { c.attention_out_bias = false; }), "attention_out_bias is false"));
  CHECK(contains(gpt2([](auto& c) { c.feed_forward_bias = false; }), "feed_forward_bias is false"));
  CHECK(contains(gpt2([](auto& c) { c.norm_bias = false; }), "norm_bias is false"));
  const auto encoder = [&](const Change& change) { return error(resized(seed_config, export_sizes), change); };
  CHECK(contains(encoder([](auto& c) { c.tie_head = true; }), "tie_head is true, but torch.nn.TransformerEncoder"));
  CHECK(
      contains(encoder([](auto& c) { c.feed_forward = FeedForwardKind::gelu_tanh; }), "feed_forward is \"gelu_tanh\""));
  CHECK(contains(encoder([](auto& c) { c.positions = PositionKind::learned; }), "positions is \"learned\""));
  CHECK(contains(encoder([](auto& c) { c.norm = NormKind::rms_norm; }), "norm is \"rms_norm\""));
  CHECK(contains(encoder([](auto& c) { c.n_kv_heads = 2; }), "n_kv_heads is 2"));
  CHECK(contains(encoder([](auto& c) { c.sliding_window = 8; }), "sliding_window is 8"));
  CHECK(contains(encoder([](auto& c) { c.head_bias = false; }), "head_bias is false"));
}

TEST_CASE("checkpoints that are not what they say are refused, and nothing stays") {
  const TemporaryFolder folder;
  write_checkpoint<Llama>(folder / "model.safetensors", export_llama);
  const auto error = [&](const std::function<bool(io::SafetensorsWriter&, const io::StoredTensor&)>& change) {
    rewrite(folder / "model.safetensors", folder / "changed.safetensors", change);
    const std::string message =
        error_of([&] { io::export_hugging_face(io::ModelFile(folder / "changed.safetensors"), folder / "out"); });
    CHECK(!fs::exists(folder / "out"));
    return message;
  };
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  const std::vector<float> values(32 * 32);
  CHECK(contains(error([&](auto&, const auto& tensor) { return tensor.name == name; }), "k_proj.weight is missing"));
  CHECK(contains(error([&](auto& writer, const auto& tensor) {
                   if (tensor.name != name) return false;
                   writer.template add<float>(name, {16, 64}, values);
                   return true;
                 }),
                 "k_proj.weight is (16, 64), expected (32, 32)"));
  CHECK(contains(error([&](auto& writer, const auto& tensor) {
                   if (tensor.name == name) writer.template add<float>("more", {32, 32}, values);
                   return false;
                 }),
                 "tensor more is not one of the model's"));

  fs::copy_file(folder / "model.safetensors", folder / "damaged.safetensors");
  const auto last = static_cast<std::size_t>(fs::file_size(folder / "damaged.safetensors")) - 1;
  poke(folder / "damaged.safetensors", last, '\x55');
  CHECK(contains(
      error_of([&] { io::export_hugging_face(io::ModelFile(folder / "damaged.safetensors"), folder / "out"); }),
      "is damaged"));
  CHECK(!fs::exists(folder / "out"));
}

TEST_CASE("what a run keeps in its checkpoint stays there") {
  const TemporaryFolder folder;
  write_checkpoint<Llama>(folder / "model.safetensors", export_llama);
  const std::vector<float> step{3.0F};
  rewrite(folder / "model.safetensors", folder / "run.safetensors", [&](auto& writer, const auto& tensor) {
    if (tensor.name == "model.norm.weight") writer.template add<float>("run.step", {1}, step);
    return false;
  });
  const auto summary = io::export_hugging_face(io::ModelFile(folder / "run.safetensors"), folder / "out");
  CHECK(io::SafetensorsFile(folder / "out/model.safetensors").find("run.step") == nullptr);
  CHECK(io::SafetensorsFile(folder / "run.safetensors").tensors().size() == summary.tensors + 1);
}
