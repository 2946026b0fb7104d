// SPDX-License-Identifier: MIT
/// @file
/// @brief The rows of a comparison, and how long they will take.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/generate/sampler.hpp>

namespace program {

/// Temperature and k of the four rows in the report whose comparison this is.
inline constexpr std::array<std::pair<double, storylm::index_t>, 4> report_settings = {
    {{0.1, 3}, {1.0, 3}, {1.0, 2}, {0.5, 2}}};

/// Of options that draw the same tokens from the same logits, one spelling: logits as weights are normalised, so that T
/// cancels; and at T = 1 dividing by it is multiplying by it.
inline storylm::SamplerOptions canonical(storylm::SamplerOptions sampler) {
  using storylm::SamplingPolicy;
  if (sampler.policy == SamplingPolicy::logits_as_weights && sampler.temperature > 0.0) sampler.temperature = 1.0;
  if (sampler.policy == SamplingPolicy::inverse_temperature && sampler.temperature == 1.0)
    sampler.policy = SamplingPolicy::softmax;
  return sampler;
}

/// As short as it can be without being another number.
inline std::string shortest(double value) {
  std::array<char, 32> digits{};
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr};
}
/// What programs call a policy.
inline std::string policy_name(storylm::SamplingPolicy policy) {
  for (const auto& [name, value] : storylm::sampling_policies)
    if (value == policy) return std::string(name);
  return "unknown";
}

/// The sampler in words: "softmax, T = 0.5, k = 2".
inline std::string sampler_text(const storylm::SamplerOptions& sampler) {
  std::string text = policy_name(sampler.policy) + ", T = " + shortest(sampler.temperature);
  text += sampler.top_k == 0 ? std::string(", every k") : ", k = " + std::to_string(sampler.top_k);
  if (sampler.top_p != 1.0) text += ", p = " + shortest(sampler.top_p);
  if (sampler.min_p != 0.0) text += ", min p = " + shortest(sampler.min_p);
  if (sampler.repetition_penalty != 1.0) text += ", repetition penalty " + shortest(sampler.repetition_penalty);
  return text;
}

/// `text` as part of a file's name: letters, digits, dots and hyphens, not hidden.
inline std::string file_name_part(std::string_view text) {
  std::string name;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.';
    const bool upper = c >= 'A' && c <= 'Z';
    if (plain || upper) {
      name += upper ? static_cast<char>(c - 'A' + 'a') : c;
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  name.erase(0, name.find_first_not_of(".-"));
  while (!name.empty() && (name.back() == '-' || name.back() == '.')) name.pop_back();
  if (name.size() > 80) name.resize(80);
  return name.empty() ? "model" : name;
}

/// A row of the table.
struct ComparisonRow {
  std::size_t writer = 0;                ///< which model writes: 0 is the checkpoint, then come the baselines
  std::string model{};                   ///< its name
  storylm::SamplerOptions sampler{};     ///< how it draws
  std::string file{};                    ///< beginning of the names of the row's files
  std::optional<std::size_t> same_as{};  ///< an earlier row whose tokens are drawn the same way: nothing is done twice
};

/// The rows: those of the report with each policy for the checkpoint, one for each baseline.
inline std::vector<ComparisonRow> comparison_rows(std::string_view checkpoint,
                                                  std::span<const storylm::SamplingPolicy> policies,
                                                  std::span<const std::string> baselines,
                                                  std::span<const storylm::SamplerOptions> baseline_samplers,
                                                  std::uint64_t seed) {
  std::vector<ComparisonRow> rows;
  std::set<std::string> files;
  const auto add = [&](ComparisonRow row) {
    for (std::size_t i = 0; i < rows.size() && !row.same_as; ++i) {
      if (rows[i].writer == row.writer && canonical(rows[i].sampler) == canonical(row.sampler)) row.same_as = i;
    }
    if (row.same_as) {
      row.file = rows[*row.same_as].file;
    } else {
      const std::string wanted = file_name_part(row.file);
      row.file = wanted;
      for (int i = 2; !files.insert(row.file).second; ++i) row.file = wanted + "-" + std::to_string(i);
    }
    rows.push_back(std::move(row));
  };
  for (const storylm::SamplingPolicy policy : policies) {
    for (const auto& [temperature, k] : report_settings) {
      add({.model = std::string(checkpoint),
           .sampler = {.temperature = temperature, .top_k = k, .policy = policy, .seed = seed},
           .file = "checkpoint-" + policy_name(policy) + "-t" + shortest(temperature) + "-k" + std::to_string(k)});
    }
  }
  for (std::size_t i = 0; i < baselines.size(); ++i) {
    storylm::SamplerOptions sampler = baseline_samplers[i];
    sampler.seed = seed;
    add({.writer = i + 1,
         .model = baselines[i],
         .sampler = sampler,
         .file = "baseline-" + file_name_part(baselines[i])});
  }
  return rows;
}

/// How long all rows will take: jobs of stories, each weighing what the size of its model makes it weigh. Speeds are
/// measured; those of models that have not had a turn follow from their sizes. No clock of its own.
class ComparisonSchedule {
 public:
  /// What a job does.
  enum class Kind { write, judge };

  /// `stories` more are to be written or judged by a model of `bytes`.
  std::size_t add(Kind kind, std::uint64_t bytes, storylm::index_t stories) {
    jobs_.push_back({kind, static_cast<double>(std::max<std::uint64_t>(1, bytes)), static_cast<double>(stories)});
    return jobs_.size() - 1;
  }
  /// So many stories of the job are done, parts counting, in so many seconds.
  void at(std::size_t job, double stories, double seconds) {
    jobs_[job].done = std::min(stories, jobs_[job].stories);
    jobs_[job].seconds = seconds;
  }
  /// Seconds that the rest will take; none before anything is done.
  [[nodiscard]] std::optional<double> remaining() const {
    double seconds = 0.0;
    for (const Job& job : jobs_) {
      const double left = job.stories - job.done;
      if (left <= 0.0) continue;
      // The same kind of work by the same model tells best, then the same kind, then any.
      auto speed = seconds_per_weight([&](const Job& o) { return o.kind == job.kind && o.bytes == job.bytes; });
      if (!speed) speed = seconds_per_weight([&](const Job& o) { return o.kind == job.kind; });
      if (!speed) speed = seconds_per_weight([](const Job&) { return true; });
      if (!speed) return std::nullopt;
      seconds += left * job.bytes * *speed;
    }
    return seconds;
  }

 private:
  struct Job {
    Kind kind;
    double bytes;
    double stories;
    double done = 0.0;
    double seconds = 0.0;
  };
  template <class F>
  [[nodiscard]] std::optional<double> seconds_per_weight(F&& counts) const {
    double weight = 0.0;
    double seconds = 0.0;
    for (const Job& job : jobs_) {
      if (!counts(job) || job.done <= 0.0) continue;
      weight += job.done * job.bytes;
      seconds += job.seconds;
    }
    if (weight <= 0.0) return std::nullopt;
    return seconds / weight;
  }

  std::vector<Job> jobs_;
};

}  // namespace program
