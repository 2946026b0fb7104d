// SPDX-License-Identifier: MIT
// The switch saves what the calling convention says a function keeps, and nothing else: a few nanoseconds.
#include "fibers.hpp"

#include <cstdint>
#include <new>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#if defined(__ELF__) && (defined(__x86_64__) || defined(__aarch64__))
#define STORYLM_EMULATOR_SWITCH 1
#else
#include <ucontext.h>
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STORYLM_EMULATOR_ADDRESS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define STORYLM_EMULATOR_ADDRESS 1
#endif
#if defined(STORYLM_EMULATOR_ADDRESS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(STORYLM_EMULATOR_SWITCH)
extern "C" void storylm_emulator_switch(void** save, void* load);
#if defined(__x86_64__)
asm(R"(
.pushsection .text
.globl storylm_emulator_switch
.hidden storylm_emulator_switch
.type storylm_emulator_switch, @function
storylm_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size storylm_emulator_switch, .-storylm_emulator_switch
.popsection
)");
#else
asm(R"(
.pushsection .text
.globl storylm_emulator_switch
.hidden storylm_emulator_switch
.type storylm_emulator_switch, %function
storylm_emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size storylm_emulator_switch, .-storylm_emulator_switch
.popsection
)");
#endif
#endif

namespace emulator {

namespace {

constexpr std::size_t stack_bytes = std::size_t{256} << 10U;

std::vector<Fiber*>& free_fibers() {
  static auto* const fibers = new std::vector<Fiber*>;  // for ever
  return *fibers;
}

Fiber* new_fiber() {
  static std::size_t made = 0;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const memory =
      ::mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  static_cast<void>(::mprotect(memory, page, PROT_NONE));  // overflow is a fault, not another fiber's trouble
  auto* const fiber = new Fiber;
  fiber->stack = static_cast<unsigned char*>(memory) + page;
  // Tops at different distances from a page's end: else all fibers would fight for the same lines of the cache.
  fiber->stack_bytes = stack_bytes - (made++ % 61) * 192;
#if !defined(STORYLM_EMULATOR_SWITCH)
  fiber->context = new ucontext_t;
#endif
  return fiber;
}

}  // namespace

Fiber* make_fiber(void (*entry)()) {
  Fiber* fiber = nullptr;
  if (auto& fibers = free_fibers(); fibers.empty()) {
    fiber = new_fiber();
  } else {
    fiber = fibers.back();
    fibers.pop_back();
  }
#if defined(STORYLM_EMULATOR_SWITCH)
  auto top = reinterpret_cast<std::uintptr_t>(fiber->stack + fiber->stack_bytes) & ~std::uintptr_t{15};
#if defined(__x86_64__)
  auto* const slots = reinterpret_cast<void**>(top) - 8;  // six registers, where to return to, the return address there
  for (int i = 0; i < 8; ++i) slots[i] = nullptr;
  slots[6] = reinterpret_cast<void*>(entry);
#else
  auto* const slots = reinterpret_cast<void**>(top) - 20;
  for (int i = 0; i < 20; ++i) slots[i] = nullptr;
  slots[11] = reinterpret_cast<void*>(entry);  // x30
#endif
  fiber->stack_pointer = slots;
#else
  auto* const context = static_cast<ucontext_t*>(fiber->context);
  ::getcontext(context);
  context->uc_stack.ss_sp = fiber->stack;
  context->uc_stack.ss_size = fiber->stack_bytes;
  context->uc_link = nullptr;
  ::makecontext(context, entry, 0);
#endif
  return fiber;
}

// Where the frames of a fiber's first function and of the switch lie.
[[maybe_unused]] constexpr std::size_t first_frames = 4096;

void recycle(Fiber* fiber, [[maybe_unused]] bool ended) {
#if defined(STORYLM_EMULATOR_ADDRESS)
  // Functions that never return leave the guards about their variables.
  const std::size_t bytes = ended ? first_frames : fiber->stack_bytes;
  __asan_unpoison_memory_region(fiber->stack + fiber->stack_bytes - bytes, bytes);
  fiber->fake_stack = nullptr;
#endif
  free_fibers().push_back(fiber);
}

void begin_fiber([[maybe_unused]] Fiber& from) {
#if defined(STORYLM_EMULATOR_ADDRESS)
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (from.stack == nullptr) {  // the thread's own
    from.stack = static_cast<unsigned char*>(const_cast<void*>(bottom));
    from.stack_bytes = bytes;
  }
#endif
}

void switch_fiber(Fiber& from, Fiber& to, [[maybe_unused]] bool last) {
#if defined(STORYLM_EMULATOR_ADDRESS)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(STORYLM_EMULATOR_SWITCH)
  storylm_emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
  if (from.context == nullptr) from.context = new ucontext_t;
  ::swapcontext(static_cast<ucontext_t*>(from.context), static_cast<ucontext_t*>(to.context));
#endif
#if defined(STORYLM_EMULATOR_ADDRESS)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void poison([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(STORYLM_EMULATOR_ADDRESS)
  __asan_poison_memory_region(memory, bytes);
#endif
}
void unpoison([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(STORYLM_EMULATOR_ADDRESS)
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace emulator
