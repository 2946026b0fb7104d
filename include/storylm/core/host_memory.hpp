// SPDX-License-Identifier: MIT
/// @file
/// @brief Memory of the host: small blocks from operator new, large ones straight from the system.
///
/// A large block is on huge pages where the system has them (MADV_HUGEPAGE), comes zeroed without anyone touching it,
/// so that each page lands beside the core that first uses it, and goes back to the system when it is freed.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>

// Large blocks are mappings on Linux; but AddressSanitizer watches over the bounds of what operator new gives alone.
#if defined(__linux__)
#define STORYLM_MAPS_MEMORY 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#undef STORYLM_MAPS_MEMORY
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#undef STORYLM_MAPS_MEMORY
#endif
#endif
#if defined(STORYLM_MAPS_MEMORY)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace storylm::detail {

/// Memory on 64-byte boundaries.
struct HostMemory {
  /// Of every block, in bytes.
  static constexpr std::align_val_t alignment{64};
  /// From here on a block is large: the size of a huge page of x86-64 and most aarch64 systems.
  static constexpr std::size_t huge_page = std::size_t{1} << 21U;

  /// As it comes. @throws std::bad_alloc
  [[nodiscard]] static void* allocate(std::size_t bytes) { return allocate_block(bytes, false); }
  /// All zero. @throws std::bad_alloc
  [[nodiscard]] static void* allocate_zero(std::size_t bytes) { return allocate_block(bytes, true); }
  /// Of what allocate() or allocate_zero() gave; may be null.
  static void deallocate(void* p) noexcept {
    if (p == nullptr) return;
    Header* const header = static_cast<Header*>(p) - 1;
#if defined(STORYLM_MAPS_MEMORY)
    if (header->mapped != 0) {
      ::munmap(header, header->mapped);
      return;
    }
#endif
    ::operator delete(header, alignment);
  }

 private:
  /// Before what the caller gets.
  struct alignas(static_cast<std::size_t>(alignment)) Header {
    std::size_t mapped;  ///< bytes of the mapping that begins here; 0: it is operator new's
  };

  static void* allocate_block(std::size_t bytes, bool zero) {
    if (bytes > static_cast<std::size_t>(-1) / 2) throw std::bad_alloc();
    const std::size_t all = bytes + sizeof(Header);
#if defined(STORYLM_MAPS_MEMORY)
    if (bytes >= huge_page) return ::new (map(all)) Header{all} + 1;  // a mapping is zero until it is written
#endif
    auto* const header = ::new (::operator new(all, alignment)) Header{0};
    if (zero) std::memset(static_cast<void*>(header + 1), 0, bytes);
    return header + 1;
  }

#if defined(STORYLM_MAPS_MEMORY)
  /// A mapping that begins where a huge page may: mapped with room to spare, the spare given back.
  static void* map(std::size_t bytes) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t rounded = (bytes + page - 1) / page * page;
    void* const spacious =
        ::mmap(nullptr, rounded + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (spacious == MAP_FAILED) throw std::bad_alloc();
    auto* const begin = static_cast<std::byte*>(spacious);
    const std::size_t before = (huge_page - reinterpret_cast<std::size_t>(begin) % huge_page) % huge_page;
    if (before != 0) ::munmap(begin, before);
    ::munmap(begin + before + rounded, huge_page - before);
    ::madvise(begin + before, rounded, MADV_HUGEPAGE);  // a wish: where it fails, small pages do
    return begin + before;
  }
#endif
};

}  // namespace storylm::detail

#undef STORYLM_MAPS_MEMORY
