// SPDX-License-Identifier: MIT
// The CPU's kernels at the sizes of one training step and of one generated token, beside what the machine does at best,
// which the program measures first: GFLOP/s or GB/s, and the share of the peak.
//
//   cpu_kernels --threads 2
//   cpu_kernels --threads 1 --benchmark_filter=matmul/ --json kernels.json
//
// Ends with the matrix products of a step weighted as a step does them. Flags of Google Benchmark (--benchmark_...)
// work as they do; with --benchmark_repetitions the median counts.
#include <cmath>
#include <functional>

#include <benchmark/benchmark.h>

#include <storylm/core/random.hpp>
#include <storylm/generate/kv_cache.hpp>
#include <storylm/ops/activation.hpp>
#include <storylm/ops/attention.hpp>
#include <storylm/ops/attention_cached.hpp>
#include <storylm/ops/cross_entropy.hpp>
#include <storylm/ops/layer_norm.hpp>
#include <storylm/ops/linear_activation.hpp>
#include <storylm/ops/linear_gradient.hpp>
#include <storylm/ops/matmul.hpp>
#include <storylm/ops/matmul_rows.hpp>
#include <storylm/ops/optimizer.hpp>

#include "cpu_support.hpp"

namespace {

using namespace bench;

/// How fast the machine is: GFLOP/s by dtype, GB/s.
struct Peaks {
  double float32 = 0.0;
  double bfloat16 = 0.0;
  double read = 0.0;

  /// The better of what is known and a measurement now.
  void measure(const Cpu& device, bool small) {
    float32 = std::max(float32, peak_flops<float>(device) / 1e9);
    bfloat16 = std::max(bfloat16, peak_flops<bf16>(device) / 1e9);
    read = std::max(read, read_bandwidth(device, std::size_t{1} << (small ? 22U : 29U)) / 1e9);
  }
};

/// What all benchmarks of a run share.
struct Setting {
  Cpu device;
  TransformerConfig config;
  bool small = false;
  Peaks peaks;
  StepState state{.lr = 1e-6};

  [[nodiscard]] DropoutSpec dropout() const { return {.probability = 0.1, .seed = 1, .site = 1, .state = &state}; }
};

template <class T>
constexpr const char* name_of = std::is_same_v<T, float> ? "float32" : "bfloat16";

/// Random matrices, numbered; memory is kept from benchmark to benchmark and grows.
template <class T>
MatrixView<T> matrix(const Setting& setting, std::size_t number, index_t rows, index_t cols) {
  static std::vector<Tensor<T, Cpu>> all(16);
  Tensor<T, Cpu>& tensor = all[number];
  if (tensor.size() < rows * cols) {
    tensor = Tensor<T, Cpu>::uninitialised({rows * cols}, setting.device);
    std::uint32_t bits = 12345U + static_cast<std::uint32_t>(number);
    for (index_t i = 0; i < rows * cols; ++i) {
      bits = bits * 1664525U + 1013904223U;
      tensor.data()[i] = static_cast<T>(static_cast<float>(bits >> 8U) * 0x1p-23F - 1.0F);
    }
  }
  return {tensor.data(), rows, cols};
}

/// Times `work`, which does `amount` GFLOP or GB a call, beside the peak of it.
void time_it(benchmark::State& state, double amount, double peak, const std::function<void()>& work) {
  work();  // pages are touched, scratch grows
  for ([[maybe_unused]] auto _ : state) work();
  state.counters["amount"] = amount;
  state.counters["peak"] = peak;
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& body) {
  benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->Unit(benchmark::kMillisecond);
}

/// The linear layers of a step: weight (out, in), how often they occur.
struct Layer {
  const char* name;
  index_t out;
  index_t in;
  int count;
};
std::vector<Layer> layers_of(const TransformerConfig& c) {
  const index_t d = c.d_model;
  return {{"qkv", 3 * d, d, c.n_layers},
          {"out", d, d, c.n_layers},
          {"up", c.hidden(), d, c.n_layers},
          {"down", d, c.hidden(), c.n_layers},
          {"head", c.vocab_size, d, 1}};
}

/// Rows of a step.
std::vector<index_t> tokens_of(const Setting& setting) {
  return setting.small ? std::vector<index_t>{40} : std::vector<index_t>{2048, 4096};
}
std::string matmul_name(const char* dtype, index_t tokens, const char* layer, const char* use) {
  return std::string("matmul/") + dtype + '/' + std::to_string(tokens) + '/' + layer + '/' + use;
}
constexpr const char* uses[] = {"forward", "input_gradient", "weight_gradient"};

template <class T>
void add_matmul(Setting& setting) {
  using A = accumulator_t<T>;
  for (const index_t tokens : tokens_of(setting)) {
    for (const Layer layer : layers_of(setting.config)) {
      const double gflop = 2e-9 * static_cast<double>(tokens) * static_cast<double>(layer.out * layer.in);
      const auto peak = [&setting] {
        return std::is_same_v<T, float> ? setting.peaks.float32 : setting.peaks.bfloat16;
      };
      add(matmul_name(name_of<T>, tokens, layer.name, uses[0]), [=, &setting](benchmark::State& state) {
        const auto x = matrix<T>(setting, 0, tokens, layer.in);
        const auto weight = matrix<T>(setting, 1, layer.out, layer.in);
        const auto y = matrix<T>(setting, 2, tokens, layer.out);
        const auto bias = matrix<T>(setting, 3, 1, layer.out);
        time_it(state, gflop, peak(),
                [&] { ops::matmul(setting.device, y, x, weight, {.transpose_b = true}, bias.data); });
      });
      add(matmul_name(name_of<T>, tokens, layer.name, uses[1]), [=, &setting](benchmark::State& state) {
        const auto dy = matrix<T>(setting, 2, tokens, layer.out);
        const auto weight = matrix<T>(setting, 1, layer.out, layer.in);
        const auto dx = matrix<T>(setting, 0, tokens, layer.in);
        time_it(state, gflop, peak(), [&] { ops::matmul(setting.device, dx, dy, weight); });
      });
      add(matmul_name(name_of<T>, tokens, layer.name, uses[2]), [=, &setting](benchmark::State& state) {
        const auto dy = matrix<T>(setting, 2, tokens, layer.out);
        const auto x = matrix<T>(setting, 0, tokens, layer.in);
        const auto dweight = matrix<A>(setting, 4, layer.out, layer.in);
        time_it(state, gflop, peak(),
                [&] { ops::matmul(setting.device, dweight, dy, x, {.transpose_a = true, .accumulate = true}); });
      });
    }
  }
}

/// The feed-forward layer's products with what is fused to them, and the gradient of weight and bias.
template <class T>
void add_fused(Setting& setting, const Packed<Cpu>& batch) {
  using A = accumulator_t<T>;
  const index_t tokens = batch.tokens();
  const index_t d = setting.config.d_model;
  const index_t hidden = setting.config.hidden();
  const double gflop = 2e-9 * static_cast<double>(tokens) * static_cast<double>(d * hidden);
  const auto peak = [&setting] { return std::is_same_v<T, float> ? setting.peaks.float32 : setting.peaks.bfloat16; };
  const std::string suffix = std::string("/") + name_of<T>;
  const auto saved = [=, &setting] {
    return matrix<T>(setting, 3, tokens, ops::linear_activation_saved<Cpu, T>(Activation::relu, hidden));
  };
  add("linear_activation/forward" + suffix, [=, &setting, &batch](benchmark::State& state) {
    const auto x = matrix<T>(setting, 0, tokens, d);
    const auto weight = matrix<T>(setting, 1, hidden, d);
    const auto y = matrix<T>(setting, 2, tokens, hidden);
    const auto bias = matrix<T>(setting, 5, 1, hidden);
    time_it(state, gflop, peak(), [&] {
      ops::linear_activation(setting.device, y, saved(), x, weight, bias.data, Activation::relu, setting.dropout(),
                             batch.view());
    });
  });
  add("linear_activation/backward" + suffix, [=, &setting, &batch](benchmark::State& state) {
    const auto dy = matrix<T>(setting, 0, tokens, d);
    const auto weight = matrix<T>(setting, 1, d, hidden);
    const auto y = matrix<T>(setting, 2, tokens, hidden);
    const auto dpre = matrix<T>(setting, 5, tokens, hidden);
    time_it(state, gflop, peak(), [&] {
      ops::linear_activation_backward(setting.device, dpre, dy, weight, y, saved(), Activation::relu, setting.dropout(),
                                      batch.view());
    });
  });
  add("linear_gradient" + suffix, [=, &setting](benchmark::State& state) {
    const auto dy = matrix<T>(setting, 2, tokens, hidden);
    const auto x = matrix<T>(setting, 0, tokens, d);
    const auto dweight = matrix<A>(setting, 4, hidden, d);
    const auto dbias = matrix<A>(setting, 6, 1, hidden);
    time_it(state, gflop, peak(), [&] { ops::linear_gradient(setting.device, dweight, dbias.data, dy, x); });
  });
}

template <class T>
void add_attention(Setting& setting, const Packed<Cpu>& batch) {
  using A = accumulator_t<T>;
  const TransformerConfig& c = setting.config;
  const index_t tokens = batch.tokens();
  const AttentionSpec spec{.heads = c.n_heads, .kv_heads = c.kv_heads(), .head_dim = c.head_size()};
  const double gflop = 2e-9 * static_cast<double>(tokens * spec.q_width()) * static_cast<double>(batch.longest() + 1);
  const auto peak = [&setting] { return std::is_same_v<T, float> ? setting.peaks.float32 : setting.peaks.bfloat16; };
  for (const bool drops : {false, true}) {
    const std::string suffix = std::string("/") + name_of<T> + (drops ? "/dropout" : "");
    const auto dropout = [drops, &setting] { return drops ? setting.dropout() : DropoutSpec{}; };
    add("attention/forward" + suffix, [=, &setting, &batch](benchmark::State& state) {
      const auto qkv = matrix<T>(setting, 0, tokens, spec.qkv_width());
      const auto y = matrix<T>(setting, 1, tokens, spec.q_width());
      const auto lse = matrix<A>(setting, 6, tokens, spec.heads);
      time_it(state, gflop, peak(),
              [&] { ops::attention(setting.device, y, lse, qkv, spec, dropout(), batch.view()); });
    });
    add("attention/backward" + suffix, [=, &setting, &batch](benchmark::State& state) {
      const auto qkv = matrix<T>(setting, 0, tokens, spec.qkv_width());
      const auto y = matrix<T>(setting, 1, tokens, spec.q_width());
      const auto lse = matrix<A>(setting, 6, tokens, spec.heads);
      const auto dy = matrix<T>(setting, 3, tokens, spec.q_width());
      const auto dqkv = matrix<T>(setting, 2, tokens, spec.qkv_width());
      ops::attention(setting.device, y, lse, qkv, spec, dropout(), batch.view());
      time_it(state, 2.5 * gflop, peak(),
              [&] { ops::attention_backward(setting.device, dqkv, dy, y, lse, qkv, spec, dropout(), batch.view()); });
    });
  }
}

/// What reads and writes every element once.
template <class T>
void add_elementwise(Setting& setting, const Packed<Cpu>& batch) {
  using A = accumulator_t<T>;
  const index_t tokens = batch.tokens();
  const index_t d = setting.config.d_model;
  const index_t hidden = setting.config.hidden();
  const index_t vocab = setting.config.vocab_size;
  const std::string suffix = std::string("/") + name_of<T>;
  const auto gigabytes = [](double passes, index_t rows, index_t cols) {
    return 1e-9 * passes * static_cast<double>(rows * cols) * sizeof(T);
  };
  add("layer_norm/forward" + suffix, [=, &setting, &batch](benchmark::State& state) {
    const auto y = matrix<T>(setting, 0, tokens, d);
    const auto sum = matrix<T>(setting, 1, tokens, d);
    const auto residual = matrix<T>(setting, 2, tokens, d);
    const auto branch = matrix<T>(setting, 3, tokens, d);
    const auto weight = matrix<T>(setting, 5, 1, d);
    const auto stats = matrix<A>(setting, 6, tokens, 2);
    time_it(state, gigabytes(4.0, tokens, d), setting.peaks.read, [&] {
      ops::layer_norm(setting.device, y, sum, stats, residual, branch, weight, weight, 1e-5, setting.dropout(),
                      batch.view());
    });
  });
  add("layer_norm/backward" + suffix, [=, &setting, &batch](benchmark::State& state) {
    const auto dsum = matrix<T>(setting, 0, tokens, d);
    const auto sum = matrix<T>(setting, 1, tokens, d);
    const auto dy = matrix<T>(setting, 2, tokens, d);
    const auto dbranch = matrix<T>(setting, 3, tokens, d);
    const auto weight = matrix<T>(setting, 5, 1, d);
    const auto stats = matrix<A>(setting, 6, tokens, 2);
    const auto dweight = matrix<A>(setting, 7, 1, d);
    const auto dbias = matrix<A>(setting, 8, 1, d);
    ops::layer_norm(setting.device, dsum, sum, stats, dy, dbranch, weight, weight, 1e-5, setting.dropout(),
                    batch.view());
    time_it(state, gigabytes(4.0, tokens, d), setting.peaks.read, [&] {
      ops::layer_norm_backward(setting.device, dsum, dbranch, dweight, dbias, dy, sum, stats, weight, {},
                               setting.dropout(), batch.view());
    });
  });
  add("activation/forward" + suffix, [=, &setting, &batch](benchmark::State& state) {
    const auto x = matrix<T>(setting, 0, tokens, hidden);
    const auto y = matrix<T>(setting, 2, tokens, hidden);
    time_it(state, gigabytes(2.0, tokens, hidden), setting.peaks.read,
            [&] { ops::activation(setting.device, y, x, Activation::relu, setting.dropout(), batch.view()); });
  });
  add("activation/backward" + suffix, [=, &setting, &batch](benchmark::State& state) {
    const auto dy = matrix<T>(setting, 0, tokens, hidden);
    const auto y = matrix<T>(setting, 2, tokens, hidden);
    const auto dx = matrix<T>(setting, 3, tokens, hidden);
    time_it(state, gigabytes(3.0, tokens, hidden), setting.peaks.read, [&] {
      ops::activation_backward(setting.device, dx, dy, y, y, Activation::relu, setting.dropout(), batch.view());
    });
  });
  add("cross_entropy" + suffix, [=, &setting, &batch](benchmark::State& state) {
    const index_t rows = std::min<index_t>(tokens, 512);
    const auto logits = matrix<T>(setting, 0, rows, vocab);
    const auto loss = matrix<A>(setting, 6, 1, rows);
    const auto count = static_cast<std::size_t>(rows);
    time_it(state, gigabytes(2.0, rows, vocab), setting.peaks.read, [&] {
      ops::cross_entropy(setting.device, std::span(loss.data, count), logits, std::span(batch.view().targets, count),
                         true);
    });
  });
  add("adam" + suffix, [=, &setting](benchmark::State& state) {
    constexpr bool masters = !std::is_same_v<T, A>;
    const index_t size = parameter_count(setting.config);
    const auto count = static_cast<std::size_t>(size);
    const ParameterSegment whole{.offset = 0, .size = size, .decay = false};
    ArenaView<T> arena{
        .values = matrix<T>(setting, 0, 1, size).data, .size = size, .segments = &whole, .segment_count = 1};
    arena.gradients = matrix<A>(setting, 8, 1, size).data;
    if (masters) arena.masters = matrix<A>(setting, 9, 1, size).data;
    const Tensor<A, Cpu> moments({2, size}, setting.device);
    A* const m = const_cast<A*>(moments.data());
    std::int64_t t = 0;
    const double bytes = (masters ? sizeof(T) + 2.0 * sizeof(A) : 2.0 * sizeof(T)) + 5.0 * sizeof(A);
    time_it(state, 1e-9 * bytes * static_cast<double>(size), setting.peaks.read, [&] {
      ops::adam(setting.device, arena, std::span(m, count), std::span(m + size, count), &t, AdamConstants{},
                &setting.state);
    });
  });
}

/// The matrix products of one token of every row, through all weights of the model, so that no cache holds them.
template <class T>
void add_decoding(Setting& setting) {
  const TransformerConfig& c = setting.config;
  for (const index_t rows : {1, 4, 32}) {
    add("matmul_rows/" + std::to_string(rows) + '/' + name_of<T>, [=, &setting](benchmark::State& state) {
      index_t size = 0;
      index_t widest = 0;
      for (const Layer& layer : layers_of(setting.config)) {
        size += layer.count * layer.out * layer.in;
        widest = std::max({widest, layer.out, layer.in});
      }
      const auto weights = matrix<T>(setting, 10, 1, size);
      const auto x = matrix<T>(setting, 0, rows, widest);
      const auto y = matrix<T>(setting, 2, rows, widest);
      time_it(state, 1e-9 * sizeof(T) * static_cast<double>(size), setting.peaks.read, [&] {
        const T* weight = weights.data;
        for (const Layer& layer : layers_of(setting.config)) {
          for (int i = 0; i < layer.count; ++i, weight += layer.out * layer.in) {
            ops::matmul_rows(setting.device, y.slice_cols(0, layer.out), x.slice_cols(0, layer.in),
                             MatrixView<const T>(weight, layer.out, layer.in));
          }
        }
      });
    });
  }
  for (const index_t stories : {1, 32}) {
    add("attention_cached/" + std::to_string(stories) + '/' + name_of<T>, [=, &setting](benchmark::State& state) {
      const AttentionSpec spec{.heads = c.n_heads, .kv_heads = c.kv_heads(), .head_dim = c.head_size()};
      const index_t before = c.max_len / 2;
      KvCache<T, Cpu> cache(c, stories, c.max_len, setting.device);
      std::vector<std::int32_t> slots;
      Packed<Cpu> batch({.tokens = stories * before, .sequences = stories, .longest = before}, setting.device);
      Packed<Cpu> next({.tokens = stories, .sequences = stories, .longest = 1}, setting.device);
      const std::vector<token_t> ids(static_cast<std::size_t>(before), 5);
      for (index_t s = 0; s < stories; ++s) {
        slots.push_back(cache.acquire());
        batch.append(ids, {}, static_cast<std::uint32_t>(s));
        next.append({ids.data(), 1}, {}, static_cast<std::uint32_t>(s), before);
      }
      const auto views = cache.views(slots);
      const auto qkv = matrix<T>(setting, 0, stories * before, spec.qkv_width());
      const auto y = matrix<T>(setting, 2, stories * before, spec.q_width());
      const auto attend = [&](const Packed<Cpu>& rows) {
        for (index_t block = 0; block < c.n_layers; ++block) {
          ops::attention_cached(setting.device, y.slice_rows(0, rows.tokens()), qkv.slice_rows(0, rows.tokens()),
                                views[static_cast<std::size_t>(block)], spec, rows.view());
        }
      };
      attend(batch);
      const double bytes = 2.0 * sizeof(T) * static_cast<double>(c.n_layers * stories * (before + 1) * spec.kv_width());
      time_it(state, 1e-9 * bytes, setting.peaks.read, [&] { attend(next); });
    });
  }
}

template <class T>
void add_all(Setting& setting, const Packed<Cpu>& batch) {
  if constexpr (trains<T>) {
    add_matmul<T>(setting);
    add_fused<T>(setting, batch);
    add_attention<T>(setting, batch);
    add_elementwise<T>(setting, batch);
  } else {
    std::cout << name_of<T> << ": the CPU has no kernels to train in it\n";
  }
  if constexpr (generates<T>) add_decoding<T>(setting);
}

/// Prints rates and shares, and keeps the times.
class Reporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& /*context*/) override {
    std::cout << std::left << std::setw(48) << "" << std::right << std::setw(12) << "ms" << std::setw(12) << "G/s"
              << std::setw(12) << "of peak\n";
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.iterations == 0) continue;
      const double seconds = run.real_accumulated_time / static_cast<double>(run.iterations);
      const std::string name = run.run_name.function_name;
      const double rate = run.counters.at("amount") / seconds;
      const double share = rate / run.counters.at("peak");
      std::cout << std::left << std::setw(48) << name << std::right << std::setw(12) << fixed(1e3 * seconds, 3)
                << std::setw(12) << fixed(rate, 1) << std::setw(10) << fixed(100.0 * share, 1) << " %" << std::endl;
      seconds_[name].push_back(seconds);
      amounts_[name] = run.counters.at("amount");
    }
  }
  [[nodiscard]] bool knows(const std::string& name) const { return seconds_.contains(name); }
  [[nodiscard]] double seconds(const std::string& name) const { return median(seconds_.at(name)); }
  [[nodiscard]] double amount(const std::string& name) const { return amounts_.at(name); }
  [[nodiscard]] const std::map<std::string, std::vector<double>>& all() const { return seconds_; }

 private:
  std::map<std::string, std::vector<double>> seconds_;
  std::map<std::string, double> amounts_;
};

/// GFLOP/s of the products of one step; 0 where not all were measured.
double weighted_rate(const Reporter& reporter, const Setting& setting, const char* dtype, index_t tokens) {
  double gflop = 0.0;
  double seconds = 0.0;
  for (const Layer& layer : layers_of(setting.config)) {
    for (const char* use : uses) {
      const std::string name = matmul_name(dtype, tokens, layer.name, use);
      if (!reporter.knows(name)) return 0.0;
      gflop += layer.count * reporter.amount(name);
      seconds += layer.count * reporter.seconds(name);
    }
  }
  return gflop / seconds;
}

void run(const Flags& flags) {
  const std::string& size = flags.text("size");
  Setting setting{.device = device_of(flags), .config = config_of(size), .small = size == "small", .peaks = {}};
  setting.peaks.measure(setting.device, setting.small);
  const auto show_peaks = [&](const char* when) {
    std::cout << when << described(setting.device) << ": float32 " << fixed(setting.peaks.float32, 1)
              << " GFLOP/s, bfloat16 " << fixed(setting.peaks.bfloat16, 1) << " GFLOP/s, reading memory "
              << fixed(setting.peaks.read, 1) << " GB/s\n";
  };
  show_peaks("peaks on ");
  const TokenLists stories = load_stories("", setting.config.vocab_size, 100);
  const Packed<Cpu> batch = full_batch(stories, setting.small ? 2 : 8, setting.config.max_len, 0);
  add_all<float>(setting, batch);
  add_all<bf16>(setting, batch);
  Reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);

  setting.peaks.measure(setting.device, setting.small);  // the machine may have been busy the first time
  show_peaks("peaks once more, on ");
  JsonObject json;
  json.add("instruction_set", std::string(to_string(setting.device.instruction_set())));
  json.add("threads", cpu::thread_count(setting.device)).add("float32_gflops", setting.peaks.float32);
  json.add("bfloat16_gflops", setting.peaks.bfloat16).add("read_gbytes", setting.peaks.read);
  for (const char* dtype : {name_of<float>, name_of<bf16>}) {
    const double peak = dtype == name_of<float> ? setting.peaks.float32 : setting.peaks.bfloat16;
    for (const index_t tokens : tokens_of(setting)) {
      const double rate = weighted_rate(reporter, setting, dtype, tokens);
      if (rate == 0.0) continue;
      std::cout << "all products of a step, " << dtype << ", " << tokens << " tokens: " << fixed(rate, 1)
                << " GFLOP/s, " << fixed(100.0 * rate / peak, 1) << " % of the peak\n";
      json.add(std::string("weighted/") + dtype + '/' + std::to_string(tokens), rate / peak);
    }
  }
  for (const auto& [name, seconds] : reporter.all()) json.add(name, median(seconds));
  json.save(flags);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  arguments.insert(arguments.begin() + 1, "--benchmark_min_time=0.2");  // one given by hand comes later and wins
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  return run_cpu_program(count, pointers.data(),
                         {{"threads", "0"}, {"instruction_set", ""}, {"size", "reference"}, {"json", ""}}, run);
}
