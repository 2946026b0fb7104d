// SPDX-License-Identifier: MIT
/// @file
/// @brief The one way to walk a tree of modules by name, and the memory their parameters live in.
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/kernels/kernel.hpp>
#include <storylm/nn/parameter.hpp>
#include <storylm/tensor/arena.hpp>
#include <storylm/tensor/pass.hpp>

namespace storylm::nn {

namespace detail {
template <class P>
inline constexpr bool is_parameter = false;
template <class T, class D>
inline constexpr bool is_parameter<Parameter<T, D>> = true;
struct AnyVisitor {
  void operator()(const std::string&, auto&) const {}
};
}  // namespace detail

/// A module names its children and parameters: `static void visit(Self& self, F&& f)` calls f("name", child). Names,
/// optimizers, counting, checkpoints and tests all come from it; it is walked when things are set up, never in a step.
template <class M>
concept Module = requires(M& m) {
  std::remove_const_t<M>::visit(m, detail::AnyVisitor{});
};

/// A layer with one input: rows in, rows out. forward returns a view into the cache; backward gets x again, adds to the
/// parameters' gradients, and writes dx = plus + gradient (dy may be overwritten; dx may be none).
template <class L, class D>
concept Layer = Module<L> && requires(L& layer, const L& constant, const Capacity& capacity, const Pass<D>& pass,
                                      typename L::Cache& cache, MatrixView<const typename L::Element> x,
                                      MatrixView<typename L::Element> dy, MatrixView<typename L::Element> dx) {
  { constant.make_cache(pass.device, capacity) } -> std::same_as<typename L::Cache>;
  { constant.forward(x, pass, cache) } -> std::same_as<MatrixView<const typename L::Element>>;
  layer.backward(x, dy, dx, pass, cache, x);
};

/// Calls f("blocks.0.feed_forward.up.weight", parameter) for every parameter, in the order of visit.
template <class M, class F>
void for_each_parameter(M& module, F&& f, const std::string& prefix = "") {
  std::remove_const_t<M>::visit(module, [&](const std::string& name, auto& child) {
    if constexpr (detail::is_parameter<std::remove_cvref_t<decltype(child)>>) {
      f(prefix + name, child);
    } else {
      for_each_parameter(child, f, prefix + name + '.');
    }
  });
}

/// Number of trainable values; tied ones count once.
template <Module M>
[[nodiscard]] index_t parameter_count(const M& module) {
  index_t n = 0;
  for_each_parameter(module, [&](const std::string&, const auto& p) { n += p.size(); });
  return n;
}

/// Whether parameters get memory for gradients (and for masters where values are not of accumulator type).
enum class Gradients : bool { no, yes };

/// One line of a store's table of names.
struct ParameterInfo {
  std::string name;    ///< from visit
  Shape shape;         ///< of its value
  index_t offset = 0;  ///< of its first element in every arena
  bool decay = false;  ///< weight decay applies
};

/// The memory of a module's parameters: an arena of values, one of masters where they differ, one of gradients.
/// Optimizers, clipping and data parallelism see this and never a Parameter. It outlives moves of the module.
template <FloatDtype T, Device D>
class ParameterStore {
 public:
  using value_type = T;                    ///< dtype of an element
  using gradient_type = accumulator_t<T>;  ///< dtype of gradients and masters
  /// True when values are rounded copies of masters.
  static constexpr bool has_masters = !std::is_same_v<T, gradient_type>;

  /// For nn::allocate.
  ParameterStore(std::vector<ParameterInfo> table, index_t size, const D& device, Gradients gradients)
      : table_(std::move(table)), size_(size), device_(device), values_({size}, device) {
    if (gradients == Gradients::no) return;
    gradients_ = Tensor<gradient_type, D>({size}, device);
    if constexpr (has_masters) masters_ = Tensor<gradient_type, D>({size}, device);
    std::vector<ParameterSegment> segments;
    for (const ParameterInfo& p : table_) segments.push_back({p.offset, p.shape.size(), p.decay});
    const auto bytes = segments.size() * sizeof(ParameterSegment);
    segments_ = Tensor<std::uint8_t, D>({static_cast<index_t>(bytes)}, device);
    device.copy_from_host(segments_.data(), segments.data(), bytes);
  }

  /// Names, shapes and offsets, in arena order: the order in which backward finishes them.
  [[nodiscard]] const std::vector<ParameterInfo>& table() const noexcept { return table_; }
  /// Elements in every arena, the gaps between slots included (they stay zero).
  [[nodiscard]] index_t size() const noexcept { return size_; }
  /// Where it lies.
  [[nodiscard]] const D& device() const noexcept { return device_; }
  /// False for inference.
  [[nodiscard]] bool has_gradients() const noexcept { return static_cast<bool>(gradients_); }

  /// What optimizers and kernels see.
  [[nodiscard]] ArenaView<T> arena() noexcept {
    return {.values = values_.data(),
            .masters = masters_.data(),
            .gradients = gradients_.data(),
            .size = size_,
            .segments = reinterpret_cast<const ParameterSegment*>(segments_.data()),
            .segment_count = static_cast<index_t>(table_.size())};
  }
  /// The one way to begin a step: all gradients become zero.
  void zero_gradients() { device_.fill_zero(gradients_.data(), gradients_.bytes()); }

 private:
  std::vector<ParameterInfo> table_;
  index_t size_;
  D device_;
  Tensor<T, D> values_;                 // (size)
  Tensor<gradient_type, D> masters_;    // (size)  only where T is not its own accumulator
  Tensor<gradient_type, D> gradients_;  // (size)  only with Gradients::yes
  Tensor<std::uint8_t, D> segments_;    // ParameterSegment per line of the table
};

/// Gives every parameter of a module its memory, all zero. The arenas follow visit backwards, for backward finishes the
/// last layer first.
/// @tparam T dtype of the parameters' values
template <FloatDtype T, Module M, Device D>
[[nodiscard]] ParameterStore<T, D> allocate(M& module, const D& device, Gradients gradients) {
  std::vector<ParameterInfo> table;
  for_each_parameter(module, [&](const std::string& name, const auto& p) {
    table.push_back({.name = name, .shape = p.shape(), .offset = 0, .decay = p.decay()});
  });
  std::reverse(table.begin(), table.end());
  ArenaPlan plan;
  for (ParameterInfo& p : table) p.offset = plan.add(p.shape.size());

  ParameterStore<T, D> store(std::move(table), plan.size(), device, gradients);
  const ArenaView<T> arena = store.arena();
  auto line = store.table().rbegin();
  for_each_parameter(module, [&](const std::string&, auto& p) {
    const index_t at = (line++)->offset;
    p.bind(device, arena.values + at, arena.masters != nullptr ? arena.masters + at : nullptr,
           arena.gradients != nullptr ? arena.gradients + at : nullptr);
  });
  return store;
}

}  // namespace storylm::nn
