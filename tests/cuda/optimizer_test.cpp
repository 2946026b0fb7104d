// SPDX-License-Identifier: MIT
// Adam, SGD and clipping on CUDA: the CPU's in double, masters and their rounded copies, skipped steps, gaps.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <storylm/ops/optimizer.hpp>
#include <storylm/tensor/arena.hpp>

#include "cuda/support.hpp"

using namespace storylm;
using test::cuda_device;
using test::TwinState;

namespace {

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

/// More segments than a warp has lanes: long ones, an empty one, whole slots, and many short ones; every other decays.
const std::vector<ParameterSegment>& segments() {
  static const std::vector<ParameterSegment> all = [] {
    ArenaPlan plan;
    std::vector<ParameterSegment> made;
    std::vector<index_t> sizes = {5003, 33, 0, 512, 1, 256, 255, 257};
    for (index_t size = 2; size < 40; ++size) sizes.push_back(size);
    sizes.push_back(3000);
    for (const index_t size : sizes) {
      if (made.size() == 20) static_cast<void>(plan.add(300));  // slots that are nobody's
      made.push_back({plan.add(size), size, made.size() % 2 == 0});
    }
    return made;
  }();
  return all;
}
index_t arena_size() {
  const ParameterSegment& last = segments().back();
  return last.offset + arena_padded(last.size);
}

/// Calls f(i) for the elements that are parameters.
template <class F>
void for_each_element(const F& f) {
  for (const ParameterSegment& s : segments()) {
    for (index_t i = s.offset; i < s.offset + s.size; ++i) f(static_cast<std::size_t>(i));
  }
}
/// What gaps hold. Gradients have NaN there: who updates a gap is found out.
constexpr double in_gap = 7.0;
std::vector<double> with_gaps(double gap, const std::vector<double>& elements) {
  std::vector<double> values(static_cast<std::size_t>(arena_size()), gap);
  for_each_element([&](std::size_t i) { values[i] = elements[i]; });
  return values;
}
std::vector<double> arena_values(std::uint64_t seed, double deviation, double gap) {
  return with_gaps(gap, test::normal_values<float>(arena_size(), seed, deviation));
}
std::vector<double> filled(double value) {
  return with_gaps(in_gap, std::vector<double>(static_cast<std::size_t>(arena_size()), value));
}

/// An arena and two moments in double on the CPU, and in T on the GPU, there `shift` elements behind a boundary.
template <class T>
class Twin {
 public:
  static constexpr bool has_masters = !std::is_same_v<T, float>;

  explicit Twin(index_t shift = 0)
      : shift_(shift),
        values_(arena_values(1, 1.0, in_gap)),
        first_(filled(0.0)),
        second_(filled(0.0)),
        masters_there_(there<float>(values_)),
        copies_there_(there<T>(values_)),
        gradients_there_(there<float>(values_)),
        first_there_(there<float>(first_)),
        second_there_(there<float>(second_)),
        segments_({static_cast<index_t>(segments().size() * sizeof(ParameterSegment))}, cuda_device()),
        steps_({1}, cuda_device()) {
    cuda_device().copy_from_host(segments_.data(), segments().data(), segments().size() * sizeof(ParameterSegment));
  }

  void new_gradients(std::uint64_t seed) {
    gradients_ = arena_values(seed, 0.1, no_number);
    gradients_there_ = there<float>(gradients_);
  }
  [[nodiscard]] ArenaView<double> host() {
    return {.values = values_.data(),
            .masters = nullptr,
            .gradients = gradients_.data(),
            .size = arena_size(),
            .segments = segments().data(),
            .segment_count = static_cast<index_t>(segments().size())};
  }
  [[nodiscard]] ArenaView<T> device() {
    ArenaView<T> arena{.values = copies_there_.data() + shift_,
                       .masters = nullptr,
                       .gradients = gradients_there_.data() + shift_,
                       .size = arena_size(),
                       .segments = reinterpret_cast<const ParameterSegment*>(segments_.data()),
                       .segment_count = static_cast<index_t>(segments().size())};
    if constexpr (has_masters) arena.masters = masters_there_.data() + shift_;
    return arena;
  }

  void adam(const AdamConstants& constants, TwinState& state) {
    const auto n = static_cast<std::size_t>(arena_size());
    ops::adam(Cpu{}, host(), std::span(first_), std::span(second_), &host_steps_, constants, state.host());
    ops::adam(cuda_device(), device(), std::span(first_there_.data() + shift_, n),
              std::span(second_there_.data() + shift_, n), steps_.data(), constants, state.device());
  }
  void sgd(const SgdConstants& constants, TwinState& state) {
    const auto n = static_cast<std::size_t>(constants.momentum != 0.0 ? arena_size() : 0);
    ops::sgd(Cpu{}, host(), std::span(first_).first(n), &host_steps_, constants, state.host());
    ops::sgd(cuda_device(), device(), std::span(first_there_.data() + (n != 0 ? shift_ : 0), n), steps_.data(),
             constants, state.device());
  }
  void set_steps(std::int64_t steps) {
    host_steps_ = steps;
    cuda_device().copy_from_host(steps_.data(), &steps, sizeof(steps));
  }
  void poison_first() { first_there_ = there<float>(filled(no_number)); }

  /// Elements are the CPU's, copies are the rounded masters, gaps are as they were, t is the CPU's.
  void check(double tolerance) const {
    CHECK(steps_.to_host().front() == host_steps_);
    const auto masters = test::to_doubles(has_masters ? masters_there_ : values_there());
    const auto copies = copies_there_.to_host();
    const auto first = test::to_doubles(first_there_);
    const auto second = test::to_doubles(second_there_);
    std::vector<bool> used(masters.size());
    double worst = 0.0;
    int wrong_copies = 0;
    for_each_element([&](std::size_t i) {
      const std::size_t at = i + static_cast<std::size_t>(shift_);
      used[at] = true;
      const auto compare = [&](double actual, double expected, double unit) {
        const double d = std::abs(actual - expected) / std::max(std::abs(expected), unit);
        worst = d <= worst ? worst : d;
      };
      compare(masters[at], values_[i], 0.1);
      compare(first[at], first_[i], 1e-2);
      compare(second[at], second_[i], 1e-4);
      if (static_cast<float>(copies[at]) != static_cast<float>(T(static_cast<float>(masters[at])))) ++wrong_copies;
    });
    CHECK(worst <= tolerance);
    CHECK(wrong_copies == 0);
    int touched = 0;
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (used[i]) continue;
      if (masters[i] != in_gap || first[i] != in_gap || second[i] != in_gap) ++touched;
      if (static_cast<double>(static_cast<float>(copies[i])) != in_gap) ++touched;
    }
    CHECK(touched == 0);
  }
  /// All that a step may change, as bytes.
  [[nodiscard]] std::vector<std::string> bits() const {
    const auto bytes = [](const auto& tensor) {
      const auto values = tensor.to_host();
      return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
    };
    return {bytes(masters_there_), bytes(copies_there_), bytes(first_there_), bytes(second_there_), bytes(steps_)};
  }

 private:
  template <class U>
  [[nodiscard]] Tensor<U, Cuda> there(const std::vector<double>& values) const {
    std::vector<double> shifted(static_cast<std::size_t>(shift_), in_gap);
    shifted.insert(shifted.end(), values.begin(), values.end());
    return test::to_cuda<U>(shifted, {static_cast<index_t>(shifted.size())});
  }
  /// Where values are masters.
  [[nodiscard]] const Tensor<float, Cuda>& values_there() const {
    if constexpr (has_masters) {
      return masters_there_;
    } else {
      return copies_there_;
    }
  }

  index_t shift_;
  std::vector<double> values_, gradients_, first_, second_;
  std::int64_t host_steps_ = 0;
  Tensor<float, Cuda> masters_there_;
  Tensor<T, Cuda> copies_there_;
  Tensor<float, Cuda> gradients_there_, first_there_, second_there_;
  Tensor<std::uint8_t, Cuda> segments_;
  Tensor<std::int64_t, Cuda> steps_;
};

const std::vector<AdamConstants> adams = {
    {}, {.beta1 = 0.4, .beta2 = 0.95, .eps = 1e-6}, {.weight_decay = 0.1}, {.weight_decay = 0.1, .decoupled = true}};
const std::vector<SgdConstants> sgds = {{},
                                        {.weight_decay = 0.1},
                                        {.momentum = 0.9, .dampening = 0.2},
                                        {.momentum = 0.8, .weight_decay = 0.1, .nesterov = true}};

}  // namespace

TEST_CASE_TEMPLATE("adam takes the CPU's steps", T, STORYLM_CUDA_DTYPES) {
  for (const AdamConstants& constants : adams) {
    Twin<T> twin;
    TwinState state({.lr = 1e-2, .clip = 0.7});
    for (std::uint64_t step = 1; step <= 5; ++step) {
      if (step == 4) {
        state.host()->lr = 5e-3;
        state.write();
      }
      twin.new_gradients(10 + step);
      twin.adam(constants, state);
    }
    twin.check(1e-5);
  }
}

TEST_CASE_TEMPLATE("adam after many steps, and where slots begin on no 16-byte boundary", T, STORYLM_CUDA_DTYPES) {
  Twin<T> twin(1);
  TwinState state({.lr = 1e-2, .clip = 2.0});
  twin.set_steps(123456);
  for (std::uint64_t step = 1; step <= 2; ++step) {
    twin.new_gradients(20 + step);
    twin.adam(adams[3], state);
  }
  twin.check(1e-5);
}

TEST_CASE_TEMPLATE("sgd takes the CPU's steps", T, STORYLM_CUDA_DTYPES) {
  for (const SgdConstants& constants : sgds) {
    for (const index_t shift : {0, 3}) {
      Twin<T> twin(shift);
      TwinState state({.lr = 1e-2, .clip = 0.7});
      if (constants.momentum != 0.0) twin.poison_first();  // the first step overwrites it
      for (std::uint64_t step = 1; step <= 3; ++step) {
        twin.new_gradients(30 + step);
        twin.sgd(constants, state);
      }
      twin.check(1e-5);
    }
  }
}

TEST_CASE_TEMPLATE("gradients that are not finite, and the step that is skipped: nothing changes, t included", T,
                   STORYLM_CUDA_DTYPES) {
  Twin<T> twin;
  TwinState state({.lr = 1e-2, .skip = 1});
  twin.set_steps(3);
  twin.new_gradients(40);
  const auto before = twin.bits();
  twin.adam({.weight_decay = 0.1}, state);
  twin.sgd({.momentum = 0.9}, state);
  CHECK(twin.bits() == before);
  state.host()->skip = 0;
  state.write();
  twin.adam({.weight_decay = 0.1}, state);
  CHECK(twin.bits() != before);
  twin.check(1e-5);
}

TEST_CASE_TEMPLATE("optimizers: the same bits in any schedule", T, STORYLM_CUDA_DTYPES) {
  std::vector<std::vector<std::string>> bits;
  test::for_each_schedule([&](unsigned) {
    Twin<T> twin;
    TwinState state({.lr = 1e-2});
    twin.new_gradients(50);
    twin.adam({.weight_decay = 0.1}, state);
    twin.sgd({.momentum = 0.9}, state);
    bits.push_back(twin.bits());
  });
  for (const auto& other : bits) CHECK(other == bits.front());
}

TEST_CASE("a recorded step replays with the state of the moment") {
  Twin<bf16> twin;
  TwinState state({.lr = 1e-2});
  twin.new_gradients(60);
  Cuda::Recording recording;
  const auto arena = twin.device();
  const auto n = static_cast<std::size_t>(arena_size());
  auto m = test::to_cuda<float>(filled(0.0), {arena_size()});
  auto v = test::to_cuda<float>(filled(0.0), {arena_size()});
  Tensor<std::int64_t, Cuda> t({1}, cuda_device());
  for (int step = 0; step < 5; ++step) {
    state.host()->lr = step == 2 ? 0.0 : 1e-2;
    state.host()->loss_scale = step + 1.0;
    state.write();
    const auto before = twin.bits();
    recording.run(cuda_device(), [&] {
      ops::clip(cuda_device(), std::span(arena.gradients, std::size_t{5003}), 1.0, state.device());
      ops::adam(cuda_device(), arena, std::span(m.data(), n), std::span(v.data(), n), t.data(), {}, state.device());
    });
    CHECK(t.to_host().front() == step + 1);
    CHECK((twin.bits() == before) == (step == 2));
    CHECK(state.read().clip <= 1.0 / (step + 1.0));
  }
  CHECK(recording.recorded());
}

TEST_CASE("clip is the CPU's at every size, and its bits depend on the size alone") {
  for (const index_t n : {0, 1, 7, 8, 31, 33, 255, 257, 2048, 8191, 8192, 8193, 20000, 100001}) {
    CAPTURE(n);
    const auto gradients = test::normal_values<float>(n, 7);
    for (const double max_norm : {1.0, 1e6, 0.0, -1.0}) {
      const StepState start{.loss_scale = 4.0, .clip = no_number, .grad_norm = no_number, .skip = 1};
      TwinState state(start);
      ops::clip(Cpu{}, std::span(gradients), max_norm, state.host());
      std::vector<StepState> results;
      const auto clip = [&](index_t shift) {  // NaN before and behind
        std::vector<double> values(static_cast<std::size_t>(shift), no_number);
        values.insert(values.end(), gradients.begin(), gradients.end());
        values.push_back(no_number);
        const auto there = test::to_cuda<float>(values, {static_cast<index_t>(values.size())});
        TwinState now(start);
        ops::clip(cuda_device(), std::span(there.data() + shift, static_cast<std::size_t>(n)), max_norm, now.device());
        results.push_back(now.read());
      };
      clip(0);
      clip(1);
      test::for_each_schedule([&](unsigned) { clip(4); }, 2);
      CHECK(results[0].grad_norm == doctest::Approx(state.host()->grad_norm).epsilon(1e-13));
      CHECK(results[0].clip == doctest::Approx(state.host()->clip).epsilon(1e-13));
      CHECK(results[0].skip == 0);
      CHECK(results[0].loss_scale == 4.0);
      for (const StepState& other : results) {
        CHECK(other.grad_norm == results[0].grad_norm);
        CHECK(other.clip == results[0].clip);
      }
    }
  }
}

TEST_CASE("clip: a gradient that is not finite skips the step wherever it is; the largest floats have a norm") {
  constexpr index_t n = 20001;
  const auto run = [&](std::size_t at, double value, double loss_sum = 12.0) {
    std::vector<double> gradients(n, 0.5);
    gradients[at] = value;
    const auto there = test::to_cuda<float>(gradients, {n});
    TwinState state({.loss_sum = loss_sum});
    ops::clip(cuda_device(), std::span(there.data(), std::size_t{n}), 1.0, state.device());
    return state.read();
  };
  for (const std::size_t at : {0U, 1U, 8191U, 8192U, 16384U, 20000U}) {
    CAPTURE(at);
    for (const double bad :
         {no_number, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
      const StepState state = run(at, bad);
      CHECK(state.skip == 1);
      CHECK(!std::isfinite(state.grad_norm));
    }
  }
  for (const double bad : {no_number, std::numeric_limits<double>::infinity()}) CHECK(run(5, 0.5, bad).skip == 1);
  const auto largest = static_cast<double>(std::numeric_limits<float>::max());
  const StepState state = run(5, largest);
  CHECK(state.skip == 0);
  CHECK(state.grad_norm == doctest::Approx(largest).epsilon(1e-12));
}
