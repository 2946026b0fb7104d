// SPDX-License-Identifier: MIT
/// @file
/// @brief A comparison as a table in text, as JSON and as a page that needs no other file.
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

/// A row of the table with all that is said of it.
struct TableRow {
  std::string model{};                   ///< who wrote
  std::string sampling{};                ///< how, in words
  boost::json::object sampler{};         ///< how, in numbers
  std::string prompt{};                  ///< that the stories begin with
  std::optional<std::size_t> same_as{};  ///< an earlier row that has the same stories by necessity
  std::string stories_file{};            ///< where they are, from the output folder
  storylm::index_t ended = 0;            ///< stories that ended by EOS
  double mean_tokens = 0.0;              ///< of a story, by its writer's tokenizer, prompt included
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
  /// Perplexity `errors` standard errors of the mean loss away; NaN where there is none.
  [[nodiscard]] double perplexity_at(double errors) const {
    return std::exp(summary.mean_nll + errors * summary.standard_error);
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
  storylm::index_t max_tokens = 0;       ///< of a story, prompt included
  std::string judge{};                   ///< its name
  boost::json::object judge_settings{};  ///< identity and policy
  std::string policy{};                  ///< in words
  std::vector<TableRow> rows{};
};

/// Standard errors on either side that hold 95 % of a normal distribution.
inline constexpr double errors_of_95_percent = 1.959963984540054;

/// `text` as UTF-8 without control characters: what is neither becomes U+FFFD.
inline std::string printable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const FirstCharacter next = first_character(text);
    const std::string_view character = text.substr(0, next.length);
    const auto first = static_cast<unsigned char>(text.front());
    const bool control = first < 0x20 || first == 0x7F ||
                         (character.size() == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0);
    result += next.whole && !control ? character : std::string_view("\uFFFD");
    text.remove_prefix(next.length);
  }
  return result;
}

/// `text` where HTML expects text or the value of an attribute: nothing in it is a tag, an entity or a quote.
inline std::string html_text(std::string_view text) {
  std::string result;
  for (const char c : printable(text)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

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
  return {std::to_string(i + 1),
          row.model,
          row.sampling,
          decimal(s.perplexity, 2),
          has_interval ? decimal(row.perplexity_at(-errors_of_95_percent), 2) + " to " +
                             decimal(row.perplexity_at(errors_of_95_percent), 2)
                       : "-",
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
        std::isfinite(s.standard_error)
            ? boost::json::value(
                  boost::json::array{row.perplexity_at(-errors_of_95_percent), row.perplexity_at(errors_of_95_percent)})
            : nullptr;
    entry["perplexity_over_stories"] = number(s.perplexity_over_stories);
    entry["standard_error_over_stories"] = number(s.standard_error_over_stories);
    entry["bits_per_byte"] = number(s.bits_per_byte);
    entry["problem"] = row.problem().empty() ? boost::json::value(nullptr) : boost::json::value(row.problem());
    entry["ended_by_eos"] = row.ended;
    entry["ended_by_eos_share"] = row.ended_share();
    entry["mean_characters"] = row.mean_characters;
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

namespace page {

/// Where perplexities lie in the picture of error bars: on a logarithmic axis that holds all of them.
class Axis {
 public:
  static constexpr double width = 240.0;
  static constexpr double margin = 8.0;

  explicit Axis(const Comparison& comparison) {
    for (const TableRow& row : comparison.rows) {
      for (const double value : {row.summary.perplexity, row.perplexity_at(-errors_of_95_percent),
                                 row.perplexity_at(errors_of_95_percent)}) {
        if (!drawable(value)) continue;
        low_ = std::min(low_, std::log(value));
        high_ = std::max(high_, std::log(value));
      }
    }
  }
  [[nodiscard]] static bool drawable(double value) { return std::isfinite(value) && value > 0.0; }
  [[nodiscard]] double x(double value) const {
    const double range = std::max(high_ - low_, 1e-9);
    return margin + (std::log(value) - low_) / range * (width - 2.0 * margin);
  }
  [[nodiscard]] std::string title() const {
    if (low_ > high_) return "error bars";
    return decimal(std::exp(low_), 2) + " to " + decimal(std::exp(high_), 2) + ", logarithmic";
  }

 private:
  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -std::numeric_limits<double>::infinity();
};

/// Perplexity as a point with its interval as a line.
inline std::string error_bar(const TableRow& row, const Axis& axis) {
  std::string svg = "<svg viewBox='0 0 " + decimal(Axis::width, 0) + " 20' width='" + decimal(Axis::width, 0) +
                    "' height='20' role='img'>";
  const double low = row.perplexity_at(-errors_of_95_percent);
  const double high = row.perplexity_at(errors_of_95_percent);
  if (Axis::drawable(low) && Axis::drawable(high)) {
    const std::string from = decimal(axis.x(low), 1);
    const std::string to = decimal(axis.x(high), 1);
    svg += "<line x1='" + from + "' y1='10' x2='" + to + "' y2='10'/>";
    for (const std::string& end : {from, to}) svg += "<line x1='" + end + "' y1='5' x2='" + end + "' y2='15'/>";
  }
  if (Axis::drawable(row.summary.perplexity))
    svg += "<circle cx='" + decimal(axis.x(row.summary.perplexity), 1) + "' cy='10' r='3'/>";
  return svg + "</svg>";
}

}  // namespace page

/// A page with the table, error bars and an example of each row. Whatever comes from models and users is text in it.
inline std::string comparison_html(const Comparison& comparison) {
  const page::Axis axis(comparison);
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Stories compared</title>\n<style>\n"
      "body{font:16px/1.4 sans-serif;color:#222;max-width:80rem;margin:2rem auto;padding:0 1rem}\n"
      ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px}\n"
      "th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\n"
      "th:nth-child(2),td:nth-child(2),th:nth-child(3),td:nth-child(3){text-align:left}\n"
      "td.problem{text-align:left;color:#a32}\n"
      "blockquote{margin:.5rem 0 1.5rem;padding-left:1rem;border-left:3px solid #47a;unicode-bidi:isolate;"
      "overflow-wrap:anywhere}\n"
      "svg line{stroke:#47a;stroke-width:1.5}svg circle{fill:#c53}h3{font-size:1rem;margin:0}\n"
      "</style>\n</head>\n<body>\n<h1>Stories compared</h1>\n";
  const auto paragraph = [&html](const std::string& text) { html += "<p>" + html_text(text) + "</p>\n"; };
  paragraph(std::to_string(comparison.quantity) + " stories a row, each from \"" + comparison.prompt + "\", of up to " +
            std::to_string(comparison.max_tokens) + " tokens; seed " + std::to_string(comparison.seed) + ".");
  paragraph("Judge: " + comparison.judge + ". " + comparison.policy + ".");
  html += "<div class=\"wide\"><table>\n<thead><tr>";
  for (const std::string_view title : table::titles) {
    html += "<th>" + html_text(title) + "</th>";
    if (title == "95 % interval") html += "<th>" + html_text(axis.title()) + "</th>";
  }
  html += "</tr></thead>\n<tbody>\n";
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) {
    const TableRow& row = comparison.rows[i];
    const auto cells = table::cells(comparison, i);
    html += "<tr>";
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const bool is_score = c >= 3 && c <= 8;
      if (is_score && !row.problem().empty()) {
        if (c == 3) html += "<td class=\"problem\" colspan=\"7\">" + html_text(row.problem()) + "</td>";
        continue;
      }
      html += "<td>" + html_text(cells[c]) + "</td>";
      if (table::titles[c] == "95 % interval") html += "<td>" + page::error_bar(row, axis) + "</td>";
    }
    html += "</tr>\n";
  }
  html += "</tbody>\n</table></div>\n";
  for (const std::string& note : table::notes(comparison)) paragraph(note);
  paragraph(
      "Perplexity is over tokens, the exponential of the mean negative log-likelihood (nll, in nats) that the judge "
      "gives a token; its interval is that of 1.96 standard errors of the mean over stories. \"Ppl of stories\" is the "
      "mean of the stories' own perplexities. Tokens/s is the speed of writing.");
  html += "<h2>The first story of each row</h2>\n";
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) {
    const TableRow& row = comparison.rows[i];
    if (row.same_as) continue;
    html += "<h3>" + html_text(std::to_string(i + 1) + ". " + row.model + ", " + row.sampling) + "</h3>\n";
    html += "<blockquote dir=\"auto\">" + html_text(row.example) + "</blockquote>\n";
  }
  return html + "</body>\n</html>\n";
}

}  // namespace program
