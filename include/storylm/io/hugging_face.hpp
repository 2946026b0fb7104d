// SPDX-License-Identifier: MIT
/// @file
/// @brief Models in Hugging Face folders: GPT-2, Llama and Mistral.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <storylm/io/hugging_face_config.hpp>
#include <storylm/io/hugging_face_shards.hpp>
#include <storylm/io/model_parts.hpp>

namespace storylm::detail {

/// What transformers puts before the names of a model without its head; files may leave it out.
[[nodiscard]] inline std::string_view base_prefix(io::NameFamily family) {
  return family == io::NameFamily::gpt2 ? "transformer." : "model.";
}

/// True for constants that older files carry: the causal mask of GPT-2 (h.0.attn.bias, h.0.attn.masked_bias), the
/// wavelengths of Llama (layers.0.self_attn.rotary_emb.inv_freq). Both follow from the config.
[[nodiscard]] inline bool is_old_buffer(std::string_view name, io::NameFamily family, int n_layers) {
  if (name.starts_with(base_prefix(family))) name.remove_prefix(base_prefix(family).size());
  const bool gpt2 = family == io::NameFamily::gpt2;
  if (!gpt2 && name == "rotary_emb.inv_freq") return true;
  const std::string_view layers = gpt2 ? "h." : "layers.";
  if (!name.starts_with(layers)) return false;
  name.remove_prefix(layers.size());
  int layer = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  if (error != std::errc() || layer < 0 || layer >= n_layers) return false;
  name.remove_prefix(static_cast<std::size_t>(end - name.data()));
  return gpt2 ? name == ".attn.bias" || name == ".attn.masked_bias" : name == ".self_attn.rotary_emb.inv_freq";
}

}  // namespace storylm::detail

namespace storylm::io {

/// True for a folder that has a config.json.
[[nodiscard]] inline bool is_hugging_face_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored) && std::filesystem::exists(path / "config.json", ignored);
}

/// A folder seen as a model, with the face of ModelFile: config.json, generation_config.json where there is one, and
/// the weights, memory-mapped, as F32, F16 or BF16.
///
/// Programs make a model of config() and options() by nn::with_stack_type and load into it. A compile-time
/// TransformerLM is compared with the folder field by field. Loading converts tensor by tensor and gives the file's
/// pages back as it goes; with Gradients::no, a model in the folder's dtype needs no more than its own size.
class HuggingFaceFolder {
 public:
  /// @throws FormatError when a file is not what its format says, or the config asks for what is not supported; IoError
  explicit HuggingFaceFolder(const std::filesystem::path& folder)
      : config_path_((folder / "config.json").string()),
        description_(read_config(folder, "config.json")),
        generation_(read_generation(folder)),
        weights_(folder) {
    std::error_code ignored;
    expects<FormatError>(!std::filesystem::exists(folder / "adapter_config.json", ignored), op, folder.string(),
                         " has adapter_config.json: adapters (LoRA and the like) are not applied; merge them first");
    detail::expect_enough_weights(config(), weights_.elements(), weights_.size(), weights_.path());
  }

  /// The shape, every derived field written out.
  [[nodiscard]] const TransformerConfig& config() const noexcept { return description_.model.config; }
  /// norm_eps and rope_theta; initialisation is none.
  [[nodiscard]] const TransformerOptions& options() const noexcept { return description_.model.options; }
  /// All that config.json says.
  [[nodiscard]] const HuggingFaceConfig& description() const noexcept { return description_; }
  /// What generation_config.json says, or what config.json says in its place.
  [[nodiscard]] const GenerationConfig& generation() const noexcept { return generation_; }
  /// The tensors.
  [[nodiscard]] const SafetensorsShards& weights() const noexcept { return weights_; }

  /// Sets every parameter: all of them, or none when it throws.
  /// @throws FormatError when the shapes or constants differ (naming field, expected and found), or a tensor is
  /// missing, damaged, misshapen, not of floating-point numbers, not the model's or has one too large for its dtype
  template <class Stack>
  void load_into(Stack& model) const {
    expect(model);
    std::size_t bytes = 0;
    detail::for_each_part(model, [&](const auto& p, const FileTensor& part) {
      bytes = std::max(bytes, detail::load_bytes(p, part, *find(part).tensor));
    });
    std::vector<std::byte> buffer(bytes);
    detail::for_each_part(model, [&](auto& p, const FileTensor& part) {
      const SafetensorsShards::Found found = find(part);
      detail::load_part(p, part, *found.file, *found.tensor, buffer);
    });
  }

  /// All that load_into() checks. @throws FormatError as load_into()
  template <class Stack>
  void expect(const Stack& model) const {
    detail::expect_description({model.shape(), model.options()}, description_.model, config_path_);
    std::set<const StoredTensor*> used;
    detail::for_each_part(model, [&](const auto& p, const FileTensor& part) {
      const SafetensorsShards::Found found = expect_tensor(part);
      detail::expect_range(p, *found.file, *found.tensor);
      used.insert(found.tensor);
    });
    if (config().tie_head) used.insert(expect_tied_head());
    for (const SafetensorsFile& file : weights_.files())
      for (const StoredTensor& tensor : file.tensors())
        expects<FormatError>(used.contains(&tensor) || detail::is_old_buffer(tensor.name, family(), config().n_layers),
                             op, file.path(), ": tensor ", shown_name(tensor.name), " is not one of the model's");
  }

 private:
  static constexpr std::string_view op = "model";
  static constexpr std::string_view head = "lm_head.weight";

  static HuggingFaceConfig read_config(const std::filesystem::path& folder, const char* name) {
    const std::string path = (folder / name).string();
    const boost::json::value document = read_json(path);
    return read_hugging_face_config(as_object(document, path), path);
  }
  [[nodiscard]] GenerationConfig read_generation(const std::filesystem::path& folder) const {
    const std::filesystem::path own = folder / "generation_config.json";
    std::error_code ignored;
    const auto kind = std::filesystem::symlink_status(own, ignored).type();  // a link to nothing is no absent file
    const std::string path = kind != std::filesystem::file_type::not_found ? own.string() : config_path_;
    const boost::json::value document = read_json(path);
    return read_generation_config(as_object(document, path), path, description_);
  }
  [[nodiscard]] NameFamily family() const { return name_family(config()); }

  /// By the name that transformers writes, or the same without what it puts before the names of a model without head.
  [[nodiscard]] SafetensorsShards::Found find(std::string_view name) const {
    if (const auto found = weights_.find(name)) return found;
    const std::string_view prefix = detail::base_prefix(family());
    return name.starts_with(prefix) ? weights_.find(name.substr(prefix.size())) : SafetensorsShards::Found{};
  }
  /// The same for what a parameter is made of. A tied embedding may be there as the head alone.
  [[nodiscard]] SafetensorsShards::Found find(const FileTensor& part) const {
    if (const auto found = find(std::string_view(part.name))) return found;
    return config().tie_head && part.name == embedding_name() ? weights_.find(head) : SafetensorsShards::Found{};
  }
  [[nodiscard]] std::string embedding_name() const {
    return file_tensors(family(), config(), "embedding.weight", Shape{1, 1})[0].name;
  }

  SafetensorsShards::Found expect_tensor(const FileTensor& part) const {
    const SafetensorsShards::Found found = find(part);
    expects<FormatError>(static_cast<bool>(found), op, weights_.path(), ": tensor ", shown_name(part.name),
                         " is missing");
    expects<FormatError>(found.tensor->has_shape(part.shape), op, found.file->path(), ": tensor ",
                         shown_name(found.tensor->name), " is ", found.tensor->shape_text(), ", expected ", part.shape);
    detail::expect_float(*found.file, *found.tensor);
    found.file->verify(*found.tensor);
    if (found.file->has_checksums()) found.file->release(*found.tensor, 0, found.tensor->bytes());
    return found;
  }

  /// A tied head that is stored too must be the embedding: where it is not, transformers 4 and 5 disagree about what
  /// the model is.
  [[nodiscard]] const StoredTensor* expect_tied_head() const {
    const SafetensorsShards::Found stored = weights_.find(head);
    const SafetensorsShards::Found embedding = find(std::string_view(embedding_name()));
    if (!stored || !embedding) return nullptr;
    const bool alike =
        stored.tensor->shape == embedding.tensor->shape && stored.tensor->dtype == embedding.tensor->dtype;
    bool equal = alike;
    for (std::size_t at = 0; equal && at < stored.tensor->bytes(); at += detail::load_piece) {
      const std::size_t bytes = std::min(detail::load_piece, stored.tensor->bytes() - at);
      equal = std::memcmp(stored.file->raw(*stored.tensor).data() + at,
                          embedding.file->raw(*embedding.tensor).data() + at, bytes) == 0;
      stored.file->release(*stored.tensor, at, bytes);
      embedding.file->release(*embedding.tensor, at, bytes);
    }
    expects<FormatError>(equal, op, stored.file->path(), ": tensor ", head, " is not ",
                         shown_name(embedding.tensor->name), ", but \"tie_word_embeddings\" is true");
    return stored.tensor;
  }

  std::string config_path_;
  HuggingFaceConfig description_;
  GenerationConfig generation_;
  SafetensorsShards weights_;
};

}  // namespace storylm::io
