// SPDX-License-Identifier: MIT
/// @file
/// @brief POSIX file descriptors that close themselves, and reading from them.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <storylm/core/error.hpp>

namespace storylm::detail {

/// What the operating system calls error number `code`.
[[nodiscard]] inline std::string system_message(int code) { return std::generic_category().message(code); }

/// Like expects() for a system call: throws `E` with errno's sentence at the end. The arguments, the call among them,
/// are evaluated in no particular order, so that errno can only be read in here.
template <class E, class... Parts>
void expects_system(bool ok, std::string_view op, const Parts&... parts) {
  if (!ok) [[unlikely]] {
    const int reason = errno;
    fail<E>(op, parts..., ": ", system_message(reason));
  }
}

/// Owns a file descriptor; -1 is none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor = -1) noexcept : descriptor_(descriptor) {}
  FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~FileDescriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  [[nodiscard]] int get() const noexcept { return descriptor_; }

 private:
  int descriptor_;
};

/// A regular file opened for reading.
class InputFile {
 public:
  /// @throws IoError when it cannot be opened or is a folder, pipe or device
  InputFile(std::filesystem::path path, std::string_view op) : path_(std::move(path)), op_(op) {
    int descriptor = -1;
    do {  // O_NONBLOCK: opening a pipe that nobody writes to must fail below, not wait
      descriptor = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (descriptor < 0 && errno == EINTR);
    expects_system<IoError>(descriptor >= 0, op_, "cannot open ", path_);
    file_ = FileDescriptor(descriptor);
    struct stat status {};
    expects_system<IoError>(::fstat(descriptor, &status) == 0, op_, "cannot examine ", path_);
    expects<IoError>(S_ISREG(status.st_mode), op_, path_, " is ",
                     S_ISDIR(status.st_mode) ? "a folder" : "a special file", ", not a file");
    size_ = static_cast<std::uint64_t>(status.st_size);
  }

  /// Reads up to `bytes` bytes from where the last read ended; 0 at the end of the file. @throws IoError
  [[nodiscard]] std::size_t read(char* to, std::size_t bytes) {
    while (true) {
      const ::ssize_t got = ::read(file_.get(), to, bytes);
      if (got >= 0) return static_cast<std::size_t>(got);
      expects_system<IoError>(errno == EINTR, op_, "cannot read ", path_);
    }
  }
  /// Goes back to the first byte. @throws IoError
  void rewind() { expects_system<IoError>(::lseek(file_.get(), 0, SEEK_SET) == 0, op_, "cannot go back in ", path_); }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Bytes in the file when it was opened.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] int descriptor() const noexcept { return file_.get(); }

 private:
  std::filesystem::path path_;
  std::string op_;
  FileDescriptor file_;
  std::uint64_t size_ = 0;
};

/// The whole of a small file. @throws IoError, also when it has more than `limit` bytes
[[nodiscard]] inline std::string read_file(const std::filesystem::path& path, std::string_view op,
                                           std::uint64_t limit = std::uint64_t{1} << 30U) {
  InputFile file(path, op);
  expects<IoError>(file.size() <= limit, op, path, " has ", file.size(), " bytes, more than the ", limit, " allowed");
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  std::size_t filled = 0;
  while (filled < text.size()) {
    const std::size_t got = file.read(text.data() + filled, text.size() - filled);
    expects<IoError>(got != 0, op, path, " became shorter while it was read: ", filled, " of ", text.size(), " bytes");
    filled += got;
  }
  return text;
}

}  // namespace storylm::detail
