// SPDX-License-Identifier: MIT
/// @file
/// @brief Files that are complete or absent: written under a temporary name, renamed when all of it is on the disk.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <storylm/core/error.hpp>
#include <storylm/detail/file_descriptor.hpp>

namespace storylm {

/// An output could not be written: the disk is full, the folder read-only, another program writes the same file.
struct WriteError : IoError {
  using IoError::IoError;
};

}  // namespace storylm

namespace storylm::detail {

/// Writes `path` under the name `.<name>.partial` in the same folder. publish() makes it appear, all of it or nothing,
/// whatever happens to the process or the machine; without it the destructor removes what was written. What a killed
/// process left is overwritten by the next one, and two that write the same file at once are told apart by a lock.
class AtomicFile {
 public:
  /// @throws WriteError when the temporary file cannot be made, `path` is a folder, or someone else is writing it
  explicit AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
    std::error_code ignored;
    expects<WriteError>(!std::filesystem::is_directory(path_, ignored), op, path_, " is a folder");
    expects<WriteError>(path_.has_filename(), op, path_, " names no file");
    temporary_ = path_;
    temporary_.replace_filename("." + path_.filename().string() + ".partial");
    open();
    buffer_.reserve(buffer_bytes);
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() {
    if (!published_) ::unlink(temporary_.c_str());
  }

  /// Appends. @throws WriteError
  void write(std::string_view text) {
    if (buffer_.size() + text.size() > buffer_bytes) flush();
    if (text.size() >= buffer_bytes) {
      write_through(text, size_);
    } else {
      buffer_.append(text);
    }
    size_ += text.size();  // after flush(), which takes what is buffered for the end of the file
  }
  void write(std::span<const std::byte> bytes) { write(text_of(bytes)); }

  /// Overwrites bytes written before: a header whose counts are known at the end. @throws WriteError
  void overwrite(std::uint64_t offset, std::span<const std::byte> bytes) {
    expects<ArgumentError>(offset + bytes.size() <= size_, op, "cannot overwrite bytes ", offset, " to ",
                           offset + bytes.size(), " of ", size_, " written");
    flush();
    write_through(text_of(bytes), offset);
  }

  /// Hands what is buffered to the operating system, so that temporary() can be read. @throws WriteError
  void flush() {
    write_through(buffer_, size_ - buffer_.size());
    buffer_.clear();
  }
  /// Waits until everything is on the disk. @throws WriteError
  void sync() {
    flush();
    expects_system<WriteError>(::fsync(file_.get()) == 0, op, "cannot write ", path_);
  }
  /// Makes the file appear under its name, replacing an older one. @throws WriteError
  void publish() {
    sync();
    rename();
    sync_folder();
  }

  /// publish(), and the file that was there is from then on `predecessor`, in the same folder. An older predecessor
  /// goes away when the new file is on the disk, and at each moment there is a whole file under the one name or the
  /// other; where the file system has hard links, under the file's own name. @throws WriteError
  void publish_keeping(const std::filesystem::path& predecessor) {
    sync();
    keep(predecessor);
    rename();
    sync_folder();
  }

  /// Bytes appended so far.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Where the bytes are until publish().
  [[nodiscard]] const std::filesystem::path& temporary() const noexcept { return temporary_; }

  /// Publishes several files that belong together: none appears before all are on the disk; they appear in this
  /// order, so that the last one can stand for all. @throws WriteError
  static void publish_all(std::initializer_list<AtomicFile*> files) {
    for (AtomicFile* file : files) file->sync();
    for (AtomicFile* file : files) {
      file->rename();
      file->sync_folder();
    }
  }

 private:
  static constexpr std::string_view op = "AtomicFile";
  static constexpr std::size_t buffer_bytes = std::size_t{1} << 20U;

  static std::string_view text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  void open() {
    while (true) {
      // Not through a link or into a pipe that somebody laid there: nothing is written anywhere else.
      const int descriptor = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
      if (descriptor < 0 && errno == EINTR) continue;
      expects_system<WriteError>(descriptor >= 0, op, "cannot write ", path_);
      file_ = FileDescriptor(descriptor);
      const bool locked = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0;
      expects<WriteError>(locked || errno != EWOULDBLOCK, op, "another program is writing ", path_);
      // Between open and lock the other writer may have renamed the file we hold: then it is no longer ours.
      struct stat ours {};
      struct stat named {};
      const bool examined = ::fstat(descriptor, &ours) == 0;
      expects<WriteError>(!examined || S_ISREG(ours.st_mode), op, "cannot write ", path_, ": ", temporary_,
                          " is a special file");
      if (examined && ::lstat(temporary_.c_str(), &named) == 0 && ours.st_ino == named.st_ino &&
          ours.st_dev == named.st_dev) {
        break;
      }
    }
    expects_system<WriteError>(::ftruncate(file_.get(), 0) == 0, op, "cannot write ", path_);
  }

  void write_through(std::string_view text, std::uint64_t offset) {
    while (!text.empty()) {
      const ::ssize_t put = ::pwrite(file_.get(), text.data(), text.size(), static_cast<::off_t>(offset));
      if (put < 0 && errno == EINTR) continue;
      expects_system<WriteError>(put >= 0, op, "cannot write ", path_);
      text.remove_prefix(static_cast<std::size_t>(put));
      offset += static_cast<std::uint64_t>(put);
    }
  }

  void rename() {
    expects_system<WriteError>(std::rename(temporary_.c_str(), path_.c_str()) == 0, op, "cannot rename ", temporary_,
                               " to ", path_);
    published_ = true;
  }

  /// Gives the file at path_, if there is one, the name `predecessor` too.
  void keep(const std::filesystem::path& predecessor) const {
    std::filesystem::path link = predecessor;
    link.replace_filename("." + predecessor.filename().string() + ".partial");
    ::unlink(link.c_str());  // what a killed process left
    if (::link(path_.c_str(), link.c_str()) == 0) {
      const bool renamed = std::rename(link.c_str(), predecessor.c_str()) == 0;
      const int reason = errno;
      ::unlink(link.c_str());  // still there when both names were the same file's already
      errno = reason;
      expects_system<WriteError>(renamed, op, "cannot rename ", link, " to ", predecessor);
    } else if (errno != ENOENT) {  // no hard links here
      expects_system<WriteError>(std::rename(path_.c_str(), predecessor.c_str()) == 0, op, "cannot rename ", path_,
                                 " to ", predecessor);
    }
  }

  void sync_folder() const {
    const std::filesystem::path parent = path_.parent_path();
    const FileDescriptor folder(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // Some file systems cannot sync a folder (EINVAL); the file itself is safe by then.
    const bool synced = folder.get() < 0 || ::fsync(folder.get()) == 0 || errno == EINVAL;
    expects_system<WriteError>(synced, op, "cannot write the folder of ", path_);
  }

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileDescriptor file_;
  std::string buffer_;
  std::uint64_t size_ = 0;
  bool published_ = false;
};

/// Writes a whole small file, complete or absent. @throws WriteError
inline void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.publish();
}

}  // namespace storylm::detail
