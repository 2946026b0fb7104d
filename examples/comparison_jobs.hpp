// SPDX-License-Identifier: MIT
/// @file
/// @brief The two things that compare_stories has models do. Each is compiled on its own, for all kinds of models.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/evaluate/judge_policy.hpp>
#include <storylm/kernels/sampling.hpp>

#include "comparison_files.hpp"
#include "program.hpp"

namespace program {

/// Rows that one model writes.
struct WritingJob {
  std::filesystem::path model{};
  std::string identity{};             ///< hash of the model's files, which may be replaced by a run that goes on
  std::filesystem::path tokenizer{};  ///< empty: the one that lies with the model
  std::string prompt{};
  storylm::index_t quantity = 0;    ///< stories a row
  storylm::index_t max_tokens = 0;  ///< of a story, prompt included; no more than the model can take
  storylm::index_t batch_size = 0;
  ComputeFlags compute{};
  std::vector<storylm::SamplerOptions> samplers{};  ///< one for each row
};

/// How far the row at hand has come.
struct RowProgress {
  std::size_t row = 0;          ///< of the job
  double stories = 0.0;         ///< done, parts counting
  storylm::index_t tokens = 0;  ///< drawn or judged
};

/// Loads the model, writes the rows, frees the model. False when a signal stopped it; rows that were done have been
/// given to `on_row`.
bool write_rows(const WritingJob& job, const std::function<void(const RowProgress&)>& on_progress,
                const std::function<void(std::size_t, const WrittenRow&)>& on_row);

/// Files of stories that the judge scores, as judge_stories does.
struct JudgingJob {
  std::filesystem::path model{};
  std::string identity{};             ///< hash of the model's files, which may be replaced by a run that goes on
  std::filesystem::path tokenizer{};  ///< empty: the one that lies with the model
  storylm::evaluate::JudgePolicy policy{};
  ComputeFlags compute{};
  std::vector<std::filesystem::path> files{};  ///< one for each row
};

/// Loads the judge, scores the rows, frees the judge. False when a signal stopped it.
bool judge_rows(const JudgingJob& job, const std::function<void(const RowProgress&)>& on_progress,
                const std::function<void(std::size_t, const ScoredRow&)>& on_row);

}  // namespace program
