// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Hugging Face folders: names and dtypes of published files, shards, every refusal; all or nothing.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/io/hugging_face.hpp>
#include <storylm/io/safetensors.hpp>
#include <storylm/nn/transformer_stack.hpp>

#include "io_model_support.hpp"
#include "io_support.hpp"

using namespace storylm;
using test::contains;
using test::error_of;
using test::TemporaryFolder;
using test::weights_of;
namespace fs = std::filesystem;

namespace {

const fs::path folders = fs::path(STORYLM_TEST_DIR) / "reference" / "hugging_face";
using Gpt2 = nn::TransformerStack<float, Cpu, nn::LayerNorm, nn::Mlp>;
using Llama = nn::TransformerStack<float, Cpu, nn::RmsNorm, nn::SwiGlu>;
using Llama16 = nn::TransformerStack<bf16, Cpu, nn::RmsNorm, nn::SwiGlu>;
using Weights = std::map<std::string, std::vector<float>>;

template <class Stack>
Stack model_of(const io::HuggingFaceFolder& folder, nn::Gradients gradients = nn::Gradients::no) {
  return Stack(folder.config(), Cpu{}, folder.options(), gradients);
}
template <class Stack>
Weights loaded(const fs::path& path) {
  const io::HuggingFaceFolder folder(path);
  auto model = model_of<Stack>(folder);
  folder.load_into(model);
  return weights_of(model);
}
/// The message of a folder that cannot be opened or loaded, with FOLDER for its path; nothing may have changed.
template <class Stack, class E = FormatError>
std::string load_error(const fs::path& path) {
  std::string message = error_of<E>([&] {
    const io::HuggingFaceFolder folder(path);
    auto model = model_of<Stack>(folder);
    test::randomise(model, 1);
    const Weights before = weights_of(model);
    try {
      folder.load_into(model);
    } catch (...) {
      CHECK(weights_of(model) == before);
      throw;
    }
  });
  const auto at = message.find(path.string());
  return at == std::string::npos ? message : message.replace(at, path.string().size(), "FOLDER");
}

/// A reference folder, copied so that it can be changed.
struct Copy {
  explicit Copy(const std::string& name) {
    for (const auto& entry : fs::directory_iterator(folders / name)) fs::copy(entry.path(), path());
  }
  [[nodiscard]] const fs::path& path() const { return folder.path(); }
  /// Writes one file of tensors anew. `change(writer, tensor)` returns true when it has written the tensor, or left it
  /// out, itself.
  template <class F>
  void rewrite(F&& change, const std::string& file = "model.safetensors", bool checksums = false) const {
    const io::SafetensorsFile old(path() / file);
    io::SafetensorsWriter writer({.metadata = old.metadata(), .checksums = checksums});
    for (const io::StoredTensor& tensor : old.tensors())
      if (!change(writer, tensor)) add(writer, old, tensor, tensor.name);
    writer.save(path() / file);
  }
  static void add(io::SafetensorsWriter& writer, const io::SafetensorsFile& file, const io::StoredTensor& tensor,
                  const std::string& name) {
    Shape shape;
    for (const index_t extent : tensor.shape) shape.append(extent);
    const auto bytes = file.raw(tensor);
    writer.add(name, tensor.dtype, shape, [bytes](const io::SafetensorsWriter::Sink& sink) { sink(bytes); });
  }
  /// Replaces a text in a file, where it must be.
  void replace(const std::string& file, const std::string& from, const std::string& to) const {
    std::string text = test::read_bytes(path() / file);
    const auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    test::write_bytes(path() / file, text.replace(at, from.size(), to));
  }
  TemporaryFolder folder{};
};

/// Writes `write(writer)` in place of, or beside, the tensor of that name.
template <class F>
auto at_tensor(std::string name, bool beside, F write) {
  return [name = std::move(name), beside, write](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
    if (tensor.name != name) return false;
    write(writer);
    return !beside;
  };
}
auto without(std::string name) {
  return at_tensor(std::move(name), false, [](auto&) {});
}
const std::vector<float> numbers(20000, 7.0F);
template <class F>
auto with(const std::string& beside, std::string name, const Shape& shape, F&&) {
  using T = std::remove_cvref_t<F>;
  return at_tensor(beside, true, [name = std::move(name), shape](io::SafetensorsWriter& writer) {
    writer.add(name, io::file_dtype<T>, shape, [shape](const io::SafetensorsWriter::Sink& sink) {
      sink(std::as_bytes(std::span(numbers)).first(static_cast<std::size_t>(shape.size()) * sizeof(T)));
    });
  });
}

}  // namespace

TEST_CASE("a folder is one with a config.json") {
  CHECK(io::is_hugging_face_folder(folders / "gpt2"));
  CHECK(!io::is_hugging_face_folder(folders));
  CHECK(!io::is_hugging_face_folder(folders / "gpt2" / "config.json"));
  CHECK(!io::is_hugging_face_folder(folders / "nothing"));
}

TEST_CASE("GPT-2's names with and without transformers' prefix are the same model; masks are no weights") {
  const Weights weights = loaded<Gpt2>(folders / "gpt2");
  const Copy copy("gpt2");
  CHECK(io::SafetensorsFile(copy.path() / "model.safetensors").find("h.1.attn.masked_bias") != nullptr);
  {
    const io::SafetensorsFile old(copy.path() / "model.safetensors");
    io::SafetensorsWriter writer;
    for (const io::StoredTensor& tensor : old.tensors()) Copy::add(writer, old, tensor, "transformer." + tensor.name);
    writer.save(copy.path() / "new");
  }
  fs::rename(copy.path() / "new", copy.path() / "model.safetensors");
  CHECK(loaded<Gpt2>(copy.path()) == weights);
  // Conv1D: (in, out) in the file.
  const io::SafetensorsFile file(folders / "gpt2" / "model.safetensors");
  const auto stored = file.read<float>("h.1.mlp.c_fc.weight", {32, 64});
  const auto& ours = weights.at("blocks.1.feed_forward.up.weight");
  bool same = true;
  for (std::size_t in = 0; in < 32; ++in)
    for (std::size_t out = 0; out < 64; ++out) same = same && stored[in * 64 + out] == ours[out * 32 + in];
  CHECK(same);
}

TEST_CASE("only constants of layers that the model has are left aside, by their exact names") {
  for (const std::string name : {"h.2.attn.bias", "h.0.attn.bias2", "h.0.attn.masked", "h.x.attn.bias", "attn.bias",
                                 "h.0.crossattention.bias", "h.-1.attn.bias"}) {
    const Copy copy("gpt2");
    copy.rewrite(with("ln_f.bias", name, {1, 1}, float{}));
    CHECK(load_error<Gpt2>(copy.path()) ==
          "[model] FOLDER/model.safetensors: tensor " + name + " is not one of the model's");
  }
  const Copy copy("llama");
  copy.rewrite(with("model.norm.weight", "model.layers.1.self_attn.rotary_emb.inv_freq", {8}, float{}));
  copy.rewrite(with("model.norm.weight", "model.rotary_emb.inv_freq", {8}, float{}));
  CHECK(loaded<Llama>(copy.path()) == loaded<Llama>(folders / "llama"));
  copy.rewrite(with("model.norm.weight", "model.layers.2.self_attn.rotary_emb.inv_freq", {8}, float{}));
  CHECK(contains(load_error<Llama>(copy.path()), "model.layers.2.self_attn.rotary_emb.inv_freq is not one of"));
}

TEST_CASE("Llama's model without its head has names without prefix; tied, that is the whole model") {
  const Copy copy("llama");
  {
    const io::SafetensorsFile old(copy.path() / "model.safetensors");
    io::SafetensorsWriter writer;
    for (const io::StoredTensor& tensor : old.tensors())
      Copy::add(writer, old, tensor, tensor.name.substr(std::string("model.").size()));
    writer.save(copy.path() / "new");
  }
  fs::rename(copy.path() / "new", copy.path() / "model.safetensors");
  CHECK(loaded<Llama>(copy.path()) == loaded<Llama>(folders / "llama"));
}

TEST_CASE("a tied head may be stored as well, or instead, but not be another matrix") {
  const Weights weights = loaded<Gpt2>(folders / "gpt2");
  const Copy copy("gpt2");
  const io::SafetensorsFile original(folders / "gpt2" / "model.safetensors");
  const io::StoredTensor& embedding = original.at("wte.weight");
  const auto head = [&](auto& writer) { Copy::add(writer, original, embedding, "lm_head.weight"); };
  copy.rewrite(at_tensor("wte.weight", true, head));
  CHECK(loaded<Gpt2>(copy.path()) == weights);
  copy.rewrite(without("wte.weight"));
  CHECK(loaded<Gpt2>(copy.path()) == weights);
  copy.rewrite(without("lm_head.weight"));
  CHECK(contains(load_error<Gpt2>(copy.path()),
                 "the config asks for"));  // which a model without embedding is too small for

  const Copy other("gpt2");
  const std::string sentence =
      "[model] FOLDER/model.safetensors: tensor lm_head.weight is not wte.weight, but \"tie_word_embeddings\" is true";
  std::vector<float> values = original.read<float>("wte.weight", {512, 32});
  values.back() += 1.0F;
  other.rewrite(at_tensor("wte.weight", true, [&](auto& writer) {
    writer.template add<float>("lm_head.weight", {512, 32}, values);
  }));
  CHECK(load_error<Gpt2>(other.path()) == sentence);
  const Copy misshapen("gpt2");
  misshapen.rewrite(with("wte.weight", "lm_head.weight", {32, 512}, float{}));
  CHECK(load_error<Gpt2>(misshapen.path()) == sentence);

  other.replace("config.json", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
  const Weights untied = loaded<Gpt2>(other.path());
  CHECK(untied.at("head.weight") == values);
  CHECK(untied.at("embedding.weight") == weights.at("embedding.weight"));
}

TEST_CASE("tensors that are missing, further, misshapen or no numbers: named, and nothing changes") {
  const std::string start = "[model] FOLDER/model.safetensors: tensor ";
  const std::string last = "lm_head.weight";
  Copy copy("llama");
  copy.rewrite(without("model.layers.1.self_attn.k_proj.weight"));
  CHECK(load_error<Llama>(copy.path()) == start + "model.layers.1.self_attn.k_proj.weight is missing");
  copy.rewrite(with("model.norm.weight", "model.layers.1.self_attn.k_proj.weight", {48, 32}, half{}));
  CHECK(load_error<Llama>(copy.path()) ==
        start + "model.layers.1.self_attn.k_proj.weight is (48, 32), expected (32, 48)");
  copy.rewrite(without("model.layers.1.self_attn.k_proj.weight"));
  copy.rewrite(with("model.norm.weight", "model.layers.1.self_attn.k_proj.weight", {32, 48}, std::uint8_t{}));
  CHECK(load_error<Llama>(copy.path()) ==
        start + "model.layers.1.self_attn.k_proj.weight is U8, expected F32 or another float type");
  const Copy more("llama");
  more.rewrite(with("model.norm.weight", "score.weight", {2, 48}, half{}));
  CHECK(load_error<Llama>(more.path()) == start + "score.weight is not one of the model's");
  const Copy no_biases("llama");
  no_biases.replace("config.json", "\"mlp_bias\": true", "\"mlp_bias\": false");
  CHECK(contains(load_error<Llama>(no_biases.path()), "mlp.down_proj.bias is not one of the model's"));
}

TEST_CASE("a folder that lacks files, or has them in another format") {
  const TemporaryFolder empty;
  CHECK(contains(load_error<Llama, IoError>(empty.path()), "cannot open \"FOLDER/config.json\""));
  const Copy copy("llama");
  fs::rename(copy.path() / "model.safetensors", copy.path() / "pytorch_model.bin");
  CHECK(load_error<Llama, IoError>(copy.path()) ==
        "[safetensors] FOLDER has neither model.safetensors nor model.safetensors.index.json (other formats, such as "
        "pytorch_model.bin, are not read)");
  // A link to nothing, as a download that was cut off leaves it, is no absent file.
  fs::create_symlink("nowhere", copy.path() / "model.safetensors");
  CHECK(contains(load_error<Llama, IoError>(copy.path()), "cannot open \"FOLDER/model.safetensors\": No such file"));
  fs::rename(copy.path() / "model.safetensors", copy.path() / "model.safetensors.index.json");
  CHECK(contains(load_error<Llama, IoError>(copy.path()), "cannot open \"FOLDER/model.safetensors.index.json\""));
  fs::create_symlink("generation_config.json", copy.path() / "loop");
  fs::remove(copy.path() / "generation_config.json");
  fs::rename(copy.path() / "loop", copy.path() / "generation_config.json");
  CHECK(contains(load_error<Llama, IoError>(copy.path()), "cannot open \"FOLDER/generation_config.json\""));
  test::write_bytes(copy.path() / "config.json", "[]");
  CHECK(load_error<Llama>(copy.path()) ==
        "[json] FOLDER/config.json: the document is an array of 0, expected an object");
  test::write_bytes(copy.path() / "config.json", "{\"model_type\": \"llama\"");
  CHECK(contains(load_error<Llama>(copy.path()), "[json] FOLDER/config.json: line 1, byte 22"));
}

TEST_CASE("a small file that asks for much memory is refused before a model is made") {
  const auto refusal = [](const std::string& from, const std::string& to) {
    const Copy copy("gpt2");
    copy.replace("config.json", from, to);
    return error_of([&] { const io::HuggingFaceFolder folder(copy.path()); });
  };
  CHECK(contains(refusal("\"n_layer\": 2", "\"n_layer\": 4000000"), "the config asks for"));
  CHECK(contains(refusal("\"n_positions\": 320", "\"n_positions\": 4000000"), "the config asks for"));
  CHECK(contains(refusal("\"vocab_size\": 512", "\"vocab_size\": 4000000"), "the config asks for"));
  CHECK(contains(refusal("\"n_inner\": 64", "\"n_inner\": 4000000"), "the config asks for"));
}

TEST_CASE("a folder whose weights go with an adapter is refused by its name") {
  const Copy copy("llama");
  test::write_bytes(copy.path() / "adapter_config.json", R"({"peft_type": "LORA"})");
  CHECK(contains(load_error<Llama>(copy.path()), "FOLDER has adapter_config.json: adapters (LoRA and the like)"));
}

TEST_CASE("shards are one model; where they lie is the index's word") {
  const Weights weights = loaded<Llama>(folders / "mistral");
  CHECK(io::HuggingFaceFolder(folders / "mistral").weights().files().size() == 3);
  // The same in one file, which is taken first.
  const Copy copy("mistral");
  {
    const io::HuggingFaceFolder folder(folders / "mistral");
    io::SafetensorsWriter writer;
    for (const io::SafetensorsFile& file : folder.weights().files())
      for (const io::StoredTensor& tensor : file.tensors()) Copy::add(writer, file, tensor, tensor.name);
    writer.save(copy.path() / "model.safetensors");
  }
  fs::remove(copy.path() / "model.safetensors.index.json");
  CHECK(loaded<Llama>(copy.path()) == weights);
}

TEST_CASE("an index and shards that contradict each other are refused, and so are names that lead elsewhere") {
  const std::string index = "model.safetensors.index.json";
  const std::string first = "model-00001-of-00003.safetensors";
  const std::string second = "model-00002-of-00003.safetensors";
  const std::string start = "[safetensors] FOLDER/" + index + ": ";
  const auto refusal = [&](const std::string& from, const std::string& to) {
    const Copy copy("mistral");
    copy.replace(index, from, to);
    return load_error<Llama>(copy.path());
  };
  const std::string entry = "\"model.embed_tokens.weight\": \"";
  const std::string listed = [&] {
    const std::string text = test::read_bytes(folders / "mistral" / index);
    const auto at = text.find(entry);
    REQUIRE(at != std::string::npos);
    return text.substr(at, text.find('"', at + entry.size()) + 1 - at);
  }();
  const std::string wrong = listed.find(first) != std::string::npos ? second : first;
  CHECK(refusal(listed, entry + wrong + '"') ==
        start + "tensor model.embed_tokens.weight is said to be in " + wrong + ", which does not have it");
  for (const std::string name : {"../model.safetensors", "/model.safetensors", "a/b.safetensors", "a\\\\b.safetensors",
                                 "..", "", "pytorch_model.bin"})
    CHECK(contains(refusal(listed, entry + name + '"'), "expected the name of a .safetensors file in the same folder"));
  CHECK(refusal(listed, "\"model.embed_tokens.weight\": 3") ==
        start + "tensor model.embed_tokens.weight is said to be in 3, expected the name of a file");
  CHECK(refusal(listed, "\"other\": \"" + first + '"') ==
        start + "tensor other is said to be in " + first + ", which does not have it");
  CHECK(contains(refusal("\"weight_map\"", "\"weights\""), "\"weight_map\" is missing"));

  const Copy unlisted("mistral");
  const io::SafetensorsFile shard(unlisted.path() / first);
  unlisted.rewrite(with(shard.tensors()[0].name, "score.weight", {2}, bf16{}), first);
  CHECK(load_error<Llama>(unlisted.path()) == start + "tensor score.weight of " + first + " is not listed");
  const Copy twice("mistral");
  const std::string name = io::SafetensorsFile(twice.path() / second).tensors()[0].name;
  twice.rewrite(with(shard.tensors()[0].name, name, {2}, bf16{}), first);
  CHECK(load_error<Llama>(twice.path()) ==
        start + "tensor " + name + " is in " + first + ", but is said to be in " + (twice.path() / second).string());
  const Copy lacking("mistral");
  fs::remove(lacking.path() / second);
  CHECK(contains(load_error<Llama, IoError>(lacking.path()), "cannot open \"FOLDER/" + second + '"'));
}

TEST_CASE("damaged and hostile shards are refused with the shard's name") {
  const std::string shard = "model-00002-of-00003.safetensors";
  const std::string start = "[safetensors] FOLDER/" + shard + ": ";
  const auto refusal = [&](const std::string& bytes) {
    const Copy copy("mistral");
    test::write_bytes(copy.path() / shard, bytes);
    return load_error<Llama>(copy.path());
  };
  const std::string good = test::read_bytes(folders / "mistral" / shard);
  CHECK(refusal("") == start + "the file has 0 bytes, too few for the length of its header");
  CHECK(contains(refusal(good.substr(0, good.size() - 1)), start));
  CHECK(contains(refusal(good + "x"), start));
  CHECK(contains(refusal(test::little_endian(~std::uint64_t{0}) + good.substr(8)), start + "byte 0: "));
  CHECK(contains(refusal(test::with_length("[]")), start + "the header is an array"));
  CHECK(contains(refusal(test::with_length(
                     R"({"a": {"dtype": "BF16", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}})")),
                 start + "tensor a: shape "));

  const Copy checked("mistral");
  checked.rewrite([](auto&, auto&) { return false; }, shard, true);
  CHECK(loaded<Llama>(checked.path()) == loaded<Llama>(folders / "mistral"));
  const io::StoredTensor tensor = io::SafetensorsFile(checked.path() / shard).tensors()[0];
  test::poke(checked.path() / shard, tensor.begin, '\x55');
  CHECK(contains(load_error<Llama>(checked.path()), start + "tensor " + tensor.name + " is damaged"));
}

TEST_CASE("every dtype of file into every dtype of model: as it is, or rounded once") {
  for (const std::string name : {"mistral", "llama"}) {  // BF16, F16
    const io::HuggingFaceFolder folder(folders / name);
    const Weights weights = loaded<Llama>(folders / name);
    for (const auto gradients : {nn::Gradients::no, nn::Gradients::yes}) {
      auto model = model_of<Llama16>(folder, gradients);
      folder.load_into(model);
      nn::for_each_parameter(model, [&](const std::string& parameter, const auto& p) {
        CAPTURE(parameter);
        const auto& exact = weights.at(parameter);
        const bf16* const value = p.value().data;
        bool rounded = true;
        for (std::size_t i = 0; i < exact.size(); ++i) rounded = rounded && value[i] == bf16(exact[i]);
        CHECK(rounded);
        if (gradients == nn::Gradients::yes) CHECK(p.to_host() == exact);  // masters are not rounded
      });
    }
  }
  // F64, and values that do not lie aligned: the same numbers.
  const Copy copy("llama");
  copy.rewrite([&](io::SafetensorsWriter& writer, const io::StoredTensor& tensor) {
    Shape shape;
    for (const index_t extent : tensor.shape) shape.append(extent);
    const io::SafetensorsFile file(folders / "llama" / "model.safetensors");
    const auto values = file.read<double>(tensor.name, shape);
    writer.add(tensor.name, io::file_dtype<double>, shape,
               [values](const io::SafetensorsWriter::Sink& sink) { sink(std::as_bytes(std::span(values))); });
    return true;
  });
  CHECK(loaded<Llama>(copy.path()) == loaded<Llama>(folders / "llama"));
  // A number that has no place in the model's dtype is not made an infinity.
  const Copy large("llama");
  large.rewrite(at_tensor("model.norm.weight", false, [](io::SafetensorsWriter& writer) {
    static const std::vector<double> values(48, 1e300);  // until it is saved
    writer.add<double>("model.norm.weight", {48}, values);
  }));
  CHECK(contains(load_error<Llama>(large.path()),
                 "tensor model.norm.weight has 1e+300 at element 0, which is too large for F32"));
}

TEST_CASE("generation_config.json, and config.json in its place") {
  const Copy copy("mistral");
  test::write_bytes(copy.path() / "generation_config.json", R"({"eos_token_id": [5, 6], "temperature": 0.5})");
  CHECK(io::HuggingFaceFolder(copy.path()).generation().eos == std::vector<token_t>{5, 6});
  CHECK(io::HuggingFaceFolder(copy.path()).generation().temperature == 0.5);
  CHECK(io::HuggingFaceFolder(copy.path()).description().eos == std::vector<token_t>{2});
  fs::remove(copy.path() / "generation_config.json");
  copy.replace("config.json", "\"vocab_size\"", "\"top_k\": 7, \"vocab_size\"");
  CHECK(io::HuggingFaceFolder(copy.path()).generation().eos == std::vector<token_t>{2});
  CHECK(io::HuggingFaceFolder(copy.path()).generation().top_k == 7);
  test::write_bytes(copy.path() / "generation_config.json", R"({"eos_token_id": "end"})");
  CHECK(contains(error_of([&] { const io::HuggingFaceFolder folder(copy.path()); }),
                 "generation_config.json: \"eos_token_id\" is \"end\", expected an integer"));
}
