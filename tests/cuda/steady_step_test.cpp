// SPDX-License-Identifier: MIT
// TIMEOUT: 300
// A steady training step, loss read one step late as in train_stories: the host waits for nothing but that loss, a
// step is one graph or two, and nothing is allocated. Calls of the CUDA runtime are counted where the library's headers
// make them.
#include <cuda_runtime.h>

namespace {

struct Calls {
  int stream_waits = 0;
  int event_waits = 0;
  int graphs = 0;
  int allocations = 0;
  int copies_to_host = 0;
};
Calls calls;

inline cudaError_t counted_stream_wait(cudaStream_t stream) {
  ++calls.stream_waits;
  return cudaStreamSynchronize(stream);
}
inline cudaError_t counted_event_wait(cudaEvent_t event) {
  ++calls.event_waits;
  return cudaEventSynchronize(event);
}
inline cudaError_t counted_graph(cudaGraphExec_t graph, cudaStream_t stream) {
  ++calls.graphs;
  return cudaGraphLaunch(graph, stream);
}
inline cudaError_t counted_allocation(void** memory, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  ++calls.allocations;
  return cudaMallocFromPoolAsync(memory, bytes, pool, stream);
}
inline cudaError_t counted_copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                                cudaStream_t stream) {
  calls.copies_to_host += kind == cudaMemcpyDeviceToHost ? 1 : 0;
  return cudaMemcpyAsync(to, from, bytes, kind, stream);
}

}  // namespace

#define cudaStreamSynchronize counted_stream_wait
#define cudaEventSynchronize counted_event_wait
#define cudaGraphLaunch counted_graph
#define cudaMallocFromPoolAsync counted_allocation
#define cudaMemcpyAsync counted_copy

#include <vector>

#include <storylm/data/loader.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/optim/adam.hpp>
#include <storylm/optim/clip.hpp>
#include <storylm/train/recordings.hpp>
#include <storylm/train/step.hpp>

#include "cuda/support.hpp"

using namespace storylm;

namespace {

/// `whole`: all of a step is recorded as one piece, as train_stories does it with one micro-batch. `graphs`: what is
/// launched in a step.
void check_steady_step(bool whole, int graphs) {
  constexpr TransformerConfig config = {
      .vocab_size = 37, .d_model = 64, .d_ff = 96, .n_layers = 2, .n_heads = 2, .max_len = 24};
  std::vector<std::vector<token_t>> stories(40);
  RandomStream random(3, 0, 0x7E57);
  for (auto& story : stories) {
    story.resize(4 + static_cast<std::size_t>(random.below(18)));
    for (token_t& id : story) id = static_cast<token_t>(4 + random.below(33));
  }
  using Model = nn::TransformerStack<bf16, Cuda, nn::LayerNorm, nn::Mlp>;
  const Cuda& device = test::cuda_device();
  Model model(config, device, {.dropout = 0.1});
  optim::Adam optimizer(model.parameters());
  StoryLoader loader(TokenLists(stories), {.batch_size = 4, .max_len = 24, .validation_fraction = 0.0});
  train::Step step(model, loader.capacity());
  train::Recordings<Cuda> gradients;
  train::Recordings<Cuda> update;
  double first = 0.0;
  double last = 0.0;
  const auto run = [&](int steps) {
    for (int i = 0; i < steps; ++i) {
      const StepBatch& batch = loader.next();
      step.begin(batch, 3e-3);
      const auto forward_backward = [&](const Packed<Cpu>& micro) {
        model.forward(micro, step);
        model.backward(micro, step);
      };
      const auto change = [&] {
        optim::clip_grad_norm(model.parameters(), 1.0, step);
        optimizer.step(step);
      };
      if (whole) {
        REQUIRE(batch.size() == 1);
        gradients.run(step.pass(batch[0]), [&] {
          forward_backward(batch[0]);
          change();
        });
      } else {
        for (const auto& micro : batch) gradients.run(step.pass(micro), [&] { forward_backward(micro); });
        update.run(device, change);
      }
      step.post_result();
      if (step.pending_results() > 1) last = step.take_result().loss;
      if (first == 0.0) first = last;
    }
  };
  run(6);  // memory is allocated, graphs are recorded
  REQUIRE(gradients.shapes() == 1);
  calls = {};
  constexpr int steps = 10;
  run(steps);
  CHECK(calls.stream_waits == 0);
  CHECK(calls.event_waits == steps);
  CHECK(calls.graphs == graphs * steps);
  CHECK(calls.allocations == 0);
  CHECK(calls.copies_to_host == steps);
  static_cast<void>(step.take_result());
  CHECK(last < first);
}

}  // namespace

TEST_CASE("the host waits for a loss once a step, a step late, and for nothing else") { check_steady_step(false, 2); }
TEST_CASE("a step of one micro-batch is one graph") { check_steady_step(true, 1); }
