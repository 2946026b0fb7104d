// SPDX-License-Identifier: MIT
/// @file
/// @brief A comparison as a page that needs no other file.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

#include "comparison_table.hpp"

namespace program {

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

namespace page {

/// Where perplexities lie in the picture of error bars: on a logarithmic axis that holds all of them.
class Axis {
 public:
  static constexpr double width = 240.0;
  static constexpr double margin = 8.0;

  explicit Axis(const Comparison& comparison) {
    for (const TableRow& row : comparison.rows) {
      const auto [low, high] = row.interval();
      for (const double value : {row.summary.perplexity, low, high}) {
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
  const auto [low, high] = row.interval();
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
      "gives a token; its interval is that of the standard error of the mean over stories, by Student's t. All rows "
      "draw "
      "with one seed, so they are not independent samples: the error of a difference of two rows does not follow from "
      "theirs. \"Ppl of stories\" is the mean of the stories' own perplexities. Tokens/s is the speed of writing.");
  html += "<h2>The first story of each row</h2>\n";
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) {
    const TableRow& row = comparison.rows[i];
    const std::string number = std::to_string(i + 1);
    html += "<h3 id=\"row-" + number + "\">" + html_text(number + ". " + row.model + ", " + row.sampling) + "</h3>\n";
    if (row.same_as) {
      const std::string equal = std::to_string(*row.same_as + 1);
      html += "<p>The story of <a href=\"#row-" + equal + "\">row " + equal + "</a>.</p>\n";
      continue;
    }
    html += "<blockquote dir=\"auto\">" + html_text(row.example) + "</blockquote>\n";
  }
  return html + "</body>\n</html>\n";
}

}  // namespace program
