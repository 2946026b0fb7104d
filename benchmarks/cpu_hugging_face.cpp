// SPDX-License-Identifier: MIT
// LINK: io
// A Hugging Face folder on the CPU: how long it takes to load and how much memory, how many tokens a second it scores
// as a judge does (stories packed together), and how many it writes one at a time; beside what the machine does at
// best.
//
//   cpu_hugging_face --folder mistral --dtype bfloat16 --task scoring --stories 32 --length 300 --threads 2
//
// Stories are numbers, the same that benchmarks/transformers_worker.py makes; --length is the longest's. --serve on
// waits for numbers of repetitions on standard input: benchmarks/compare_transformers.py uses it.
#include <optional>

#include <storylm/evaluate/judge.hpp>
#include <storylm/generate/generator.hpp>
#include <storylm/io/hugging_face.hpp>
#include <storylm/train/flops.hpp>

#include "cpu_support.hpp"

namespace {

using namespace bench;

/// Tokens of story `number`: any, but the same in every program.
std::vector<token_t> story_ids(index_t number, index_t length, index_t vocab_size) {
  std::vector<token_t> ids;
  for (index_t t = 0; t < length; ++t)
    ids.push_back(static_cast<token_t>((number * 7919 + t * t * 31 + t * 17) % vocab_size));
  return ids;
}
/// Of `count` stories the longest has `longest` tokens, the shortest a third of that.
index_t story_length(index_t number, index_t count, index_t longest) {
  return longest - (longest * 2 / 3) * number / std::max<index_t>(1, count - 1);
}

template <class Stack>
class Benchmark {
 public:
  using T = typename Stack::Element;

  Benchmark(const Flags& flags, const io::HuggingFaceFolder& folder)
      : flags_(flags), device_(device_of(flags)), config_(folder.config()), scoring_(flags.text("task") == "scoring") {
    expects<ArgumentError>(scoring_ || flags.text("task") == "writing", "flags",
                           "--task is scoring or writing: ", flags.text("task"));
    const double before = peak_memory();
    const auto start = Clock::now();
    model_.emplace(config_, device_, folder.options(), nn::Gradients::no);
    folder.load_into(*model_);
    load_seconds_ = seconds_since(start);
    load_memory_ = peak_memory() - before;
  }

  void run() {
    const index_t count = flags_.number("stories");
    const index_t longest = flags_.number("length");
    expects<ArgumentError>(count > 0 && longest >= 2 && longest <= config_.max_len, "flags", "--stories ", count,
                           ", --length ", longest, "; the model has room for ", config_.max_len);
    for (index_t i = 0; i < count; ++i)
      stories_.push_back({.ids = story_ids(i, story_length(i, count, longest), config_.vocab_size)});
    static_cast<void>(measure(1));  // memory is taken
    peak_memory_ = peak_memory();
    best_ = scoring_ ? peak_flops<T>(device_) : read_bandwidth(device_);
    JsonObject ready;
    ready.add("load_seconds", load_seconds_).add("load_memory", load_memory_).add("weights", weight_bytes());
    ready.add("peak_memory", peak_memory_).add("best", best_).add("mean_nll", mean_nll_);
    if (flags_.text("serve") == "on") return serve(ready, [&](index_t repeats) { return measure(repeats); });
    const JsonObject result = measure(flags_.number("repeats"));
    std::cout << flags_.text("folder") << ", " << flags_.text("dtype") << ", " << described(device_) << '\n'
              << "loaded in " << fixed(load_seconds_, 2) << " s, " << fixed(load_memory_ / 1e9, 2)
              << " GB for weights of " << fixed(weight_bytes() / 1e9, 2) << " GB\n"
              << flags_.text("task") << ": " << fixed(rate_, 1) << " tokens/s, "
              << fixed(100.0 * rate_ * work_per_token() / best_, 1) << " % of the measured " << fixed(best_ / 1e9, 1)
              << (scoring_ ? " GFLOP/s\n" : " GB/s\n");
    result.save(flags_);
  }

 private:
  [[nodiscard]] double weight_bytes() const { return sizeof(T) * static_cast<double>(parameter_count(config_)); }
  /// Floating-point operations of a scored token, or bytes of memory that a written one reads.
  [[nodiscard]] double work_per_token() const {
    const double mean = static_cast<double>(tokens_) / static_cast<double>(stories_.size());
    if (scoring_) return train::flops_per_token(config_, mean) / 3.0;  // forward alone
    const double embedding =
        config_.tie_head ? 0.0 : sizeof(T) * static_cast<double>(config_.vocab_size) * config_.d_model;
    const double kv = config_.n_layers * 2.0 * config_.kv_heads() * config_.head_size();
    return weight_bytes() - embedding + sizeof(T) * kv * 0.5 * static_cast<double>(flags_.number("length"));
  }

  JsonObject measure(index_t repeats) {
    expects<ArgumentError>(repeats > 0, "cpu_hugging_face", "repeats must be positive: ", repeats);
    const auto start = Clock::now();
    tokens_ = 0;
    for (index_t i = 0; i < repeats; ++i) scoring_ ? score() : write();
    const double seconds = seconds_since(start);
    rate_ = static_cast<double>(tokens_) / seconds;
    tokens_ /= repeats;
    JsonObject result;
    result.add("tokens", static_cast<double>(tokens_)).add("seconds", seconds).add("tokens_per_second", rate_);
    result.add("share_of_best", best_ > 0.0 ? rate_ * work_per_token() / best_ : 0.0).add("peak_memory", peak_memory());
    return result.add("mean_nll", mean_nll_);
  }
  void score() {
    if (!judge_) judge_.emplace(*model_, evaluate::JudgePolicy{.context = flags_.number("length")});
    double nll = 0.0;
    index_t tokens = 0;
    for (const evaluate::StoryScore& score : judge_->score(stories_)) {
      nll += score.nll;
      tokens += score.tokens;
    }
    mean_nll_ = nll / static_cast<double>(tokens);
    tokens_ += tokens;
  }
  /// One story, greedily, from a prompt of 4 tokens to --length.
  void write() {
    const index_t length = flags_.number("length");
    if (!generator_) {
      generator_.emplace(*model_, KvCache<T, Cpu>(config_, 1, length, device_),
                         Capacity{.tokens = std::min<index_t>(length, 256), .sequences = 1, .longest = length});
    }
    const std::vector<GenerateRequest> requests{{.prompt = story_ids(0, 4, config_.vocab_size), .max_tokens = length}};
    const auto written = generator_->generate(requests, {.sampler = {.top_k = 1}, .eos = -1, .banned = {}});
    tokens_ += static_cast<index_t>(written[0].ids.size()) - written[0].prompt_tokens;
  }

  const Flags& flags_;
  Cpu device_;
  TransformerConfig config_;
  bool scoring_;
  std::optional<Stack> model_;
  std::optional<evaluate::Judge<Stack>> judge_;
  std::optional<Generator<Stack>> generator_;
  std::vector<evaluate::JudgeStory> stories_;
  index_t tokens_ = 0;
  double load_seconds_ = 0.0;
  double load_memory_ = 0.0;
  double peak_memory_ = 0.0;
  double best_ = 0.0;
  double mean_nll_ = 0.0;
  double rate_ = 0.0;
};

}  // namespace

int main(int argc, char** argv) {
  return run_cpu_program(argc, argv,
                         {{"folder", ""},
                          {"task", "scoring"},
                          {"dtype", "float32"},
                          {"stories", "32"},
                          {"length", "300"},
                          {"threads", "0"},
                          {"instruction_set", ""},
                          {"repeats", "3"},
                          {"serve", "off"},
                          {"json", ""}},
                         [](const Flags& flags) {
                           const io::HuggingFaceFolder folder(flags.text("folder"));
                           with_dtype<Task::generation>(flags.text("dtype"), [&]<class T>() {
                             if (folder.config().norm == NormKind::rms_norm) {
                               Benchmark<nn::TransformerStack<T, Cpu, nn::RmsNorm, nn::SwiGlu>>(flags, folder).run();
                             } else {
                               Benchmark<nn::TransformerStack<T, Cpu, nn::LayerNorm, nn::Mlp>>(flags, folder).run();
                             }
                           });
                         });
}
