// SPDX-License-Identifier: MIT
// LINK: io sentencepiece
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/gguf_export.hpp>
#include <storylm/io/safetensors.hpp>

#include "export_support.hpp"
#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;
namespace fs = std::filesystem;

namespace {

using Llama = nn::TransformerStack<float, Cpu, nn::RmsNorm, nn::SwiGlu>;

/// A GGUF file taken apart with nothing of the library: values of keys as text, tensors as bytes.
struct ParsedGguf {
  struct Entry {
    std::vector<std::uint64_t> extents;  // the fastest first
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
    std::string_view bytes;
  };
  std::string content;
  std::vector<std::string> order;  // of tensors
  std::map<std::string, std::string> keys;
  std::map<std::string, std::vector<std::string>> lists;
  std::map<std::string, Entry> tensors;

  explicit ParsedGguf(const fs::path& path) : content(read_bytes(path)) {
    if (take(4) != "GGUF" || number<std::uint32_t>() != 3) throw std::runtime_error("no GGUF file of version 3");
    const auto tensor_count = number<std::uint64_t>();
    const auto key_count = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < key_count; ++i) {
      const std::string key = text();
      const auto type = number<std::uint32_t>();
      if (type != 9) {
        keys[key] = std::to_string(type) + ':' + value(type);
        continue;
      }
      const auto of = number<std::uint32_t>();
      const auto count = number<std::uint64_t>();
      keys[key] = "9:" + std::to_string(of);
      for (std::uint64_t k = 0; k < count; ++k) lists[key].push_back(value(of));
    }
    for (std::uint64_t i = 0; i < tensor_count; ++i) {
      order.push_back(text());
      Entry& entry = tensors[order.back()];
      entry.extents.resize(number<std::uint32_t>());
      for (auto& extent : entry.extents) extent = number<std::uint64_t>();
      entry.type = number<std::uint32_t>();
      entry.offset = number<std::uint64_t>();
    }
    const std::size_t data = (at + 31) / 32 * 32;
    std::size_t end = data;
    for (const std::string& name : order) {
      Entry& entry = tensors[name];
      std::uint64_t size = entry.type == 0 ? 4 : 2;
      for (const auto extent : entry.extents) size *= extent;
      CHECK(entry.offset % 32 == 0);
      CHECK(data + entry.offset == end);  // nothing but padding between
      entry.bytes = std::string_view(content).substr(data + entry.offset, size);
      end = data + entry.offset + (size + 31) / 32 * 32;
    }
    CHECK(content.size() == end);
  }

  template <class T>
  T number() {
    T value{};
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view take(std::size_t count) {
    if (count > content.size() - at) throw std::runtime_error("the file is cut off");
    const std::string_view taken = std::string_view(content).substr(at, count);
    at += count;
    return taken;
  }
  std::string text() { return std::string(take(number<std::uint64_t>())); }
  std::string value(std::uint32_t type) {
    switch (type) {
      case 4:
        return std::to_string(number<std::uint32_t>());
      case 5:
        return std::to_string(number<std::int32_t>());
      case 6:
        return std::to_string(number<float>());
      case 7:
        return number<std::uint8_t>() != 0 ? "true" : "false";
      case 8:
        return text();
      case 10:
        return std::to_string(number<std::uint64_t>());
      default:
        throw std::runtime_error("a value of a type that nobody writes: " + std::to_string(type));
    }
  }
  /// Of a float32 tensor.
  [[nodiscard]] std::vector<float> floats(const std::string& name) const {
    const Entry& entry = tensors.at(name);
    if (entry.type != 0) throw std::runtime_error(name + " is not of float32");
    std::vector<float> values(entry.bytes.size() / 4);
    std::memcpy(values.data(), entry.bytes.data(), entry.bytes.size());
    return values;
  }
  std::size_t at = 0;
};

std::vector<float> stored(const io::SafetensorsFile& file, const std::string& name) {
  const io::StoredTensor& tensor = file.at(name);
  Shape shape;
  for (const index_t extent : tensor.shape) shape.append(extent);
  return file.read<float>(name, shape);
}

/// matrix (rows, 32) times x (32)
std::vector<double> product(const std::vector<float>& matrix, const std::vector<double>& x) {
  std::vector<double> y(matrix.size() / x.size());
  for (std::size_t i = 0; i < matrix.size(); ++i) y[i / x.size()] += static_cast<double>(matrix[i]) * x[i % x.size()];
  return y;
}
/// Rotates a head of 16 columns: pair i is (i, i + 8), or (2 i, 2 i + 1) when they are side by side.
void rotate(std::span<double> head, double position, bool side_by_side) {
  const std::size_t half = head.size() / 2;
  for (std::size_t i = 0; i < half; ++i) {
    double& a = head[side_by_side ? 2 * i : i];
    double& b = head[side_by_side ? 2 * i + 1 : i + half];
    const double angle = position * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
    const double first = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = first;
  }
}

/// Every query of 4 heads with every key of 2, for tokens from far ahead to far behind: what attention makes of them.
std::vector<double> scores(const std::vector<float>& q, const std::vector<float>& k, bool side_by_side) {
  RandomStream random(5, 0, 0x5C0);
  std::vector<double> all;
  for (int i = 0; i < 60; ++i) {
    std::vector<double> x(32), y(32);
    for (std::size_t c = 0; c < 32; ++c) {
      x[c] = random.normal();
      y[c] = random.normal();
    }
    std::vector<double> queries = product(q, x), keys = product(k, y);
    for (std::size_t head = 0; head < 4; ++head) {
      const std::span<double> query(queries.data() + 16 * head, 16);
      rotate(query, 70.0 * i, side_by_side);
      std::vector<double> key(keys.begin() + static_cast<std::ptrdiff_t>(head / 2 * 16),
                              keys.begin() + static_cast<std::ptrdiff_t>(head / 2 * 16 + 16));
      rotate(key, 70.0 * i * static_cast<double>(random.uniform()), side_by_side);
      double sum = 0.0;
      for (std::size_t c = 0; c < 16; ++c) sum += query[c] * key[c];
      all.push_back(sum);
    }
  }
  return all;
}

io::SentencePieceModel pieces() { return io::read_sentencepiece_model(export_tokenizer().model_bytes(), "it"); }

}  // namespace

TEST_CASE("a small file, byte for byte") {
  const TemporaryFolder folder;
  io::GgufWriter writer;
  writer.add("a", true);
  const std::vector<float> values{1.0F, 2.0F};
  writer.add_tensor("t", io::file_dtype<float>, {2, 1}, [&](const io::GgufWriter::Sink& sink) {
    sink(std::as_bytes(std::span(values).first(1)));
    sink(std::as_bytes(std::span(values).last(1)));
  });
  writer.save(folder / "f.gguf");
  using namespace std::string_literals;
  const std::string head = "GGUF\3\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"s +
                           "\x11\0\0\0\0\0\0\0general.alignment\4\0\0\0\x20\0\0\0"s + "\1\0\0\0\0\0\0\0a\7\0\0\0\1"s +
                           "\1\0\0\0\0\0\0\0t\2\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"s;
  const std::string padding(32 - head.size() % 32, '\0');
  CHECK(read_bytes(folder / "f.gguf") == head + padding + "\0\0\x80\x3F\0\0\0\x40"s + std::string(24, '\0'));
}

TEST_CASE("keys of every type come back; names are taken once; tensors have the bytes they promise") {
  const TemporaryFolder folder;
  io::GgufWriter writer;
  writer.add("u32", std::uint32_t{4000000000U});
  writer.add("i32", std::int32_t{-5});
  writer.add("u64", std::uint64_t{1} << 40U);
  writer.add("float", 0.25F);
  writer.add("text", "caf\u00e9");
  writer.add("texts", std::vector<std::string>{"a", "", "ccc"});
  writer.add("numbers", std::vector<std::int32_t>{1, -1});
  writer.add("none", std::vector<float>{});
  CHECK(contains(error_of<ArgumentError>([&] { writer.add("text", false); }), "the key text is added twice"));
  writer.save(folder / "f");
  const ParsedGguf parsed(folder / "f");
  CHECK(parsed.keys.size() == 9);
  CHECK(parsed.keys.at("u32") == "4:4000000000");
  CHECK(parsed.keys.at("i32") == "5:-5");
  CHECK(parsed.keys.at("u64") == "10:1099511627776");
  CHECK(parsed.keys.at("float") == "6:0.250000");
  CHECK(parsed.keys.at("text") == "8:caf\u00e9");
  CHECK(parsed.lists.at("texts") == std::vector<std::string>{"a", "", "ccc"});
  CHECK(parsed.lists.at("numbers") == std::vector<std::string>{"1", "-1"});
  CHECK(parsed.keys.at("none") == "9:6");

  const auto bytes = [](std::size_t count) {
    return [count](const io::GgufWriter::Sink& sink) { sink(std::vector<std::byte>(count)); };
  };
  writer.add_tensor("t", io::file_dtype<bf16>, {3}, bytes(5));
  CHECK(contains(error_of<ArgumentError>([&] { writer.add_tensor("t", io::file_dtype<float>, {1}, bytes(4)); }),
                 "tensor t is added twice"));
  CHECK(contains(error_of<ArgumentError>([&] { writer.add_tensor("d", io::file_dtype<double>, {1}, bytes(8)); }),
                 "not F64"));
  CHECK(contains(error_of<ArgumentError>([&] { writer.save(folder / "few"); }), "tensor t gives 5 of 6 bytes"));
  CHECK(!fs::exists(folder / "few"));
  io::GgufWriter more;
  more.add_tensor("t", io::file_dtype<half>, {3}, bytes(7));
  CHECK(contains(error_of<ArgumentError>([&] { more.save(folder / "more"); }), "tensor t gives more than its 6 bytes"));
}

TEST_CASE("a Llama as GGUF: sizes, tokenizer, tensors; queries and keys rotate as before") {
  const TemporaryFolder folder;
  write_checkpoint<Llama>(folder / "model.safetensors", export_llama, {.norm_eps = 2e-5, .rope_theta = 5000.0});
  const io::ModelFile file(folder / "model.safetensors");
  const io::SafetensorsFile& checkpoint = file.reader().file();
  const io::SentencePieceModel tokenizer = pieces();
  const io::ExportSummary summary = io::export_gguf(file, tokenizer, folder / "m.gguf", {.name = "stories"});
  CHECK(summary.parameters == parameter_count(export_llama));
  const ParsedGguf gguf(folder / "m.gguf");
  CHECK(gguf.tensors.size() == summary.tensors);
  CHECK(gguf.tensors.size() == 2 * 9 + 3);

  const std::map<std::string, std::string> expected{{"general.architecture", "8:llama"},
                                                    {"general.name", "8:stories"},
                                                    {"general.alignment", "4:32"},
                                                    {"general.file_type", "4:0"},
                                                    {"llama.vocab_size", "4:290"},
                                                    {"llama.context_length", "4:400"},
                                                    {"llama.embedding_length", "4:32"},
                                                    {"llama.block_count", "4:2"},
                                                    {"llama.feed_forward_length", "4:48"},
                                                    {"llama.attention.head_count", "4:4"},
                                                    {"llama.attention.head_count_kv", "4:2"},
                                                    {"llama.attention.key_length", "4:16"},
                                                    {"llama.attention.value_length", "4:16"},
                                                    {"llama.rope.dimension_count", "4:16"},
                                                    {"llama.rope.freq_base", "6:5000.000000"},
                                                    {"llama.attention.layer_norm_rms_epsilon", "6:0.000020"},
                                                    {"tokenizer.ggml.model", "8:llama"},
                                                    {"tokenizer.ggml.tokens", "9:8"},
                                                    {"tokenizer.ggml.scores", "9:6"},
                                                    {"tokenizer.ggml.token_type", "9:5"},
                                                    {"tokenizer.ggml.bos_token_id", "4:1"},
                                                    {"tokenizer.ggml.eos_token_id", "4:2"},
                                                    {"tokenizer.ggml.unknown_token_id", "4:0"},
                                                    {"tokenizer.ggml.padding_token_id", "4:3"},
                                                    {"tokenizer.ggml.add_bos_token", "7:true"},
                                                    {"tokenizer.ggml.add_eos_token", "7:false"},
                                                    {"tokenizer.ggml.add_space_prefix", "7:true"}};
  CHECK(gguf.keys == expected);
  for (std::size_t id = 0; id < 290; ++id) {
    CHECK(gguf.lists.at("tokenizer.ggml.tokens")[id] == tokenizer.pieces[id].text);
    CHECK(gguf.lists.at("tokenizer.ggml.scores")[id] == std::to_string(tokenizer.pieces[id].score));
  }
  const auto& kinds = gguf.lists.at("tokenizer.ggml.token_type");
  CHECK(std::vector<std::string>(kinds.begin(), kinds.begin() + 5) ==
        std::vector<std::string>{"2", "3", "3", "3", "6"});
  CHECK(kinds.back() == "1");

  // (rows, columns) is (columns, rows) there; values lie as they are.
  CHECK(gguf.tensors.at("token_embd.weight").extents == std::vector<std::uint64_t>{32, 290});
  CHECK(gguf.tensors.at("blk.1.attn_output.weight").extents == std::vector<std::uint64_t>{64, 32});
  CHECK(gguf.tensors.at("blk.1.attn_k.weight").extents == std::vector<std::uint64_t>{32, 32});
  const std::map<std::string, std::string> names{
      {"token_embd.weight", "model.embed_tokens.weight"},
      {"output_norm.weight", "model.norm.weight"},
      {"output.weight", "lm_head.weight"},
      {"blk.1.attn_norm.weight", "model.layers.1.input_layernorm.weight"},
      {"blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight"},
      {"blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj.weight"},
      {"blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight"},
      {"blk.1.ffn_gate.weight", "model.layers.1.mlp.gate_proj.weight"},
      {"blk.1.ffn_up.weight", "model.layers.1.mlp.up_proj.weight"},
      {"blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"}};
  for (const auto& name : names) {
    CAPTURE(name.first);
    CHECK(gguf.floats(name.first) == stored(checkpoint, name.second));
  }
  for (const std::string layer : {"0", "1"}) {
    const auto q = stored(checkpoint, "model.layers." + layer + ".self_attn.q_proj.weight");
    const auto k = stored(checkpoint, "model.layers." + layer + ".self_attn.k_proj.weight");
    const auto ours = scores(q, k, false);
    const auto theirs =
        scores(gguf.floats("blk." + layer + ".attn_q.weight"), gguf.floats("blk." + layer + ".attn_k.weight"), true);
    double difference = 0.0, largest = 0.0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
      difference = std::max(difference, std::abs(ours[i] - theirs[i]));
      largest = std::max(largest, std::abs(ours[i]));
    }
    CHECK(difference <= 1e-12 * largest);
    CHECK(std::abs(ours[200] - scores(q, k, true)[200]) > 1e-3 * largest);  // without reordering it would not be so
  }
}

TEST_CASE("models that rotate columns side by side are as llama.cpp wants them; biases go along") {
  const TemporaryFolder folder;
  TransformerConfig config = export_llama;
  config.positions = PositionKind::rope_interleaved;
  config.tie_head = config.qkv_bias = config.attention_out_bias = config.feed_forward_bias = true;
  write_checkpoint<Llama>(folder / "model.safetensors", config);
  const io::ModelFile file(folder / "model.safetensors");
  io::export_gguf(file, pieces(), folder / "m.gguf", {.dtype = io::file_dtype<bf16>});
  const ParsedGguf gguf(folder / "m.gguf");
  CHECK(!gguf.tensors.contains("output.weight"));  // tied
  CHECK(gguf.keys.at("general.file_type") == "4:32");
  CHECK(!gguf.keys.contains("general.name"));
  CHECK(gguf.floats("blk.0.attn_q.bias") == stored(file.reader().file(), "model.layers.0.self_attn.q_proj.bias"));
  CHECK(gguf.floats("blk.0.ffn_gate.bias") == stored(file.reader().file(), "model.layers.0.mlp.gate_proj.bias"));
  const auto& matrix = gguf.tensors.at("blk.0.attn_q.weight");
  CHECK(matrix.type == 30);
  const auto expected = stored(file.reader().file(), "model.layers.0.self_attn.q_proj.weight");
  REQUIRE(matrix.bytes.size() == 2 * expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    bf16 value;
    std::memcpy(&value, matrix.bytes.data() + 2 * i, 2);
    CHECK(static_cast<float>(value) == static_cast<float>(bf16(expected[i])));
  }

  config.positions = PositionKind::rope_half;  // then biases of queries and keys are reordered with their rows
  write_checkpoint<Llama>(folder / "half.safetensors", config);
  const io::ModelFile half_file(folder / "half.safetensors");
  io::export_gguf(half_file, pieces(), folder / "half.gguf", {.dtype = io::file_dtype<half>});
  const ParsedGguf half_gguf(folder / "half.gguf");
  CHECK(half_gguf.keys.at("general.file_type") == "4:1");
  CHECK(half_gguf.tensors.at("blk.0.attn_q.weight").type == 1);
  CHECK(half_gguf.tensors.at("blk.0.attn_norm.weight").type == 0);
  const auto bias = stored(half_file.reader().file(), "model.layers.0.self_attn.q_proj.bias");
  const auto reordered = half_gguf.floats("blk.0.attn_q.bias");
  CHECK(reordered[0] == bias[0]);
  CHECK(reordered[1] == bias[8]);
  CHECK(reordered[16 + 2] == bias[16 + 1]);
  CHECK(half_gguf.floats("blk.0.attn_v.bias") ==
        stored(half_file.reader().file(), "model.layers.0.self_attn.v_proj.bias"));
}

TEST_CASE("what GGUF's llama does not have is refused by its name, and what is there stays") {
  const TemporaryFolder folder;
  const auto error = [&](const std::function<void(TransformerConfig&)>& change) {
    TransformerConfig config = export_llama;
    change(config);
    return error_of<ArgumentError>([&] { storylm::detail::check_gguf(config.resolved()); });
  };
  CHECK(error([](auto&) {}).empty());
  CHECK(contains(error([](auto& c) { c.norm = NormKind::layer_norm; }), "norm is \"layer_norm\", but GGUF's llama"));
  CHECK(contains(error([](auto& c) { c.feed_forward = FeedForwardKind::relu; }), "feed_forward is \"relu\""));
  CHECK(contains(error([](auto& c) { c.sliding_window = 64; }), "sliding_window is 64"));
  CHECK(error([](auto& c) { c.sliding_window = c.max_len; }).empty());
  CHECK(contains(error([](auto& c) { c.pre_norm = false; }), "pre_norm is false"));
  CHECK(contains(error([](auto& c) { c.positions = PositionKind::learned; }), "positions is \"learned\""));
  CHECK(contains(error([](auto& c) { c.scale_embedding = true; }), "scale_embedding is true"));
  CHECK(contains(error([](auto& c) { c.head_bias = true; }), "head_bias is true"));

  write_checkpoint<Llama>(folder / "model.safetensors", export_llama);
  const io::ModelFile file(folder / "model.safetensors");
  io::SentencePieceModel tokenizer = pieces();
  const auto refused = [&](const fs::path& path) {
    return error_of<ArgumentError>([&] { io::export_gguf(file, tokenizer, path); });
  };
  write_bytes(folder / "there", "kept");
  CHECK(contains(refused(folder / "there"), "is there already"));
  CHECK(read_bytes(folder / "there") == "kept");
  tokenizer.pieces.pop_back();
  CHECK(contains(refused(folder / "new"), "the tokenizer has 289 pieces, the model 290"));
  tokenizer.model = io::PieceModel::unigram;
  CHECK(contains(refused(folder / "new"), "llama.cpp's llama tokenizer is BPE, this one is unigram"));
  CHECK(!fs::exists(folder / "new"));
  CHECK(contains(error_of<ArgumentError>([] { static_cast<void>(io::gguf_name("model.layers.7")); }), "of no layer"));
  CHECK(contains(error_of<ArgumentError>([] { static_cast<void>(io::gguf_name("other")); }), "no name for other"));
}
