// SPDX-License-Identifier: MIT
/// @file
/// @brief Stacks and the switch between them.
#pragma once

#include <cstddef>

namespace emulator {

/// A stack on which functions run that can be left and gone on with.
struct Fiber {
  void* stack_pointer = nullptr;   // of one that was left
  void* context = nullptr;         // a ucontext_t, where there is no switch of our own
  unsigned char* stack = nullptr;  // lowest address that may be used
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's, of one that was left
};

/// A fiber that will begin with entry() when it is first switched to; its stack is one that recycle() gave back, or
/// new.
Fiber* make_fiber(void (*entry)());
/// The first that the function of a fiber does; `from` was left for it.
void begin_fiber(Fiber& from);
/// Of a fiber that will not be gone on with; `ended` if all its functions but the first have returned.
void recycle(Fiber* fiber, bool ended);
/// Leaves `from` (the fiber, or thread, that runs) and goes on with `to`; `last` if `from` will not be gone on with.
void switch_fiber(Fiber& from, Fiber& to, bool last = false);

/// Memory that nobody may touch, or may again, as far as AddressSanitizer looks on.
void poison(void* memory, std::size_t bytes);
void unpoison(void* memory, std::size_t bytes);

}  // namespace emulator
