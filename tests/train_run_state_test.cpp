// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief A run in one file: settings and tokenizer must be the same, and a file that does not fit changes nothing.
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/train/history.hpp>
#include <storylm/train/run_state.hpp>

#include "io_model_support.hpp"
#include "io_support.hpp"
#include "optim_support.hpp"
#include "stories_support.hpp"

using namespace storylm;
using test::contains;
using test::error_of;
using test::state_bytes;
using test::TemporaryFolder;
using test::weights_of;

namespace {

using Model = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;

struct Counter {
  std::int64_t count = 0;
  std::vector<double> values;
  static void visit_state(auto& self, auto&& f) {
    f("count", self.count);
    f("values", self.values);
  }
};
/// The same name, other members.
struct Flag {
  bool set = false;
  static void visit_state(auto& self, auto&& f) { f("set", self.set); }
};

/// A run of a model, a counter and a history.
struct Run {
  Model model;
  Counter counter;
  train::History history;

  explicit Run(std::uint64_t seed, const TransformerConfig& config = test::small_config) : model(config, Cpu{}) {
    test::randomise(model, seed);
    counter = {.count = static_cast<std::int64_t>(seed), .values = {1.0 / static_cast<double>(seed)}};
    for (std::uint64_t i = 0; i < seed; ++i) history.add_loss(static_cast<double>(i));
  }
  [[nodiscard]] train::RunState state() {
    train::RunState run(model);
    run.keep("counter", counter);
    run.keep("history", history);
    return run;
  }
  /// Everything, bit for bit.
  [[nodiscard]] auto everything() const {
    return std::tuple(weights_of(model), state_bytes(counter), state_bytes(history));
  }
};

/// What loading into a fresh run says, which must then be as it was.
template <class F>
std::string refusal(const TemporaryFolder& folder, F&& prepare, const TransformerConfig& config = test::small_config) {
  Run run(5, config);
  const auto before = run.everything();
  train::RunState state(run.model);
  prepare(run, state);
  const std::string message = error_of([&] { state.load(folder / "run"); });
  CHECK(run.everything() == before);
  return message;
}
constexpr auto keep_all = [](Run& run, train::RunState& state) {
  state.keep("counter", run.counter);
  state.keep("history", run.history);
};

}  // namespace

TEST_CASE("a run comes back bit for bit, and saving changes nothing") {
  const TemporaryFolder folder;
  Run saved(3);
  const auto before = saved.everything();
  saved.state().save(folder / "run");
  CHECK(saved.everything() == before);
  Run loaded(4);
  loaded.state().load(folder / "run");
  CHECK(loaded.everything() == before);
  loaded.state().save(folder / "again");
  CHECK(test::read_bytes(folder / "run") == test::read_bytes(folder / "again"));
  // Evaluation reads the model alone from the same file.
  Run model_only(5);
  io::ModelFile(folder / "run").load_into(model_only.model);
  CHECK(weights_of(model_only.model) == weights_of(saved.model));
}

TEST_CASE("other settings and another tokenizer are refused") {
  const TemporaryFolder folder;
  Run run(3);
  train::RunState state = run.state();
  state.expect("batch_size", "512");
  state.set_tokenizer_hash(1);
  state.save(folder / "run");
  const std::string file = (folder / "run").string();
  const auto with = [&](const char* batch_size, std::uint64_t hash) {
    return refusal(folder, [&](Run& other, train::RunState& s) {
      keep_all(other, s);
      s.expect("batch_size", batch_size);
      s.set_tokenizer_hash(hash);
    });
  };
  CHECK(with("256", 1) == "[run] " + file +
                              ": the run began with batch_size 512, now it is 256: go on with the same, or begin in "
                              "another folder");
  CHECK(with("512", 2) ==
        "[run] " + file + ": belongs to the tokenizer " + detail::hash_text(1) + ", expected " + detail::hash_text(2));
  CHECK(contains(refusal(folder,
                         [&](Run& other, train::RunState& s) {
                           keep_all(other, s);
                           s.expect("dropout", "0.1");
                         }),
                 "the run began with dropout not recorded, now it is 0.1"));
  const auto began_in_float = [&](const char* now) {  // before there was another dtype to record
    return refusal(folder, [&](Run& other, train::RunState& s) {
      keep_all(other, s);
      s.set_tokenizer_hash(1);
      s.expect("dtype", now, "float32");
    });
  };
  CHECK(contains(began_in_float("bfloat16"), "the run began with dtype float32, now it is bfloat16"));
  Run same(4);
  train::RunState again = same.state();
  again.expect("batch_size", "512");
  again.expect("dtype", "float32", "float32");
  again.set_tokenizer_hash(1);
  again.load(folder / "run");
  CHECK(same.everything() == run.everything());

  run.state().save(folder / "run");  // without a tokenizer
  CHECK(contains(refusal(folder,
                         [&](Run& other, train::RunState& s) {
                           keep_all(other, s);
                           s.set_tokenizer_hash(1);
                         }),
                 "belongs to the tokenizer none, expected "));
}

TEST_CASE("a file of other objects or another model changes nothing, not even the model") {
  const TemporaryFolder folder;
  Run run(3);
  run.state().save(folder / "run");
  Flag flag;
  const auto with_flag = [&](const char* name) {
    return refusal(folder, [&](Run& other, train::RunState& s) {
      keep_all(other, s);
      s.keep(name, flag);
    });
  };
  CHECK(contains(with_flag("flag"), "tensor run.flag.set is missing"));
  CHECK(contains(refusal(folder, [&](Run&, train::RunState& s) { s.keep("counter", flag); }),
                 "tensor run.counter.set is missing"));
  CHECK(contains(refusal(folder, [&](Run& other, train::RunState& s) { s.keep("counter", other.counter); }),
                 "tensor run.history.losses belongs to nothing that is loaded"));
  TransformerConfig wider = test::small_config;
  wider.d_ff = 28;
  CHECK(contains(refusal(folder, keep_all, wider), "d_ff is 24, expected 28"));
}

TEST_CASE("an object that earlier runs had not: their files leave it as it is, later ones must hold all of it") {
  const TemporaryFolder folder;
  Run run(3);
  run.state().save(folder / "run");
  Flag flag{.set = true};
  Run other(4);
  train::RunState state = other.state();
  state.keep_if_stored("flag", flag);
  state.load(folder / "run");
  CHECK(other.everything() == run.everything());
  CHECK(flag.set);
  flag.set = false;
  state.save(folder / "run");
  flag.set = true;
  state.load(folder / "run");
  CHECK_FALSE(flag.set);
  Counter counter;
  const std::string message = refusal(folder, [&](Run& fresh, train::RunState& s) {
    keep_all(fresh, s);
    s.keep_if_stored("flag", counter);
  });
  CHECK(contains(message, "tensor run.flag.count is missing"));
}

TEST_CASE("a damaged file changes nothing, wherever the damage is") {
  const TemporaryFolder folder;
  Run run(3);
  run.state().save(folder / "run");
  const std::string bytes = test::read_bytes(folder / "run");
  for (std::size_t at = 1; at < bytes.size(); at += bytes.size() / 40) {
    CAPTURE(at);
    test::poke(folder / "run", at, static_cast<char>(bytes[at] ^ 1));
    CHECK(!refusal(folder, keep_all).empty());
    test::poke(folder / "run", at, bytes[at]);
  }
  const io::StoredTensor last = io::SafetensorsFile(folder / "run").at("run.history.losses");
  test::poke(folder / "run", last.begin, 'x');
  CHECK(contains(refusal(folder, keep_all), "tensor run.history.losses is damaged"));
  std::filesystem::resize_file(folder / "run", bytes.size() / 2);
  CHECK(!refusal(folder, keep_all).empty());
}
