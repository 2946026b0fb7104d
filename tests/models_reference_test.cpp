// LINK: io
// The whole model against PyTorch: logits, loss, every gradient, ten steps of Adam with clipping. The files and the
// script that made them are in tests/reference/.
#include <filesystem>

#include <storylm/evaluate/loss.hpp>
#include <storylm/io/config_json.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/io/names.hpp>
#include <storylm/io/safetensors.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/train/step.hpp>

#include "support.hpp"

using namespace storylm;

namespace {

/// A model's reference file: its config, its batch, and tensors by our names of parameters.
class Reference {
 public:
  explicit Reference(const std::string& name)
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
bool is_qkv_bias(const std::string& name) { return name.ends_with("attention.qkv.bias"); }
template <class T>
std::vector<T> without_keys(const std::string& name, std::vector<T> values) {
  if (!is_qkv_bias(name)) return values;
  const auto third = static_cast<std::ptrdiff_t>(values.size() / 3);
  values.erase(values.begin() + third, values.begin() + 2 * third);
  return values;
}

/// Compares everything of one model in one dtype. `suffix` names the tensors of that dtype: "" or "64".
template <class T>
void compare(const std::string& name, const std::string& suffix, double logits_tolerance, double gradient_tolerance,
             double training_tolerance) {
  CAPTURE(name);
  const Reference reference(name);
  nn::with_stack_type<T, Cpu>(reference.config(), [&]<class Stack>(std::type_identity<Stack>) {
    const Cpu cpu;
    Stack model(reference.config(), cpu, reference.options());
    nn::for_each_parameter(model, [&](const std::string& parameter, auto& p) {
      p.assign(reference.parameter<T>("weights.", parameter, p.shape()));
    });
    const Packed<Cpu> batch = reference.batch();

    for (const bool row_invariant : {false, true}) {
      CAPTURE(row_invariant);
      auto cache = model.make_inference_cache(batch.capacity());
      const Pass<Cpu> pass{.device = cpu, .batch = batch.view(), .row_invariant = row_invariant};
      Tensor<T, Cpu> logits({batch.tokens(), reference.config().vocab_size}, cpu);
      model.logits(model.hidden(pass, cache), logits.matrix(), pass);
      CHECK(test::relative_difference(logits.to_host(), reference.vector<T>("logits" + suffix)) <= logits_tolerance);
    }
    const double loss = reference.vector<double>("loss" + suffix).front();
    evaluate::LossMeter<Stack> meter(model, batch.capacity());
    meter.add(batch);
    CHECK(std::abs(meter.mean() - loss) <= logits_tolerance * loss);

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
          const auto theirs = reference.parameter<T>("grads" + suffix + ".", parameter, p.shape());
          CHECK(test::relative_difference(without_keys(parameter, ours), without_keys(parameter, theirs)) <=
                gradient_tolerance);
          if (!is_qkv_bias(parameter)) return;
          for (std::size_t k = ours.size() / 3; k < 2 * ours.size() / 3; ++k) CHECK(std::abs(ours[k]) < 1e-6);
        });
      }
      optim::clip_grad_norm(model.parameters(), reference.clip_norm, step);
      adam.step(step);
      const auto result = step.result();
      CHECK(std::abs(result.loss - losses[i]) <= training_tolerance * losses[i]);
      CHECK(std::abs(result.grad_norm - norms[i]) <= 10.0 * training_tolerance * norms[i]);
    }
    nn::for_each_parameter(model, [&](const std::string& parameter, auto& p) {
      CAPTURE(parameter);
      const auto theirs = reference.parameter<T>("adam" + suffix + ".weights.", parameter, p.shape());
      const bool all = sizeof(T) == 8;
      CHECK(test::relative_difference(all ? p.to_host() : without_keys(parameter, p.to_host()),
                                      all ? theirs : without_keys(parameter, theirs)) <= training_tolerance);
    });
  });
}

const std::vector<std::string> models = {"seed_model_scaled", "seed_model_plain", "gpt2_model", "llama_model",
                                         "llama_interleaved_model"};

}  // namespace

TEST_CASE("models agree with PyTorch in float: logits and loss 1e-5, gradients and ten Adam steps 1e-4") {
  for (const auto& name : models) compare<float>(name, "", 1e-5, 1e-4, 1e-4);
}

TEST_CASE("models agree with PyTorch in double, ten Adam steps to 1e-9") {
  for (const auto& name : models) compare<double>(name, "64", 1e-11, 1e-10, 1e-9);
}
