// SPDX-License-Identifier: MIT
/// @file
/// @brief The scratch stack: alignment, nesting, growth, and no allocation once it has grown.
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/core/random.hpp>
#include <storylm/core/scratch.hpp>

using namespace storylm;

namespace {

/// Counts, and fails when told to.
struct CountingMemory {
  static inline long allocated = 0;
  static inline long deallocated = 0;
  static inline bool exhausted = false;
  static void* allocate(std::size_t bytes) {
    if (exhausted) throw std::bad_alloc();
    ++allocated;
    return ::operator new (bytes, std::align_val_t{64});
  }
  static void deallocate(void* p) noexcept {
    ++deallocated;
    ::operator delete (p, std::align_val_t{64});
  }
  static void reset() {
    allocated = deallocated = 0;
    exhausted = false;
  }
};

using Stack = ScratchStack<CountingMemory>;

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 64 == 0; }

/// Frames within frames that take pieces of random size and fill them; a piece that changes before its frame ends was
/// given to two owners.
long overlaps(Stack& stack, RandomStream& random, int depth) {
  struct Piece {
    std::uint32_t* data;
    index_t size;
    std::uint32_t mark;
  };
  long wrong = 0;
  Stack::Frame frame(stack);
  std::vector<Piece> pieces;
  const std::uint64_t actions = 1 + random.below(6);
  for (std::uint64_t action = 0; action < actions; ++action) {
    if (depth > 0 && random.below(2) == 0) {
      wrong += overlaps(stack, random, depth - 1);
    } else {
      const auto size = static_cast<index_t>(random.below(random.below(8) == 0 ? 100000 : 300));
      pieces.push_back({frame.take<std::uint32_t>(size), size, static_cast<std::uint32_t>(random.bits())});
      wrong += aligned(pieces.back().data) ? 0 : 1;
      for (index_t i = 0; i < size; ++i) pieces.back().data[i] = pieces.back().mark;
    }
  }
  for (const Piece& piece : pieces) {
    for (index_t i = 0; i < piece.size; ++i) wrong += piece.data[i] == piece.mark ? 0 : 1;
  }
  return wrong;
}

}  // namespace

TEST_CASE("ScratchStack: pieces are aligned, apart, and survive the stack's growth") {
  CountingMemory::reset();
  {
    Stack stack;
    RandomStream random(1);
    long wrong = 0;
    for (int i = 0; i < 300; ++i) wrong += overlaps(stack, random, 4);
    CHECK(wrong == 0);
    CHECK(stack.capacity() > 0);
  }
  CHECK(CountingMemory::allocated > 0);
  CHECK(CountingMemory::allocated == CountingMemory::deallocated);
}

TEST_CASE("ScratchStack: after the first step nothing is allocated") {
  CountingMemory::reset();
  Stack stack;
  const auto step = [&] {  // grows by several blocks in the first run: what is taken doubles each time
    Stack::Frame outer(stack);
    static_cast<void>(outer.take<double>(1000));
    for (index_t size = 20000; size < 400000; size *= 2) {
      Stack::Frame inner(stack);
      static_cast<void>(inner.take<float>(size));
      static_cast<void>(inner.take<char>(1));
    }
    static_cast<void>(outer.take<std::uint8_t>(300000));
  };
  step();
  const long first = CountingMemory::allocated;
  CHECK(first > 1);
  const std::size_t capacity = stack.capacity();
  for (int i = 0; i < 5; ++i) step();
  CHECK(CountingMemory::allocated == first);
  CHECK(stack.capacity() == capacity);
}

TEST_CASE("ScratchStack: an inner frame gives back, the outer keeps") {
  CountingMemory::reset();
  Stack stack;
  Stack::Frame outer(stack);
  auto* kept = outer.take<int>(16);
  kept[0] = 42;
  void* inside = nullptr;
  {
    Stack::Frame inner(stack);
    inside = inner.take<int>(16);
    CHECK(inside != static_cast<void*>(kept));
  }
  CHECK(static_cast<void*>(outer.take<int>(16)) == inside);  // the same memory again
  CHECK(kept[0] == 42);
}

TEST_CASE("ScratchStack: pieces follow each other in units of 64 bytes; an empty piece is a piece") {
  Stack stack;
  Stack::Frame frame(stack);
  auto* a = frame.take<std::byte>(1);
  auto* b = frame.take<std::byte>(64);
  auto* c = frame.take<std::byte>(65);
  auto* d = frame.take<std::byte>(0);
  CHECK(b - a == 64);
  CHECK(c - b == 64);
  CHECK(d - c == 128);
  CHECK(aligned(a));
}

TEST_CASE("ScratchStack: a failed allocation leaves everything as it was") {
  CountingMemory::reset();
  {
    Stack stack;
    Stack::Frame outer(stack);
    auto* kept = outer.take<int>(16);
    kept[15] = 7;
    {
      Stack::Frame inner(stack);
      CountingMemory::exhausted = true;
      CHECK_THROWS_AS(static_cast<void>(inner.take<double>(1000000)), std::bad_alloc);
      CountingMemory::exhausted = false;
      auto* more = inner.take<double>(1000000);
      more[999999] = 1.0;
    }
    CHECK(kept[15] == 7);
    CountingMemory::exhausted = true;  // one block cannot be had when the frame ends: the next frame grows anew
  }
  CountingMemory::exhausted = false;
  CHECK(CountingMemory::allocated == CountingMemory::deallocated);
  Stack stack;
  {
    Stack::Frame frame(stack);
    static_cast<void>(frame.take<char>(1 << 17));
    static_cast<void>(frame.take<char>(1 << 18));
    CountingMemory::exhausted = true;
  }
  CountingMemory::exhausted = false;
  CHECK(stack.capacity() == 0);
  Stack::Frame frame(stack);
  CHECK(aligned(frame.take<char>(1 << 18)));
}
