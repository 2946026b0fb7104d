// SPDX-License-Identifier: MIT
/// @file
/// @brief A model as programs are given it: a checkpoint that train_stories wrote, or a Hugging Face folder.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

#include <storylm/core/error.hpp>
#include <storylm/core/precision.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/generate/generator.hpp>
#include <storylm/io/hugging_face.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/text/added_tokens.hpp>
#include <storylm/text/any_tokenizer.hpp>
#include <storylm/text/byte_level_bpe.hpp>
#include <storylm/text/hugging_face_tokenizer.hpp>
#include <storylm/text/sentencepiece.hpp>

namespace program {

/// "14.5 GB".
inline std::string gigabytes(double bytes) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(1) << bytes / 1e9 << " GB";
  return text.str();
}

/// Bytes of memory that there are for a program: the machine's, or fewer where its control group says so.
inline double memory_of_machine() {
  double bytes = static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
  for (const char* limit : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    double value = 0.0;
    if (std::ifstream file(limit); file >> value && value > 0.0) bytes = std::min(bytes, value);
  }
  return bytes;
}

/// What a model needs in memory, to be compared with what there is before anything is allocated.
struct MemoryNeeds {
  double weights = 0.0;       ///< number of them
  std::string dtype;          ///< of each, as --dtype has it
  double weight_bytes = 4.0;  ///< of each
  double more = 0.0;          ///< bytes beside them, such as keys and values of stories
  std::string what;           ///< those are, and which flags make them fewer; empty where there are none
};

/// @throws storylm::ArgumentError with the numbers and the flags that help, when there is less than is needed
inline void expects_memory(const MemoryNeeds& needs, double available = memory_of_machine()) {
  const double weights = needs.weights * needs.weight_bytes;
  std::ostringstream count;
  count << std::fixed << std::setprecision(2) << needs.weights / 1e9;
  std::string text = "in " + needs.dtype + " its " + count.str() + " billion weights take " + gigabytes(weights);
  if (!needs.what.empty()) text += ", and " + gigabytes(needs.more) + " more " + needs.what;
  const double in_16_bits = 2.0 * needs.weights + (needs.weight_bytes > 2.0 ? 0.5 : 1.0) * needs.more;
  const bool helps = needs.weight_bytes > 2.0 && in_16_bits <= available;
  storylm::expects<storylm::ArgumentError>(
      weights + needs.more <= available, "program", "the model does not fit into memory: ", text,
      ", but this machine has ", gigabytes(available),
      helps ? "; with --dtype bfloat16 it takes " + gigabytes(in_16_bits) : std::string());
}

/// Added tokens that control a model and are no text.
inline std::vector<storylm::AddedToken> special_tokens(const storylm::AnyTokenizer& tokenizer) {
  std::vector<storylm::AddedToken> tokens;
  const auto look_at = [&](const auto* with_added) {
    if (with_added == nullptr) return;
    for (const storylm::AddedToken& token : with_added->added_tokens())
      if (token.special) tokens.push_back(token);
  };
  look_at(tokenizer.get_if<storylm::WithAddedTokens<storylm::ByteLevelBpe>>());
  look_at(tokenizer.get_if<storylm::WithAddedTokens<storylm::SentencePieceTokenizer>>());
  return tokens;
}

/// Special tokens with which chat models end what they say. Configs do not always name them as EOS.
inline std::vector<storylm::token_t> ends_of_turns(const storylm::AnyTokenizer& tokenizer) {
  constexpr std::array<std::string_view, 4> texts{"<|end_of_turn|>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>"};
  std::vector<storylm::token_t> ids;
  for (const storylm::AddedToken& token : special_tokens(tokenizer))
    if (std::find(texts.begin(), texts.end(), token.text) != texts.end()) ids.push_back(token.id);
  return ids;
}

/// A checkpoint or a folder, whichever the path is.
class ModelSource {
 public:
  /// @param path a checkpoint, a Hugging Face folder, or the folder of a run, which stands for its best checkpoint
  /// @throws storylm::FormatError, storylm::IoError as io::ModelFile and io::HuggingFaceFolder, and in words when a
  /// folder holds no model, or the file is a part of one that does
  explicit ModelSource(const std::filesystem::path& path) : path_(path) {
    using storylm::FormatError;
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored)) {
      const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
      const bool weights = path.extension() == ".safetensors" && path.filename().string().starts_with("model");
      const bool part = weights || path.extension() == ".json" || path.extension() == ".bin";
      storylm::expects<FormatError>(!part || !storylm::io::is_hugging_face_folder(parent), "model", path,
                                    " is a part of a Hugging Face folder: give the folder, ", parent);
      checkpoint_ = std::make_unique<storylm::io::ModelFile>(path);
    } else if (storylm::io::is_hugging_face_folder(path)) {
      folder_ = std::make_unique<storylm::io::HuggingFaceFolder>(path);
    } else {
      path_ = path / "checkpoint_best.safetensors";
      const bool begun = std::filesystem::exists(path / "checkpoint_last.safetensors", ignored);
      storylm::expects<FormatError>(
          std::filesystem::exists(path_, ignored), "model", path,
          begun ? " is a run without checkpoint_best.safetensors, as it has not validated yet: give its "
                  "checkpoint_last.safetensors"
                : " is neither a Hugging Face folder, for it has no config.json, nor a run of train_stories, for it "
                  "has no checkpoint_best.safetensors");
      checkpoint_ = std::make_unique<storylm::io::ModelFile>(path_);
    }
  }

  /// The checkpoint or the folder.
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// True for a Hugging Face folder.
  [[nodiscard]] bool is_folder() const noexcept { return folder_ != nullptr; }
  /// Null for a folder.
  [[nodiscard]] const storylm::io::ModelFile* checkpoint() const noexcept { return checkpoint_.get(); }
  /// Null for a checkpoint.
  [[nodiscard]] const storylm::io::HuggingFaceFolder* folder() const noexcept { return folder_.get(); }

  /// The shape.
  [[nodiscard]] const storylm::TransformerConfig& config() const noexcept {
    return folder_ ? folder_->config() : checkpoint_->config();
  }
  /// Stored options; initialisation is none.
  [[nodiscard]] const storylm::TransformerOptions& options() const noexcept {
    return folder_ ? folder_->options() : checkpoint_->options();
  }
  /// Sets every parameter: all of them, or none when it throws. @throws storylm::FormatError
  template <class Stack>
  void load_into(Stack& model) const {
    folder_ ? folder_->load_into(model) : checkpoint_->load_into(model);
  }

  /// Compares what a stack of this model in P and `more` bytes need with what the machine has; on a GPU, memory is not
  /// the machine's, and says so itself.
  /// @param what the further bytes are for, and the flags that make them fewer
  /// @throws storylm::ArgumentError
  template <class P, storylm::Device D>
  void expects_memory(double more = 0.0, std::string what = {}) const {
    using Weight = storylm::weight_t<P>;
    if constexpr (D::host_memory) {
      program::expects_memory({.weights = static_cast<double>(storylm::parameter_count(config())),
                               .dtype = std::same_as<Weight, storylm::half>   ? "float16"
                                        : std::same_as<Weight, storylm::bf16> ? "bfloat16"
                                                                              : "float32",
                               .weight_bytes = sizeof(Weight),
                               .more = more,
                               .what = std::move(what)});
    }
  }

  /// The tokenizer in the file or folder `given`; unless one is given, in the model's folder, or beside the checkpoint.
  /// @param flag the program's that names another file or folder; empty: it has none
  /// @throws storylm::FormatError when it is not the model's, saying what was expected and what was found
  [[nodiscard]] storylm::LoadedTokenizer tokenizer(const std::filesystem::path& given = {},
                                                   std::string_view flag = "--tokenizer-path") const {
    using storylm::ArgumentError, storylm::FormatError, storylm::expects;
    constexpr std::string_view op = "tokenizer";
    std::filesystem::path path = given;
    if (path.empty()) {
      path = is_folder() ? path_ : path_.parent_path() / "bpe.model";
      expects<ArgumentError>(std::filesystem::exists(path), op, "there is no ", path,
                             " beside the checkpoint: ", flag.empty() ? "put it there" : "say where it is with ", flag);
    }
    storylm::LoadedTokenizer loaded = storylm::load_tokenizer(path);
    const storylm::index_t found = loaded.tokenizer.vocab_size();
    if (checkpoint_) {
      const std::string hash = storylm::detail::hash_text(loaded.tokenizer.hash());
      const std::string expected = checkpoint_->tokenizer_hash().value_or(hash);
      expects<FormatError>(hash == expected, op, path_, " was trained with the tokenizer of hash ", expected,
                           ", but that of ", path, " is ", hash);
      expects<FormatError>(found == config().vocab_size, op, path_, " has ", config().vocab_size, " tokens, but ", path,
                           " has ", found);
    }
    // Folders pad their vocabularies, to multiples of 64 and the like.
    expects<FormatError>(found <= config().vocab_size, op, path_, " has ", config().vocab_size, " tokens, but ", path,
                         " has ", found);
    return loaded;
  }

  /// How stories are written with this model and its tokenizer. They end by every id that the folder or the tokenizer
  /// calls an end, and where a chat model's turn ends; UNK, BOS, PAD, other special tokens and ids without a token are
  /// never drawn.
  [[nodiscard]] storylm::GenerateOptions generate_options(const storylm::AnyTokenizer& tokenizer,
                                                          const storylm::SamplerOptions& sampler) const {
    using storylm::index_t, storylm::token_t;
    storylm::GenerateOptions options{.sampler = sampler, .eos = tokenizer.eos(), .further_ends = {}, .banned = {}};
    const auto known = [this](token_t id) { return id >= 0 && id < config().vocab_size; };
    const auto add_end = [&](token_t id) {
      if (known(id) && !options.ends(id)) options.further_ends.push_back(id);
    };
    std::vector<token_t> others{tokenizer.unk(), tokenizer.bos(), tokenizer.pad()};
    if (folder_) {
      for (const token_t id : folder_->generation().eos) add_end(id);
      for (const token_t id : folder_->description().eos) add_end(id);
      for (const token_t id : ends_of_turns(tokenizer)) add_end(id);
      for (const auto& id : {folder_->generation().bos, folder_->generation().pad, folder_->description().bos,
                             folder_->description().pad})
        others.push_back(id.value_or(-1));
    }
    for (const storylm::AddedToken& token : special_tokens(tokenizer)) others.push_back(token.id);
    for (auto id = static_cast<token_t>(tokenizer.vocab_size()); id < config().vocab_size; ++id) others.push_back(id);
    std::vector<bool> there(static_cast<std::size_t>(config().vocab_size));  // an id each: vocabularies can be large
    for (const token_t id : others) {
      if (!known(id) || options.ends(id) || there[static_cast<std::size_t>(id)]) continue;
      there[static_cast<std::size_t>(id)] = true;
      options.banned.push_back(id);
    }
    return options;
  }

 private:
  std::filesystem::path path_;
  std::unique_ptr<storylm::io::ModelFile> checkpoint_;
  std::unique_ptr<storylm::io::HuggingFaceFolder> folder_;
};

}  // namespace program
