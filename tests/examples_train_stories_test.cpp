// SPDX-License-Identifier: MIT
// Runs the program as a user does, on a small part of the demo corpus.
// LINK: io
// PROGRAMS: make_stories prepare_stories
// TIMEOUT: 300
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <numeric>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/json.hpp>
#include <storylm/io/safetensors_file.hpp>

#include "io_support.hpp"
#include "process_support.hpp"
#include "training_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

/// Whether checkpoint_last says that the last step's line and validation are still to come.
bool owes_a_validation(const std::filesystem::path& run) {
  return number_of<std::int64_t>(run / "checkpoint_last.safetensors", "run.unwritten_step.tokens") > 0;
}

std::vector<std::string> keys(const boost::json::object& object) {
  std::vector<std::string> names;
  for (const auto& field : object) names.emplace_back(field.key());
  return names;
}

}  // namespace

TEST_CASE("a run leaves checkpoints, metrics, log, picture and tokenizer; nothing goes to standard output") {
  const TemporaryFolder folder;
  const auto run = folder / "new/run";
  const Result result = train(run, 14, {{"--threads", "1"}});
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.out.empty());
  CHECK(contains(result.err, "begins: story_tiny, 166144 parameters, 19900 stories to train on, 100 to validate"));
  CHECK(contains(result.err, "done: 14 steps, best validation loss "));
  CHECK(contains(read_bytes(run / "train.log"), "done: 14 steps"));
  CHECK(read_bytes(run / "loss.svg").starts_with("<svg"));
  for (const char* name : {"bpe.model", "bpe.settings.json"})
    CHECK(read_bytes(run / name) == read_bytes(data() / name));
  CHECK(std::distance(std::filesystem::directory_iterator(run), {}) == 8);  // nothing temporary is left

  const std::vector<std::string> of_a_step{"step",   "epoch", "loss", "lr", "grad_norm", "tokens", "tokens_per_second",
                                           "seconds"};
  std::vector<std::string> of_a_validation = of_a_step;
  for (const char* name : {"validation_loss", "sample", "generation_tokens_per_second"})
    of_a_validation.push_back(name);
  const auto lines = metrics(run);
  REQUIRE(lines.size() == 14);
  double best = 1e9;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const boost::json::object& line = lines[i];
    const auto step = static_cast<std::int64_t>(i + 1);
    CHECK(line.at("step").as_int64() == step);
    CHECK(line.at("epoch").as_int64() == 1);
    CHECK(line.at("tokens").as_int64() == 4 * 63);
    CHECK(line.at("lr").as_double() == 1e-3);
    const bool validates = step % 6 == 0 || step == 14;
    CHECK(keys(line) == (validates ? of_a_validation : of_a_step));
    if (!validates) continue;
    CHECK(line.at("sample").as_string().starts_with("Once upon a time "));
    best = std::min(best, line.at("validation_loss").as_double());
  }
  CHECK(lines.back().at("loss").as_double() < lines.front().at("loss").as_double());
  std::ostringstream text;
  text.precision(4);
  text << std::fixed << best;
  CHECK(contains(result.err, "best validation loss " + text.str()));
}

TEST_CASE("a model in Llama's shape is trained, and goes on where it stopped") {
  const TemporaryFolder folder;
  const Flags llama{{"--model", "story_llama_tiny"}};
  const Result at_once = train(folder / "run", 12, llama);
  CAPTURE(at_once.err);
  REQUIRE(at_once.code == 0);
  CHECK(contains(at_once.err, "begins: story_llama_tiny, 155968 parameters"));
  REQUIRE(train(folder / "parts", 6, llama).code == 0);
  REQUIRE(train(folder / "parts", 12, llama).code == 0);
  CHECK(same_end(folder / "run", folder / "parts"));
  const auto lines = metrics(folder / "run");
  CHECK(lines.back().at("validation_loss").as_double() < lines[5].at("validation_loss").as_double());
  CHECK(lines.back().at("sample").as_string().starts_with("Once upon a time "));
  const Result other = train(folder / "run", 14);
  CHECK(other.code == 2);
  CHECK(contains(other.err, "expected "));
}

TEST_CASE("a run that is done says so; with more steps it goes on as if it had been told at once, on any threads") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  REQUIRE(train(run, 14, {{"--threads", "1"}}).code == 0);
  const std::string before = read_bytes(run / "checkpoint_last.safetensors");
  const Result again = train(run, 14);
  CHECK(again.code == 0);
  CHECK(contains(again.err, "done: 14 steps"));
  CHECK(contains(again.err, "more with a larger --epochs or --max-steps"));
  CHECK(read_bytes(run / "checkpoint_last.safetensors") == before);
  CHECK(metrics(run).size() == 14);

  const Result more = train(run, all_steps, {{"--threads", "2"}});
  CAPTURE(more.err);
  CHECK(more.code == 0);
  CHECK(contains(more.err, "goes on after step 14"));
  CHECK(metrics(run).size() == all_steps);
  // But for the validation after step 14, which the other run has not.
  const io::SafetensorsFile one(run / "checkpoint_last.safetensors");
  const io::SafetensorsFile other(undisturbed() / "checkpoint_last.safetensors");
  for (const io::StoredTensor& tensor : one.tensors()) {
    CAPTURE(tensor.name);
    if (tensor.name.starts_with("run.history.validation_")) continue;
    CHECK(std::ranges::equal(one.raw(tensor), other.raw(tensor.name)));
  }
}

TEST_CASE("one thread and two give the same bytes") {
  const TemporaryFolder folder;
  REQUIRE(train(folder / "run", all_steps, {{"--threads", "1"}}).code == 0);
  CHECK(same_end(folder / "run", undisturbed()));
}

TEST_CASE("stopped or killed at any moment and started again, a run ends as if nothing had been") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  std::minstd_rand random(17);
  int stops = 0;
  for (const int line : {0, 0, 1, 4, 5, 6, 9, 11, 12, 16, 18, 22, 25}) {
    const int signal = std::array{SIGINT, SIGKILL, SIGTERM}.at(static_cast<std::size_t>(stops) % 3);
    CAPTURE(line);
    CAPTURE(signal);
    Process process(arguments(run, all_steps), folder / "out", folder / "err");
    if (!process.wait_until([&] { return lines_in(run) >= line; })) break;
    std::this_thread::sleep_for(std::uniform_real_distribution<double>(0.0, 0.2)(random) * std::chrono::seconds(1));
    process.signal(signal);
    const int code = process.wait();
    CHECK(read_bytes(folder / "out").empty());
    if (code == 0) break;  // it was done
    CHECK(code == 128 + signal);
    ++stops;
  }
  MESSAGE(stops, " stops");
  CHECK(stops >= 6);
  CHECK(train(run, all_steps).code == 0);
  CHECK(same_end(run, undisturbed()));
}

TEST_CASE("bfloat16: the curve of 300 steps is float32's within 0.5 %, and a run that stops goes on in every bit") {
  const TemporaryFolder folder;
  constexpr int steps = 300;
  const Flags common{{"--batch-size", "16"}, {"--micro-tokens", "1024"}, {"--validate-every", "100"}};
  const auto in = [&](const char* dtype) {
    Flags flags = common;
    flags.emplace_back("--dtype", dtype);
    return flags;
  };
  REQUIRE(train(folder / "float32", steps, in("float32")).code == 0);
  REQUIRE(train(folder / "bfloat16", steps, in("bfloat16")).code == 0);
  const auto losses = [&](const char* dtype) {
    std::vector<double> all;
    for (const auto& line : metrics(folder / dtype)) all.push_back(line.at("loss").to_number<double>());
    REQUIRE(all.size() == steps);
    return all;
  };
  const std::vector<double> wide = losses("float32");
  const std::vector<double> narrow = losses("bfloat16");
  constexpr int window = 20;  // single steps of any two runs drift apart: training is chaotic
  double largest = 0.0;
  for (int first = 0; first < steps; first += window) {
    const double expected = std::accumulate(wide.begin() + first, wide.begin() + first + window, 0.0);
    const double actual = std::accumulate(narrow.begin() + first, narrow.begin() + first + window, 0.0);
    largest = std::max(largest, std::abs(actual - expected) / expected);
  }
  MESSAGE("the curves differ by up to ", 100.0 * largest, " %");
  CHECK(largest <= 0.005);
  CHECK(largest > 0.0);
  CHECK(narrow.back() < 0.5 * narrow.front());

  // Stopped twice: once by a signal, once at its end.
  const auto run = folder / "resumed";
  Process process(arguments(run, 200, in("bfloat16")), folder / "out", folder / "err");
  REQUIRE(process.wait_until([&] { return lines_in(run) >= 30; }));
  process.signal(SIGTERM);
  CHECK(process.wait() == 128 + SIGTERM);
  CHECK(train(run, 200, in("bfloat16")).code == 0);
  const Result other = train(run, steps, in("float32"));
  CHECK(other.code == 2);
  CHECK(contains(other.err, "dtype"));
  CHECK(train(run, steps, in("bfloat16")).code == 0);
  CHECK(same_end(run, folder / "bfloat16"));
}

TEST_CASE("a signal during a validation ends it; the run goes on with it, and its step is not lost") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  int hits = 0;
  for (const int validation : {6, 12, 18, 24}) {
    CAPTURE(validation);
    const int signal = validation % 4 == 0 ? SIGTERM : SIGINT;
    Process process(arguments(run, all_steps), folder / "out", folder / "err");
    REQUIRE(process.wait_until([&] { return lines_in(run) >= validation - 1; }));
    // The validation takes the time of some eight steps, its step and the sample come beside it.
    const double step = metrics(run).at(static_cast<std::size_t>(validation) - 2).at("seconds").as_double();
    std::this_thread::sleep_for(std::chrono::duration<double>(4.0 * step));
    process.signal(signal);
    CHECK(process.wait() == 128 + signal);
    CHECK(contains(read_bytes(folder / "err"), "stopped by a signal after step "));
    CHECK(std::filesystem::exists(run / "loss.svg"));
    if (!owes_a_validation(run)) continue;
    ++hits;
    const std::ptrdiff_t written = lines_in(run);  // a late signal may have met the next validation
    CHECK((written % 6 == 5 || written == all_steps - 1));
    CHECK(written >= validation - 1);
  }
  MESSAGE(hits, " of 4 signals came during a validation");
  CHECK(hits >= 1);
  CHECK(train(run, all_steps).code == 0);
  CHECK_FALSE(owes_a_validation(run));
  CHECK(same_end(run, undisturbed()));
}

TEST_CASE("checkpoints come by the clock too, so that little is lost between validations far apart") {
  const TemporaryFolder folder;
  const Flags rare{{"--validate-every", "1000"}, {"--checkpoint-minutes", "0.00001"}};
  {
    Process process(arguments(folder / "run", 1000, rare), folder / "out", folder / "err");
    REQUIRE(process.wait_until([&] { return lines_in(folder / "run") >= 4; }));
    process.signal(SIGKILL);
    CHECK(process.wait() == 128 + SIGKILL);
  }
  const Result result = train(folder / "run", 3, rare);
  CHECK(result.code == 0);
  CHECK(contains(result.err, "goes on after step "));
  CHECK(contains(result.err, "done: "));
  CHECK(result.err.find("best validation loss") == std::string::npos);  // there was none
  CHECK(lines_in(folder / "run") >= 3);
}

TEST_CASE("after the eleventh validation without progress the learning rate is lower") {
  const TemporaryFolder folder;
  REQUIRE(train(folder / "run", 14, {{"--lr", "1e-7"}, {"--validate-every", "1"}}).code == 0);
  const auto lines = metrics(folder / "run");
  REQUIRE(lines.size() == 14);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    CAPTURE(i);
    CHECK(lines[i].at("lr").as_double() == doctest::Approx(i < 12 ? 1e-7 : 3e-8).epsilon(1e-12));
  }
}

TEST_CASE("steps whose gradients are not finite are told of and skipped") {
  const TemporaryFolder folder;
  const Result result = train(folder / "run", 7, {{"--lr", "1e30"}});
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(contains(result.err, "step 3: gradients are not finite, nothing was changed"));
  CHECK(contains(result.err, "done: 7 steps, "));
  CHECK(contains(result.err, " skipped; more with"));
  const auto lines = metrics(folder / "run");
  REQUIRE(lines.size() == 7);
  CHECK(lines[0].at("loss").is_double());
  CHECK(lines[5].at("loss").is_null());
  CHECK(lines[5].at("validation_loss").is_null());
}

TEST_CASE("progress goes to standard error, and a folder belongs to one program at a time") {
  const TemporaryFolder folder;
  Process process(arguments(folder / "run", 1'000'000, {{"--validate-every", "1000000"}}), folder / "out",
                  folder / "err");
  CHECK(process.wait_until([&] { return read_bytes(folder / "err").find(" left\n") != std::string::npos; }));
  const std::string err = read_bytes(folder / "err");
  for (const char* part : {"epoch 1  step ", "/497500  loss ", "  lr 1.0e-03  ", " tokens/s  ", " % of peak  "})
    CHECK(contains(err, part));
  const Result second = train(folder / "run", 10);
  CHECK(second.code == 1);
  CHECK(line_count(second.err) == 1);
  CHECK(contains(second.err, "another train_stories is at work in "));
  process.signal(SIGTERM);
  CHECK(process.wait() == 143);
}

TEST_CASE("bad flags and bad files end with one line and exit code 2, and make no run") {
  const TemporaryFolder folder;
  write_bytes(folder / "file", "");
  std::filesystem::create_directory(folder / "half");
  std::filesystem::copy_file(data() / "bpe.model", folder / "half/bpe.model");
  std::filesystem::create_directory(folder / "damaged");
  for (const char* name : {"bpe.model", "bpe.settings.json", "stories.tokens"})
    std::filesystem::copy_file(data() / name, folder / "damaged" / name);
  poke(folder / "damaged/stories.tokens", 5000, '\x7F');
  const std::string run = "--run-dir '" + (folder / "run").string() + "' ";
  const std::string tiny = "--model story_tiny --max-len 64 ";
  const auto data_flag = [](const std::filesystem::path& path) { return "--data-dir '" + path.string() + "' "; };
  const std::string good = data_flag(data()) + run + tiny;
  struct Case {
    std::string flags;
    std::string expected;
  };
  for (
      const Case& c : std::vector<Case>{
          {run, "--data-dir is required"},
          {data_flag(data()), "--run-dir is required"},
          {good + "--nonsense", "--nonsense"},
          {good + "--epochs many", "--epochs"},
          {good + "--epochs 0", "--epochs must be in [1, "},
          {good + "--max-steps -1", "--max-steps must be in [0, "},
          {good + "--batch-size 0", "--batch-size must be in [1, "},
          {good + "--micro-tokens 0", "--micro-tokens must be in [1, "},
          {good + "--validate-every 0", "--validate-every must be in [1, "},
          {good + "--lr 0", "--lr must be positive: 0"},
          {good + "--lr nan", "--lr must be positive: nan"},
          {good + "--dropout 1", "--dropout must be in [0, 1): 1"},
          {good + "--clip-norm -1", "--clip-norm must not be negative: -1"},
          {good + "--checkpoint-minutes -1", "--checkpoint-minutes must not be negative: -1"},
          {good + "--threads -1", "--threads must be in [0, 4096]: -1"},
          {good + "--device tpu", "unknown device tpu"},
          {good + "--device cuda:x", "unknown device cuda:x: cpu, cuda or cuda:N"},
          {good + "--dtype int8", "unknown dtype int8: float32, float64, bfloat16 or float16"},
          {good + "--dtype float64", "dtype float64 is not built in: this build has float32 and bfloat16"},
          {good + "--tf32", "--tf32 is for --device cuda with --dtype float32, not for cpu with float32"},
          {good + "--tune-matmul", "--tune-matmul is for --device cuda, not for cpu"},
          {data_flag(data()) + run + "--model story_tiny", "--max-len must be in [2, 128] for story_tiny: 256"},
          {data_flag(data()) + run + "--model story_9m", "there is no model story_9m: there are story_24m, story_3m"},
          {data_flag(data()) + run + "--model story_3m",
           "the tokenizer has 512 pieces, model story_3m needs 1024: make the tokenizer with --vocab-size 1024, or "
           "add "
           "a preset: cmake -S . -B build -DSTORYLM_PRESETS=\"mine:vocab_size=512,d_model=256,d_ff=1024,"},
          {data_flag(data()) + run + "--model story_llama_3m",
           "-DSTORYLM_PRESETS=\"mine:vocab_size=512,d_model=256,d_ff=704,n_layers=4,n_heads=8,max_len=256,n_kv_heads=4,"
           "head_dim=32,norm=NormKind::rms_norm,feed_forward=FeedForwardKind::swiglu,positions=PositionKind::rope_half,"
           "pre_norm=true,scale_embedding=false,tie_head=true,qkv_bias=false,attention_out_bias=false,"
           "feed_forward_bias=false,head_bias=false\" and build again"},
          {data_flag(data()) + run + "--model story_tiny --max-len 4", "--prompt has "},
          {data_flag(folder / "nothing") + run + tiny, "nothing/bpe.model\": No such file or directory"},
          {data_flag(folder / "half") + run + tiny, "half/stories.tokens"},
          {data_flag(folder / "damaged") + run + tiny, "damaged/stories.tokens"},
          {data_flag(data()) + tiny + "--run-dir '" + (folder / "file").string() + "'", "is a file, not a folder"},
      }) {
    CAPTURE(c.flags);
    const Result result = shell("exec " + program + " " + c.flags);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(line_count(result.err) == 1);
    CHECK(result.err.starts_with("train_stories: "));
    CHECK(contains(result.err, c.expected));
    CHECK_FALSE(std::filesystem::exists(folder / "run"));
  }
}

TEST_CASE("devices and dtypes: what the build has, and one clear line for what it has not") {
  const TemporaryFolder folder;
  const std::string good = " --model story_tiny --max-len 64 --data-dir '" + data().string() + "' --run-dir '" +
                           (folder / "run").string() + "' ";
  const auto refused = [&](const std::string& command, int code, std::string_view expected) {
    const Result result = shell(command);
    CAPTURE(result.err);
    CHECK(result.code == code);
    CHECK(line_count(result.err) == 1);
    CHECK(contains(result.err, expected));
    CHECK_FALSE(std::filesystem::exists(folder / "run"));
  };
  if (contains(shell(program + " --help").out, "this build has cpu and cuda")) {
    refused("exec " + program + good + "--dtype float16", 2,
            "dtype float16 needs --device cuda: on the CPU there are float32 and bfloat16");
    refused("exec " + program + good + "--device cuda --tf32 --dtype float16", 2,
            "--tf32 is for --device cuda with --dtyp");
    // Whether there is a GPU or not, there is none of that number.
    refused("exec " + program + good + "--device cuda:999", 1, "GPU");
    refused("STORYLM_DEVICE=cuda:998 exec " + program + good, 1, "GPU");
    refused("CUDA_VISIBLE_DEVICES= exec " + program + good + "--device cuda --dtype bfloat16", 1,
            "device cuda: no NVIDIA GPU can be used here (");
  } else {
    refused("exec " + program + good + "--device cuda", 2, "device cuda is not built in: this build has cpu");
    refused("exec " + program + good + "--dtype float16", 2,
            "dtype float16 is not built in: this build has float32 and bfloat16");
    refused("STORYLM_DEVICE=cuda:1 exec " + program + good, 2, "device cuda:1 is not built in");
  }
}

TEST_CASE("a run goes on with what it began with or not at all, and what it has stays as it is") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  REQUIRE(train(run, 7).code == 0);
  const auto refuses = [&](const Result& result, std::string_view expected) {
    CHECK(result.code == 2);
    CHECK(result.err.starts_with("train_stories: "));
    CHECK(line_count(result.err) == 1);
    CHECK(contains(result.err, expected));
  };
  refuses(train(run, 14, {{"--batch-size", "8"}}),
          "the run began with batch_size 4, now it is 8: go on with the same, or");
  refuses(train(run, 14, {{"--lr", "2e-3"}}), "the run began with lr 0.001, now it is 0.002");
  refuses(train(run, 14, {{"--seed", "2"}}), "the run began with seed 1, now it is 2");

  // Another tokenizer, of the same size.
  const std::string other = (folder / "other").string();
  REQUIRE(shell("'" STORYLM_BIN_DIR "/make_stories' --count 3000 --seed 9 --output-dir '" + other +
                "/shards' && '" STORYLM_BIN_DIR "/prepare_stories' --vocab-size 512 --input '" + other +
                "/shards' --output-dir '" + other + "'")
              .code == 0);
  refuses(train(run, 14, {{"--data-dir", other}}), "belongs to the tokenizer ");
  const std::string model = read_bytes(run / "bpe.model");
  for (const char* name : {"bpe.model", "bpe.settings.json"})
    std::filesystem::copy_file(folder / "other" / name, run / name, std::filesystem::copy_options::overwrite_existing);
  refuses(train(run, 14), "bpe.model\" is the tokenizer ");
  for (const char* name : {"bpe.model", "bpe.settings.json"})
    std::filesystem::copy_file(data() / name, run / name, std::filesystem::copy_options::overwrite_existing);

  const std::string lines = read_bytes(run / "metrics.jsonl");
  write_bytes(run / "metrics.jsonl", lines.substr(0, lines.size() / 2));
  refuses(train(run, 14), "lines, the checkpoint expects 7");
  write_bytes(run / "metrics.jsonl", lines);

  const std::string checkpoint = read_bytes(run / "checkpoint_last.safetensors");
  poke(run / "checkpoint_last.safetensors", checkpoint.size() - 100, '\x55');
  refuses(train(run, 14), "checkpoint_last.safetensors");
  write_bytes(run / "checkpoint_last.safetensors", checkpoint);
  CHECK(read_bytes(run / "metrics.jsonl") == lines);
  CHECK(train(run, 14).code == 0);
  CHECK(metrics(run).size() == 14);
}

TEST_CASE("when a file may not grow the exit code is 1, the old checkpoint is intact and the run can go on") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  REQUIRE(train(run, 7).code == 0);
  const std::string before = read_bytes(run / "checkpoint_last.safetensors");
  // No file of more than half a megabyte or one: a checkpoint has two.
  const Result result = train(run, all_steps, {}, "ulimit -f 1000;");
  CAPTURE(result.err);
  CHECK(result.code == 1);
  CHECK(contains(result.err, "train_stories: [AtomicFile] cannot write "));
  CHECK(read_bytes(run / "checkpoint_last.safetensors") == before);
  CHECK(std::distance(std::filesystem::directory_iterator(run), {}) == 8);
  CHECK(train(run, 7).code == 0);
  CHECK(metrics(run).size() == 7);
}

TEST_CASE("whoever reads the progress may go away: no step is lost") {
  const TemporaryFolder folder;
  const auto run = folder / "run";
  std::string command;
  for (const std::string& argument : arguments(run, 7, {})) command += " '" + argument + "'";
  CHECK(shell(command + " 2>&1 | head -n 1").code == 0);
  CHECK(metrics(run).size() == 7);
  CHECK(std::filesystem::exists(run / "checkpoint_last.safetensors"));
}

TEST_CASE("a full disk and one that cannot be written end with one clear line and exit code 1") {
  const TemporaryFolder folder;
  const std::string disk = (folder / "disk").string();
  std::filesystem::create_directory(disk);
  if (shell("mount -t tmpfs -o size=10m storylm-test '" + disk + "'").code != 0) {
    MESSAGE("skipped: no file system can be mounted here, that takes root");
    return;
  }
  const auto run = folder / "disk/run";
  CHECK(train(run, 7).code == 0);
  const std::string before = read_bytes(run / "checkpoint_last.safetensors");
  write_bytes(folder / "disk/other", std::string(3'000'000, 'x'));
  Result result = train(run, all_steps);  // there is no room for a fourth checkpoint beside the three
  CAPTURE(result.err);
  CHECK(result.code == 1);
  CHECK(contains(result.err, "No space left on device"));
  CHECK(read_bytes(run / "checkpoint_last.safetensors") == before);
  std::filesystem::remove(folder / "disk/other");

  CHECK(shell("mount -o remount,ro '" + disk + "'").code == 0);
  for (const std::filesystem::path& place : {run, folder / "disk/new"}) {
    result = train(place, all_steps);
    CHECK(result.code == 1);
    CHECK(line_count(result.err) == 1);
    CHECK(contains(result.err, "Read-only file system"));
  }
  CHECK(read_bytes(run / "checkpoint_last.safetensors") == before);
  CHECK(shell("umount '" + disk + "'").code == 0);
}

TEST_CASE("one story alone is trained on, and there is none to validate") {
  const TemporaryFolder folder;
  const auto one = folder / "data";
  std::filesystem::create_directory(one);
  for (const char* name : {"bpe.model", "bpe.settings.json", "bpe.vocab"})
    std::filesystem::copy_file(data() / name, one / name);
  write_bytes(folder / "one.txt", "Once upon a time there was a cat.\n");
  REQUIRE(shell("'" STORYLM_BIN_DIR "/prepare_stories' --vocab-size 512 --input '" + (folder / "one.txt").string() +
                "' --output-dir '" + one.string() + "'")
              .code == 0);
  const Result result = train(folder / "run", 6, {{"--data-dir", one.string()}});
  CAPTURE(result.err);
  CHECK(result.code == 0);
  CHECK(contains(result.err, "1 stories to train on, 0 to validate (the training loss stands in)"));
  const auto lines = metrics(folder / "run");
  REQUIRE(lines.size() == 6);
  CHECK(lines[5].at("epoch").as_int64() == 6);
  CHECK(lines[5].at("validation_loss").is_null());
  CHECK(std::filesystem::exists(folder / "run/checkpoint_best.safetensors"));
}

TEST_CASE("--help explains every flag with its default, and lists the models") {
  const Result result = shell(program + " --help");
  CHECK(result.code == 0);
  CHECK(result.err.empty());
  for (const char* part : {"--data-dir",
                           "--run-dir",
                           "--model",
                           "story_24m",
                           "--epochs",
                           "100",
                           "--max-steps",
                           "--batch-size",
                           "512",
                           "--micro-tokens",
                           "8192",
                           "--max-len",
                           "256",
                           "--lr",
                           "0.0003",
                           "--validate-every",
                           "1000",
                           "--dropout",
                           "0.1",
                           "--clip-norm",
                           "--checkpoint-minutes",
                           "--resume-from",
                           "--max-skipped-steps",
                           "--spike-threshold",
                           "--spike-window",
                           "--seed",
                           "--prompt",
                           "Once upon a time",
                           "--device",
                           "cpu",
                           "--dtype",
                           "float32",
                           "bfloat16",
                           "--tf32",
                           "--tune-matmul",
                           "131072",
                           "--threads",
                           "story_3m",
                           "story_tiny",
                           "24163328",
                           "-DSTORYLM_PRESETS="})
    CHECK(contains(result.out, part));
}
