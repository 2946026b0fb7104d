// SPDX-License-Identifier: MIT
/// @file
/// @brief What train_stories can be told.
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>

#include "program.hpp"

namespace program {

/// As short as it can be without being another number.
inline std::string number(double value) {
  std::array<char, 32> digits{};
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr};
}

/// The flags of train_stories, with their defaults.
struct TrainFlags {
  static constexpr storylm::index_t micro_tokens_on_cpu = 8192;
  static constexpr storylm::index_t micro_tokens_on_gpu = 131072;  // a whole batch of 512 stories

  std::filesystem::path data_dir;
  std::filesystem::path run_dir;
  std::string model = "story_24m";
  storylm::index_t epochs = 100;
  storylm::index_t max_steps = 0;
  storylm::index_t batch_size = 512;
  std::optional<storylm::index_t> micro_tokens;
  storylm::index_t max_len = 256;
  double lr = 3e-4;
  storylm::index_t validate_every = 1000;
  double dropout = 0.1;
  double clip_norm = 1.0;
  double checkpoint_minutes = 10.0;
  storylm::index_t max_skipped_steps = 100;
  double spike_threshold = 0.0;
  storylm::index_t spike_window = 100;
  std::filesystem::path resume_from;
  std::uint64_t seed = 1;
  std::string prompt = "Once upon a time ";
  ComputeFlags compute;

  void add_to(CLI::App& app) {
    app.add_option("--data-dir", data_dir, "folder with stories.tokens and bpe.model")->required();
    app.add_option("--run-dir", run_dir, "folder for checkpoints, metrics, log and picture; made when missing")
        ->required();
    app.add_option("--model", model, "name of a model, see below")->capture_default_str();
    app.add_option("--epochs", epochs, "passes over the training stories")->capture_default_str();
    app.add_option("--max-steps", max_steps, "end after that many steps; 0: no limit")->capture_default_str();
    app.add_option("--batch-size", batch_size, "stories a step")->capture_default_str();
    app.add_option("--micro-tokens", micro_tokens,
                   "tokens computed at once; memory grows with it, the result is that of the whole batch (default: " +
                       std::to_string(micro_tokens_on_cpu) + ", on a GPU " + std::to_string(micro_tokens_on_gpu) + ")");
    app.add_option("--max-len", max_len, "longest sequence, BOS and EOS included; longer stories are cut")
        ->capture_default_str();
    app.add_option("--lr", lr, "Adam's learning rate, before plateaus lower it")->capture_default_str();
    app.add_option("--validate-every", validate_every, "steps between validations")->capture_default_str();
    app.add_option("--dropout", dropout, "probability of dropping an element, in [0, 1)")->capture_default_str();
    app.add_option("--clip-norm", clip_norm, "largest norm of all gradients; 0: no clipping")->capture_default_str();
    app.add_option(
           "--checkpoint-minutes", checkpoint_minutes,
           "minutes from one checkpoint_last to the next, which comes at a validation in any case; 0: only there")
        ->capture_default_str();
    app.add_option("--resume-from", resume_from,
                   "go on from this checkpoint of the run, and not from checkpoint_last; what came after it is redone");
    app.add_option("--max-skipped-steps", max_skipped_steps,
                   "give up after that many skipped steps in a row; 0: never. Steps whose loss or gradients are not "
                   "finite are skipped")
        ->capture_default_str();
    app.add_option("--spike-threshold", spike_threshold,
                   "skip steps whose loss or gradient norm lies that many standard deviations above the mean of those "
                   "before; 0: none")
        ->capture_default_str();
    app.add_option("--spike-window", spike_window, "how many steps before are compared with")->capture_default_str();
    app.add_option("--seed", seed, "of initial values, split, shuffling, dropout and samples")->capture_default_str();
    app.add_option("--prompt", prompt, "how the sample story at a validation begins")->capture_default_str();
    compute.add_to(app);
  }

  /// As told, or as suits the device.
  [[nodiscard]] storylm::index_t tokens_at_once() const {
    return micro_tokens.value_or(compute.on_cuda() ? micro_tokens_on_gpu : micro_tokens_on_cpu);
  }

  /// @throws storylm::ArgumentError naming the flag whose value is out of range
  void check() const {
    const auto in_range = [](std::string_view name, storylm::index_t value, storylm::index_t least,
                             storylm::index_t most) {
      storylm::expects<storylm::ArgumentError>(value >= least && value <= most, "train_stories", name, " must be in [",
                                               least, ", ", most, "]: ", value);
    };
    const auto require = [](bool ok, std::string_view what, double value) {
      storylm::expects<storylm::ArgumentError>(ok, "train_stories", what, ": ", value);
    };
    constexpr storylm::index_t most = std::numeric_limits<std::int32_t>::max();
    in_range("--epochs", epochs, 1, most);
    in_range("--max-steps", max_steps, 0, most);
    in_range("--batch-size", batch_size, 1, most);
    in_range("--micro-tokens", tokens_at_once(), 1, most);
    in_range("--validate-every", validate_every, 1, most);
    in_range("--max-skipped-steps", max_skipped_steps, 0, most);
    in_range("--spike-window", spike_window, 2, 1'000'000);
    require(lr > 0.0 && std::isfinite(lr), "--lr must be positive", lr);
    require(dropout >= 0.0 && dropout < 1.0, "--dropout must be in [0, 1)", dropout);
    require(clip_norm >= 0.0, "--clip-norm must not be negative", clip_norm);
    require(checkpoint_minutes >= 0.0, "--checkpoint-minutes must not be negative", checkpoint_minutes);
    require(spike_threshold >= 0.0, "--spike-threshold must not be negative", spike_threshold);
    compute.check();
  }

  /// In words.
  [[nodiscard]] std::string spike_guard() const {
    return spike_threshold == 0.0 ? "off" : number(spike_threshold) + " of " + std::to_string(spike_window);
  }

  /// One of what every bit of a result depends on.
  struct Setting {
    std::string name;
    std::string value;
    std::string unrecorded = "not recorded";  // what it was in runs from before it was recorded
  };
  /// All of them: a run can only go on with the same.
  [[nodiscard]] std::vector<Setting> settings() const {
    return {{"batch_size", std::to_string(batch_size)},
            {"max_len", std::to_string(max_len)},
            {"lr", number(lr)},
            {"dropout", number(dropout)},
            {"clip_norm", number(clip_norm)},
            {"micro_tokens", std::to_string(tokens_at_once())},
            {"seed", std::to_string(seed)},
            {"device", compute.on_cuda() ? "cuda" : "cpu", "cpu"},
            {"dtype", compute.dtype, "float32"},
            {"tf32", compute.tf32 ? "on" : "off", "off"},
            {"spike_guard", spike_guard(), "off"}};
  }
};

}  // namespace program
