// SPDX-License-Identifier: MIT
// TIMEOUT: 900
// The training step on CUDA: equal to the CPU's in double but for rounding, dropout masks among it; the same bits in
// every run and schedule; the same bits from a replayed graph; nothing allocated in a steady step.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <storylm/evaluate/loss.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/train/recordings.hpp>
#include <storylm/train/step.hpp>

#include "cuda/support.hpp"
#include "family_configs.hpp"

using namespace storylm;

namespace {

/// Wide enough for vector accesses and more than one tile.
constexpr TransformerConfig widened(const TransformerConfig& config, int heads) {
  return test::resized(
      config,
      {.vocab_size = 37, .d_model = 32, .d_ff = 48, .n_heads = heads, .max_len = 40, .head_dim = 16, .window = 9});
}
constexpr TransformerConfig seed_config = widened(test::seed_config, 2);
constexpr TransformerConfig gpt2_config = widened(test::gpt2_config, 1);
constexpr TransformerConfig llama_config = widened(test::llama_config, 4);

using Values = std::vector<std::pair<std::string, std::vector<double>>>;

template <class Read, class Model>
Values parameters_of(Model& model, Read read) {
  Values all;
  nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
    const auto values = read(p);
    all.emplace_back(name, std::vector<double>(values.begin(), values.end()));
  });
  return all;
}

/// Batches of stories, in host memory, alike in every run.
Packed<Cpu> batch_of(const std::vector<index_t>& lengths, std::uint64_t seed) {
  const test::TwinBatch twin(lengths, 37, 0, seed);
  Packed<Cpu> batch({.tokens = 100, .sequences = 8, .longest = 40}, Cpu{});
  const PackedView from = twin.host();
  for (index_t s = 0; s < from.sequences; ++s) {
    const auto first = from.offsets[s];
    const auto length = static_cast<std::size_t>(from.offsets[s + 1] - first);
    batch.append({from.ids + first, length}, {from.targets + first, length}, from.ordinals[s]);
  }
  return batch;
}

/// What a run came to.
struct Run {
  std::vector<double> losses;
  std::vector<double> norms;
  Values gradients;  // of the first step
  Values weights;    // after the last
  std::uint64_t late_allocations = 0;
  std::size_t recorded = 0;
};

enum class How { eager, recorded };

/// Trains a model on this device for some steps, two micro-batches each.
template <class T, class D>
Run run_training(const TransformerConfig& config, const D& device, int steps, double dropout, How how = How::eager) {
  Run run;
  nn::with_stack_type<T, D>(config, [&]<class Stack>(std::type_identity<Stack>) {
    Stack model(config, device, {.dropout = dropout, .seed = 3, .initialisation = Initialisation::xavier});
    const std::vector<Packed<Cpu>> micro = [] {
      std::vector<Packed<Cpu>> batches;
      batches.push_back(batch_of({5, 0, 33, 1, 20}, 1));
      batches.push_back(batch_of({40, 17}, 2));
      return batches;
    }();
    train::Step<Stack> step(model, micro.front().capacity(), 99);
    optim::Adam adam(model.parameters());
    train::Recordings<D> passes;
    train::Recordings<D> updates;
    for (int i = 0; i < steps; ++i) {
      [[maybe_unused]] std::uint64_t allocated = 0;
      if constexpr (!D::host_memory) allocated = device.allocations();
      step.begin(micro[0].target_count() + micro[1].target_count(), 1e-3);
      const auto pass_over = [&](const Packed<Cpu>& batch) {
        model.forward(batch, step);
        model.backward(batch, step);
      };
      const auto update = [&] {
        optim::clip_grad_norm(model.parameters(), 1.0, step);
        adam.step(step);
      };
      for (const auto& batch : micro) {
        if (how == How::eager) {
          pass_over(batch);
        } else {
          passes.run(step.pass(batch), [&] { pass_over(batch); });
        }
      }
      if (i == 0) run.gradients = parameters_of(model, [](auto& p) { return p.gradient_to_host(); });
      if (how == How::eager) {
        update();
      } else {
        updates.run(device, update);
      }
      const auto result = step.result();
      CHECK_FALSE(result.skipped);
      run.losses.push_back(result.loss);
      run.norms.push_back(result.grad_norm);
      if constexpr (!D::host_memory) {
        if (i >= 3) run.late_allocations += device.allocations() - allocated;
      }
    }
    run.weights = parameters_of(model, [](auto& p) { return p.to_host(); });
    run.recorded = passes.recorded() + updates.recorded();
  });
  return run;
}

void check_equal(const Run& a, const Run& b) {
  CHECK(a.losses == b.losses);
  CHECK(a.norms == b.norms);
  CHECK((a.gradients == b.gradients));
  CHECK((a.weights == b.weights));
}

/// |a - b| / |b| in the Euclidean norm: a ReLU that rounding switches changes few elements, but those much.
double norm_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0.0;
  double size = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

/// Queries' and values' part of a qkv bias: the keys' has a gradient of zero but for rounding.
std::vector<double> without_keys(const std::string& name, std::vector<double> values) {
  if (!name.ends_with("qkv.bias")) return values;
  const auto third = static_cast<std::ptrdiff_t>(values.size() / 3);  // as many keys as queries where there is a bias
  values.erase(values.begin() + third, values.begin() + 2 * third);
  return values;
}

/// Of gradients and weights in the Euclidean norm. The models are small and have few tokens: a ReLU more or less is a
/// few per cent of a gradient in half, and eight times as much in bf16.
template <class T>
inline constexpr double bound_of = std::is_same_v<T, bf16>   ? 0.25
                                   : std::is_same_v<T, half> ? 0.08
                                                             : 4e-4;

/// Losses, the first step's gradients, and the matrices after the last step. (Vectors begin at 0 or 1: Adam makes steps
/// of one size of gradients that are mostly rounding.)
template <class T>
void check_near(const Run& actual, const Run& expected, double factor) {
  constexpr double tolerance = test::tolerance_of<T>;
  REQUIRE(actual.losses.size() == expected.losses.size());
  for (std::size_t i = 0; i < actual.losses.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(actual.losses[i] - expected.losses[i]) <= factor * tolerance * expected.losses[i]);
  }
  const auto check = [](const std::string& name, const auto& values, const auto& others) {
    CAPTURE(name);
    CHECK(norm_difference(without_keys(name, values), without_keys(name, others)) <= bound_of<T>);
  };
  for (std::size_t i = 0; i < actual.gradients.size(); ++i) {
    const auto& [name, gradient] = actual.gradients[i];
    check(name, gradient, expected.gradients[i].second);
    const bool matrix = name.ends_with(".weight") && name.find("norm") == std::string::npos;
    if (matrix) check(name, actual.weights[i].second, expected.weights[i].second);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("ten steps are the CPU's in double, but for rounding", T, STORYLM_CUDA_DTYPES) {
  for (const auto& [name, config] :
       {std::pair("seed", seed_config), std::pair("gpt2", gpt2_config), std::pair("llama", llama_config)}) {
    CAPTURE(name);
    for (const double dropout : {0.0, 0.1}) {
      CAPTURE(dropout);
      check_near<T>(run_training<T>(config, test::cuda_device(), 10, dropout),
                    run_training<double>(config, Cpu{}, 10, dropout), 4.0);
    }
  }
}

TEST_CASE_TEMPLATE("a run is the same bit for bit, whatever the schedule", T, STORYLM_CUDA_DTYPES) {
  for (const auto& config : {seed_config, llama_config}) {
    std::vector<Run> runs;
    test::for_each_schedule([&](unsigned) { runs.push_back(run_training<T>(config, test::cuda_device(), 3, 0.1)); });
    if (runs.size() == 1) runs.push_back(run_training<T>(config, test::cuda_device(), 3, 0.1));
    for (std::size_t i = 1; i < runs.size(); ++i) check_equal(runs[i], runs[0]);
  }
}

TEST_CASE_TEMPLATE("a replayed graph does what the steps did, and allocates nothing", T, STORYLM_CUDA_DTYPES) {
  const Run eager = run_training<T>(seed_config, test::cuda_device(), 6, 0.1);
  const Run recorded = run_training<T>(seed_config, test::cuda_device(), 6, 0.1, How::recorded);
  check_equal(recorded, eager);
  CHECK(recorded.recorded == 2);  // both micro-batches are rounded to one shape; and the update
  CHECK(recorded.late_allocations == 0);
  CHECK(eager.late_allocations == 0);
}

TEST_CASE_TEMPLATE("a story's hidden states are the same alone and among others", T, STORYLM_CUDA_DTYPES) {
  const Cuda& device = test::cuda_device();
  nn::TransformerStack<T, Cuda, nn::LayerNorm, nn::Mlp> model(seed_config, device);
  const auto hidden_of = [&](const std::vector<index_t>& lengths, index_t first, index_t count) {
    test::TwinBatch all({12, 33, 7}, 37, 0);
    Packed<Cpu> batch({.tokens = 60, .sequences = 3, .longest = 40}, Cpu{});
    const PackedView from = all.host();
    for (const index_t s : lengths) {
      const auto at = from.offsets[s];
      batch.append({from.ids + at, static_cast<std::size_t>(from.offsets[s + 1] - at)}, {}, from.ordinals[s]);
    }
    Packed<Cuda> uploaded(batch.capacity(), device);
    uploaded.assign(batch);
    auto cache = model.make_inference_cache(batch.capacity());
    const Pass<Cuda> pass{.device = device, .batch = uploaded.view(), .row_invariant = true};
    const auto hidden = model.hidden(pass, cache);
    std::vector<T> values(static_cast<std::size_t>(count * hidden.cols));
    device.copy_to_host(values.data(), hidden.row(first), values.size() * sizeof(T));
    device.synchronize();
    return test::bits_of(values);
  };
  CHECK(hidden_of({1}, 0, 33) == hidden_of({0, 1, 2}, 12, 33));
  CHECK(hidden_of({2, 0}, 7, 12) == hidden_of({0, 1, 2}, 0, 12));
}

TEST_CASE("logits come in equal chunks of up to 256 MiB") {
  const nn::Head<bf16, Cuda> head({.width = 8, .vocab_size = 5120});
  CHECK(head.logits_stride() == 5120);
  CHECK(head.chunk(131072) == 22016);  // six; at the most that fits, 26112, a sixth of 512 would be left
  CHECK(head.chunk(26112) == 26112);
  CHECK(head.chunk(100) == 512);
  const nn::Head<float, Cuda> wide({.width = 8, .vocab_size = 50257});
  CHECK(wide.logits_stride() == 50304);
  CHECK(wide.chunk(131072) == 1024);
}

TEST_CASE("losses are read while the next step is under way") {
  const Cuda& device = test::cuda_device();
  nn::TransformerStack<float, Cuda, nn::LayerNorm, nn::Mlp> model(seed_config, device);
  const Packed<Cpu> batch = batch_of({5, 12}, 4);
  train::Step step(model, batch.capacity());
  optim::Adam adam(model.parameters());
  std::vector<double> waited;
  std::vector<double> late;
  for (auto* const losses : {&waited, &late}) {
    train::Step again(model, batch.capacity());
    for (int i = 0; i < 4; ++i) {
      again.begin(batch.target_count(), 0.0);
      model.forward(batch, again);
      if (losses == &waited) {
        losses->push_back(again.result().loss);
      } else {
        again.post_result();
        if (again.pending_results() == 2) losses->push_back(again.take_result().loss);
      }
    }
    while (again.pending_results() > 0) losses->push_back(again.take_result().loss);
  }
  CHECK(waited == late);
  CHECK_THROWS_WITH_AS(static_cast<void>(step.take_result()), "[Step::take_result] no result was posted",
                       ArgumentError);
  step.post_result();
  step.post_result();
  CHECK_THROWS_WITH_AS(step.post_result(), "[Step::post_result] 2 results are not taken yet", ArgumentError);
  CHECK_THROWS_AS(static_cast<void>(step.result()), ArgumentError);
}
