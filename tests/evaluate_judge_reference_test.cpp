// SPDX-License-Identifier: MIT
// LINK: io
/// @file
/// @brief Judges of every family against transformers: the perplexity guide's loop and PyTorch's log softmax, over the
/// stories, contexts and strides of tests/reference/make_perplexity.py.
#include <cmath>
#include <filesystem>
#include <string>
#include <type_traits>
#include <vector>

#include <storylm/evaluate/judge.hpp>
#include <storylm/io/hugging_face.hpp>
#include <storylm/io/json.hpp>

#include "support.hpp"

using namespace storylm;

namespace {

const std::filesystem::path folder = std::filesystem::path(STORYLM_TEST_DIR) / "reference";

void close(double value, double expected) {
  CAPTURE(value);
  CAPTURE(expected);
  CHECK(std::abs(value - expected) <= 1e-5 * std::abs(expected));
}

const boost::json::value& get(const boost::json::value& value, const char* key) { return value.as_object().at(key); }

template <class Stack>
void compare(const Stack& stack, const boost::json::object& model) {
  std::vector<evaluate::JudgeStory> stories;
  for (const auto& ids : model.at("stories").as_array())
    stories.push_back({.ids = boost::json::value_to<std::vector<token_t>>(ids)});
  index_t cases = 0;
  for (const boost::json::value& entry : model.at("cases").as_array()) {
    evaluate::JudgePolicy policy{.context = get(entry, "context").to_number<index_t>(),
                                 .stride = get(entry, "stride").to_number<index_t>(),
                                 .bos = get(entry, "bos").as_bool(),
                                 .bos_id = model.at("bos_id").to_number<token_t>()};
    CAPTURE(policy.context);
    CAPTURE(policy.stride);
    CAPTURE(policy.bos);
    const boost::json::value& plain = get(entry, "plain");
    const auto scores = evaluate::Judge(stack, policy).score(stories);
    REQUIRE(get(plain, "tokens").as_array().size() == scores.size());
    for (std::size_t i = 0; i < scores.size(); ++i) {
      CAPTURE(i);
      CHECK(scores[i].tokens == get(plain, "tokens").as_array()[i].to_number<index_t>());
      close(scores[i].nll, get(plain, "nll").as_array()[i].to_number<double>());
    }
    const evaluate::Summary summary = evaluate::summarise(scores);
    close(summary.mean_nll, get(plain, "mean_nll").to_number<double>());
    close(summary.perplexity, get(plain, "perplexity").to_number<double>());
    close(summary.perplexity_over_stories, get(plain, "perplexity_over_stories").to_number<double>());
    close(summary.standard_error, get(plain, "standard_error").to_number<double>());

    policy.denominator = evaluate::Denominator::transformers_guide;
    const boost::json::value& guide = get(entry, "guide");
    const evaluate::Summary guided = evaluate::summarise(evaluate::Judge(stack, policy).score(stories));
    CHECK(guided.tokens == get(guide, "n_tokens").to_number<index_t>());
    close(guided.mean_nll * static_cast<double>(guided.tokens), get(guide, "nll_sum").to_number<double>());
    close(guided.perplexity, get(guide, "perplexity").to_number<double>());
    ++cases;
  }
  CHECK(cases >= 10);
}

template <template <class, class> class Norm, template <class, class> class FeedForward>
void check_family(const std::string& name) {
  CAPTURE(name);
  using Stack = nn::TransformerStack<float, Cpu, Norm, FeedForward>;
  const io::HuggingFaceFolder source(folder / "hugging_face" / name);
  Stack stack(source.config(), Cpu{}, source.options(), nn::Gradients::no);
  source.load_into(stack);
  const auto document = io::read_json(folder / "perplexity.json");
  compare(stack, document.as_object().at("models").as_object().at(name).as_object());
}

TEST_CASE("perplexities are those of transformers, with every policy, for every family") {
  check_family<nn::LayerNorm, nn::Mlp>("gpt2");
  check_family<nn::RmsNorm, nn::SwiGlu>("llama");
  check_family<nn::RmsNorm, nn::SwiGlu>("mistral");
}

}  // namespace
