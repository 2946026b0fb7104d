// SPDX-License-Identifier: MIT
// Generation on the CPU with a KV cache: tokens per second, and the share of memory bandwidth that reading weights,
// keys and values takes.
//
//   cpu_generation --preset story_24m --dtype float32 --batch 32 --prompt 4 --tokens 256 --threads 2
//
// --tokens counts the prompt; 0: as many as the model has room for. --serve on waits for numbers of repetitions on
// standard input; benchmarks/compare_pytorch.py uses it.
#include <storylm/generate/generator.hpp>

#include "cpu_support.hpp"

namespace {

using namespace bench;

template <class T>
class Benchmark {
 public:
  using Model = nn::TransformerStack<T, Cpu, nn::LayerNorm, nn::Mlp>;

  explicit Benchmark(const Flags& flags)
      : flags_(flags),
        device_(device_of(flags)),
        config_(preset(flags.text("preset"))),
        batch_(flags.number("batch")),
        prompt_(flags.number("prompt")),
        tokens_(flags.number("tokens") > 0 ? flags.number("tokens") : config_.max_len),
        model_(config_, device_, {.seed = 1}, nn::Gradients::no),
        generator_(model_, batch_) {
    expects<ArgumentError>(prompt_ > 0 && prompt_ < tokens_, "flags", "--prompt ", prompt_, ", --tokens ", tokens_);
    for (index_t i = 0; i < batch_; ++i) {
      std::vector<token_t> ids{1};
      while (static_cast<index_t>(ids.size()) < prompt_) {
        ids.push_back(static_cast<token_t>(4 + (i * 7 + static_cast<index_t>(ids.size()) * 3) % 50));
      }
      requests_.push_back({.prompt = ids, .story = static_cast<std::uint32_t>(i), .max_tokens = tokens_});
    }
  }

  void run() {
    static_cast<void>(measure(1));  // scratch grows, weights may be packed
    peak_memory_ = peak_memory();   // before the measurement of bandwidth adds to it
    bandwidth_ = read_bandwidth(device_, std::size_t{1} << (flags_.text("preset") == "story_tiny" ? 24U : 29U));
    if (flags_.text("serve") == "on") return serve({}, [&](index_t repeats) { return measure(repeats); });
    const JsonObject result = measure(flags_.number("repeats"));
    std::cout << flags_.text("preset") << ", " << flags_.text("dtype") << ", batch " << batch_ << ", " << prompt_
              << " tokens given, up to " << tokens_ << ", " << described(device_) << '\n'
              << fixed(rate_, 1) << " tokens/s, peak memory " << fixed(peak_memory_ / 1e9, 2) << " GB\n"
              << fixed(bytes_rate_ / 1e9, 1) << " GB/s of weights, keys and values, "
              << fixed(100.0 * bytes_rate_ / bandwidth_, 1) << " % of the measured " << fixed(bandwidth_ / 1e9, 1)
              << '\n';
    result.save(flags_);
  }

 private:
  /// Bytes that one step of all stories reads at least: matrices once, and the keys and values that there are on
  /// average.
  [[nodiscard]] double bytes_per_step() const {
    const double d = config_.d_model;
    const double weights = config_.n_layers * (4.0 * d * d + 2.0 * d * config_.hidden()) + d * config_.vocab_size;
    const double rows = 0.5 * static_cast<double>(prompt_ + tokens_);
    const double kv = config_.n_layers * 2.0 * config_.kv_heads() * config_.head_size() * rows;
    return sizeof(T) * (weights + static_cast<double>(batch_) * kv);
  }

  JsonObject measure(index_t repeats) {
    expects<ArgumentError>(repeats > 0, "cpu_generation", "repeats must be positive: ", repeats);
    const GenerateOptions options{.sampler = {.temperature = 0.5, .top_k = 2}, .eos = -1};
    index_t drawn = 0;
    std::vector<double> seconds;
    for (index_t i = 0; i < repeats; ++i) {
      const auto start = Clock::now();
      for (const GeneratedStory& story : generator_.generate(requests_, options)) {
        drawn += static_cast<index_t>(story.ids.size()) - story.prompt_tokens;
      }
      seconds.push_back(seconds_since(start));
    }
    expects<Error>(drawn == repeats * batch_ * (tokens_ - prompt_), "cpu_generation", drawn, " tokens were drawn");
    double sum = 0.0;
    for (const double each : seconds) sum += each;
    rate_ = static_cast<double>(drawn) / sum;
    bytes_rate_ = rate_ / static_cast<double>(batch_) * bytes_per_step();
    JsonObject result;
    result.add("preset", flags_.text("preset")).add("dtype", flags_.text("dtype"));
    result.add("batch", static_cast<double>(batch_)).add("threads", cpu::thread_count(device_));
    result.add("instruction_set", std::string(to_string(device_.instruction_set())));
    result.add("prompt", static_cast<double>(prompt_)).add("tokens", static_cast<double>(tokens_));
    result.add("drawn", static_cast<double>(drawn)).add("seconds", sum).add("tokens_per_second", rate_);
    result.add("bytes_per_second", bytes_rate_).add("read_bandwidth", bandwidth_);
    result.add("share_of_bandwidth", bytes_rate_ / bandwidth_).add("peak_memory", peak_memory_);
    return result;
  }

  const Flags& flags_;
  Cpu device_;
  TransformerConfig config_;
  index_t batch_;
  index_t prompt_;
  index_t tokens_;
  Model model_;
  Generator<Model> generator_;
  std::vector<GenerateRequest> requests_;
  double bandwidth_ = 1.0;
  double peak_memory_ = 0.0;
  double rate_ = 0.0;
  double bytes_rate_ = 0.0;
};

}  // namespace

int main(int argc, char** argv) {
  return run_cpu_program(argc, argv,
                         {{"preset", "story_24m"},
                          {"dtype", "float32"},
                          {"batch", "1"},
                          {"prompt", "4"},
                          {"tokens", "0"},
                          {"threads", "0"},
                          {"instruction_set", ""},
                          {"repeats", "3"},
                          {"serve", "off"},
                          {"json", ""}},
                         [](const Flags& flags) {
                           with_dtype<Task::generation>(flags.text("dtype"),
                                                        [&]<class T>() { Benchmark<T>(flags).run(); });
                         });
}
