// SPDX-License-Identifier: MIT
// Sampler settings, stories token by token as they come, and the same story alone and in a batch.
// Run time: a second.
// expected last line: story 5 alone and among eight is the same: yes
#include <iostream>

#include <storylm/storylm.hpp>

using namespace storylm;

void print(const char* title, const std::vector<GeneratedStory>& stories) {
  std::cout << title << '\n';
  for (const GeneratedStory& story : stories) {
    for (const token_t id : std::span(story.ids).subspan(1)) std::cout << static_cast<char>('a' + id - 4);
    std::cout << (story.ended ? ".\n" : "...\n");
  }
}

int main() {
  // An untrained model writes nonsense, but it writes it reproducibly. Ids 4 to 29 are letters.
  constexpr TransformerConfig config = {.vocab_size = 30, .d_model = 64, .n_layers = 2, .n_heads = 2, .max_len = 24};
  const TransformerLM<config> model(Cpu{}, {.seed = 3}, nn::Gradients::no);
  Generator generator(model, 8);  // eight stories at a time

  std::vector<GenerateRequest> requests;
  for (std::uint32_t story = 0; story < 8; ++story) requests.push_back({.prompt = {1, 18, 17}, .story = story});
  const auto two = std::span(requests).first(2);
  print("greedy", generator.generate(two, {.sampler = {.temperature = 0.0}}));
  print("the two most probable, T = 0.5", generator.generate(two, {.sampler = {.temperature = 0.5, .top_k = 2}}));
  print("top-p 0.9", generator.generate(two, {.sampler = {.top_p = 0.9}}));
  print("min-p 0.1, no repetitions liked",
        generator.generate(two, {.sampler = {.min_p = 0.1, .repetition_penalty = 1.3}}));

  // A callback sees each token when it is drawn; returning false stops.
  std::cout << "streamed:";
  int letters = 0;
  generator.generate(std::span(requests).first(1), {}, [&letters](const GeneratedToken& token) {
    if (token.token >= 4) std::cout << ' ' << static_cast<char>('a' + token.token - 4) << std::flush;
    return ++letters < 10;
  });
  std::cout << '\n';

  // A draw depends on seed, story and position: not on who else is written, nor on how many at a time.
  const GenerateOptions options = {.sampler = {.seed = 42}};
  const auto eight = generator.generate(requests, options);
  Generator small(model, 1);
  const auto alone = small.generate(std::span(requests).subspan(5, 1), options);
  std::cout << "story 5 alone and among eight is the same: " << (alone[0].ids == eight[5].ids ? "yes" : "no") << '\n';
}
