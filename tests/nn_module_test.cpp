// SPDX-License-Identifier: MIT
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/nn/module.hpp>

namespace {
using namespace storylm;

template <class T>
struct Leaf {
  explicit Leaf(index_t width, bool bias) : weight({width, 3}) {
    if (bias) shift.emplace(Shape{width});
  }
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("weight", self.weight);
    if (self.shift) f("shift", *self.shift);
  }
  nn::Parameter<T, Cpu> weight;
  std::optional<nn::Parameter<T, Cpu>> shift;
};

template <class T>
struct Tree {
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("first", self.first);
    f("own", self.own);
    f("second", self.second);
  }
  Leaf<T> first{2, true};
  nn::Parameter<T, Cpu> own{Shape{257}};
  Leaf<T> second{100, false};
};
static_assert(nn::Module<Tree<float>> && nn::Module<const Tree<float>>);

TEST_CASE("names are paths, in the order of visit; const modules are walked too") {
  Tree<float> tree;
  std::vector<std::string> names;
  nn::for_each_parameter(std::as_const(tree), [&](const std::string& name, const auto&) { names.push_back(name); });
  CHECK(names == std::vector<std::string>{"first.weight", "first.shift", "own", "second.weight"});
  CHECK(nn::parameter_count(tree) == 6 + 2 + 257 + 300);
}

TEST_CASE("arenas follow visit backwards, in slots of 256 elements") {
  Tree<float> tree;
  const Cpu cpu;
  auto store = nn::allocate<float>(tree, cpu, nn::Gradients::yes);
  struct {
    const char* name;
    Shape shape;
    index_t offset;
    bool decay;
  } const lines[] = {{"second.weight", {100, 3}, 0, true},
                     {"own", {257}, 512, false},
                     {"first.shift", {2}, 1024, false},
                     {"first.weight", {2, 3}, 1280, true}};
  REQUIRE(store.table().size() == 4);
  const auto arena = store.arena();
  for (std::size_t i = 0; i < 4; ++i) {
    CAPTURE(lines[i].name);
    const nn::ParameterInfo& line = store.table()[i];
    CHECK(line.name == lines[i].name);
    CHECK(line.shape == lines[i].shape);
    CHECK(line.offset == lines[i].offset);
    CHECK(line.decay == lines[i].decay);
    CHECK(arena.segments[i].offset == lines[i].offset);
    CHECK(arena.segments[i].size == lines[i].shape.size());
    CHECK(arena.segments[i].decay == lines[i].decay);
  }
  CHECK(store.size() == 1536);
  CHECK(arena.size == 1536);
  CHECK(arena.segment_count == 4);
  CHECK(arena.masters == nullptr);  // float is its own accumulator
  CHECK(tree.first.weight.value().data == arena.values + 1280);
  CHECK(tree.first.weight.gradient().data == arena.gradients + 1280);
  CHECK(tree.own.value().data == arena.values + 512);
  CHECK(tree.second.weight.gradient().data == arena.gradients);
  for (index_t i = 0; i < arena.size; ++i) {
    REQUIRE(arena.values[i] == 0.0F);
    REQUIRE(arena.gradients[i] == 0.0F);
  }
}

TEST_CASE("masters where values are not accumulators; none, and no gradients, for inference") {
  const Cpu cpu;
  Tree<bf16> tree;
  auto store = nn::allocate<bf16>(tree, cpu, nn::Gradients::yes);
  static_assert(decltype(store)::has_masters);
  REQUIRE(store.arena().masters != nullptr);
  tree.first.shift->assign(std::vector<float>{0.1F, 0.2F});
  CHECK(store.arena().masters[1024] == 0.1F);
  CHECK(store.arena().values[1025] == bf16(0.2F));

  auto inference = nn::allocate<bf16>(tree, cpu, nn::Gradients::no);
  CHECK_FALSE(inference.has_gradients());
  CHECK(inference.arena().masters == nullptr);
  CHECK(inference.arena().gradients == nullptr);
  tree.first.shift->assign(std::vector<float>{0.1F, 0.2F});
  CHECK(inference.arena().values[1024] == bf16(0.1F));
  CHECK(tree.first.shift->to_host() ==
        std::vector<float>{static_cast<float>(bf16(0.1F)), static_cast<float>(bf16(0.2F))});
}

TEST_CASE("zero_gradients clears all of them; the store outlives a move of the module") {
  const Cpu cpu;
  Tree<float> tree;
  auto store = nn::allocate<float>(tree, cpu, nn::Gradients::yes);
  Tree<float> moved = std::move(tree);
  nn::ParameterStore<float, Cpu> kept = std::move(store);
  for (index_t i = 0; i < kept.size(); ++i) kept.arena().gradients[i] = 1.0F;
  CHECK(moved.own.gradient_to_host() == std::vector<float>(257, 1.0F));
  kept.zero_gradients();
  for (index_t i = 0; i < kept.size(); ++i) REQUIRE(kept.arena().gradients[i] == 0.0F);
  moved.own.assign(std::vector<float>(257, 2.0F));
  CHECK(kept.arena().values[512] == 2.0F);
}

}  // namespace
