//! Wait until one of several descriptors has something to read: select(2).
//!
//! The loop of every step blocks here and nowhere else, so that one thread serves the TUN device, the socket and
//! signals without ever turning in circles.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::select::{FD_SETSIZE, FdSet, pselect};
use nix::sys::signal::SigSet;

use crate::error::{Context, Error, Result};

/// Blocks until at least one of `fds` is readable, and says of each whether it is; or until a signal arrives that is not
/// in `blocked`, and then none is. A descriptor in trouble counts as readable: reading it says why.
///
/// # Errors
/// A descriptor is numbered [`FD_SETSIZE`] or higher, which select(2) cannot express.
pub fn readable<const N: usize>(fds: [BorrowedFd<'_>; N], blocked: &SigSet) -> Result<[bool; N]> {
    let highest = fds.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(-1);
    expressible(highest)?;
    let mut ready = FdSet::new();
    fds.iter().for_each(|fd| ready.insert(*fd));
    match pselect(highest + 1, &mut ready, None, None, None, blocked) {
        Ok(_) => Ok(fds.map(|fd| ready.contains(fd))),
        Err(Errno::EINTR) => Ok([false; N]),
        Err(error) => Err(error).context(|| "select failed".into()),
    }
}

/// A descriptor set has room for the numbers below [`FD_SETSIZE`]; nix would panic above it.
fn expressible(highest: RawFd) -> Result<()> {
    match usize::try_from(highest) {
        Ok(number) if number >= FD_SETSIZE => Err(Error::environment(format!(
            "select cannot wait for descriptor {number}, only for those below {FD_SETSIZE}"
        ))
        .hint("start the program with fewer open files")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe, write};
    use std::os::fd::AsFd;

    #[test]
    fn only_the_descriptors_with_something_to_read_are_readable() {
        let (first, _keep) = pipe().unwrap();
        let (second, writer) = pipe().unwrap();
        write(&writer, b"x").unwrap();
        assert_eq!(readable([first.as_fd(), second.as_fd()], &SigSet::empty()).unwrap(), [false, true]);
    }

    #[test]
    fn the_end_of_a_pipe_is_readable() {
        let (reader, writer) = pipe().unwrap();
        drop(writer);
        assert_eq!(readable([reader.as_fd()], &SigSet::empty()).unwrap(), [true]);
    }

    #[test]
    fn a_descriptor_that_select_cannot_express_is_an_error() {
        assert!(expressible(FD_SETSIZE as RawFd - 1).is_ok());
        let error = expressible(FD_SETSIZE as RawFd).unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Environment);
    }
}
