// SPDX-License-Identifier: MIT
/// @file
/// @brief What compare_stories can be told.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>

#include "comparison_files.hpp"
#include "program.hpp"
#include "story_text.hpp"

namespace program {

/// The flags of compare_stories, with their defaults.
struct ComparisonFlags {
  std::filesystem::path checkpoint;
  std::filesystem::path tokenizer;
  std::vector<std::filesystem::path> baselines;
  std::filesystem::path judge;
  std::filesystem::path judge_tokenizer;
  std::filesystem::path output;
  std::string prompt = "Once upon a time ";
  std::vector<std::string> sampling{"softmax", "logits-as-weights", "inverse-temperature"};
  std::optional<double> baseline_temperature;
  std::optional<storylm::index_t> baseline_top_k;
  std::optional<double> baseline_top_p;
  std::string bos = "auto";
  storylm::index_t context = 0;
  storylm::index_t stride = 0;
  storylm::index_t quantity = 100;
  storylm::index_t max_tokens = 0;
  storylm::index_t batch_size = 32;
  std::uint64_t seed = 1;
  bool redo = false;
  std::string judge_dtype;
  ComputeFlags compute{.half_on_cpu = true};

  /// Where and in what dtype the judge computes.
  [[nodiscard]] ComputeFlags judge_compute() const {
    ComputeFlags result = compute;
    if (!judge_dtype.empty()) result.dtype = judge_dtype;
    result.tf32 = result.tf32 && result.dtype == "float32";
    return result;
  }

  void add_to(CLI::App& app) {
    app.add_option("--checkpoint-path", checkpoint,
                   "the model at the report's settings (temperature, k): (0.1, 3), (1, 3), (1, 2), (0.5, 2)")
        ->required();
    app.add_option("--baseline", baselines,
                   "folders of models to compare with, such as GPT2-XL; any number of them (default: none)");
    app.add_option("--judge", judge,
                   "the language model that judges: a Hugging Face folder (GPT-2, Llama, Mistral) or a checkpoint")
        ->required();
    app.add_option("--output-dir", output,
                   "folder for comparison.json, comparison.html and the rows; what is done there is taken up again")
        ->required();
    app.add_option("--gen-quantity", quantity, "stories a row")->capture_default_str();
    app.add_option("--prompt", prompt, "how every story begins")->capture_default_str();
    app.add_option("--seed", seed, "story i of a row is a function of model, sampling, seed and i")
        ->capture_default_str();
    app.add_option("--max-tokens", max_tokens,
                   "most tokens of a story, prompt included, by its writer's tokenizer (default: max_len of the "
                   "checkpoint, for all rows)");
    app.add_option("--sampling", sampling,
                   "sampling policies of the checkpoint's rows, of softmax, logits-as-weights and inverse-temperature "
                   "(default: all; rows that draw the same by necessity are listed and done once)");
    app.add_option("--baseline-temperature", baseline_temperature,
                   "temperature of baselines (default: generation_config.json's, else 1, as in transformers)");
    app.add_option(
        "--baseline-topk", baseline_top_k,
        "k of baselines; 0: among all tokens (default: generation_config.json's, else 50, as in transformers)");
    app.add_option("--baseline-topp", baseline_top_p,
                   "p of baselines; 1: off (default: generation_config.json's, else 1)");
    app.add_option("--bos", bos, "BOS before every story that is judged: always, never, or auto, as judge_stories")
        ->capture_default_str();
    app.add_option("--context", context, "tokens the judge sees at once (default: as many as it was made for)");
    app.add_option("--stride", stride,
                   "tokens from one window of a longer story to the next (default: half of the context)");
    app.add_flag("--redo", redo,
                 "make rows again that are in the output folder with other settings (default: refuse to go on)");
    app.add_option("--batch-size", batch_size, "stories written at a time; changes speed and memory only")
        ->capture_default_str();
    app.add_option("--tokenizer-path", tokenizer,
                   "the checkpoint's tokenizer: a .model file or a folder (default: what lies with the checkpoint)");
    app.add_option("--judge-tokenizer-path", judge_tokenizer,
                   "the judge's tokenizer (default: what lies with the judge)");
    app.add_option("--judge-dtype", judge_dtype, "like --dtype, for the judge (default: that of --dtype)");
    compute.add_to(app);
  }

  /// @throws storylm::ArgumentError naming the flag whose value is out of range
  void check() const {
    const auto require = [](bool ok, const auto&... parts) {
      storylm::expects<storylm::ArgumentError>(ok, "compare_stories", parts...);
    };
    const auto in_range = [&](const char* name, storylm::index_t value, storylm::index_t least, storylm::index_t most) {
      require(value >= least && value <= most, name, " must be in [", least, ", ", most, "]: ", value);
    };
    compute.check();
    judge_compute().check();
    in_range("--gen-quantity", quantity, 1, 1 << 22);
    in_range("--batch-size", batch_size, 1, 1 << 16);
    in_range("--max-tokens", max_tokens, 0, std::numeric_limits<std::int32_t>::max());
    in_range("--context", context, 0, std::numeric_limits<std::int32_t>::max());
    in_range("--stride", stride, 0, std::numeric_limits<std::int32_t>::max());
    require(bos == "auto" || bos == "always" || bos == "never", "--bos must be auto, always or never: ", bos);
    for (std::string_view rest = prompt; !rest.empty();) {
      const FirstCharacter next = first_character(rest);
      require(next.whole, "the prompt is not UTF-8");
      rest.remove_prefix(next.length);
    }
    require(RowFiles::storable(prompt) == prompt,
            "the prompt must not have what separates stories in files, <|endoftext|>");
    std::set<std::filesystem::path> given;
    for (const auto& baseline : baselines) {
      require(given.insert(std::filesystem::weakly_canonical(baseline)).second, "--baseline ", baseline,
              " is given twice");
    }
  }
};

}  // namespace program
