// SPDX-License-Identifier: MIT
/// @file
/// @brief The Device concept and the CPU device: memory, an execution order, scratch.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/core/host_memory.hpp>
#include <storylm/core/instruction_set.hpp>
#include <storylm/core/scratch.hpp>

namespace storylm {

/// A cheap handle to one execution context. Copies are the same context: work given to them runs in order.
template <class D>
concept Device = std::copyable<D> && requires(const D& d, void* p, const void* q, std::size_t bytes) {
  { D::name } -> std::convertible_to<std::string_view>;
  { D::host_memory } -> std::convertible_to<bool>;
  { d.allocate(bytes) } -> std::same_as<void*>;
  d.deallocate(p);
  d.fill_zero(p, bytes);
  d.copy_from_host(p, q, bytes);
  d.copy_to_host(p, q, bytes);
  d.copy(p, q, bytes);
  d.synchronize();
  d.scratch();
  typename D::Readback;   // (device, bytes): post(from) orders a copy to the host, wait() gives it
  typename D::Recording;  // run(device, work): the same work again and again
};

/// What a Cpu is made with.
struct CpuOptions {
  int threads = 0;                                  ///< 0: as many as the machine offers
  std::optional<InstructionSet> instruction_set{};  ///< none: default_instruction_set()
};

/// Host memory and host threads. A default-made Cpu is a context of its own; copies share one. A context serves one
/// host thread at a time, for its scratch memory is one stack: models that are used from several host threads at once
/// need a Cpu each.
class Cpu {
 public:
  /// What programs call it.
  static constexpr std::string_view name = "cpu";
  /// The host reads and writes its memory as it is.
  static constexpr bool host_memory = true;
  /// Of every allocation, in bytes.
  static constexpr std::align_val_t alignment = detail::HostMemory::alignment;
  /// Where it comes from.
  using Memory = detail::HostMemory;
  /// Temporary memory, given back when it ends.
  using Scratch = ScratchStack<Memory>::Frame;

  /// @throws ArgumentError on a negative number of threads, or an instruction set that build or machine lacks
  explicit Cpu(CpuOptions options = {}) : context_(std::make_shared<Context>()) {
    expects<ArgumentError>(options.threads >= 0, "Cpu", "threads must not be negative: ", options.threads);
    const InstructionSet set = options.instruction_set ? *options.instruction_set : default_instruction_set();
    expects<ArgumentError>(set >= lowest_instruction_set && set <= highest_instruction_set, "Cpu", "instruction set ",
                           to_string(set), " is not in this build, which has ", to_string(lowest_instruction_set),
                           " to ", to_string(highest_instruction_set));
    expects<ArgumentError>(set <= machine_instruction_set(), "Cpu", "instruction set ", to_string(set),
                           " is not this machine's, which has ", to_string(machine_instruction_set()));
    context_->threads = options.threads;
    context_->instruction_set = set;
  }

  /// Memory as it comes. @throws std::bad_alloc
  [[nodiscard]] void* allocate(std::size_t bytes) const { return Memory::allocate(bytes); }
  /// All zero; large blocks without being touched, which happens beside the thread that first uses a page.
  /// @throws std::bad_alloc
  [[nodiscard]] void* allocate_zero(std::size_t bytes) const { return Memory::allocate_zero(bytes); }
  /// Gives back what allocate() or allocate_zero() gave; may be null.
  void deallocate(void* p) const noexcept { Memory::deallocate(p); }
  /// All bytes become zero.
  void fill_zero(void* p, std::size_t bytes) const noexcept {
    if (bytes != 0) std::memset(p, 0, bytes);
  }
  /// From the host to the device, in the order of the work given to it.
  void copy_from_host(void* to, const void* from, std::size_t bytes) const noexcept { copy(to, from, bytes); }
  /// From the device to the host; done after synchronize().
  void copy_to_host(void* to, const void* from, std::size_t bytes) const noexcept { copy(to, from, bytes); }
  /// Within the device.
  void copy(void* to, const void* from, std::size_t bytes) const noexcept {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  /// Waits until all work given to the device is done.
  void synchronize() const noexcept {}

  /// A frame of the context's scratch stack; memory taken from it lives as long as the frame.
  [[nodiscard]] Scratch scratch() const { return Scratch(context_->scratch); }

  /// A few bytes on their way to the host; here they are there already, and post() keeps a copy.
  class Readback {
   public:
    /// Room for `bytes`.
    Readback(const Cpu& /*device*/, std::size_t bytes) : bytes_(bytes) {}
    /// Copies what `from` is now.
    void post(const void* from) { std::memcpy(bytes_.data(), from, bytes_.size()); }
    /// What the last post() copied; valid until the next.
    [[nodiscard]] const void* wait() const noexcept { return bytes_.data(); }

   private:
    std::vector<std::byte> bytes_;
  };
  /// Work that is given to the device again and again; here each time anew.
  class Recording {
   public:
    /// Does the work. @throws whatever it throws
    template <class Work>
    void run(const Cpu& /*device*/, Work&& work) {
      work();
    }
    /// It never replays.
    [[nodiscard]] static constexpr bool recorded() noexcept { return false; }
  };

  /// The number of threads asked for; 0 means all. kernels/cpu/parallel.hpp interprets it.
  [[nodiscard]] int threads() const noexcept { return context_->threads; }
  /// What kernels given this device use.
  [[nodiscard]] InstructionSet instruction_set() const noexcept { return context_->instruction_set; }

 private:
  struct Context {
    int threads = 0;
    InstructionSet instruction_set = lowest_instruction_set;
    ScratchStack<Memory> scratch;
  };
  std::shared_ptr<Context> context_;
};
static_assert(Device<Cpu>);

}  // namespace storylm
