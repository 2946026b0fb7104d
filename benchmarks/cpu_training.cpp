// SPDX-License-Identifier: MIT
// Training on the CPU: tokens per second, the time of a step, peak memory, the share of the machine's peak.
//
//   cpu_training --preset story_24m --dtype float32 --batch 8 --length 256 --dropout 0.1 --threads 2 --steps 10
//
// Batches are rows of --length tokens, cut from stories of a grammar or of --tokens FILE (prepare_stories'
// stories.tokens); with --packed on they are whole stories of their own length. --export FOLDER leaves initial weights
// and batches for another program; --serve on waits for numbers of steps on standard input.
// benchmarks/compare_pytorch.py uses both.
#include <span>

#include <storylm/train/flops.hpp>

#include "cpu_support.hpp"

namespace {

using namespace bench;

using Batches = std::vector<std::vector<Packed<Cpu>>>;  // of one micro-batch each

Packed<Cpu> copy_of(const Packed<Cpu>& batch) {
  Packed<Cpu> copy({.tokens = batch.tokens(), .sequences = batch.sequences(), .longest = batch.longest()}, Cpu{});
  const PackedView view = batch.view();
  for (index_t s = 0; s < view.sequences; ++s) {
    const auto first = static_cast<std::size_t>(view.offsets[s]);
    const auto length = static_cast<std::size_t>(view.offsets[s + 1]) - first;
    copy.append({view.ids + first, length}, {view.targets + first, length}, view.ordinals[s]);
  }
  return copy;
}

/// What is trained on, again and again.
Batches make_batches(const Flags& flags, const TransformerConfig& config, index_t length) {
  const index_t sequences = flags.number("batch");
  const index_t count = flags.number("batches");
  expects<ArgumentError>(sequences > 0 && count > 0, "flags", "--batch and --batches are at least 1");
  const TokenLists stories = load_stories(flags.text("tokens"), config.vocab_size, 4000);
  Batches batches;
  if (flags.text("packed") == "on") {
    StoryLoader<TokenLists> loader(stories, {.batch_size = sequences, .max_len = length, .validation_fraction = 0.0});
    expects<ArgumentError>(loader.size() >= sequences * count, "flags", "there are ", loader.size(),
                           " stories, too few for ", count, " batches of ", sequences);
    while (static_cast<index_t>(batches.size()) < count) {
      batches.emplace_back();
      batches.back().push_back(copy_of(loader.next()[0]));
    }
  } else {
    while (static_cast<index_t>(batches.size()) < count) {
      batches.emplace_back();
      batches.back().push_back(full_batch(stories, sequences, length, static_cast<index_t>(batches.size())));
    }
  }
  return batches;
}

Capacity capacity_of(const Batches& batches) {
  Capacity most;
  for (const auto& batch : batches) {
    most.tokens = std::max(most.tokens, batch[0].tokens());
    most.sequences = std::max(most.sequences, batch[0].sequences());
    most.longest = std::max(most.longest, batch[0].longest());
  }
  return most;
}

template <class T>
class Benchmark {
 public:
  explicit Benchmark(const Flags& flags)
      : flags_(flags),
        device_(device_of(flags)),
        config_(preset(flags.text("preset"))),
        length_(flags.number("length") > 0 ? flags.number("length") : config_.max_len),
        batches_(make_batches(flags, config_, length_)),
        peak_(peak_flops<T>(device_)),
        trainer_(device_, config_, capacity_of(batches_),
                 {.dropout = flags.real("dropout"), .lr = flags.real("lr"), .records = false}) {}

  void run() {
    if (const std::string& folder = flags_.text("export"); !folder.empty()) {
      export_run(folder, trainer_.model(), config_, flags_.real("lr"), batches_, flags_.number("steps"), length_);
    }
    const index_t warm_up = flags_.number("warm_up");
    if (warm_up > 0) train(warm_up);
    if (flags_.text("serve") == "on") {
      JsonObject ready;
      return serve(ready.add("first_loss", first_loss_), [&](index_t steps) { return measure(steps); });
    }
    if (flags_.number("steps") == 0) return;
    const JsonObject result = measure(flags_.number("steps"));
    std::cout << flags_.text("preset") << ", " << flags_.text("dtype") << ", dropout " << flags_.text("dropout") << ", "
              << flags_.text("batch") << (flags_.text("packed") == "on" ? " stories" : " x " + std::to_string(length_))
              << ", " << described(device_) << '\n'
              << fixed(tokens_per_second_, 0) << " target tokens/s, a step " << fixed(1e3 * step_seconds_, 1)
              << " ms (median), peak memory " << fixed(peak_memory() / 1e9, 2) << " GB\n"
              << fixed(flops_ / 1e9, 1) << " GFLOP/s, " << fixed(100.0 * flops_ / peak_, 1) << " % of the measured "
              << fixed(peak_ / 1e9, 0) << "\nloss " << fixed(first_loss_, 4) << " to " << fixed(last_loss_, 4) << '\n';
    result.save(flags_);
  }

 private:
  /// Seconds of each step.
  std::vector<double> train(index_t steps) {
    std::vector<double> seconds;
    for (index_t i = 0; i < steps; ++i) {
      const auto& batch = batches_[static_cast<std::size_t>(steps_done_) % batches_.size()];
      const auto start = Clock::now();
      last_loss_ = trainer_.step(batch).loss;
      seconds.push_back(seconds_since(start));
      if (steps_done_++ == 0) first_loss_ = last_loss_;
      targets_ += batch[0].target_count();
      for (index_t s = 0; s < batch[0].sequences(); ++s) {
        const auto length = batch[0].view().offsets[s + 1] - batch[0].view().offsets[s];
        work_ += static_cast<double>(length) * train::flops_per_token(config_, static_cast<double>(length));
      }
    }
    return seconds;
  }

  JsonObject measure(index_t steps) {
    expects<ArgumentError>(steps > 0, "cpu_training", "steps must be positive: ", steps);
    targets_ = 0;
    work_ = 0.0;
    const std::vector<double> seconds = train(steps);
    peak_ = std::max(peak_, peak_flops<T>(device_));  // the machine may have been busy the first time
    double sum = 0.0;
    for (const double each : seconds) sum += each;
    step_seconds_ = median(seconds);
    tokens_per_second_ = static_cast<double>(targets_) / sum;
    flops_ = work_ / sum;
    JsonObject result;
    result.add("preset", flags_.text("preset")).add("dtype", flags_.text("dtype"));
    result.add("dropout", flags_.real("dropout")).add("threads", cpu::thread_count(device_));
    result.add("instruction_set", std::string(to_string(device_.instruction_set())));
    result.add("steps", static_cast<double>(steps)).add("targets", static_cast<double>(targets_));
    result.add("seconds", sum).add("median_step_seconds", step_seconds_);
    result.add("tokens_per_second", tokens_per_second_).add("flops", flops_).add("peak_flops", peak_);
    result.add("share_of_peak", flops_ / peak_).add("peak_memory", peak_memory());
    result.add("first_loss", first_loss_).add("last_loss", last_loss_);
    return result;
  }

  const Flags& flags_;
  Cpu device_;
  TransformerConfig config_;
  index_t length_;
  Batches batches_;
  double peak_;
  Trainer<T, Cpu> trainer_;
  index_t steps_done_ = 0;
  index_t targets_ = 0;
  double work_ = 0.0;
  double step_seconds_ = 0.0;
  double tokens_per_second_ = 0.0;
  double flops_ = 0.0;
  double first_loss_ = 0.0;
  double last_loss_ = 0.0;
};

}  // namespace

int main(int argc, char** argv) {
  return run_cpu_program(argc, argv,
                         {{"preset", "story_24m"},
                          {"dtype", "float32"},
                          {"dropout", "0.1"},
                          {"lr", "0.0003"},
                          {"batch", "8"},
                          {"length", "0"},
                          {"batches", "4"},
                          {"packed", "off"},
                          {"tokens", ""},
                          {"threads", "0"},
                          {"instruction_set", ""},
                          {"warm_up", "2"},
                          {"steps", "10"},
                          {"export", ""},
                          {"serve", "off"},
                          {"json", ""}},
                         [](const Flags& flags) {
                           with_dtype<Task::training>(flags.text("dtype"),
                                                      [&]<class T>() { Benchmark<T>(flags).run(); });
                         });
}
