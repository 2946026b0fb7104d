// SPDX-License-Identifier: MIT
// LINK: io
// Trains a model for some steps and leaves everything that another program needs to repeat them: the initial weights,
// the batches, the losses; and the final weights with the logits of the last batch. scripts/compare_training.py runs
// PyTorch on it, scripts/check_pytorch_loading.sh compares the logits.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include <storylm/data/loader.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/models/transformer_lm.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/train/step.hpp>

#include "../examples/presets.hpp"
#include "../examples/program.hpp"

namespace {

using namespace storylm;

struct Flags {
  std::filesystem::path data_dir;
  std::filesystem::path output_dir;
  std::string model = "story_24m";
  index_t steps = 200;
  index_t batch_size = 8;
  index_t max_len = 128;
  double lr = 3e-4;
  double clip_norm = 1.0;
  std::uint64_t seed = 1;
  int threads = 0;
  std::string dtype = "float32";
};

/// Packed batches of all steps one after another; targets of -100 are none, as in PyTorch.
struct Batches {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> targets;
  std::vector<std::int32_t> offsets{0};  // (sequences + 1)
  std::vector<std::int32_t> steps{0};    // (steps + 1)  sequences before each step

  void add(const StepBatch& batch) {
    for (const auto& micro : batch) {
      const PackedView view = micro.view();
      const auto before = static_cast<std::int32_t>(ids.size());
      ids.insert(ids.end(), view.ids, view.ids + view.tokens);
      for (index_t t = 0; t < view.tokens; ++t) targets.push_back(view.targets[t] < 0 ? -100 : view.targets[t]);
      for (index_t s = 1; s <= view.sequences; ++s) offsets.push_back(before + view.offsets[s]);
    }
    steps.push_back(static_cast<std::int32_t>(offsets.size()) - 1);
  }
  void save(const std::filesystem::path& path) const {
    io::SafetensorsWriter writer;
    const auto add_list = [&](const char* name, const std::vector<std::int32_t>& values) {
      writer.add<std::int32_t>(name, {static_cast<index_t>(values.size())}, values);
    };
    add_list("ids", ids);
    add_list("targets", targets);
    add_list("offsets", offsets);
    add_list("steps", steps);
    writer.save(path);
  }
};

template <class Model>
void save_model(const std::filesystem::path& path, const Model& model, std::uint64_t tokenizer_hash) {
  io::CheckpointWriter writer(io::model_metadata(model, tokenizer_hash));
  io::add_model(writer, model);
  writer.save(path);
}

/// Ids, offsets and logits of one packed batch.
template <class Model>
void save_logits(const std::filesystem::path& path, const Model& model, const Packed<Cpu>& batch) {
  auto cache = model.make_inference_cache(batch.capacity());
  const Pass<Cpu> pass{.device = model.device(), .batch = batch.view()};
  const Shape shape{batch.tokens(), model.shape().vocab_size};
  using Element = typename Model::Element;
  Tensor<Element, Cpu> logits(shape, model.device());
  model.logits(model.hidden(pass, cache), logits.matrix(), pass);
  const auto tokens = static_cast<std::size_t>(batch.tokens());
  const auto sequences = static_cast<std::size_t>(batch.sequences());
  const std::vector<Element> values = logits.to_host();
  io::SafetensorsWriter writer;
  writer.add<std::int32_t>("ids", {batch.tokens()}, std::span(pass.batch.ids, tokens));
  writer.add<std::int32_t>("offsets", {batch.sequences() + 1}, std::span(pass.batch.offsets, sequences + 1));
  writer.add<Element>("logits", shape, values);
  writer.save(path);
}

template <TransformerConfig C, class T>
void run(const Flags& flags, const TokenFile& tokens) {
  const Cpu device({.threads = flags.threads});
  using Model = TransformerLM<C, T>;
  Model model(device, {.seed = flags.seed});
  optim::Adam adam(model.parameters());
  StoryLoader loader(tokens, {.batch_size = flags.batch_size, .max_len = flags.max_len, .seed = flags.seed});
  train::Step<Model> step(model, loader.capacity());
  const std::uint64_t tokenizer = tokens.info().tokenizer_hash;
  save_model(flags.output_dir / "initial.safetensors", model, tokenizer);

  Batches batches;
  boost::json::array losses;
  boost::json::array norms;
  const StepBatch* batch = nullptr;
  const auto start = std::chrono::steady_clock::now();
  for (index_t i = 0; i < flags.steps; ++i) {
    batch = &loader.next();
    batches.add(*batch);
    step.begin(*batch, flags.lr);
    for (const auto& micro : *batch) {
      model.forward(micro, step);
      model.backward(micro, step);
    }
    optim::clip_grad_norm(model.parameters(), flags.clip_norm, step);
    adam.step(step);
    losses.emplace_back(step.result().loss);
    norms.emplace_back(step.result().grad_norm);
    if ((i + 1) % 20 == 0) std::cerr << "step " << i + 1 << "  loss " << step.result().loss << std::endl;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  batches.save(flags.output_dir / "batches.safetensors");
  save_model(flags.output_dir / "final.safetensors", model, tokenizer);
  save_logits(flags.output_dir / "logits.safetensors", model, (*batch)[0]);
  const boost::json::object report{{"model", flags.model},
                                   {"dtype", flags.dtype},
                                   {"steps", flags.steps},
                                   {"batch_size", flags.batch_size},
                                   {"max_len", flags.max_len},
                                   {"lr", flags.lr},
                                   {"clip_norm", flags.clip_norm},
                                   {"seed", flags.seed},
                                   {"tokens", batches.ids.size()},
                                   {"seconds", seconds},
                                   {"losses", losses},
                                   {"grad_norms", norms}};
  storylm::detail::write_file(flags.output_dir / "storylm.json", io::json_text(report) + '\n');
}

int compare_training(const Flags& flags) {
  const auto positive = [](std::string_view name, auto value) {
    expects<ArgumentError>(value > 0, "compare_training", name, " must be positive: ", value);
  };
  positive("--steps", flags.steps);
  positive("--batch-size", flags.batch_size);
  positive("--lr", flags.lr);
  expects<ArgumentError>(flags.dtype == "float32" || flags.dtype == "float64", "compare_training",
                         "--dtype must be float32 or float64: ", flags.dtype);
  program::ComputeFlags::check_threads(flags.threads);
  const TokenFile tokens(flags.data_dir / "stories.tokens");
  tokens.verify();
  std::error_code error;
  std::filesystem::create_directories(flags.output_dir, error);
  expects<IoError>(!error, "compare_training", flags.output_dir.string(), ": ", error.message());
  program::with_preset(flags.model, tokens.info().vocab_size, [&]<TransformerConfig C>() {
    expects<ArgumentError>(flags.max_len <= C.max_len, "compare_training", "--max-len ", flags.max_len,
                           " exceeds the model's ", C.max_len);
    flags.dtype == "float64" ? run<C, double>(flags, tokens) : run<C, float>(flags, tokens);
  });
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains a model without dropout and leaves weights, batches, losses and logits for a comparison.",
               "compare_training");
  Flags flags;
  app.add_option("--data-dir", flags.data_dir, "folder with stories.tokens, from prepare_stories")->required();
  app.add_option("--output-dir", flags.output_dir, "folder for what it leaves")->required();
  app.add_option("--model", flags.model, "name of a model, as in train_stories")->capture_default_str();
  app.add_option("--steps", flags.steps, "training steps")->capture_default_str();
  app.add_option("--batch-size", flags.batch_size, "stories a step")->capture_default_str();
  app.add_option("--max-len", flags.max_len, "longest sequence; longer stories are cut")->capture_default_str();
  app.add_option("--lr", flags.lr, "Adam's learning rate")->capture_default_str();
  app.add_option("--clip-norm", flags.clip_norm, "largest norm of all gradients")->capture_default_str();
  app.add_option("--seed", flags.seed, "of initial values and shuffling")->capture_default_str();
  app.add_option("--dtype", flags.dtype, "float32 or float64")->capture_default_str();
  program::ComputeFlags::add_threads_flag(app, flags.threads);
  return program::run(app, argc, argv, [&] { return compare_training(flags); });
}
