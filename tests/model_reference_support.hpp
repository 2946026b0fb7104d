// SPDX-License-Identifier: MIT
/// @file
/// @brief A whole model against PyTorch on any device: logits, loss, every gradient, ten steps of Adam with clipping.
/// The files and the script that made them are in tests/reference/.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/evaluate/loss.hpp>
#include <storylm/io/config_json.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/io/names.hpp>
#include <storylm/io/safetensors.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/train/step.hpp>

namespace storylm::test {

/// A model's reference file: its config, its batch, and tensors by our names of parameters.
class ModelReference {
 public:
  explicit ModelReference(const std::string& name)
      : file_(std::filesystem::path(STORYLM_TEST_DIR) / "reference" / (name + ".safetensors")) {
    boost::json::object config = io::as_object(io::parse_json(file_.metadata().at("config")), "config");
    config["qkv_bias"] = config.at("attention_bias");
    config["attention_out_bias"] = config.at("attention_bias");
    model_ = io::config_from_json(config, name);
    const auto training = io::as_object(io::parse_json(file_.metadata().at("training")), "training");
    lr = io::get<double>(training, "lr", "training");
    clip_norm = io::get<double>(training, "clip_norm", "training");
  }

  [[nodiscard]] const TransformerConfig& config() const { return model_.config; }
  [[nodiscard]] const TransformerOptions& options() const { return model_.options; }

  /// The packed batch; PyTorch computed it padded.
  [[nodiscard]] Packed<Cpu> batch() const {
    const auto ids = vector<std::int32_t>("ids");
    auto targets = vector<std::int32_t>("targets");
    for (auto& target : targets) target = target < 0 ? no_target : target;
    const auto offsets = vector<std::int32_t>("offsets");
    Packed<Cpu> batch({.tokens = static_cast<index_t>(ids.size()),
                       .sequences = static_cast<index_t>(offsets.size()) - 1,
                       .longest = config().max_len},
                      Cpu{});
    for (std::size_t s = 0; s + 1 < offsets.size(); ++s) {
      const auto first = static_cast<std::size_t>(offsets[s]);
      const auto length = static_cast<std::size_t>(offsets[s + 1]) - first;
      batch.append(std::span(ids).subspan(first, length), std::span(targets).subspan(first, length),
                   static_cast<std::uint32_t>(s));
    }
    return batch;
  }
  template <class T>
  [[nodiscard]] std::vector<T> vector(const std::string& name) const {
    const io::StoredTensor& tensor = file_.at(name);
    Shape shape;
    for (const auto extent : tensor.shape) shape.append(static_cast<index_t>(extent));
    return file_.read<T>(name, shape);
  }
  /// What the file holds under `prefix` for one of our parameters.
  template <class T>
  [[nodiscard]] std::vector<T> parameter(const std::string& prefix, const std::string& name, const Shape& shape) const {
    std::vector<T> values;
    for (const auto& part : io::file_tensors(io::name_family(config()), config(), name, shape)) {
      auto piece = file_.read<T>(prefix + part.name, part.shape);
      if (part.transposed) piece = detail::transposed<T>(piece, part.shape[0], part.shape[1]);
      values.insert(values.end(), piece.begin(), piece.end());
    }
    return values;
  }

  double lr = 0.0;
  double clip_norm = 0.0;

 private:
  io::SafetensorsFile file_;
  io::ModelDescription model_;
};

/// The key third of the qkv bias: its gradient is zero but for rounding, which Adam blows up.
inline bool is_qkv_bias(const std::string& name) { return name.ends_with("attention.qkv.bias"); }
template <class T>
std::vector<T> without_keys(const std::string& name, std::vector<T> values) {
  if (!is_qkv_bias(name)) return values;
  const auto third = static_cast<std::ptrdiff_t>(values.size() / 3);
  values.erase(values.begin() + third, values.begin() + 2 * third);
  return values;
}

/// max |a - b| / max |b|, of values of any dtype; or, `euclidean`, |a - b| / |b|: 16-bit rounding switches a ReLU here
/// and there, which changes few elements, but those much.
template <class A, class B>
double model_difference(const std::vector<A>& a, const std::vector<B>& b, bool euclidean = false) {
  REQUIRE(a.size() == b.size());
  const auto number = [](auto v) {
    if constexpr (sizeof(v) == 2) {
      return static_cast<double>(static_cast<float>(v));
    } else {
      return static_cast<double>(v);
    }
  };
  double largest_difference = 0.0;
  double largest = 1e-30;
  double difference_squared = 0.0;
  double squared = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = number(a[i]) - number(b[i]);
    if (!std::isfinite(difference)) return INFINITY;
    largest_difference = std::max(largest_difference, std::abs(difference));
    largest = std::max(largest, std::abs(number(b[i])));
    difference_squared += difference * difference;
    squared += number(b[i]) * number(b[i]);
  }
  return euclidean ? std::sqrt(difference_squared / squared) : largest_difference / largest;
}

/// How far a dtype may be from PyTorch's result.
struct ModelTolerances {
  double logits = 0.0;    ///< of logits and loss
  double gradient = 0.0;  ///< of gradients
  double training = 0.0;  ///< of losses and weights in ten steps
  double zero = 1e-6;     ///< of the gradient of the keys' bias, which is zero
};

/// Compares everything of one model in one dtype on one device. `suffix` names PyTorch's results: "", or "64" for those
/// in double.
template <class T, class D>
void compare_with_pytorch(const std::string& name, const std::string& suffix, const D& device,
                          const ModelTolerances& tolerances) {
  using Value = accumulator_t<T>;  // of parameters and gradients on the host
  CAPTURE(name);
  const ModelReference reference(name);
  nn::with_stack_type<T, D>(reference.config(), [&]<class Stack>(std::type_identity<Stack>) {
    Stack model(reference.config(), device, reference.options());
    nn::for_each_parameter(model, [&](const std::string& parameter, auto& p) {
      p.assign(reference.parameter<Value>("weights.", parameter, p.shape()));
    });
    const Packed<Cpu> batch = reference.batch();
    Uploader<D> upload(batch.capacity(), device);

    for (const bool row_invariant : {false, true}) {
      CAPTURE(row_invariant);
      auto cache = model.make_inference_cache(batch.capacity());
      const Pass<D> pass{.device = device, .batch = upload(batch).view(), .row_invariant = row_invariant};
      Tensor<T, D> logits({batch.tokens(), reference.config().vocab_size}, device);
      const auto hidden = model.hidden(pass, cache).slice_rows(0, batch.tokens());
      model.logits(hidden, logits.matrix(), pass);
      CHECK(model_difference(logits.to_host(), reference.vector<Value>("logits" + suffix)) <= tolerances.logits);
    }
    const double loss = reference.vector<double>("loss" + suffix).front();
    evaluate::LossMeter<Stack> meter(model, batch.capacity());
    meter.add(batch);
    CHECK(std::abs(meter.mean() - loss) <= tolerances.logits * loss);

    train::Step<Stack> step(model, batch.capacity());
    optim::Adam adam(model.parameters());
    const auto losses = reference.vector<double>("adam" + suffix + ".losses");
    const auto norms = reference.vector<double>("adam" + suffix + ".grad_norms");
    for (std::size_t i = 0; i < losses.size(); ++i) {
      CAPTURE(i);
      step.begin(batch.target_count(), reference.lr);
      model.forward(batch, step);
      model.backward(batch, step);
      if (i == 0) {
        nn::for_each_parameter(model, [&](const std::string& parameter, auto& p) {
          CAPTURE(parameter);
          const auto ours = p.gradient_to_host();
          const auto theirs = reference.parameter<Value>("grads" + suffix + ".", parameter, p.shape());
          CHECK(model_difference(without_keys(parameter, ours), without_keys(parameter, theirs), sizeof(T) == 2) <=
                tolerances.gradient);
          if (!is_qkv_bias(parameter)) return;
          for (std::size_t k = ours.size() / 3; k < 2 * ours.size() / 3; ++k)
            CHECK(std::abs(static_cast<double>(ours[k])) < tolerances.zero);
        });
      }
      optim::clip_grad_norm(model.parameters(), reference.clip_norm, step);
      adam.step(step);
      const auto result = step.result();
      CHECK(std::abs(result.loss - losses[i]) <= tolerances.training * losses[i]);
      CHECK(std::abs(result.grad_norm - norms[i]) <= 10.0 * tolerances.training * norms[i]);
    }
    nn::for_each_parameter(model, [&](const std::string& parameter, auto& p) {
      CAPTURE(parameter);
      const auto theirs = reference.parameter<Value>("adam" + suffix + ".weights.", parameter, p.shape());
      const bool all = sizeof(T) == 8;
      CHECK(model_difference(all ? p.to_host() : without_keys(parameter, p.to_host()),
                             all ? theirs : without_keys(parameter, theirs), sizeof(T) == 2) <= tolerances.training);
    });
  });
}

/// The models that there are files of.
inline const std::vector<std::string> reference_models = {"seed_model_scaled", "seed_model_plain", "gpt2_model",
                                                          "llama_model", "llama_interleaved_model"};

}  // namespace storylm::test
