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
};

/// A fiber that will begin with entry() when it is first switched to; its stack is one that recycle() gave back, or
/// new.
Fiber* make_fiber(void (*entry)());
/// Of a fiber that will not be gone on with.
void recycle(Fiber* fiber);
/// Leaves `from` (the fiber, or thread, that runs) and goes on with `to`.
void switch_fiber(Fiber& from, Fiber& to);

}  // namespace emulator
