// SPDX-License-Identifier: MIT
/// @file
/// @brief Folders that are complete or absent: filled under a temporary name, renamed when all of it is on the disk.
#pragma once

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/file_descriptor.hpp>

namespace storylm::detail {

/// A new folder `path`, filled as `.<name>.partial` beside it. publish() makes it appear; without it the destructor
/// removes what was written. What a killed process left is removed by the next one, and two that write the same folder
/// at once are told apart by a lock. Nothing that is there is ever replaced, but for an empty folder.
class AtomicFolder {
 public:
  /// @throws ArgumentError when `path` is a file or a folder that is not empty, WriteError when it cannot be made or
  /// someone else is writing it
  explicit AtomicFolder(std::filesystem::path path) : path_(std::move(path)) {
    if (!path_.has_filename()) path_ = path_.parent_path();  // "folder/"
    expects<ArgumentError>(path_.has_filename() && path_.filename() != "." && path_.filename() != "..", op, path_,
                           " names no new folder");
    expects_absent();
    temporary_ = path_;
    temporary_.replace_filename("." + path_.filename().string() + ".partial");
    open();
    remove_what_is_left();
  }
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder() {
    std::error_code ignored;
    if (!published_) std::filesystem::remove_all(temporary_, ignored);
  }

  /// Makes the folder appear under its name; its files must be on the disk. @throws ArgumentError, WriteError
  void publish() {
    expects_system<WriteError>(::fsync(folder_.get()) == 0 || errno == EINVAL, op, "cannot write ", path_);
    expects_absent();  // the system would say "Directory not empty"
    expects_system<WriteError>(std::rename(temporary_.c_str(), path_.c_str()) == 0, op, "cannot rename ", temporary_,
                               " to ", path_);
    published_ = true;
    const std::filesystem::path parent = path_.parent_path();
    const FileDescriptor above(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const bool synced = above.get() < 0 || ::fsync(above.get()) == 0 || errno == EINVAL;
    expects_system<WriteError>(synced, op, "cannot write the folder of ", path_);
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// Where files go until publish().
  [[nodiscard]] const std::filesystem::path& temporary() const noexcept { return temporary_; }

 private:
  static constexpr std::string_view op = "AtomicFolder";

  void expects_absent() const {
    std::error_code ignored;
    const auto status = std::filesystem::symlink_status(path_, ignored);
    if (!std::filesystem::exists(status)) return;
    const bool empty_folder = std::filesystem::is_directory(status) && std::filesystem::is_empty(path_, ignored);
    expects<ArgumentError>(empty_folder, op, path_, " is there already and ",
                           std::filesystem::is_directory(status) ? "not empty" : "no folder",
                           ": choose another name, or remove it");
  }
  void remove_what_is_left() const {
    std::error_code error;
    std::filesystem::directory_iterator left_behind(temporary_, error);
    for (; !error && left_behind != std::filesystem::directory_iterator(); left_behind.increment(error)) {
      std::filesystem::remove_all(left_behind->path(), error);
      if (error) break;
    }
    expects<WriteError>(!error, op, "cannot empty ", temporary_, ": ", error.message());
  }
  void open() {
    while (true) {
      const bool made = ::mkdir(temporary_.c_str(), 0777) == 0 || errno == EEXIST;
      expects_system<WriteError>(made, op, "cannot make ", temporary_);
      // What lies in there will be removed: not what a link leads to.
      folder_ = FileDescriptor(::open(temporary_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (folder_.get() < 0 && errno == ENOENT) continue;  // published or removed by another in between
      expects_system<WriteError>(folder_.get() >= 0, op, "cannot open ", temporary_);
      const bool locked = ::flock(folder_.get(), LOCK_EX | LOCK_NB) == 0;
      expects<WriteError>(locked || errno != EWOULDBLOCK, op, "another program is writing ", path_);
      struct stat ours {};
      struct stat named {};
      if (::fstat(folder_.get(), &ours) == 0 && ::stat(temporary_.c_str(), &named) == 0 &&
          ours.st_ino == named.st_ino && ours.st_dev == named.st_dev) {
        break;
      }
    }
    expects_absent();  // it may have been published in between
  }

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileDescriptor folder_;  // its lock is the writer's
  bool published_ = false;
};

}  // namespace storylm::detail
