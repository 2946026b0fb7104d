// SPDX-License-Identifier: MIT
/// @file
/// @brief The table of a comparison: its rows, as text and as JSON.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include <storylm/evaluate/summary.hpp>
#include <storylm/io/json.hpp>

#include "story_text.hpp"

namespace program {

/// Standard errors on either side of a mean of n samples that hold 95 % of Student's t distribution with n - 1 degrees
/// of freedom, to 1e-3; NaN for fewer than two samples. From four degrees on by M. Abramowitz and I. A. Stegun,
/// "Handbook of Mathematical Functions", 26.7.5, below that by their table 26.10.
inline double errors_of_95_percent(storylm::index_t samples) {
  constexpr std::array<double, 4> few{std::numeric_limits<double>::quiet_NaN(), 12.7062, 4.3027, 3.1824};
  const storylm::index_t degrees = std::max<storylm::index_t>(0, samples - 1);
  if (degrees < static_cast<storylm::index_t>(few.size())) return few[static_cast<std::size_t>(degrees)];
  constexpr double x = 1.959963984540054;  // that of the normal distribution
  constexpr double x3 = x * x * x;
  constexpr double x5 = x3 * x * x;
  constexpr double x7 = x5 * x * x;
  constexpr double x9 = x7 * x * x;
  const double by = 1.0 / static_cast<double>(degrees);
  return x + by * ((x3 + x) / 4.0 +
                   by * ((5.0 * x5 + 16.0 * x3 + 3.0 * x) / 96.0 +
                         by * ((3.0 * x7 + 19.0 * x5 + 17.0 * x3 - 15.0 * x) / 384.0 +
                               by * (79.0 * x9 + 776.0 * x7 + 1482.0 * x5 - 1920.0 * x3 - 945.0 * x) / 92160.0)));
}

/// A row of the table with all that is said of it.
struct TableRow {
  std::string model{};                   ///< who wrote
  std::string sampling{};                ///< how, in words
  boost::json::object sampler{};         ///< how, in numbers
  std::string prompt{};                  ///< that the stories begin with
  std::string unsupported{};             ///< what its folder says of sampling and was not done: names, with commas
  std::optional<std::size_t> same_as{};  ///< an earlier row that has the same stories by necessity
  std::string stories_file{};            ///< where they are, from the output folder
  storylm::index_t ended = 0;            ///< stories that ended by EOS
  storylm::index_t max_tokens = 0;       ///< that a story may have, by its writer's tokenizer, prompt included
  double mean_tokens = 0.0;              ///< of a story, by the same
  double mean_characters = 0.0;          ///< of a story, prompt included
  storylm::index_t drawn = 0;            ///< tokens drawn
  double seconds = 0.0;                  ///< that drawing took
  storylm::evaluate::Summary summary{};  ///< what the judge says
  std::string example{};                 ///< the first story

  /// Share of stories that ended by EOS.
  [[nodiscard]] double ended_share() const {
    return static_cast<double>(ended) / static_cast<double>(std::max<storylm::index_t>(1, summary.stories));
  }
  /// Of writing.
  [[nodiscard]] double tokens_per_second() const {
    return seconds > 0.0 ? static_cast<double>(drawn) / seconds : std::numeric_limits<double>::quiet_NaN();
  }
  /// Perplexity at the ends of the interval of 95 % of the mean loss, stories being the sample; NaN where there is
  /// none.
  [[nodiscard]] std::array<double, 2> interval() const {
    const double errors = errors_of_95_percent(summary.stories - summary.skipped) * summary.standard_error;
    return {std::exp(summary.mean_nll - errors), std::exp(summary.mean_nll + errors)};
  }
  /// Why there is no number; empty when there is one.
  [[nodiscard]] std::string problem() const {
    if (summary.tokens > 0) return {};
    return "nothing to judge: none of the " + std::to_string(summary.stories) +
           " stories has a token that could be predicted";
  }
};

/// What holds for all rows.
struct Comparison {
  std::string prompt{};
  std::uint64_t seed = 0;
  storylm::index_t quantity = 0;
  storylm::index_t max_tokens = 0;       ///< of a story, prompt included, where its writer can take as many
  std::string judge{};                   ///< its name
  boost::json::object judge_settings{};  ///< identity and policy
  std::string policy{};                  ///< in words
  std::vector<TableRow> rows{};
};

/// Characters of UTF-8 in `text`.
inline storylm::index_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

/// `value` with so many digits behind the point, or "-" where it is none.
inline std::string decimal(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), std::abs(value) < 1e15 ? "%.*f" : "%.*e", digits, value);
  return text.data();
}

namespace table {

/// Titles of the columns.
inline constexpr std::array<std::string_view, 12> titles = {
    "row",       "written by",     "sampling",  "perplexity",   "95 % interval", "mean nll",
    "std error", "ppl of stories", "bits/byte", "ended by EOS", "characters",    "tokens/s"};

/// The cells of row `i`.
inline std::array<std::string, titles.size()> cells(const Comparison& comparison, std::size_t i) {
  const TableRow& row = comparison.rows[i];
  const storylm::evaluate::Summary& s = row.summary;
  const bool has_interval = std::isfinite(s.standard_error);
  const auto [low, high] = row.interval();
  return {std::to_string(i + 1),
          row.model,
          row.sampling,
          decimal(s.perplexity, 2),
          has_interval ? decimal(low, 2) + " to " + decimal(high, 2) : "-",
          decimal(s.mean_nll, 4),
          decimal(s.standard_error, 4),
          decimal(s.perplexity_over_stories, 2),
          decimal(s.bits_per_byte, 4),
          decimal(100.0 * row.ended_share(), 1) + " %",
          decimal(row.mean_characters, 0),
          decimal(row.tokens_per_second(), 0)};
}

/// What is to be said below the table.
inline std::vector<std::string> notes(const Comparison& comparison) {
  std::vector<std::string> all;
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) {
    const TableRow& row = comparison.rows[i];
    const std::string number = "Row " + std::to_string(i + 1);
    if (row.prompt != comparison.prompt) {
      all.push_back(number +
                    " goes on from the prompt without the space at its end, which is a token of its own to that "
                    "model.");
    }
    if (!row.unsupported.empty())
      all.push_back(number + " does not follow " + row.unsupported + " of its folder's generation_config.json.");
    if (row.max_tokens < comparison.max_tokens)
      all.push_back(number + " has stories of up to " + std::to_string(row.max_tokens) +
                    " tokens: its model takes no more.");
    if (row.same_as) {
      all.push_back(number + " has the stories of row " + std::to_string(*row.same_as + 1) +
                    ": with its sampling the same tokens are drawn, so nothing was done twice.");
    } else if (!row.problem().empty()) {
      all.push_back(number + ": " + row.problem() + ".");
    } else if (row.summary.skipped > 0) {
      all.push_back(number + ": " + std::to_string(row.summary.skipped) + " of " + std::to_string(row.summary.stories) +
                    " stories have nothing to predict and do not count.");
    }
  }
  return all;
}

}  // namespace table

/// The table for a terminal, with notes below it.
inline std::string comparison_text(const Comparison& comparison) {
  std::vector<std::array<std::string, table::titles.size()>> lines(1);
  std::copy(table::titles.begin(), table::titles.end(), lines[0].begin());
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) lines.push_back(table::cells(comparison, i));
  std::array<storylm::index_t, table::titles.size()> widths{};
  for (const auto& line : lines) {
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], count_characters(line[c]));
  }
  std::string text;
  for (const auto& line : lines) {
    std::string shown;
    for (std::size_t c = 0; c < line.size(); ++c) {
      const std::string padding(static_cast<std::size_t>(widths[c] - count_characters(line[c])), ' ');
      const bool to_the_left = c == 1 || c == 2;
      shown += (c == 0 ? "" : "  ") + (to_the_left ? line[c] + padding : padding + line[c]);
    }
    shown.erase(shown.find_last_not_of(' ') + 1);
    text += shown + '\n';
  }
  for (const std::string& note : table::notes(comparison)) text += note + '\n';
  return text;
}

/// All of it in full precision; null where there is no number.
inline boost::json::object comparison_json(const Comparison& comparison) {
  const auto number = [](double value) { return std::isfinite(value) ? boost::json::value(value) : nullptr; };
  boost::json::array rows;
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) {
    const TableRow& row = comparison.rows[i];
    const storylm::evaluate::Summary& s = row.summary;
    const auto [low, high] = row.interval();
    boost::json::object entry;
    entry["row"] = i + 1;
    entry["model"] = printable(row.model);
    entry["sampling"] = row.sampler;
    entry["prompt"] = row.prompt;
    entry["same_as_row"] = row.same_as ? boost::json::value(*row.same_as + 1) : nullptr;
    entry["stories_file"] = row.stories_file;
    entry["stories"] = s.stories;
    entry["skipped"] = s.skipped;
    entry["tokens"] = s.tokens;
    entry["mean_nll"] = number(s.mean_nll);
    entry["standard_error"] = number(s.standard_error);
    entry["perplexity"] = number(s.perplexity);
    entry["perplexity_95_percent"] =
        std::isfinite(s.standard_error) ? boost::json::value(boost::json::array{number(low), number(high)}) : nullptr;
    entry["perplexity_over_stories"] = number(s.perplexity_over_stories);
    entry["standard_error_over_stories"] = number(s.standard_error_over_stories);
    entry["bits_per_byte"] = number(s.bits_per_byte);
    entry["problem"] = row.problem().empty() ? boost::json::value(nullptr) : boost::json::value(row.problem());
    entry["ended_by_eos"] = row.ended;
    entry["ended_by_eos_share"] = row.ended_share();
    entry["mean_characters"] = row.mean_characters;
    entry["max_tokens"] = row.max_tokens;
    entry["mean_tokens_of_writer"] = row.mean_tokens;
    entry["tokens_written"] = row.drawn;
    entry["seconds_of_writing"] = row.seconds;
    entry["tokens_per_second"] = number(row.tokens_per_second());
    entry["example"] = printable(row.example);
    rows.push_back(std::move(entry));
  }
  boost::json::object document;
  document["prompt"] = comparison.prompt;
  document["seed"] = comparison.seed;
  document["stories_per_row"] = comparison.quantity;
  document["max_tokens"] = comparison.max_tokens;
  document["judge"] = comparison.judge_settings;
  document["policy"] = comparison.policy;
  document["rows"] = std::move(rows);
  return document;
}

}  // namespace program
