// SPDX-License-Identifier: MIT
/// @file
/// @brief What the benchmark programs share: flags, stories as tokens, batches, a training loop, weights and batches
/// for another program.
///
/// They are written over the library's public interface alone and need neither a tokenizer nor a data set.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/data/loader.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/models/presets.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/optim/grad_scaler.hpp>
#include <storylm/train/recordings.hpp>
#include <storylm/train/step.hpp>

#include "../examples/story_grammar.hpp"

/// Not part of the library.
namespace bench {

using namespace storylm;
using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// `--name value` pairs.
class Flags {
 public:
  /// @param known what there is, with the defaults
  Flags(int argc, char** argv, std::map<std::string, std::string> known) : values_(std::move(known)) {
    for (int i = 1; i < argc; i += 2) {
      const std::string name = std::string_view(argv[i]).starts_with("--") ? argv[i] + 2 : "";
      expects<ArgumentError>(values_.contains(name) && i + 1 < argc, "flags", argv[i],
                             " is no flag of this program, or has no value; there are", listed());
      values_[name] = argv[i + 1];
    }
  }
  [[nodiscard]] const std::string& text(const std::string& name) const { return values_.at(name); }
  [[nodiscard]] index_t number(const std::string& name) const {
    std::istringstream stream(text(name));
    index_t value = -1;
    stream >> value;
    expects<ArgumentError>(!stream.fail() && value >= 0, "flags", "--", name, " is a number: ", text(name));
    return value;
  }
  [[nodiscard]] double real(const std::string& name) const {
    std::istringstream stream(text(name));
    double value = -1.0;
    stream >> value;
    expects<ArgumentError>(!stream.fail() && value >= 0.0, "flags", "--", name, " is a number: ", text(name));
    return value;
  }

 private:
  [[nodiscard]] std::string listed() const {
    std::string all;
    for (const auto& [name, value] : values_) all += " --" + name + " (" + value + ')';
    return all;
  }
  std::map<std::string, std::string> values_;
};

/// Of load_stories(), for a row.
inline std::string described_tokens(const std::string& file) {
  return file.empty() ? "tokens: grammar" : "tokens: " + std::filesystem::path(file).filename().string();
}

/// "reference": story_24m, what the floors are written for. "small": every kernel, in seconds on the emulator; nothing
/// is a multiple of a tile.
inline TransformerConfig config_of(const std::string& size) {
  if (size == "reference") return presets::story_24m;
  expects<ArgumentError>(size == "small", "flags", "--size is reference or small: ", size);
  return {.vocab_size = 61, .d_model = 64, .d_ff = 96, .n_layers = 2, .n_heads = 2, .max_len = 40};
}

/// Stories as token ids: those of a token file of prepare_stories, or stories of the demo's grammar, with words for
/// tokens. BOS 1, EOS 2.
inline TokenLists load_stories(const std::string& file, index_t vocab_size, index_t count) {
  std::vector<std::vector<token_t>> stories;
  if (!file.empty()) {
    const TokenFile tokens{std::filesystem::path(file)};
    expects<ArgumentError>(tokens.info().vocab_size <= vocab_size, "tokens", file, " has a vocabulary of ",
                           tokens.info().vocab_size, ", the model ", vocab_size);
    for (index_t i = 0; i < std::min(count, tokens.size()); ++i) {
      stories.emplace_back(static_cast<std::size_t>(tokens.length(i)));
      tokens.read(i, stories.back());
    }
    return TokenLists(std::move(stories));
  }
  std::map<std::string, token_t> ids;
  for (index_t i = 0; i < count; ++i) {
    std::istringstream words(story_grammar::internal::render(1, static_cast<std::uint64_t>(i), 0, false).first.text);
    stories.emplace_back();
    for (std::string word; words >> word;) {
      const auto next = static_cast<token_t>(4 + ids.size() % static_cast<std::size_t>(vocab_size - 4));
      stories.back().push_back(ids.try_emplace(word, next).first->second);
    }
  }
  return TokenLists(std::move(stories));
}

/// `sequences` rows of `length` inputs and as many targets, cut from the stories written one after another.
inline Packed<Cpu> full_batch(const TokenLists& stories, index_t sequences, index_t length, index_t number) {
  std::vector<token_t> stream;
  const index_t wanted = sequences * length + 1;
  std::vector<token_t> story;
  for (index_t i = number * 977; static_cast<index_t>(stream.size()) < wanted; ++i) {
    const index_t at = i % stories.size();
    story.resize(static_cast<std::size_t>(stories.length(at)));
    stories.read(at, story);
    stream.push_back(1);
    stream.insert(stream.end(), story.begin(), story.end());
    stream.push_back(2);
  }
  Packed<Cpu> batch({.tokens = sequences * length, .sequences = sequences, .longest = length}, Cpu{});
  const std::span<const token_t> all = stream;
  for (index_t s = 0; s < sequences; ++s) {
    const auto first = static_cast<std::size_t>(s * length);
    const auto count = static_cast<std::size_t>(length);
    batch.append(all.subspan(first, count), all.subspan(first + 1, count), static_cast<std::uint32_t>(s));
  }
  return batch;
}

/// What a Trainer is told.
struct TrainerOptions {
  double dropout = 0.1;
  double lr = 3e-4;
  std::uint64_t seed = 1;
  bool records = true;  ///< the step as CUDA graphs
};

/// Stands where the dtype needs no loss scale.
struct NoScaler {
  explicit NoScaler(const auto& /*store*/) {}
};

/// A model, its optimizer and a step: train_stories without files.
template <class T, class D>
class Trainer {
 public:
  using Model = nn::TransformerStack<T, D, nn::LayerNorm, nn::Mlp>;

  Trainer(const D& device, const TransformerConfig& config, const Capacity& capacity, const TrainerOptions& options)
      : options_(options),
        model_(config, device, {.dropout = options.dropout, .seed = options.seed}),
        optimizer_(model_.parameters()),
        scaler_(model_.parameters()),
        step_(model_, capacity, options.seed) {}

  /// Gives the device one step over these micro-batches and orders its result.
  void give(std::span<const Packed<Cpu>> micro_batches, double lr_factor = 1.0) {
    index_t targets = 0;
    for (const auto& micro : micro_batches) targets += micro.target_count();
    step_.begin(targets, options_.lr * lr_factor);
    if constexpr (scales_loss) scaler_.begin(step_);
    const auto gradients = [&](const Packed<Cpu>& micro) {
      model_.forward(micro, step_);
      model_.backward(micro, step_);
    };
    const auto update = [&] {
      optim::clip_grad_norm(model_.parameters(), 1.0, step_);
      optimizer_.step(step_);
      if constexpr (scales_loss) scaler_.update(step_);
    };
    if (!options_.records) {
      for (const auto& micro : micro_batches) gradients(micro);
      update();
    } else if (micro_batches.size() == 1) {
      whole_.run(step_.pass(micro_batches[0]), [&] {
        gradients(micro_batches[0]);
        update();
      });
    } else {
      for (const auto& micro : micro_batches) gradients_.run(step_.pass(micro), [&] { gradients(micro); });
      update_.run(step_.device(), update);
    }
    step_.post_result();
  }
  /// Of the oldest step whose result was not taken.
  train::StepResult take() { return step_.take_result(); }
  [[nodiscard]] std::size_t pending() const { return step_.pending_results(); }
  /// A step, and its result.
  train::StepResult step(std::span<const Packed<Cpu>> micro_batches, double lr_factor = 1.0) {
    give(micro_batches, lr_factor);
    return take();
  }

  [[nodiscard]] Model& model() { return model_; }
  [[nodiscard]] optim::Adam<T, D>& optimizer() { return optimizer_; }
  [[nodiscard]] train::Step<Model>& state() { return step_; }
  [[nodiscard]] auto& scaler() { return scaler_; }

 private:
  static constexpr bool scales_loss = std::is_same_v<T, half>;

  TrainerOptions options_;
  Model model_;
  optim::Adam<T, D> optimizer_;
  [[no_unique_address]] std::conditional_t<scales_loss, optim::GradScaler<half, D>, NoScaler> scaler_;
  train::Step<Model> step_;
  train::Recordings<D> whole_;      // a step of one micro-batch
  train::Recordings<D> gradients_;  // of one among several
  train::Recordings<D> update_;     // after them
};

/// A model's initial weights and batches, as plain numbers. Sequences shorter than the longest are padded to `length`
/// (0: the longest of the first batch) with ids 0 and targets -100, which PyTorch ignores.
template <class Model>
void export_run(const std::filesystem::path& folder, const Model& model, const TransformerConfig& c, double lr,
                const std::vector<std::vector<Packed<Cpu>>>& batches, index_t steps, index_t length = 0) {
  if (length == 0) length = batches.front().front().longest();
  std::filesystem::create_directories(folder);
  std::ofstream names(folder / "weights.txt");
  std::ofstream values(folder / "weights.bin", std::ios::binary);
  nn::for_each_parameter(model, [&](const std::string& name, const auto& parameter) {
    const auto host = parameter.to_host();
    const std::vector<float> floats(host.begin(), host.end());
    names << name;
    for (int i = 0; i < static_cast<int>(parameter.shape().rank()); ++i) names << ' ' << parameter.shape()[i];
    names << '\n';
    values.write(reinterpret_cast<const char*>(floats.data()),
                 static_cast<std::streamsize>(floats.size() * sizeof(float)));
  });
  std::ofstream file(folder / "batches.bin", std::ios::binary);
  const auto write_padded = [&](const PackedView& view, const token_t* rows, token_t none, token_t padding) {
    std::vector<token_t> padded(static_cast<std::size_t>(view.sequences * length), padding);
    for (index_t t = 0; t < view.tokens; ++t) {
      const index_t at = view.sequence[t] * length + view.positions[t];
      padded[static_cast<std::size_t>(at)] = rows[t] == no_target ? none : rows[t];
    }
    file.write(reinterpret_cast<const char*>(padded.data()),
               static_cast<std::streamsize>(padded.size() * sizeof(token_t)));
  };
  for (const auto& batch : batches) {
    const PackedView view = batch.front().view();
    expects<ArgumentError>(view.longest <= length && view.sequences == batches.front().front().sequences(), "export",
                           "a batch of ", view.sequences, " sequences, the longest of ", view.longest,
                           ", among batches of ", batches.front().front().sequences(), " of up to ", length);
    write_padded(view, view.ids, 0, 0);
    write_padded(view, view.targets, -100, -100);
  }
  std::ofstream settings(folder / "settings.txt");
  settings << "vocab_size " << c.vocab_size << "\nd_model " << c.d_model << "\nd_ff " << c.hidden() << "\nn_layers "
           << c.n_layers << "\nn_heads " << c.n_heads << "\nmax_len " << c.max_len << "\nscale_embedding "
           << (c.scale_embedding ? 1 : 0) << "\nlr " << lr << "\nbatches " << batches.size() << "\nsequences "
           << batches.front().front().sequences() << "\nlength " << length << "\nsteps " << steps << '\n';
  expects<WriteError>(names.good() && values.good() && file.good() && settings.good(), "export", folder.string(),
                      ": cannot be written");
}

}  // namespace bench
