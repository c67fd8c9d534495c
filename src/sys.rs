//! The only unsafe code: system calls that the well-kept crates do not wrap.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// The descriptor of a TUN device, as its owner: tun-tap itself lends it as a bare number only.
pub fn tun_descriptor(interface: tun_tap::Iface) -> OwnedFd {
    // SAFETY: `into_raw_fd` gives up an open descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(interface.into_raw_fd()) }
}
