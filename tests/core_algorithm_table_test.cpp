// SPDX-License-Identifier: MIT
/// @file
/// @brief AlgorithmTable: entries, what a run keeps of it, and tables that are none.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/algorithm_table.hpp>
#include <storylm/core/state.hpp>

namespace {

using storylm::AlgorithmTable;
using storylm::AlgorithmWords;

constexpr AlgorithmWords first{1, 2, 3, 4, 5, 6, 7, 8};
constexpr AlgorithmWords second{~std::uint64_t{0}, 0, 1, std::uint64_t{1} << 63U, 0, 0, 0, 9};

/// What a checkpoint holds of it.
struct Kept {
  std::string keys;
  std::vector<std::int64_t> words;

  void operator()(std::string_view name, const std::string& value) {
    CHECK(name == "keys");
    keys = value;
  }
  void operator()(std::string_view name, const std::vector<std::int64_t>& value) {
    CHECK(name == "words");
    words = value;
  }
};
struct Load {
  const Kept& kept;

  void operator()(std::string_view /*name*/, std::string& value) const { value = kept.keys; }
  void operator()(std::string_view /*name*/, std::vector<std::int64_t>& value) const { value = kept.words; }
};

}  // namespace

TEST_CASE("AlgorithmTable: finds what was put in, and nothing else") {
  AlgorithmTable table;
  CHECK(table.size() == 0);
  CHECK_FALSE(table.find("gpu 1; 512 x 512").has_value());
  table.insert("gpu 1; 512 x 512", first);
  table.insert("gpu 1; 512 x 51", second);
  CHECK(table.size() == 2);
  CHECK(table.find("gpu 1; 512 x 512") == first);
  CHECK(table.find("gpu 1; 512 x 51") == second);
  CHECK_FALSE(table.find("gpu 1; 512 x 5").has_value());
  CHECK_FALSE(table.find("").has_value());
  CHECK(table.foreign_entries() == 0);
  table.belongs_to("gpu 1;");
  CHECK(table.foreign_entries() == 0);
  table.insert("gpu 2; 512 x 51", second);
  CHECK(table.foreign_entries() == 1);
  CHECK_THROWS_WITH_AS(table.insert("gpu 1; 512 x 51", first),
                       "[AlgorithmTable] there is an entry already for gpu 1; 512 x 51", storylm::ArgumentError);
  CHECK_THROWS_AS(table.insert("two\nlines", first), storylm::ArgumentError);
  CHECK_THROWS_AS(table.insert("", first), storylm::ArgumentError);
}

TEST_CASE("AlgorithmTable: a run keeps and gets back all bits, and is told of it") {
  static_assert(storylm::Stateful<AlgorithmTable>);
  AlgorithmTable table;
  table.insert("a", first);
  table.insert("b", second);
  Kept kept;
  const AlgorithmTable& saved = table;
  AlgorithmTable::visit_state(saved, kept);
  CHECK(saved.generation() == 0);  // saving changes nothing
  AlgorithmTable loaded;
  loaded.insert("c", first);
  AlgorithmTable::visit_state(loaded, Load{kept});
  CHECK(loaded.generation() == 1);
  CHECK(loaded.size() == 2);
  CHECK(loaded.find("a") == first);
  CHECK(loaded.find("b") == second);
  CHECK_FALSE(loaded.find("c").has_value());
}

TEST_CASE("AlgorithmTable: what is loaded must be a table") {
  AlgorithmTable table;
  AlgorithmTable::visit_state(table, Load{{.keys = "a\nb\n", .words = std::vector<std::int64_t>(15)}});
  CHECK_THROWS_WITH_AS(static_cast<void>(table.find("a")), "[AlgorithmTable] 2 keys with 15 words, 8 are needed each",
                       storylm::FormatError);
  AlgorithmTable::visit_state(table, Load{{.keys = "a\nb", .words = std::vector<std::int64_t>(8)}});
  CHECK_THROWS_AS(static_cast<void>(table.size()), storylm::FormatError);
}

TEST_CASE("AlgorithmTable: the CPU has none") { CHECK(storylm::algorithm_table(storylm::Cpu()) == nullptr); }
