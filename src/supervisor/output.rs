//! Writes MassGen's output to logs of limited size and masks known secrets: a file and its predecessor, two megabytes each at most.
//! It always drains the pipe, so MassGen never blocks on it and never dies of a closed pipe.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::registry::rotated_log;
use crate::secrets::Secrets;

/// At this size, in bytes, a file becomes the predecessor and a new one starts.
const ROTATE_AT_BYTES: u64 = 2 << 20;

/// The last line that MassGen prints in a run with an answer; the answer is on disk by then.
const FINAL_LINE: &[u8] = b"\nFINAL_DIR: ";

/// Copies a pipe into a log until its end, which may come long after the leader's if another process holds the pipe. It notifies
/// `closing` when MassGen seems to have printed its last line. Agents could print that line too, so it is only a reason to check.
pub(super) fn drain(
    source: impl Into<OwnedFd>,
    mut log: RotatingLog,
    secrets: &Secrets,
    closing: &Arc<Notify>,
) -> io::Result<JoinHandle<()>> {
    let closing = Arc::clone(closing);
    let mut source = pipe::Receiver::from_owned_fd(source.into())?;
    let mut mask = secrets.mask_stream();
    Ok(tokio::spawn(async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = source.read(&mut buffer).await {
            let printed = mask.push(&buffer[..read]);
            log.append(&printed);
            if has_final_line(&printed) {
                closing.notify_one();
            }
        }
        log.append(&mask.finish());
    }))
}

fn has_final_line(printed: &[u8]) -> bool {
    printed.starts_with(&FINAL_LINE[1..]) || printed.windows(FINAL_LINE.len()).any(|part| part == FINAL_LINE)
}

/// A log of MassGen's output with one predecessor.
pub(super) struct RotatingLog {
    path: PathBuf,
    file: File,
    size: u64,
    failed: bool,
}

impl RotatingLog {
    pub(super) fn create(path: PathBuf) -> io::Result<RotatingLog> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok(RotatingLog { path, file, size: 0, failed: false })
    }

    /// On a full disk output is lost, never the run; this is logged once.
    fn append(&mut self, bytes: &[u8]) {
        if let Err(error) = self.write(bytes)
            && !self.failed
        {
            self.failed = true;
            tracing::warn!(path = %self.path.display(), %error, "MassGen's output could not be written to its log");
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= ROTATE_AT_BYTES {
            std::fs::rename(&self.path, rotated_log(&self.path)).or_else(ignore_not_found)?;
            *self = RotatingLog::create(self.path.clone())?;
        }
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

fn ignore_not_found(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn logs_of_long_output_are_bounded_and_contain_its_end() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("stdout.log");
        let (reader, mut writer) = io::pipe().expect("pipe");
        let task =
            drain(reader, RotatingLog::create(path.clone()).expect("created"), &Secrets::default(), &Arc::default())
                .expect("drain");
        let writer_thread = std::thread::spawn(move || {
            for _ in 0..700 {
                writer.write_all(&[b'x'; 16 << 10]).expect("pipe is drained");
            }
            writer.write_all(b"the end").expect("pipe is drained");
        });
        task.await.expect("drained");
        writer_thread.join().expect("written");
        let size = |path: &std::path::Path| path.metadata().expect("metadata").len();
        assert!(size(&path) + size(&rotated_log(&path)) <= 2 * (ROTATE_AT_BYTES + (16 << 10)));
        assert!(std::fs::read(&path).expect("read").ends_with(b"the end"));
    }

    #[tokio::test]
    async fn a_secret_that_is_split_across_two_writes_is_masked() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("stdout.log");
        let (reader, mut writer) = io::pipe().expect("pipe");
        let secrets = Secrets::default().with_values(["sk-12345678".to_owned()]);
        let task = drain(reader, RotatingLog::create(path.clone()).expect("created"), &secrets, &Arc::default())
            .expect("drain");
        writer.write_all(b"the key is sk-12").expect("written");
        while path.metadata().expect("metadata").len() == 0 {
            tokio::task::yield_now().await;
        }
        writer.write_all(b"345678, no sk-1").expect("written");
        drop(writer);
        task.await.expect("drained");
        assert_eq!(std::fs::read_to_string(path).expect("read"), "the key is ***********, no sk-1");
    }
}
