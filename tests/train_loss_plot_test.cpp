// SPDX-License-Identifier: MIT
/// @file
/// @brief The loss picture: well-formed, small, inside its frame, whatever the losses are.
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/train/loss_plot.hpp>

using namespace storylm;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// One element of the picture and the text right behind its start tag.
struct Element {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;
};

/// Reads as much of XML as a picture needs: elements, attributes in single quotes, text. Fails the test on anything
/// that is not well-formed, and when the elements are not those of one root.
class Picture {
 public:
  explicit Picture(std::string_view xml) : rest_(xml) {
    std::vector<std::string> open;
    do {
      bool opened = false;
      take("<");
      if (rest_.starts_with('/')) {
        take("/");
        REQUIRE(!open.empty());
        take(open.back());
        open.pop_back();
        take(">");
      } else if (element()) {
        open.push_back(elements.back().name);
        opened = true;
      }
      const auto text = rest_.substr(0, rest_.find('<'));
      REQUIRE(text.find_first_of(">&") == std::string_view::npos);
      if (opened) elements.back().text = text;
      rest_.remove_prefix(text.size());
    } while (!open.empty());
    REQUIRE(rest_.empty());
    REQUIRE(elements.front().name == "svg");
  }

  /// Those of that name and class.
  [[nodiscard]] std::vector<Element> all(const std::string& name, const std::string& kind = "") const {
    std::vector<Element> found;
    for (const auto& e : elements) {
      const auto at = e.attributes.find("class");
      if (e.name == name && (kind.empty() || (at != e.attributes.end() && at->second == kind))) found.push_back(e);
    }
    return found;
  }
  /// The points of a polyline.
  [[nodiscard]] static std::vector<std::pair<double, double>> points(const Element& line) {
    std::vector<std::pair<double, double>> points;
    const std::string& text = line.attributes.at("points");
    const char* at = text.c_str();
    while (*at != '\0') {
      char* end = nullptr;
      const double x = std::strtod(at, &end);
      REQUIRE(*end == ',');
      at = end + 1;
      const double y = std::strtod(at, &end);
      REQUIRE(end != at);
      at = end;
      while (*at == ' ') ++at;
      points.emplace_back(x, y);
    }
    return points;
  }

  std::vector<Element> elements;

 private:
  void take(std::string_view expected) {
    REQUIRE(std::string(rest_.substr(0, expected.size())) == std::string(expected));
    rest_.remove_prefix(expected.size());
  }
  std::string word() {
    const auto end = rest_.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:");
    REQUIRE(end != 0);
    REQUIRE(end != std::string_view::npos);
    std::string result(rest_.substr(0, end));
    rest_.remove_prefix(end);
    return result;
  }
  /// True when the element stays open.
  bool element() {
    elements.push_back({.name = word(), .attributes = {}, .text = {}});
    while (rest_.starts_with(' ')) {
      take(" ");
      const std::string key = word();
      take("='");
      const auto end = rest_.find('\'');
      REQUIRE(end != std::string_view::npos);
      const std::string value(rest_.substr(0, end));
      REQUIRE(value.find_first_of("<&") == std::string::npos);
      REQUIRE(elements.back().attributes.emplace(key, value).second);
      rest_.remove_prefix(end + 1);
    }
    const bool closed = rest_.starts_with('/');
    if (closed) take("/");
    take(">");
    return !closed;
  }

  std::string_view rest_;
};

/// Every point of both curves lies in the frame; there are that many of each.
Picture checked(const train::History& history, std::size_t training_points, std::size_t validation_points) {
  const std::string svg = train::loss_plot(history);
  Picture picture(svg);
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("inf") == std::string::npos);
  CHECK(svg.size() < 40000);
  const auto frames = picture.all("rect", "frame");
  REQUIRE(frames.size() == 1);
  const auto number = [&](const char* name) { return std::strtod(frames[0].attributes.at(name).c_str(), nullptr); };
  const double left = number("x");
  const double top = number("y");
  const double right = left + number("width");
  const double bottom = top + number("height");
  const auto check_curve = [&](const std::string& kind, std::size_t expected) {
    INFO(kind);
    const auto lines = picture.all("polyline", kind);
    REQUIRE(lines.size() == 2);  // the second is the legend's
    const auto points = Picture::points(lines[0]);
    CHECK(points.size() == expected);
    double last = -infinity;
    for (const auto& [x, y] : points) {
      CHECK(x >= left);
      CHECK(x <= right + 0.1);
      CHECK(y >= top - 0.1);
      CHECK(y <= bottom + 0.1);
      CHECK(x >= last);
      last = x;
    }
  };
  check_curve("train", training_points);
  check_curve("validation", validation_points);
  CHECK(picture.all("circle").size() == validation_points + 1);
  const auto grid = picture.all("line", "grid");
  CHECK(grid.size() <= 16);
  return picture;
}

}  // namespace

TEST_CASE("both curves, labels and a legend") {
  train::History history;
  for (int step = 1; step <= 100; ++step) {
    history.add_loss(2.0 + 6.0 / step);
    if (step % 25 == 0) history.add_validation(step, 2.1 + 6.0 / step);
  }
  const Picture picture = checked(history, 100, 4);
  const auto train = Picture::points(picture.all("polyline", "train")[0]);
  CHECK(train.front().second < train.back().second);  // down in the picture is down in loss
  const auto validation = Picture::points(picture.all("polyline", "validation")[0]);
  CHECK(validation.back().first == doctest::Approx(776.0));  // the last step is at the right end
  CHECK(validation[1].first == doctest::Approx((64.0 + 776.0) / 2));
  CHECK(train.back().first == doctest::Approx(776.0));
  CHECK(train.back().second > validation.back().second);
  std::string texts = "|";
  for (const auto& text : picture.all("text")) texts += text.text + '|';
  for (const char* label : {"step|", "loss (nats per token)|", "training|", "validation|", "|2|", "|8|", "|100|"}) {
    CHECK_MESSAGE(texts.find(label) != std::string::npos, std::string(label));
  }
}

TEST_CASE("no loss, one loss, validations only") {
  checked({}, 0, 0);
  train::History one;
  one.add_loss(5.0);
  checked(one, 1, 0);
  train::History validations;
  validations.add_validation(1000, 3.0);
  validations.add_validation(2000, 2.5);
  checked(validations, 0, 2);
}

TEST_CASE("a history that no run wrote is refused: more losses of validations than steps") {
  train::History history;
  history.add_validation(2, 1.0);
  train::History::visit_state(history, [](std::string_view name, auto& member) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(member)>, std::vector<double>>) {
      if (name == "validation_losses") member.assign(100000, 1.0);
    }
  });
  CHECK_THROWS_WITH_AS((void)train::loss_plot(history),
                       "[loss_plot] the history has 100000 losses of validations after 1 steps", FormatError);
}

TEST_CASE("losses that are not finite are left out") {
  train::History history;
  for (const double loss : {5.0, not_a_number, 4.0, infinity, -infinity, 3.0}) history.add_loss(loss);
  history.add_validation(2, not_a_number);
  history.add_validation(4, infinity);
  history.add_validation(6, 3.0);
  checked(history, 3, 1);
  train::History nothing;
  for (int i = 0; i < 10; ++i) nothing.add_loss(not_a_number);
  nothing.add_validation(10, infinity);
  checked(nothing, 0, 0);
}

TEST_CASE("losses that stand still, at any size") {
  for (const double loss : {0.0, 1e-300, 1e-9, 1.0, 1e6, 1e17, 1e25}) {
    CAPTURE(loss);
    train::History history;
    for (int i = 0; i < 20; ++i) history.add_loss(loss);
    history.add_loss(std::nextafter(loss, 1e300));
    history.add_validation(20, loss);
    checked(history, 21, 1);
  }
}

TEST_CASE("a run that exploded: sums must not overflow") {
  train::History history;
  for (int i = 0; i < 1000; ++i) history.add_loss(i < 500 ? 5.0 : std::numeric_limits<double>::max());
  history.add_validation(1000, 1e308);
  const Picture picture = checked(history, 167, 0);
}

TEST_CASE("a hundred thousand steps make a small picture of means") {
  train::History history;
  RandomStream random(1, 0, 0);
  for (int step = 1; step <= 100000; ++step) {
    history.add_loss(3.0 + random.normal());
    if (step % 1000 == 0) history.add_validation(step, 3.0);
  }
  const Picture picture = checked(history, 400, 100);
  const auto points = Picture::points(picture.all("polyline", "train")[0]);
  const auto validation = Picture::points(picture.all("polyline", "validation")[0]);
  for (const auto& [x, y] : points) CHECK(std::abs(y - validation.front().second) < 40.0);  // means of 250 hardly vary
}
