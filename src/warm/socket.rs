//! Connecting to the socket of a warm process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A socket's address may have some hundred bytes, fewer than a path; so its folder is opened, and named by its number.
pub(super) fn connect(socket: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    std::os::unix::net::UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}
