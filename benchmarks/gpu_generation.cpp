// SPDX-License-Identifier: MIT
// Generation on the GPU at several batch sizes, --sequences (512) the largest: tokens per second beside the least time
// that reading weights, keys and values takes.
//
//   gpu_generation --size reference
#include <map>
#include <set>
#include <string>
#include <vector>

#include <storylm/generate/generator.hpp>

#include "gpu_support.hpp"

namespace {

using namespace bench;

template <class T>
void run(const Flags& flags, const Cuda& device) {
  const bool small = flags.text("size") == "small";
  const TransformerConfig c = config_of(flags.text("size"));
  const Ceilings ceilings = measure_ceilings<T>(device, small);
  using Model = nn::TransformerStack<T, Cuda, nn::LayerNorm, nn::Mlp>;
  const Model model(c, device, {.seed = 1}, nn::Gradients::no);
  const double d = c.d_model;
  const double weights = c.n_layers * (4.0 * d * d + 2.0 * d * c.hidden()) + d * c.vocab_size;
  const double kv_per_token = c.n_layers * 2.0 * c.kv_heads() * c.head_size() * sizeof(T);
  const bool judged = judges_speed(device);
  const std::string on_h200 = judged ? "" : " on an H200";
  const index_t prompt = small ? 3 : 4;
  const std::map<index_t, double> targets{{1, 8e3}, {512, 1.5e6}};

  const index_t largest = flags.number("sequences") > 0 ? flags.number("sequences") : (small ? 3 : 512);
  for (const index_t batch : std::set<index_t>{1, std::min(index_t{32}, largest), largest}) {
    Generator<Model> generator(model, batch);
    std::vector<GenerateRequest> requests;
    for (index_t i = 0; i < batch; ++i) {
      requests.push_back({.prompt = {1, 5, 6, 7}, .story = static_cast<std::uint32_t>(i), .max_tokens = c.max_len});
      requests.back().prompt.resize(static_cast<std::size_t>(prompt));
    }
    const GenerateOptions options{.sampler = {.temperature = 0.5, .top_k = 2}, .eos = -1};
    static_cast<void>(generator.generate(requests, options));  // scratch grows, the graph is recorded
    double best = 0.0;
    for (int repeat = 0; repeat < (small ? 1 : batch == 1 ? 5 : 2); ++repeat) {
      const auto start = Clock::now();
      const auto stories = generator.generate(requests, options);
      const double seconds = seconds_since(start);
      index_t drawn = 0;
      for (const GeneratedStory& story : stories) drawn += static_cast<index_t>(story.ids.size()) - story.prompt_tokens;
      best = std::max(best, static_cast<double>(drawn) / seconds);
      if (drawn != batch * (c.max_len - prompt)) {
        Rows::check("generation, batch " + std::to_string(batch), false, "", std::to_string(drawn) + " tokens drawn");
        return;
      }
    }
    const auto stories = static_cast<double>(batch);
    const double kv = stories * kv_per_token * c.max_len / 2.0 / ceilings.bytes_per_second;
    const double matrices =
        std::max(weights * sizeof(T) / ceilings.bytes_per_second, 2.0 * weights * stories / ceilings.flops);
    const double floor = stories / (kv + matrices);
    const bool aims = !small && flags.text("targets") == "on" && targets.contains(batch);
    const double target = aims ? targets.at(batch) : 0.0;
    Rows::add("generation, batch " + std::to_string(batch), best, "tokens/s",
              "floor " + std::to_string(std::llround(floor)) +
                  (aims ? ", target " + std::to_string(std::llround(target)) + on_h200 : ""),
              !aims || !judged ? Verdict::info
              : best >= target ? Verdict::ok
                               : Verdict::missed);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, {{"size", "reference"}, {"dtype", "bfloat16"}, {"targets", "off"}, {"sequences", "0"}},
                     [](const Flags& flags) {
                       const Cuda device;
                       const std::string& dtype = flags.text("dtype");
                       if (dtype == "bfloat16") return run<bf16>(flags, device);
                       expects<ArgumentError>(dtype == "float32", "flags", "--dtype is bfloat16 or float32: ", dtype);
                       run<float>(flags, device);
                     });
}
