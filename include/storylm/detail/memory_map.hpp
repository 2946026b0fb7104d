// SPDX-License-Identifier: MIT
/// @file
/// @brief A file seen as memory, read-only.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include <storylm/core/error.hpp>
#include <storylm/detail/file_descriptor.hpp>

namespace storylm::detail {

/// Maps a whole file. The bytes are the file's as they are: whoever replaces it must rename over it (AtomicFile does),
/// not write into it.
class MemoryMap {
 public:
  /// @throws IoError when the file cannot be opened or mapped; `op` names who asks
  MemoryMap(const std::filesystem::path& path, std::string_view op) {
    const InputFile file(path, op);
    size_ = static_cast<std::size_t>(file.size());
    if (size_ == 0) return;  // an empty mapping does not exist
    void* const data = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.descriptor(), 0);
    expects_system<IoError>(data != MAP_FAILED, op, "cannot map ", path);
    data_ = data;
  }
  MemoryMap(MemoryMap&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MemoryMap& operator=(MemoryMap&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MemoryMap() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return {static_cast<const std::byte*>(data_), size_};
  }
  /// Has the pages of these bytes read ahead, without waiting for them; a failure is none.
  void prefetch(std::size_t begin, std::size_t bytes) const noexcept {
    if (bytes == 0 || data_ == nullptr) return;
    const std::size_t skipped = begin % page_bytes_;
    ::madvise(static_cast<std::byte*>(data_) + (begin - skipped), bytes + skipped, MADV_WILLNEED);
  }
  /// Gives back the memory that holds the pages of these bytes; who reads them again has them read again.
  void release(std::size_t begin, std::size_t bytes) const noexcept {
    if (bytes == 0 || data_ == nullptr) return;
    const std::size_t skipped = begin % page_bytes_;
    ::madvise(static_cast<std::byte*>(data_) + (begin - skipped), bytes + skipped, MADV_DONTNEED);
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t page_bytes_ = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
};

}  // namespace storylm::detail
