// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/data/loader.hpp>

#include "allocation_counter.hpp"
#include "io_support.hpp"

using namespace storylm;
using namespace storylm::test;

namespace {

using Stories = std::vector<std::vector<token_t>>;

/// Story i is made of 0 to 29 times the token 10 + i, so that a sequence tells which it is.
Stories numbered_stories(std::size_t count) {
  Stories stories;
  for (std::size_t i = 0; i < count; ++i) stories.emplace_back(1 + i * 7 % 29, static_cast<token_t>(10 + i));
  return stories;
}

std::set<std::uint32_t> members(StoryLoader<TokenLists>& loader) {
  std::set<std::uint32_t> seen;
  const index_t epoch = loader.epoch();
  while (loader.epoch() == epoch) {
    for (const std::uint32_t story : loader.next().stories()) CHECK(seen.insert(story).second);
  }
  return seen;
}

/// Everything a step sees.
struct Seen {
  std::vector<token_t> ids;
  std::vector<token_t> targets;
  std::vector<std::uint32_t> ordinals;
  std::vector<std::uint32_t> stories;
  bool operator==(const Seen&) const = default;
};

Seen seen(const StepBatch& batch) {
  Seen all;
  for (const Packed<Cpu>& micro : batch) {
    const PackedView view = micro.view();
    all.ids.insert(all.ids.end(), view.ids, view.ids + view.tokens);
    all.targets.insert(all.targets.end(), view.targets, view.targets + view.tokens);
    all.ordinals.insert(all.ordinals.end(), view.ordinals, view.ordinals + view.sequences);
  }
  all.stories.assign(batch.stories().begin(), batch.stories().end());
  return all;
}

/// Saves and loads a state by its names.
using State = std::map<std::string, std::uint64_t>;
template <class Loader>
State save(const Loader& loader) {
  State state;
  Loader::visit_state(loader, [&](std::string_view name, const auto& value) {
    state[std::string(name)] = static_cast<std::uint64_t>(value);
  });
  return state;
}
template <class Loader>
void load(Loader& loader, const State& state) {
  Loader::visit_state(loader, [&](std::string_view name, auto& value) {
    value = static_cast<std::remove_reference_t<decltype(value)>>(state.at(std::string(name)));
  });
}

}  // namespace

TEST_CASE("items are BOS, at most max_len - 2 tokens, EOS; targets are the inputs moved by one") {
  StoryLoader loader(TokenLists({{5, 6, 7}, {}, {20, 21, 22, 23, 24, 25}}),
                     {.batch_size = 3, .max_len = 6, .validation_fraction = 0.0});
  const StepBatch& batch = loader.next();
  REQUIRE(batch.size() == 1);
  const PackedView view = batch[0].view();
  const std::vector<std::vector<token_t>> inputs{{1, 5, 6, 7}, {1}, {1, 20, 21, 22, 23}};
  const std::vector<std::vector<token_t>> targets{{5, 6, 7, 2}, {2}, {20, 21, 22, 23, 2}};
  REQUIRE(view.sequences == 3);
  for (index_t s = 0; s < 3; ++s) {
    const std::uint32_t story = batch.stories()[static_cast<std::size_t>(s)];
    CHECK(view.ordinals[s] == s);
    const std::vector<token_t> got(view.ids + view.offsets[s], view.ids + view.offsets[s + 1]);
    CHECK(got == inputs[story]);
    const std::vector<token_t> expected(view.targets + view.offsets[s], view.targets + view.offsets[s + 1]);
    CHECK(expected == targets[story]);
    for (std::int32_t i = view.offsets[s]; i < view.offsets[s + 1]; ++i)
      CHECK(view.positions[i] == i - view.offsets[s]);
  }
  CHECK(batch.targets() == 10);
}

TEST_CASE("training and validation together are all stories, and share none") {
  for (const std::size_t count : {2U, 3U, 10U, 199U, 200U, 1000U}) {
    CAPTURE(count);
    const TokenLists source(numbered_stories(count));
    StoryLoader train(source, {.batch_size = 7});
    StoryLoader validation(source, {.batch_size = 7}, Split::validation);
    const auto wanted = std::max<index_t>(1, std::llround(0.005 * static_cast<double>(count)));
    CHECK(validation.size() == wanted);
    CHECK(train.size() + validation.size() == static_cast<index_t>(count));
    std::set<std::uint32_t> all = members(train);
    CHECK(static_cast<index_t>(all.size()) == train.size());
    for (const std::uint32_t story : members(validation)) CHECK(all.insert(story).second);
    CHECK(all.size() == count);
  }
}

TEST_CASE("the split depends on the seed, and on nothing else") {
  const TokenLists source(numbered_stories(500));
  const auto validation = [&](std::uint64_t seed, index_t batch_size) {
    StoryLoader loader(source, {.batch_size = batch_size, .validation_fraction = 0.1, .seed = seed}, Split::validation);
    return members(loader);
  };
  CHECK(validation(1, 4).size() == 50);
  CHECK(validation(1, 4) == validation(1, 50));
  CHECK(validation(1, 4) != validation(2, 4));
}

TEST_CASE("a single story trains and leaves nothing to validate on; no story is an error") {
  const TokenLists one(Stories{{5}});
  StoryLoader train(one);
  CHECK(train.size() == 1);
  CHECK(train.next().targets() == 2);
  StoryLoader validation(one, {.epochs = 1}, Split::validation);
  CHECK(validation.size() == 0);
  CHECK(validation.begin() == validation.end());
  CHECK(contains(error_of<ArgumentError>([&] { validation.next(); }), "the validation split is empty"));
  CHECK(contains(error_of<ArgumentError>([] { StoryLoader loader(TokenLists(Stories{})); }), "no stories to train on"));
}

TEST_CASE("every epoch has its own order; the last batch of each is kept, however short") {
  StoryLoader loader(TokenLists(numbered_stories(100)), {.batch_size = 30, .validation_fraction = 0.0, .epochs = 3});
  CHECK(loader.batches_per_epoch() == 4);
  std::vector<std::vector<std::uint32_t>> orders(3);
  std::vector<std::size_t> sizes;
  for (const StepBatch& batch : loader) {
    auto& order = orders.at(static_cast<std::size_t>(batch.epoch()));
    order.insert(order.end(), batch.stories().begin(), batch.stories().end());
    sizes.push_back(batch.stories().size());
  }
  CHECK(sizes == std::vector<std::size_t>{30, 30, 30, 10, 30, 30, 30, 10, 30, 30, 30, 10});
  CHECK(loader.epoch() == 3);
  CHECK(orders[0] != orders[1]);
  CHECK(orders[1] != orders[2]);
  for (auto& order : orders) {
    CHECK(!std::is_sorted(order.begin(), order.end()));
    std::sort(order.begin(), order.end());
    for (std::uint32_t i = 0; i < 100; ++i) CHECK(order.at(i) == i);
  }
}

TEST_CASE("an epoch shuffled batch by batch is in the order of one shuffle, wherever it is entered") {
  const std::size_t count = 97;
  const TokenLists source(numbered_stories(count));
  for (const index_t batch_size : {1, 8, 96, 97, 200}) {
    StoryLoader loader(source, {.batch_size = batch_size, .validation_fraction = 0.0, .seed = 5, .epochs = 3});
    std::vector<std::uint32_t> seen_order;
    for (const StepBatch& batch : loader) {
      seen_order.insert(seen_order.end(), batch.stories().begin(), batch.stories().end());
    }
    std::vector<std::uint32_t> expected;
    for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<std::uint32_t> order(count);
      for (std::uint32_t i = 0; i < count; ++i) order[i] = i;
      RandomStream random(5, epoch, 0x73687566U);  // "shuf"
      for (std::size_t i = 0; i + 1 < count; ++i) {
        std::swap(order[i], order[i + static_cast<std::size_t>(random.below(count - i))]);
      }
      expected.insert(expected.end(), order.begin(), order.end());
    }
    CHECK(seen_order == expected);

    State state = save(loader);
    for (const std::size_t at : {count + 50, 2 * count + 3, count + 7}) {  // forwards, and back again
      state["epoch"] = at / count;
      state["index"] = at % count;
      load(loader, state);
      CHECK(loader.next().stories()[0] == expected[at]);
    }
  }
}

TEST_CASE("a shuffle moves every story about equally often to every place") {
  StoryLoader loader(TokenLists(numbered_stories(5)), {.batch_size = 5, .validation_fraction = 0.0});
  int counts[5][5] = {};
  for (int epoch = 0; epoch < 4000; ++epoch) {
    const StepBatch& batch = loader.next();
    for (std::size_t place = 0; place < 5; ++place) ++counts[batch.stories()[place]][place];
  }
  for (const auto& story : counts) {
    for (const int count : story) CHECK(std::abs(count - 800) < 130);  // five standard deviations of 25
  }
}

TEST_CASE("validation goes through in the order of the source, each time again after rewind()") {
  StoryLoader loader(TokenLists(numbered_stories(300)), {.batch_size = 8, .validation_fraction = 0.1, .epochs = 1},
                     Split::validation);
  std::vector<std::uint32_t> first;
  for (const StepBatch& batch : loader) first.insert(first.end(), batch.stories().begin(), batch.stories().end());
  CHECK(first.size() == 30);
  CHECK(std::is_sorted(first.begin(), first.end()));
  loader.rewind();
  std::vector<std::uint32_t> second;
  for (const StepBatch& batch : loader) second.insert(second.end(), batch.stories().begin(), batch.stories().end());
  CHECK(first == second);
}

TEST_CASE("however a step is cut into micro-batches, it is the same step") {
  const TokenLists source(numbered_stories(211));
  const LoaderOptions whole{.batch_size = 50, .max_len = 25};
  for (const Capacity capacity :
       {Capacity{24, 0, 0}, Capacity{100, 0, 0}, Capacity{0, 1, 0}, Capacity{60, 3, 24}, Capacity{1000, 7, 100}}) {
    CAPTURE(capacity.tokens);
    CAPTURE(capacity.sequences);
    LoaderOptions cut = whole;
    cut.capacity = capacity;
    StoryLoader one(source, whole);
    StoryLoader many(source, cut);
    for (int step = 0; step < 12; ++step) {
      const StepBatch& expected = one.next();
      const StepBatch& batch = many.next();
      CHECK(expected.size() == 1);
      CHECK(seen(batch) == seen(expected));
      CHECK(batch.targets() == expected.targets());
      index_t targets = 0;
      for (const Packed<Cpu>& micro : batch) {
        CHECK(micro.sequences() > 0);
        CHECK(micro.tokens() <= many.capacity().tokens);
        CHECK(micro.sequences() <= many.capacity().sequences);
        targets += micro.target_count();
      }
      CHECK(targets == batch.targets());
    }
  }
}

TEST_CASE("from a saved cursor the very same batches follow") {
  const TokenLists source(numbered_stories(103));
  const LoaderOptions options{.batch_size = 20, .max_len = 20};
  for (int steps = 0; steps < 14; ++steps) {  // over the ends of two epochs
    CAPTURE(steps);
    StoryLoader first(source, options);
    for (int i = 0; i < steps; ++i) first.next();
    const State state = save(first);
    StoryLoader second(source, options);
    for (int i = 0; i < 3; ++i) second.next();  // whatever it did before
    load(second, state);
    for (int i = 0; i < 13; ++i) {
      const Seen expected = seen(first.next());
      CHECK(seen(second.next()) == expected);
      CHECK(first.epoch() == second.epoch());
      CHECK(first.index() == second.index());
    }
  }
}

TEST_CASE("a cursor of other data, another seed or another split is refused") {
  const LoaderOptions options{.batch_size = 4};
  StoryLoader original(TokenLists(numbered_stories(40)), options);
  original.next();
  const State state = save(original);
  const auto refused = [&](auto loader) {
    load(loader, state);
    return error_of<ArgumentError>([&] { loader.next(); });
  };
  CHECK(refused(StoryLoader(TokenLists(numbered_stories(40)), options)).empty());
  CHECK(contains(refused(StoryLoader(TokenLists(numbered_stories(41)), options)), "belongs to other data"));
  CHECK(contains(refused(StoryLoader(TokenLists(numbered_stories(40)), {.batch_size = 4, .seed = 2})), "another seed"));
  CHECK(contains(refused(StoryLoader(TokenLists(numbered_stories(40)), options, Split::validation)), "another split"));
  State damaged = state;
  damaged["index"] = 40;
  load(original, damaged);
  CHECK_THROWS_AS(original.next(), ArgumentError);
}

TEST_CASE("after construction nothing is allocated") {
  const TemporaryFolder folder;
  {
    TokenFileWriter writer(folder / "t", {.vocab_size = 6000});
    for (const auto& story : numbered_stories(3000)) writer.add(story);
    writer.publish();
  }
  StoryLoader loader(TokenFile(folder / "t"), {.batch_size = 64, .max_len = 20, .capacity = {200, 0, 0}});
  const long before = allocations;
  index_t targets = 0;
  for (int i = 0; i < 200; ++i) targets += loader.next().targets();  // four epochs
  CHECK(allocations == before);
  CHECK(targets > 0);
}

namespace {

/// Notes what is to be read ahead, and what is read.
struct Watched {
  TokenLists lists;
  std::vector<std::pair<index_t, index_t>>* prefetched;
  [[nodiscard]] index_t size() const { return lists.size(); }
  [[nodiscard]] std::uint64_t fingerprint() const { return lists.fingerprint(); }
  [[nodiscard]] index_t length(index_t story) const { return lists.length(story); }
  void read(index_t story, std::span<token_t> out) const { lists.read(story, out); }
  void prefetch(index_t story, index_t count) const { prefetched->emplace_back(story, count); }
};

}  // namespace

TEST_CASE("the next batch is read ahead, over the ends of epochs too; what comes does not depend on it") {
  const TokenLists source(numbered_stories(103));
  for (const Split split : {Split::train, Split::validation}) {
    const LoaderOptions options{.batch_size = 20, .max_len = 20, .validation_fraction = 0.4, .epochs = 3};
    std::vector<std::pair<index_t, index_t>> prefetched;
    StoryLoader watched(Watched{source, &prefetched}, options, split);
    StoryLoader plain(source, options, split);
    std::vector<std::uint32_t> announced;
    index_t batches = 0;
    for (const StepBatch& batch : watched) {
      CHECK(seen(batch) == seen(plain.next()));
      if (batches++ > 0) CHECK(announced == std::vector(batch.stories().begin(), batch.stories().end()));
      announced.clear();
      for (const auto& [story, count] : prefetched) {
        CHECK(count == std::min<index_t>(source.length(story), 18));  // max_len without BOS and EOS
        announced.push_back(static_cast<std::uint32_t>(story));
      }
      prefetched.clear();
    }
    CHECK(batches == 3 * watched.batches_per_epoch());
    CHECK(announced.empty());  // nothing follows
  }
}

TEST_CASE("what has been read ahead is no part of the state") {
  const TemporaryFolder folder;
  {
    TokenFileWriter writer(folder / "t", {.vocab_size = 6000});
    for (const auto& story : numbered_stories(103)) writer.add(story);
    writer.publish();
  }
  const TokenFile file(folder / "t");
  const LoaderOptions options{.batch_size = 20, .max_len = 20};
  for (int steps = 0; steps < 14; ++steps) {
    CAPTURE(steps);
    StoryLoader first(file, options);
    for (int i = 0; i < steps; ++i) first.next();
    StoryLoader second(file, options);
    load(second, save(first));
    for (int i = 0; i < 13; ++i) {
      const Seen expected = seen(first.next());
      CHECK(seen(second.next()) == expected);
      CHECK(save(second) == save(first));
    }
  }
}

TEST_CASE("options out of range are refused with their value") {
  const auto refused = [](LoaderOptions options) {
    return error_of<ArgumentError>([&] { StoryLoader loader(TokenLists(Stories{{1}, {2}}), options); });
  };
  CHECK(contains(refused({.batch_size = 0}), "batch_size must be positive: 0"));
  CHECK(contains(refused({.max_len = 1}), "max_len must be at least 2"));
  CHECK(contains(refused({.validation_fraction = 1.0}), "validation_fraction must be in [0, 1): 1"));
  CHECK(contains(refused({.validation_fraction = -0.1}), "validation_fraction"));
  CHECK(contains(refused({.max_len = 100, .capacity = {98, 0, 0}}), "cannot hold a story of 99 tokens"));
  CHECK(contains(refused({.max_len = 100, .capacity = {0, 0, 98}}), "cannot hold a story of 99 tokens"));
}
