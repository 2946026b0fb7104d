// SPDX-License-Identifier: MIT
// Concepts of core/ and tensor/: what satisfies them, and what does not.
#include <concepts>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/device.hpp>
#include <storylm/core/precision.hpp>
#include <storylm/core/state.hpp>
#include <storylm/core/step_state.hpp>
#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/tensor.hpp>

using namespace storylm;

// Device
static_assert(Device<Cpu>);
static_assert(!Device<int> && !Device<void*> && !Device<CpuOptions> && !Device<Cpu*> && !Device<std::unique_ptr<Cpu>>);
struct NoScratch {  // all a device has, but for scratch
  struct Readback {};
  struct Recording {};
  static constexpr std::string_view name = "none";
  static constexpr bool host_memory = false;
  void* allocate(std::size_t) const { return nullptr; }
  void deallocate(void*) const {}
  void fill_zero(void*, std::size_t) const {}
  void copy_from_host(void*, const void*, std::size_t) const {}
  void copy_to_host(void*, const void*, std::size_t) const {}
  void copy(void*, const void*, std::size_t) const {}
  void synchronize() const {}
};
struct WithScratch : NoScratch {
  int scratch() const { return 0; }
};
struct NotCopyable : WithScratch {
  NotCopyable(NotCopyable&&) = default;
};
static_assert(!Device<NoScratch> && Device<WithScratch> && !Device<NotCopyable>);

// Dtype
static_assert(Dtype<float> && Dtype<double> && Dtype<bf16> && Dtype<half> && Dtype<std::int32_t> &&
              Dtype<std::uint8_t>);
static_assert(!Dtype<bool> && !Dtype<char> && !Dtype<long double> && !Dtype<float*> && !Dtype<std::string> &&
              !Dtype<const float> && !Dtype<float&>);
static_assert(FloatDtype<float> && FloatDtype<double> && FloatDtype<bf16> && FloatDtype<half>);
static_assert(!FloatDtype<std::int32_t> && !FloatDtype<std::uint8_t> && !FloatDtype<long double> && !FloatDtype<bool>);
static_assert(!std::convertible_to<bf16, float> && !std::convertible_to<float, bf16>);  // rounding is spelt out
static_assert(!std::convertible_to<half, bf16> && !std::convertible_to<half, float>);

// Precision: a dtype means all four
using Mixed = Precision<float, bf16, float, half>;
static_assert(std::same_as<weight_t<Mixed>, float> && std::same_as<activation_t<Mixed>, bf16> &&
              std::same_as<residual_t<Mixed>, float> && std::same_as<kv_t<Mixed>, half>);
static_assert(std::same_as<weight_t<bf16>, bf16> && std::same_as<activation_t<bf16>, bf16> &&
              std::same_as<residual_t<bf16>, bf16> && std::same_as<kv_t<bf16>, bf16>);
static_assert(std::same_as<gradient_t<bf16>, float> && std::same_as<gradient_t<double>, double>);
static_assert(std::same_as<kv_t<Precision<float, bf16>>, bf16>);

// Tensor: move-only, and only of dtypes on devices
template <class T, class D>
concept MakesTensor = requires {
  typename Tensor<T, D>;
};
static_assert(MakesTensor<float, Cpu> && MakesTensor<bf16, Cpu>);
static_assert(!MakesTensor<bool, Cpu> && !MakesTensor<std::string, Cpu> && !MakesTensor<float, int>);
using Floats = Tensor<float, Cpu>;
static_assert(std::is_nothrow_move_constructible_v<Floats> && std::is_nothrow_move_assignable_v<Floats>);
static_assert(!std::is_copy_constructible_v<Floats> && !std::is_copy_assignable_v<Floats>);
static_assert(!std::is_convertible_v<Floats, bool> && std::is_constructible_v<bool, Floats>);
static_assert(std::movable<Packed<Cpu>> && !std::is_copy_constructible_v<Packed<Cpu>>);

// Views: trivially copyable; const is added and never taken away, and dtypes do not mix
static_assert(std::is_trivially_copyable_v<MatrixView<float>> && std::is_trivially_copyable_v<PackedView>);
static_assert(std::convertible_to<MatrixView<float>, MatrixView<const float>>);
static_assert(!std::is_constructible_v<MatrixView<float>, MatrixView<const float>>);
static_assert(!std::is_constructible_v<MatrixView<const float>, MatrixView<double>>);
static_assert(!std::convertible_to<MatrixView<float>, bool>);
static_assert(std::same_as<decltype(std::declval<const Floats&>().matrix()), MatrixView<const float>>);
static_assert(std::same_as<decltype(std::declval<const Floats&>().data()), const float*>);

// A packed batch is filled on the CPU alone
template <class D>
concept Fills = requires(Packed<D>& batch, std::span<const token_t> ids) {
  batch.append(ids, ids, 0U);
};
static_assert(Fills<Cpu> && !Fills<WithScratch>);

// Stateful, StepHandle
struct Counter {
  static void visit_state(auto& self, auto&& f) { f("count", self.count); }
  int count = 0;
};
struct OneArgument {
  static void visit_state(auto& self) { static_cast<void>(self); }
};
struct OnlyMutable {
  static void visit_state(OnlyMutable& self, auto&& f) { f("count", self.count); }
  int count = 0;
};
static_assert(Stateful<Counter> && Stateful<const Counter>);
static_assert(!Stateful<int> && !Stateful<std::string> && !Stateful<OneArgument> && !Stateful<std::vector<Counter>>);
static_assert(Stateful<OnlyMutable> && !Stateful<const OnlyMutable>);

struct Handle {
  Cpu device() const { return Cpu{}; }
  StepState* state() const { return nullptr; }
};
struct NoState {
  Cpu device() const { return Cpu{}; }
};
static_assert(StepHandle<Handle> && !StepHandle<NoState> && !StepHandle<StepState>);
static_assert(std::is_trivially_copyable_v<StepState>);  // it is copied to the device byte by byte
