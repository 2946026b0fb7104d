// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief tokenizer.json, vocab.json with merges.txt, and the configs beside them: what is accepted gives ids for any
/// text, and the text again.
#include <string>
#include <string_view>
#include <vector>

#include <storylm/io/tokenizer_files.hpp>
#include <storylm/text/byte_level_bpe.hpp>

#include "fuzz.hpp"

namespace storylm::fuzz {

namespace {

void check(const io::ByteLevelBpeFile& file, std::string_view named) {
  static_cast<void>(refusal(
      [&] {
        const ByteLevelBpe tokenizer(file.pairs, file.options);
        for (const std::string_view text : {"", "ab  abab\n", "it's 12 \xC3\xA4\xF0\x9F\x98\x80\xFF\x80", " a"}) {
          const std::vector<token_t> tokens = tokenizer.encode(text);
          for (const token_t token : tokens)
            must(token >= 0 && token < tokenizer.vocab_size(), "a token beyond the vocabulary");
          const std::string back = tokenizer.decode(tokens);
          must(back == text || back == ' ' + std::string(text), "another text comes back", back);
        }
      },
      named));
}

}  // namespace

/// The first byte says which files the rest is.
void run(std::string_view input) {
  if (input.empty()) return;
  const char kind = input.front();
  input.remove_prefix(1);
  if (kind == 'j') {
    const std::filesystem::path path = folder().write("tokenizer.json", input);
    static_cast<void>(
        refusal([&] { check(io::byte_level_bpe_of(io::read_tokenizer_json(path)), path.string()); }, path.string()));
  } else if (kind == 'c') {
    const std::size_t cut = std::min(input.find('\0'), input.size());
    static_cast<void>(folder().write("tokenizer_config.json", input.substr(0, cut)));
    static_cast<void>(folder().write("special_tokens_map.json", input.substr(0, cut)));
    static_cast<void>(folder().write("added_tokens.json", input.substr(std::min(cut + 1, input.size()))));
    static_cast<void>(
        refusal([&] { static_cast<void>(io::read_tokenizer_config(folder().path())); }, folder().path().string()));
  } else {
    const std::size_t cut = std::min(input.find('\0'), input.size());
    const auto vocab = folder().write("vocab.json", input.substr(0, cut));
    const auto merges = folder().write("merges.txt", input.substr(std::min(cut + 1, input.size())));
    static_cast<void>(refusal([&] { check(io::read_vocab_and_merges(vocab, merges), folder().path().string()); },
                              folder().path().string()));
  }
}

void seeds(Seeds& made) {
  std::string vocabulary = "{";
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    detail::append_utf8(token, detail::byte_alphabet()[static_cast<std::size_t>(byte)]);
    if (token == "\"" || token == "\\") token.insert(0, "\\");
    vocabulary += (byte == 0 ? "\"" : ",\"") + token + "\":" + std::to_string(byte);
  }
  vocabulary += ",\"ab\":256,\"abab\":257,\"\u0120ab\":258,\"<|endoftext|>\":259}";
  made.add("v" + vocabulary + '\0' + "#version: 0.2\na b\nab ab\n\u0120 ab\n");
  const std::string parts = R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true},)"
                            R"("post_processor":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"},"normalizer":null,)"
                            R"("added_tokens":[{"id":259,"content":"<|endoftext|>","special":true}],)";
  made.add("j{\"version\":\"1.0\"," + parts + R"("model":{"type":"BPE","vocab":)" + vocabulary +
           R"(,"merges":["a b",["ab","ab"]]}})");
  made.add(
      R"(j{"version":"1.0","decoder":{"type":"Sequence","decoders":[{"type":"Metaspace"}]},"model":{"type":"BPE"}})");
  std::string config = R"(c{"bos_token":"<s>","eos_token":{"content":"</s>"},"unk_token":null,"add_bos_token":true,)";
  config += R"("additional_special_tokens":["<x>"],"added_tokens_decoder":{"1":{"content":"<s>","lstrip":false}}})";
  made.add((config += '\0') + R"({"<y>": 5})");
  json_words(made);
  made.words({"#version: 0.2", "\"merges\"", "\"vocab\"", "\"ByteLevel\"", "\"Sequence\"", "\"add_prefix_space\"",
              "\"ignore_merges\"", "\"TemplateProcessing\"", "\"content\"", "\xC4\xA0", "\"\":256", ":-1", ":70000"});
}

}  // namespace storylm::fuzz
