//! Connecting to the socket of a warm process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The address of a socket is limited to about a hundred bytes, less than a path; so this opens the folder and addresses it by descriptor.
pub(super) fn connect(socket: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    std::os::unix::net::UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}
