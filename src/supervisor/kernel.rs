//! Checks the kernel features that a supervisor needs. It tries them on this process and undoes each at once.
//! It makes no lasting change.

use std::io;

use rustix::process::{PidfdFlags, getpid, pidfd_open, set_child_subreaper};

/// The oldest Linux that has all these features.
pub const MIN_LINUX: (u32, u32) = (5, 3);

/// A missing kernel feature.
#[derive(Debug, thiserror::Error)]
#[error("the kernel does not let this process {what}")]
pub struct MissingFeature {
    what: &'static str,
    source: io::Error,
}

/// The release of the kernel, such as `6.1.0-13-amd64`, if available.
pub fn kernel_release() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}

/// Major and minor number of a release.
pub fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Tries child subreapers and pidfds.
///
/// # Errors
///
/// The first missing feature.
pub fn check_features() -> Result<(), MissingFeature> {
    let missing = |what| move |error: rustix::io::Errno| MissingFeature { what, source: error.into() };
    pidfd_open(getpid(), PidfdFlags::empty()).map_err(missing("open a pidfd"))?;
    set_child_subreaper(Some(getpid())).map_err(missing("be a child subreaper"))?;
    set_child_subreaper(None).map_err(missing("stop being a child subreaper"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_kernel_release_are_parsed() {
        assert_eq!(parse_release("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(parse_release("5.15.153.1-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(parse_release("5.3"), Some((5, 3)));
        assert_eq!(parse_release("weird"), None);
    }

    #[test]
    fn this_kernel_has_all_required_features() {
        check_features().expect("all features");
        assert!(kernel_release().as_deref().and_then(parse_release) >= Some(MIN_LINUX));
    }
}
