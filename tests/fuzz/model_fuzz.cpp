// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Models in checkpoints, of Llama's names and of GPT-2's (whose matrices lie transposed): all weights or none.
///
/// The models have parameters and nothing that computes: readers need no kernels.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/device.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/nn/module.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

namespace {

template <class T>
class Weights {
 public:
  explicit Weights(bool llama) {
    config_ = {.vocab_size = 5, .d_model = 4, .d_ff = 6, .n_layers = 1, .n_heads = 2, .max_len = 8, .pre_norm = true};
    config_.head_bias = false;
    config_.tie_head = true;
    add("embedding.weight", {5, 4});
    if (llama) {
      config_.n_kv_heads = 1;
      config_.norm = NormKind::rms_norm;
      config_.feed_forward = FeedForwardKind::swiglu;
      config_.positions = PositionKind::rope_half;
      config_.qkv_bias = config_.attention_out_bias = config_.feed_forward_bias = false;
      add("blocks.0.attention.qkv.weight", {8, 4});
      add("blocks.0.attention.out.weight", {4, 4});
      add("blocks.0.feed_forward.gate_up.weight", {12, 4});
    } else {
      config_.feed_forward = FeedForwardKind::gelu_tanh;
      config_.positions = PositionKind::learned;
      add("embedding.positions", {8, 4});
      add("blocks.0.attention.qkv.weight", {12, 4});
      add("blocks.0.attention.qkv.bias", {12});
      add("blocks.0.attention.out.weight", {4, 4});
      add("blocks.0.feed_forward.up.weight", {6, 4});
    }
    add("blocks.0.feed_forward.down.weight", {4, 6});
    add("norm.weight", {4});
    store_.push_back(nn::allocate<T>(*this, Cpu{}, nn::Gradients::no));
  }
  [[nodiscard]] const TransformerConfig& shape() const noexcept { return config_; }
  [[nodiscard]] const TransformerOptions& options() const noexcept { return options_; }
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    for (auto& [name, parameter] : self.parameters_) f(name, *parameter);
  }
  [[nodiscard]] std::string bits() {
    const auto arena = store_[0].arena();
    return {reinterpret_cast<const char*>(arena.values), static_cast<std::size_t>(arena.size) * sizeof(T)};
  }

 private:
  void add(std::string name, const Shape& shape) {
    parameters_.emplace_back(std::move(name), std::make_unique<nn::Parameter<T, Cpu>>(shape));
  }

  TransformerConfig config_;
  TransformerOptions options_;
  std::vector<std::pair<std::string, std::unique_ptr<nn::Parameter<T, Cpu>>>> parameters_;
  std::vector<nn::ParameterStore<T, Cpu>> store_;
};

template <class T>
std::string load(const std::string& path, bool llama) {
  Weights<T> model(llama);
  const std::string before = model.bits();
  std::string message = refusal(
      [&] {
        const io::ModelFile file(path);
        must(parameter_count(file.config()) < (index_t{1} << 60U), "the number of weights");
        static_cast<void>(file.tokenizer_hash());
        file.load_into(model);
      },
      path);
  must(message.empty() || model.bits() == before, "a refused file has changed the model", message);
  return message;
}

}  // namespace

void run(std::string_view input) {
  std::string bytes(input);
  for (int attempt = 0; attempt < 20; ++attempt) {
    const std::string path = folder().write("x.safetensors", bytes).string();
    const std::string llama = load<float>(path, true);
    const std::string gpt2 = load<bf16>(path, false);
    if (!repair_checksum(bytes, llama) && !repair_checksum(bytes, gpt2)) return;
  }
}

void seeds(Seeds& made) {
  for (const bool llama : {true, false}) {
    const Weights<float> model(llama);
    io::CheckpointWriter writer(io::model_metadata(model, 7));
    io::add_model(writer, model);
    writer.save(folder().path() / "seed");
    made.add_file(folder().path() / "seed");
  }
  json_words(made);
  made.words({"\\\"vocab_size\\\":", "\\\"d_model\\\":", "\\\"n_heads\\\":0", "\\\"head_dim\\\":", "4194304", "-1",
              "F16", "BF16", "F64", "I32", "data_offsets", "shape", "model.embed_tokens.weight",
              "transformer.wte.weight", "run.x", "storylm.checksums"});
}

}  // namespace storylm::fuzz
