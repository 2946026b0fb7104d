// SPDX-License-Identifier: MIT
/// @file
/// @brief Which algorithm a device's libraries use for what: found by timing, so part of a run's state.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/device.hpp>
#include <storylm/core/error.hpp>

namespace storylm {

/// A library's description of an algorithm, as it gave it.
using AlgorithmWords = std::array<std::uint64_t, 8>;

/// Algorithms by key. A key names everything that a choice depends on, the GPU and the library's version first. Sums
/// are ordered differently by different algorithms: a resumed run that is to give the same bits needs the same table.
class AlgorithmTable {
 public:
  AlgorithmTable() = default;
  /// As a service of a device.
  template <Device D>
  explicit AlgorithmTable(const D& /*device*/) {}

  /// Number of entries. @throws FormatError when what was loaded is not a table
  [[nodiscard]] std::size_t size() const {
    const auto count = static_cast<std::size_t>(std::count(keys_.begin(), keys_.end(), '\n'));
    expects<FormatError>(words_.size() == count * words_each && (keys_.empty() || keys_.back() == '\n'),
                         "AlgorithmTable", count, " keys with ", words_.size(), " words, ", words_each,
                         " are needed each");
    return count;
  }
  /// The algorithm of a key, if there is one. @throws FormatError when what was loaded is not a table
  [[nodiscard]] std::optional<AlgorithmWords> find(std::string_view key) const {
    const std::size_t count = size();
    std::string_view rest = keys_;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t length = rest.find('\n');
      if (rest.substr(0, length) == key) {
        AlgorithmWords words{};
        for (std::size_t w = 0; w < words_each; ++w) {
          words[w] = static_cast<std::uint64_t>(words_[i * words_each + w]);
        }
        return words;
      }
      rest.remove_prefix(length + 1);
    }
    return std::nullopt;
  }
  /// Adds an entry. @throws ArgumentError when the key is there already, or is no single line
  void insert(std::string_view key, const AlgorithmWords& words) {
    expects<ArgumentError>(!key.empty() && key.find('\n') == std::string_view::npos, "AlgorithmTable",
                           "a key is one line: \"", key, '"');
    expects<ArgumentError>(!find(key).has_value(), "AlgorithmTable", "there is an entry already for ", key);
    keys_.append(key).push_back('\n');
    for (const std::uint64_t word : words) words_.push_back(static_cast<std::int64_t>(word));
  }
  /// What the keys of this GPU and of the library that runs on it begin with: the library says it when it starts.
  void belongs_to(std::string origin) { origin_ = std::move(origin); }
  /// Entries chosen on another GPU or by another version of the library. They are kept, and of no use here: a resumed
  /// run that has some does not add up as it did before, and should say so. 0 before the library has started.
  [[nodiscard]] std::size_t foreign_entries() const {
    std::size_t others = size();
    std::string_view rest = keys_;
    while (!rest.empty()) {
      others -= rest.substr(0, origin_.size()) == origin_ ? 1 : 0;
      rest.remove_prefix(rest.find('\n') + 1);
    }
    return others;
  }

  /// Changes whenever the table may have been loaded: what was made from it must be made again.
  [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }

  /// What a run keeps; see Stateful.
  template <class Self, class F>
  static void visit_state(Self& self, F&& f) {
    f("keys", self.keys_);
    f("words", self.words_);
    if constexpr (!std::is_const_v<Self>) ++self.generation_;
  }

 private:
  static constexpr std::size_t words_each = std::tuple_size_v<AlgorithmWords>;

  std::string keys_;                 // a line each
  std::vector<std::int64_t> words_;  // (keys, words_each)
  std::uint64_t generation_ = 0;
  std::string origin_;  // no part of the state
};

/// The table of a device, null where its libraries leave nothing to choose.
template <Device D>
[[nodiscard]] AlgorithmTable* algorithm_table(const D& device) {
  if constexpr (requires { device.template service<AlgorithmTable>(); }) {
    return &device.template service<AlgorithmTable>();
  } else {
    return nullptr;
  }
}

}  // namespace storylm
