// SPDX-License-Identifier: MIT
// Who touched what, and was there a barrier between? Kernels compiled with -fsanitize=thread call the functions at the
// end for every access to memory; ThreadSanitizer's runtime is not linked, these stand in for it.
//
// In a block, sync_block() orders everything and sync_warp() what lanes of one warp did; shuffles and votes order
// nothing, as in CUDA's memory model. So the last write of a byte, and the last reads of it by different threads and
// warps, with the number of barriers passed by then, tell every pair without one between. Blocks of a launch are not
// ordered at all. An asynchronous copy is a write that nobody may look at, or write over, until its thread has waited
// for it, and nobody else until a barrier after that.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine.hpp"

namespace emulator {
namespace {

// Near which the program's code lies.
const unsigned char* code_begin() { return reinterpret_cast<const unsigned char*>(&describe_function); }

// An access to a byte, or none when `epoch` is 0. There are four for every byte, so it is small.
struct Access {
  std::uint32_t epoch = 0;       // barriers of blocks so far, over all launches
  std::uint32_t warp_epoch = 0;  // barriers of the thread's warp in the block
  std::int32_t code = 0;         // where, from code_begin() on
  std::uint16_t thread = 0;
  bool atomic = false;
  bool copying = false;  // has not been waited for

  [[nodiscard]] const void* caller() const { return code_begin() + code; }
};
static_assert(sizeof(Access) == 16);

// Of two neighbouring bytes one speaks for both until somebody touches one of them alone.
struct Byte {
  Access write;
  Access read;            // the last one
  Access read_elsewhere;  // the last one by another warp, or block, than read's
  Access read_beside;     // the last one by another lane of read's warp
  bool split = false;     // of an even one: the next speaks for itself
};

// Calls f for the bytes that speak for [begin, end); `all` are indexed by address, and begin with an even one.
template <class Bytes, class F>
void for_bytes(Bytes& all, std::size_t begin, std::size_t end, F f) {
  while (begin < end) {
    Byte& even = all[begin & ~std::size_t{1}];
    const bool both = begin % 2 == 0 && begin + 1 < end;
    if (!even.split && !both) {
      all[begin | 1U] = even;
      even.split = true;
    }
    f(all[begin]);
    begin += both && !even.split ? 2 : 1;
  }
}

constexpr std::size_t page_bytes = 4096;
struct Page {
  std::array<Byte, page_bytes> bytes;
};
// A page of the program's memory, and what is known of it.
struct Known {
  std::uintptr_t number = 0;
  DeviceShare share = DeviceShare::none;
  Page* page = nullptr;
};

class Races final : public Watcher {
 public:
  Races() : shared_(shared_capacity) {}

  void launch_begins() override { launch_begin_ = ++epoch_; }
  void block_begins() override {
    block_begin_ = ++epoch_;
    warp_epochs_.fill(0);
  }
  void block_synchronized() override { ++epoch_; }
  void warp_synchronized(int warp) override { ++warp_epochs_[static_cast<std::size_t>(warp)]; }

  void copy_begins(unsigned char* to, const unsigned char* from, int thread, const void* caller) override {
    Access access = now(thread, caller);
    if (from != nullptr) touch_global(from, 16, access, false);
    access.copying = true;
    touch_shared(to, 16, access, true);
  }
  void copy_is_waited_for(unsigned char* to, int thread) override {
    const Access access = now(thread, code_begin());
    const auto begin = static_cast<std::size_t>(to - regions.shared);
    for_bytes(shared_, begin, begin + 16, [&](Byte& byte) {
      if (!byte.write.copying || byte.write.thread != access.thread) return;
      byte.write.copying = false;
      byte.write.epoch = access.epoch;
      byte.write.warp_epoch = access.warp_epoch;
    });
  }
  // The row goes to all lanes of the warp, so all of them read it.
  void matrix_row_is_loaded(const unsigned char* from, int thread, const void* caller) override {
    touch_shared(from, 16, now(thread ^ 1, caller), false);
    touch_shared(from, 16, now(thread, caller), false);
  }
  void atomic(void* memory, std::size_t bytes, int thread, const void* caller) override {
    Access access = now(thread, caller);
    access.atomic = true;
    touch(memory, bytes, access, true);
  }
  void device_memory_changes(void* memory, std::size_t bytes) override {
    const auto begin = reinterpret_cast<std::uintptr_t>(memory) / page_bytes;
    const auto end = (reinterpret_cast<std::uintptr_t>(memory) + bytes + page_bytes - 1) / page_bytes;
    for (auto page = begin; page < end; ++page) pages_.erase(page);
    known_.fill({});
  }

  void access(const void* memory, std::size_t bytes, bool write, const void* caller) {
    touch(memory, bytes, now(position.thread, caller), write);
  }

 private:
  [[nodiscard]] Access now(int thread, const void* caller) const {
    return {epoch_,
            warp_epochs_[static_cast<std::size_t>(thread / 32)],
            static_cast<std::int32_t>(static_cast<const unsigned char*>(caller) - code_begin()),
            static_cast<std::uint16_t>(thread),
            false,
            false};
  }

  // False when a barrier stands between, or one thread did both.
  [[nodiscard]] bool unordered(const Access& earlier, const Access& later, bool shared) const {
    if (earlier.epoch < (shared ? block_begin_ : launch_begin_)) return false;
    if (earlier.epoch < block_begin_) return true;  // another block of this launch
    if (earlier.thread == later.thread || earlier.epoch < later.epoch) return false;
    return earlier.thread / 32 != later.thread / 32 || earlier.warp_epoch == later.warp_epoch;
  }
  [[nodiscard]] bool elsewhere(const Access& earlier, const Access& later) const {
    return earlier.epoch >= launch_begin_ && (earlier.epoch < block_begin_ || earlier.thread / 32 != later.thread / 32);
  }

  void touch(const void* memory, std::size_t bytes, const Access& access, bool write) {
    const auto offset = reinterpret_cast<std::uintptr_t>(memory) - reinterpret_cast<std::uintptr_t>(regions.shared);
    if (offset < shared_capacity)
      touch_shared(memory, bytes, access, write);
    else if (reinterpret_cast<std::uintptr_t>(memory) - reinterpret_cast<std::uintptr_t>(regions.stack) >=
             regions.stack_bytes)
      touch_global(memory, bytes, access, write);
  }

  void touch_shared(const void* memory, std::size_t bytes, const Access& access, bool write) {
    const auto begin = static_cast<std::size_t>(static_cast<const unsigned char*>(memory) - regions.shared);
    for_bytes(shared_, begin, std::min(begin + bytes, shared_capacity), [&](Byte& byte) {
      if (!write && byte.write.epoch < block_begin_)
        report("read of shared memory that no thread of this block has written", access);
      touch_byte(byte, access, write, true);
    });
  }

  void touch_global(const void* memory, std::size_t bytes, const Access& access, bool write) {
    auto address = reinterpret_cast<std::uintptr_t>(memory);
    for (const auto end = address + bytes; address < end;) {
      const Known& known = known_page(address / page_bytes);
      const auto next = std::min(end, (address / page_bytes + 1) * page_bytes);
      if (known.share == DeviceShare::none ||
          (known.share == DeviceShare::some &&
           !is_device_memory(reinterpret_cast<const void*>(address), next - address))) {
        if (write) report("write to memory that is neither the device's nor shared", access);
        return;  // constants of the program, the kernel's arguments
      }
      const std::size_t begin = address % page_bytes;
      for_bytes(known.page->bytes, begin, begin + (next - address),
                [&](Byte& byte) { touch_byte(byte, access, write, false); });
      address = next;
    }
  }

  const Known& known_page(std::uintptr_t number) {
    Known& known = known_[number % known_.size()];
    if (known.number == number) return known;
    known.number = number;
    known.share = device_share(number * page_bytes, page_bytes);
    known.page = nullptr;
    if (known.share != DeviceShare::none) {
      auto& found = pages_[number];
      if (found == nullptr) found = std::make_unique<Page>();
      known.page = found.get();
    }
    return known;
  }

  void touch_byte(Byte& byte, const Access& access, bool write, bool shared) {
    if (shared && byte.write.copying && byte.write.epoch >= block_begin_) {
      report(std::string(write ? "write to" : "read of") +
                 " shared memory that an asynchronous copy is filling; nobody "
                 "has waited for it",
             access, "the copy", byte.write);
    }
    if (!write && byte.read.epoch == access.epoch && byte.read.thread == access.thread &&
        byte.read.warp_epoch == access.warp_epoch)
      return;  // who wrote since then would have been found out, or has written itself
    if (unordered(byte.write, access, shared) && !(byte.write.atomic && access.atomic))
      report(race(write ? "write to" : "read of", shared), access, "the write", byte.write);
    if (!write) {
      if (elsewhere(byte.read, access))
        byte.read_elsewhere = byte.read;
      else if (byte.read.thread != access.thread)
        byte.read_beside = byte.read;
      byte.read = access;
      return;
    }
    for (const Access* read : {&byte.read, &byte.read_elsewhere, &byte.read_beside})
      if (unordered(*read, access, shared)) report(race("write to", shared), access, "the read", *read);
    byte.write = access;
  }

  static std::string race(const char* what, bool shared) {
    return std::string("race: ") + what + (shared ? " shared" : " device") + " memory without a barrier";
  }
  [[noreturn]] static void report(const std::string& what, const Access& access) { fail(what, access.caller()); }
  [[noreturn]] void report(const std::string& what, const Access& access, const char* other_name,
                           const Access& other) const {
    std::ostringstream text;
    text << what << (what.starts_with("race") ? " after " : ": ") << other_name << " by thread " << other.thread;
    if (other.epoch < block_begin_) text << " of another block";
    text << " at " << describe_return_address(other.caller());
    if (access.thread != position.thread) text << " (on behalf of thread " << access.thread << ")";
    fail(text.str(), access.caller());
  }

  std::uint32_t epoch_ = 0;
  std::uint32_t launch_begin_ = 0;
  std::uint32_t block_begin_ = 0;
  std::array<std::uint32_t, 32> warp_epochs_{};
  std::vector<Byte> shared_;
  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;  // of device memory
  std::array<Known, 256> known_{};
};

Races& races() {
  static auto* const made = new Races;
  return *made;
}

void access(const void* memory, std::size_t bytes, bool write, const void* caller) {
  if (!in_watched_kernel) return;
  const Outside outside;
  static Races& all = races();
  all.access(memory, bytes, write, caller);
}

}  // namespace
}  // namespace emulator

// What g++ and clang++ call. Declared here, as no header does.
extern "C" {
#define STORYLM_ACCESS(name, bytes, write) \
  void __tsan_##name(void* memory);        \
  void __tsan_##name(void* memory) { emulator::access(memory, bytes, write, __builtin_return_address(0)); }
STORYLM_ACCESS(read1, 1, false)
STORYLM_ACCESS(read2, 2, false)
STORYLM_ACCESS(read4, 4, false)
STORYLM_ACCESS(read8, 8, false)
STORYLM_ACCESS(read16, 16, false)
STORYLM_ACCESS(write1, 1, true)
STORYLM_ACCESS(write2, 2, true)
STORYLM_ACCESS(write4, 4, true)
STORYLM_ACCESS(write8, 8, true)
STORYLM_ACCESS(write16, 16, true)
STORYLM_ACCESS(unaligned_read2, 2, false)
STORYLM_ACCESS(unaligned_read4, 4, false)
STORYLM_ACCESS(unaligned_read8, 8, false)
STORYLM_ACCESS(unaligned_read16, 16, false)
STORYLM_ACCESS(unaligned_write2, 2, true)
STORYLM_ACCESS(unaligned_write4, 4, true)
STORYLM_ACCESS(unaligned_write8, 8, true)
STORYLM_ACCESS(unaligned_write16, 16, true)
#undef STORYLM_ACCESS

void __tsan_read_range(void* memory, std::size_t bytes);
void __tsan_read_range(void* memory, std::size_t bytes) {
  emulator::access(memory, bytes, false, __builtin_return_address(0));
}
void __tsan_write_range(void* memory, std::size_t bytes);
void __tsan_write_range(void* memory, std::size_t bytes) {
  emulator::access(memory, bytes, true, __builtin_return_address(0));
}
void __tsan_init();
void __tsan_init() { emulator::available_watcher = &emulator::races(); }  // before main(), by every object that reports
void __tsan_func_entry(void* caller);
void __tsan_func_entry(void* /*caller*/) {}
void __tsan_func_exit();
void __tsan_func_exit() {}
void __tsan_vptr_update(void** pointer, void* value);
void __tsan_vptr_update(void** /*pointer*/, void* /*value*/) {}
void __tsan_vptr_read(void** pointer);
void __tsan_vptr_read(void** /*pointer*/) {}
void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_thread_fence(int /*order*/) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int order);
void __tsan_atomic_signal_fence(int /*order*/) {}

// Atomics are done as they are; before_atomic() has told of those of kernels.
#define STORYLM_ATOMIC(bits)                                                                                        \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* p, int order);                 \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* p, int /*order*/) {            \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                    \
  }                                                                                                                 \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int order);              \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int /*order*/) {         \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                                       \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected, \
                                                    std::uint##bits##_t v, int order, int failure);                 \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected, \
                                                    std::uint##bits##_t v, int /*order*/, int /*failure*/) {        \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ? 1 : 0;          \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected,   \
                                                  std::uint##bits##_t v, int order, int failure);                   \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected,   \
                                                  std::uint##bits##_t v, int /*order*/, int /*failure*/) {          \
    return __atomic_compare_exchange_n(p, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) ? 1 : 0;           \
  }
#define STORYLM_ATOMIC_CHANGE(bits, name, builtin)                                                                     \
  std::uint##bits##_t __tsan_atomic##bits##_##name(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int order); \
  std::uint##bits##_t __tsan_atomic##bits##_##name(volatile std::uint##bits##_t* p, std::uint##bits##_t v,             \
                                                   int /*order*/) {                                                    \
    return builtin(p, v, __ATOMIC_SEQ_CST);                                                                            \
  }
#define STORYLM_ATOMICS(bits)                                \
  STORYLM_ATOMIC(bits)                                       \
  STORYLM_ATOMIC_CHANGE(bits, exchange, __atomic_exchange_n) \
  STORYLM_ATOMIC_CHANGE(bits, fetch_add, __atomic_fetch_add) \
  STORYLM_ATOMIC_CHANGE(bits, fetch_sub, __atomic_fetch_sub) \
  STORYLM_ATOMIC_CHANGE(bits, fetch_and, __atomic_fetch_and) \
  STORYLM_ATOMIC_CHANGE(bits, fetch_or, __atomic_fetch_or)   \
  STORYLM_ATOMIC_CHANGE(bits, fetch_xor, __atomic_fetch_xor)
STORYLM_ATOMICS(8)
STORYLM_ATOMICS(16)
STORYLM_ATOMICS(32)
STORYLM_ATOMICS(64)
#undef STORYLM_ATOMICS
#undef STORYLM_ATOMIC_CHANGE
#undef STORYLM_ATOMIC
}
