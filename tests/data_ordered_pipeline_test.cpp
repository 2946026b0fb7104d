// SPDX-License-Identifier: MIT
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/data/ordered_pipeline.hpp>

using namespace storylm::detail;

namespace {

struct Unit {
  int number = -1;
  int square = -1;
  std::size_t size = 1;
  [[nodiscard]] std::size_t bytes() const { return size; }
};

/// Later units are often ready first.
void dawdle(int number) { std::this_thread::sleep_for(std::chrono::microseconds((number * 7919) % 300)); }

constexpr int thread_counts[] = {1, 2, 5};

}  // namespace

TEST_CASE("what goes in comes out in order, whatever the number of threads") {
  for (const int threads : thread_counts) {
    CAPTURE(threads);
    int next = 0;
    std::vector<int> out;
    std::atomic<int> sources = 0;
    std::atomic<int> sinks = 0;
    std::atomic<bool> alone = true;
    std::atomic<std::size_t> largest_thread = 0;
    OrderedPipeline<Unit>(threads).run(
        [&](Unit& unit) {
          alone = alone && ++sources == 1;
          unit = {next, -1, 1};
          --sources;
          return next++ < 300;
        },
        [&](Unit& unit, std::size_t thread) {
          if (thread > largest_thread) largest_thread = thread;
          dawdle(unit.number);
          unit.square = unit.number * unit.number;
        },
        [&](Unit& unit) {
          alone = alone && ++sinks == 1;
          out.push_back(unit.square);
          --sinks;
          return true;
        });
    REQUIRE(out.size() == 300);
    for (int i = 0; i < 300; ++i) CHECK(out[static_cast<std::size_t>(i)] == i * i);
    CHECK(alone);  // never two sources or two sinks at once
    CHECK(largest_thread < static_cast<std::size_t>(threads));
    CHECK(next == 301);  // the end is asked for once
  }
}

TEST_CASE("no more than 2 * threads + 1 units are under way, and no more bytes than allowed") {
  for (const std::size_t unit_bytes : {std::size_t{1}, std::size_t{40}}) {
    for (const int threads : thread_counts) {
      CAPTURE(threads);
      CAPTURE(unit_bytes);
      int in = 0;
      std::atomic<int> out = 0;
      int most = 0;
      OrderedPipeline<Unit>(threads, 100)
          .run(
              [&](Unit& unit) {
                unit = {in, -1, unit_bytes};
                most = std::max(most, ++in - out);
                return in <= 200;
              },
              [&](Unit& unit, std::size_t) { dawdle(unit.number); },
              [&](Unit&) {
                std::this_thread::sleep_for(std::chrono::microseconds(50));  // a slow disk
                ++out;
                return true;
              });
      CHECK(out == 200);
      CHECK(most <= 2 * threads + 1);
      if (unit_bytes == 40) CHECK(most <= 3);  // 40 and 80 are less than 100: one more may be read
    }
  }
}

TEST_CASE("units larger than what is allowed together go through one by one") {
  int in = 0;
  std::vector<int> out;
  OrderedPipeline<Unit>(3, 10).run(
      [&](Unit& unit) {
        return unit = {in, -1, 1000}, in++ < 20;
      },
      [](Unit&, std::size_t) {}, [&](Unit& unit) { return out.push_back(unit.number), true; });
  CHECK(out.size() == 20);
  CHECK(std::is_sorted(out.begin(), out.end()));
}

TEST_CASE("the first failure in order is thrown, when all before it has come out") {
  enum Where { source, work, sink };
  for (const int threads : thread_counts) {
    for (const Where where : {source, work, sink}) {
      for (const int at : {0, 1, 17}) {
        CAPTURE(threads);
        CAPTURE(where);
        CAPTURE(at);
        int in = 0;
        std::vector<int> out;
        const auto fail = [&](Where here, int number) {
          // What comes later fails earlier: only the order of the stream may count.
          if (here == where && number >= at) throw std::runtime_error(std::to_string(number));
        };
        std::string message;
        try {
          OrderedPipeline<Unit>(threads).run(
              [&](Unit& unit) {
                fail(source, in);
                unit = {in, -1, 1};
                return in++ < 1000;
              },
              [&](Unit& unit, std::size_t) {
                if (unit.number == at) std::this_thread::sleep_for(std::chrono::milliseconds(2));
                fail(work, unit.number);
              },
              [&](Unit& unit) {
                fail(sink, unit.number);
                out.push_back(unit.number);
                return true;
              });
        } catch (const std::runtime_error& error) {
          message = error.what();
        }
        CHECK(message == std::to_string(at));
        REQUIRE(out.size() == static_cast<std::size_t>(at));
        for (int i = 0; i < at; ++i) CHECK(out[static_cast<std::size_t>(i)] == i);
        CHECK(in <= at + 2 * threads + 2);  // and reading ends soon
      }
    }
  }
}

TEST_CASE("the sink can end it, and a failure behind that end is none") {
  for (const int threads : thread_counts) {
    CAPTURE(threads);
    int in = 0;
    std::vector<int> out;
    OrderedPipeline<Unit>(threads).run(
        [&](Unit& unit) {
          return unit = {in, -1, 1}, in++ < 1'000'000;
        },
        [](Unit& unit, std::size_t) {
          if (unit.number > 10) throw std::runtime_error("too far");
        },
        [&](Unit& unit) { return out.push_back(unit.number), unit.number < 10; });
    CHECK(out.size() == 11);
    CHECK(in < 11 + 2 * threads + 2);
  }
}

TEST_CASE("an empty stream, and two streams through one pipeline") {
  OrderedPipeline<Unit> pipeline(4);
  int out = 0;
  const auto run = [&](int count) {
    int in = 0;
    pipeline.run([&](Unit&) { return in++ < count; }, [](Unit&, std::size_t) {}, [&](Unit&) { return ++out, true; });
  };
  run(0);
  CHECK(out == 0);
  run(7);
  run(9);
  CHECK(out == 16);
}
