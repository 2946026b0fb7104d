// SPDX-License-Identifier: MIT
// Training on the GPU: tokens per second, the share of the device's ceilings, and the time of every kernel class beside
// the least it can take.
//
//   gpu_training --size reference --steps 100 --export out/
//
// With --export it leaves what another program needs to train the same model on the same batches (weights.txt and .bin,
// batches.bin, settings.txt) and its own losses without dropout (losses.txt): scripts/gpu_check/torch_training.py.
#include <array>
#include <fstream>
#include <initializer_list>

#include "gpu_support.hpp"
#include "timed_cuda.hpp"

namespace {

using namespace bench;

struct Sizes {
  index_t sequences;  // of a batch
  index_t length;     // of each, in the batches of full length
};

/// Flops and bytes that a class cannot do without in one step; see docs/guide/cuda.md for the table.
struct Work {
  std::string name;
  double flops = 0.0;
  double bytes = 0.0;
  double bytes_after = 0.0;  ///< of a pass that follows
};

/// The classes of timed_cuda.hpp for `tokens` tokens in sequences of `length`, activations of 2 or 4 bytes. Dropout is
/// on, masks are made again and not stored.
std::vector<Work> floors(const TransformerConfig& c, double tokens, double length, double element) {
  const double d = c.d_model;
  const double ff = c.hidden();
  const double layers = c.n_layers;
  const double x = tokens * d * element;  // one tensor of the residual stream
  const double h = tokens * ff * element;
  const double logits = tokens * c.vocab_size * element;
  const double attention = layers * 4.0 * d * tokens * (length + 1.0) / 2.0;
  const auto parameters = static_cast<double>(parameter_count(c));
  std::vector<Work> all;
  const auto products = [&](const std::string& layer, double count, double in, double out) {
    const double flops = 2.0 * count * tokens * in * out;
    const double bytes = count * tokens * (in + out) * element;        // each operand that grows with the tokens, once
    const double activation = layer == "up" ? layers * 2.0 * h : 0.0;  // ReLU and dropout: read and written
    all.push_back({layer + " fwd", flops, bytes, activation});
    all.push_back({layer + " dgrad", flops, bytes, 0.0});
    all.push_back({layer + " wgrad", flops, bytes, 0.0});
  };
  products("qkv", layers, d, 3.0 * d);
  products("out", layers, d, d);
  products("up", layers, d, ff);
  products("down", layers, ff, d);
  products("head", 1.0, d, c.vocab_size);
  for (const Work& other : std::initializer_list<Work>{{"attention fwd", attention, layers * 4.0 * x},
                                                       {"attention bwd", 2.5 * attention, layers * 8.0 * x},
                                                       {"LayerNorm fwd", 0.0, layers * 8.0 * x},
                                                       {"LayerNorm bwd", 0.0, layers * 8.0 * x},
                                                       {"embedding", 0.0, 2.0 * x},
                                                       {"cross entropy", 0.0, 2.0 * logits},
                                                       {"norm + Adam", 0.0, (2.0 * element + 30.0) * parameters}}) {
    all.push_back(other);
  }
  return all;
}

/// Milliseconds.
double floor_of(const Work& work, const Ceilings& ceilings) {
  return 1e3 * (std::max(work.flops / ceilings.flops, work.bytes / ceilings.bytes_per_second) +
                work.bytes_after / ceilings.bytes_per_second);
}

std::string fixed(double value, int digits) {
  std::ostringstream text;
  text.setf(std::ios::fixed);
  text.precision(digits);
  text << value;
  return text.str();
}

/// Steps one after another, the host a step ahead, as train_stories does it. Returns seconds per step.
template <class T>
double timed_steps(Trainer<T, Cuda>& trainer, const std::vector<std::vector<Packed<Cpu>>>& batches, index_t steps,
                   std::vector<double>* losses = nullptr) {
  const auto take = [&] {
    const train::StepResult result = trainer.take();
    if (losses != nullptr) losses->push_back(result.loss);
  };
  trainer.model().device().synchronize();
  const auto start = Clock::now();
  for (index_t i = 0; i < steps; ++i) {
    trainer.give(batches[static_cast<std::size_t>(i) % batches.size()]);
    while (trainer.pending() > 1) take();
  }
  while (trainer.pending() > 0) take();
  trainer.model().device().synchronize();
  return seconds_since(start) / static_cast<double>(steps);
}

index_t targets_of(const std::vector<Packed<Cpu>>& batch) {
  index_t targets = 0;
  for (const auto& micro : batch) targets += micro.target_count();
  return targets;
}

template <class T>
class Benchmark {
 public:
  Benchmark(const Flags& flags, const Cuda& device)
      : flags_(flags),
        device_(device),
        small_(flags.text("size") == "small"),
        config_(config_of(flags.text("size"))),
        stories_(load_stories(flags.text("tokens"), config_.vocab_size, small_ ? 40 : 4000)),
        sizes_{flags.number("sequences") > 0 ? flags.number("sequences") : (small_ ? 5 : 512), config_.max_len} {
    for (index_t i = 0; i < (small_ ? 2 : 4); ++i) {
      full_.emplace_back();
      full_.back().push_back(full_batch(stories_, sizes_.sequences, sizes_.length, i));
    }
  }

  void run() {
    const index_t steps = flags_.number("steps");
    ceilings_ = measure_ceilings<T>(device_, small_);
    Rows::add("copy", ceilings_.bytes_per_second / 1e12, "TB/s");
    Rows::add("large product", ceilings_.flops / 1e12, "TFLOP/s");
    train_full_length(steps);
    train_stories(steps);
    if (flags_.text("classes") == "on") time_classes();
    if (!flags_.text("export").empty()) train_without_dropout(flags_.text("export"));
  }

 private:
  [[nodiscard]] Capacity capacity() const {
    return {.tokens = sizes_.sequences * sizes_.length, .sequences = sizes_.sequences, .longest = sizes_.length};
  }

  void train_full_length(index_t steps) {
    Trainer<T, Cuda> trainer(device_, config_, capacity(), {});
    std::vector<double> losses;
    timed_steps(trainer, full_, small_ ? 4 : 10, &losses);  // scratch grows, graphs are recorded
    const double seconds = timed_steps(trainer, full_, steps, &losses);
    const auto tokens = static_cast<double>(targets_of(full_.front()));
    full_tokens_per_second_ = tokens / seconds;
    double flops = 0.0;
    double floor = 0.0;
    for (const Work& work : floors(config_, tokens, static_cast<double>(sizes_.length), sizeof(T))) {
      flops += work.flops;
      floor += floor_of(work, ceilings_);
    }
    step_ms_ = 1e3 * seconds;
    const double target = static_cast<double>(flags_.number("target_us")) / 1e3;
    const bool judged = judges_speed(device_);
    const std::string aim = target > 0.0 ? ", target " + fixed(target, 1) + (judged ? "" : " on an H200") : "";
    Rows::add("step", step_ms_, "ms", "floor " + fixed(floor, 1) + aim,
              target == 0.0 || !judged ? Verdict::info
              : step_ms_ <= target     ? Verdict::ok
                                       : Verdict::missed);
    Rows::add("training", full_tokens_per_second_, "tokens/s", "floor " + fixed(1e3 * tokens / floor, 0));
    Rows::add("share of a large product's rate", 100.0 * flops / seconds / ceilings_.flops, "%");
    const bool falls = std::isfinite(losses.back()) && losses.back() < losses.front();
    Rows::check("loss falls", falls, fixed(losses.front(), 4) + " to " + fixed(losses.back(), 4),
                "from " + fixed(losses.front(), 4) + " to " + fixed(losses.back(), 4));
  }

  /// Whole stories of different lengths, packed, as StoryLoader gives them.
  void train_stories(index_t steps) {
    StoryLoader<TokenLists> loader(stories_, {.batch_size = sizes_.sequences,
                                              .max_len = config_.max_len,
                                              .validation_fraction = 0.0,
                                              .capacity = capacity()});
    Trainer<T, Cuda> trainer(device_, config_, loader.capacity(), {});
    const auto run = [&](index_t count) {
      index_t targets = 0;
      device_.synchronize();
      const auto start = Clock::now();
      for (index_t i = 0; i < count; ++i) {
        const StepBatch& batch = loader.next();
        targets += batch.targets();
        trainer.give({batch.begin(), batch.end()});
        if (trainer.pending() > 1) static_cast<void>(trainer.take());
      }
      while (trainer.pending() > 0) static_cast<void>(trainer.take());
      device_.synchronize();
      return static_cast<double>(targets) / seconds_since(start);
    };
    run(small_ ? 2 : 30);
    const double rate = run(steps);
    const double ratio = rate / full_tokens_per_second_;
    Rows::add("training, packed stories", rate, "tokens/s", fixed(ratio, 2) + " of full length, target 0.95",
              small_ || !judges_speed(device_) ? Verdict::info
              : ratio >= 0.95                  ? Verdict::ok
                                               : Verdict::missed);
  }

  /// The same step, not recorded, with a clock beside every op.
  void time_classes() {
    const TimedCuda timed(device_);
    Trainer<T, TimedCuda> trainer(timed, config_, capacity(), {.records = false});
    for (int i = 0; i < 2; ++i) static_cast<void>(trainer.step(full_[0]));
    const int steps = small_ ? 1 : 5;
    timed.times().reset();
    for (int i = 0; i < steps; ++i) static_cast<void>(trainer.step(full_[static_cast<std::size_t>(i) % full_.size()]));
    timed.synchronize();
    auto times = timed.times().totals();
    const auto tokens = static_cast<double>(targets_of(full_.front()));
    double sum = 0.0;
    for (const auto& [name, total] : times) sum += total.first / steps;
    for (const Work& work : floors(config_, tokens, static_cast<double>(sizes_.length), sizeof(T))) {
      const auto found = times.find(work.name);
      if (found == times.end()) continue;  // fused into another
      Rows::add("  " + work.name, found->second.first / steps, "ms", "floor " + fixed(floor_of(work, ceilings_), 2));
      times.erase(found);
    }
    for (const auto& [name, total] : times) Rows::add("  " + name, total.first / steps, "ms");
    Rows::add("  all classes, not recorded", sum, "ms", "step " + fixed(step_ms_, 2));
  }

  /// What PyTorch repeats.
  void train_without_dropout(const std::filesystem::path& folder) {
    const TrainerOptions options{.dropout = 0.0};
    Trainer<T, Cuda> trainer(device_, config_, capacity(), options);
    const index_t steps = small_ ? 6 : 50;
    export_run(folder, trainer.model(), config_, options.lr, full_, steps);
    std::vector<double> losses;
    timed_steps(trainer, full_, steps, &losses);
    std::ofstream file(folder / "losses.txt");
    file.precision(9);
    for (const double loss : losses) file << loss << '\n';
    expects<WriteError>(file.flush().good(), "export", folder.string(), ": losses.txt cannot be written");
  }

  const Flags& flags_;
  const Cuda& device_;
  bool small_;
  TransformerConfig config_;
  TokenLists stories_;
  Sizes sizes_;
  std::vector<std::vector<Packed<Cpu>>> full_;
  Ceilings ceilings_;
  double step_ms_ = 0.0;
  double full_tokens_per_second_ = 1.0;
};

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv,
                     {{"size", "reference"},
                      {"dtype", "bfloat16"},
                      {"steps", "100"},
                      {"sequences", "0"},
                      {"tokens", ""},
                      {"classes", "on"},
                      {"export", ""},
                      {"target_us", "0"}},
                     [](const Flags& flags) {
                       const Cuda device;
                       Rows::add_text("device", device.properties().name, "", described_tokens(flags.text("tokens")));
                       const std::string& dtype = flags.text("dtype");
                       if (dtype == "bfloat16") return Benchmark<bf16>(flags, device).run();
                       expects<ArgumentError>(dtype == "float32", "flags", "--dtype is bfloat16 or float32: ", dtype);
                       Benchmark<float>(flags, device).run();
                     });
}
