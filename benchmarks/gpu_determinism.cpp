// SPDX-License-Identifier: MIT
// The same bits again, on the GPU: two runs; a recorded step and one that is not; a story alone and among others; a run
// that stopped at a checkpoint and went on.
//
//   gpu_determinism --size reference
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <storylm/core/algorithm_table.hpp>
#include <storylm/generate/generator.hpp>
#if defined(STORYLM_WITH_IO)
#include <storylm/train/run_state.hpp>
#endif

#include "gpu_support.hpp"

namespace {

using namespace bench;

/// Everything that a step leaves: gradients, weights, their masters, both moments.
struct Bits {
  std::vector<std::byte> gradients;
  std::vector<std::byte> values;
  std::vector<std::byte> masters;
  double loss = 0.0;
  double grad_norm = 0.0;

  friend bool operator==(const Bits&, const Bits&) = default;
};

template <class T>
class Determinism {
 public:
  Determinism(const Flags& flags, const Cuda& device)
      : device_(device),
        small_(flags.text("size") == "small"),
        config_(config_of(flags.text("size"))),
        stories_(load_stories(flags.text("tokens"), config_.vocab_size, small_ ? 60 : 3000)),
        sequences_(flags.number("sequences") > 0 ? flags.number("sequences") : (small_ ? 7 : 512)),
        label_(flags.text("dtype")),
        tokens_(described_tokens(flags.text("tokens"))) {}

  void run() {
    const index_t steps = small_ ? 3 : 4;
    Job first(*this, true);
    first.train(steps);
    const Bits bits = first.bits();
    {
      Job second(*this, true);
      second.train(steps, planted("determinism") ? 1.0001 : 1.0);
      report("two runs", second.bits() == bits);
    }
    {
      Job unrecorded(*this, false);
      unrecorded.train(steps);
      report("recorded as a graph, and not", unrecorded.bits() == bits);
    }
    {
      // A step of one micro-batch is one graph.
      Job recorded(*this, true, half_of_them());
      Job unrecorded(*this, false, half_of_them());
      recorded.train(steps);
      unrecorded.train(steps);
      report("the whole step as a graph, and not", recorded.bits() == unrecorded.bits());
    }
    stop_and_go_on(steps, bits);
    alone_and_among_others(first);
  }

 private:
  struct Job {
    StoryLoader<TokenLists> loader;
    Trainer<T, Cuda> trainer;
    std::optional<train::StepResult> last;

    Job(const Determinism& owner, bool records) : Job(owner, records, owner.sequences_) {}
    /// With room for half of the stories of a batch: a step has several micro-batches when the stories are long.
    Job(const Determinism& owner, bool records, index_t batch_size)
        : loader(owner.stories_, {.batch_size = batch_size,
                                  .max_len = owner.config_.max_len,
                                  .validation_fraction = 0.0,
                                  .capacity = {.tokens = owner.half_of_them() * owner.config_.max_len}}),
          trainer(owner.device_, owner.config_, loader.capacity(), {.records = records}) {}

    void train(index_t steps, double lr_factor = 1.0) {
      for (index_t i = 0; i < steps; ++i) {
        const StepBatch& batch = loader.next();
        last = trainer.step({batch.begin(), batch.end()}, lr_factor);
      }
    }
    [[nodiscard]] Bits bits() {
      const Cuda& device = trainer.model().device();
      const auto arena = trainer.model().parameters().arena();
      Bits all{.gradients = bytes_of(device, arena.gradients, arena.size),
               .values = bytes_of(device, arena.values, arena.size),
               .masters = {},
               .loss = last->loss,
               .grad_norm = last->grad_norm};
      if (arena.masters != nullptr) all.masters = bytes_of(device, arena.masters, arena.size);
      return all;
    }
  };

  void report(const std::string& name, bool equal) const {
    Rows::check(name + ", " + label_, equal, "every bit equal", "the bits differ", tokens_);
  }
  [[nodiscard]] index_t half_of_them() const { return (sequences_ + 1) / 2; }

  void stop_and_go_on([[maybe_unused]] index_t steps, [[maybe_unused]] const Bits& bits) {
#if defined(STORYLM_WITH_IO)
    const auto file = std::filesystem::temp_directory_path() /
                      ("storylm_gpu_determinism_" + label_ + std::to_string(Clock::now().time_since_epoch().count()));
    const auto keep = [&](train::RunState& state, Job& job) {
      state.keep("optimizer", job.trainer.optimizer());
      state.keep("loader", job.loader);
      state.keep("step", job.trainer.state());
      if constexpr (std::is_same_v<T, half>) state.keep("grad_scaler", job.trainer.scaler());
      if (AlgorithmTable* table = algorithm_table(device_)) state.keep("algorithms", *table);
    };
    {
      Job before(*this, true);
      before.train(steps / 2);
      train::RunState state(before.trainer.model());
      keep(state, before);
      state.save(file);
    }
    Job after(*this, true);
    train::RunState state(after.trainer.model());
    keep(state, after);
    state.load(file);
    std::filesystem::remove(file);
    after.train(steps - steps / 2);
    report("stopped at a checkpoint and gone on", after.bits() == bits);
#else
    Rows::add_text("stopped at a checkpoint and gone on", "not checked: built without storylm::io");
#endif
  }

  void alone_and_among_others(Job& job) {
    const auto& model = job.trainer.model();
    const GenerateOptions options{
        .sampler = {.temperature = 0.8, .top_k = 8, .seed = 3}, .eos = -1, .banned = {0, 1, 3}};
    std::vector<GenerateRequest> requests;
    for (index_t i = 0; i < sequences_; ++i) {
      std::vector<token_t> prompt{1};  // of different lengths
      for (index_t k = 0; k <= i % 5; ++k)
        prompt.push_back(static_cast<token_t>(5 + (i * 7 + k) % (config_.vocab_size - 5)));
      requests.push_back({.prompt = prompt, .story = static_cast<std::uint32_t>(i), .max_tokens = small_ ? 16 : 96});
    }
    Generator together(model, sequences_);
    const auto among = together.generate(requests, options);
    Generator alone(model, 1);
    bool equal = true;
    for (const std::size_t i : {std::size_t{0}, requests.size() / 2, requests.size() - 1}) {
      const auto one = alone.generate(std::span(&requests[i], 1), options);
      equal &= one.front().ids == among[i].ids;
    }
    report("a story alone and among " + std::to_string(sequences_), equal);
  }

  const Cuda& device_;
  bool small_;
  TransformerConfig config_;
  TokenLists stories_;
  index_t sequences_;
  std::string label_;
  std::string tokens_;
};

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, {{"size", "reference"}, {"dtype", "bfloat16"}, {"sequences", "0"}, {"tokens", ""}},
                     [](const Flags& flags) {
                       const Cuda device;
                       const std::string& dtype = flags.text("dtype");
                       if (dtype == "bfloat16") return Determinism<bf16>(flags, device).run();
                       if (dtype == "float16") return Determinism<half>(flags, device).run();
                       expects<ArgumentError>(dtype == "float32", "flags",
                                              "--dtype is bfloat16, float16 or float32: ", dtype);
                       Determinism<float>(flags, device).run();
                     });
}
