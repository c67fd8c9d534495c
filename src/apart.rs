//! Work in a child process, which may join or give up what this process keeps as it is; what it returns comes back.
//!
//! Called by `lab`, to look into a lab, and by `doctor`, to try things whose traces end with the child. This process must
//! have one thread.

use std::fs::File;
use std::io::{Read, Write};

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, pipe2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};
use crate::sys;

/// Does something in a child process, which ends with it, or with this process; `what` says it in an error.
///
/// # Errors
/// There is no child to be had, or it was killed before it had an answer.
pub fn apart<T: Serialize + DeserializeOwned>(what: impl Fn() -> String, work: impl FnOnce() -> T) -> Result<T> {
    let (result, report) = pipe2(OFlag::O_CLOEXEC).context(&what)?;
    match sys::fork().context(&what)? {
        ForkResult::Child => {
            drop(result);
            // Where it changes users, this is lost; then it ends with its work.
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let answer = serde_json::to_vec(&work());
            let told = answer.map_err(std::io::Error::from).and_then(|answer| File::from(report).write_all(&answer));
            std::process::exit(i32::from(told.is_err()))
        }
        ForkResult::Parent { child } => {
            drop(report);
            let mut answer = Vec::new();
            File::from(result).read_to_end(&mut answer).context(&what)?;
            match waitpid(child, None).context(&what)? {
                WaitStatus::Signaled(_, signal, _) => {
                    Err(Error::failed(what()).because(format!("its process was ended by {signal}")))
                }
                _ => serde_json::from_slice(&answer).context(&what),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A test has a thread of its own beside the harness's, and so cannot fork: `tests/doctor.rs` does for it.
    #[test]
    fn a_process_with_several_threads_is_refused() {
        let error = apart(|| "cannot try it".into(), || 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot try it: this process has "), "{error}");
    }
}
