//! The TUN device: a network interface whose other end is this program.
//!
//! What the kernel sends through the interface is read here, one IP packet per read, or one Ethernet frame of a TAP device;
//! what is written here arrives in the kernel as if it came from a wire. The device lives as long as its descriptor is open and is gone with the
//! program, killed or not. Addresses, routes and up or down belong to `interface`; nothing here looks into a packet.
//! Kernel documentation: Documentation/networking/tuntap.rst.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::info;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::net::if_::if_nametoindex;
use nix::unistd::{read, write};
use tun_tap::{Iface, Mode};

use crate::error::{Context, Error, RUN_AS_ROOT, Result};
use crate::sys;

/// Where the kernel makes TUN devices.
const DEVICE: &str = "/dev/net/tun";

/// The longest name of an interface in bytes: `IFNAMSIZ` less the final zero (linux/if.h).
const LONGEST_NAME: usize = 15;

/// What goes through a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IP packets.
    Tun,
    /// Ethernet frames.
    Tap,
}

impl Kind {
    /// The option of the steps that names a device of this kind.
    fn option(self) -> &'static str {
        match self {
            Self::Tun => "--tun",
            Self::Tap => "--tap",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tun => "TUN",
            Self::Tap => "TAP",
        })
    }
}

/// A TUN or TAP device, open. Reading and writing never block.
#[derive(Debug)]
pub struct Tun {
    descriptor: OwnedFd,
    name: String,
    kind: Kind,
}

impl Tun {
    /// Creates the interface `name`, or attaches to a persistent one; a `%d` in it becomes the first free number.
    ///
    /// # Errors
    /// The name is none, or in use; the user may not create interfaces; the kernel has no TUN devices.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_as(Kind::Tun, name)
    }

    /// The same for a TAP device, which carries Ethernet frames: whole ones, but for the check sequence.
    ///
    /// # Errors
    /// As [`Tun::open`].
    pub fn open_tap(name: &str) -> Result<Self> {
        Self::open_as(Kind::Tap, name)
    }

    fn open_as(kind: Kind, name: &str) -> Result<Self> {
        checked(kind, name)?;
        let mode = match kind {
            Kind::Tun => Mode::Tun,
            Kind::Tap => Mode::Tap,
        };
        let interface = Iface::without_packet_info(name, mode).map_err(|error| explain(kind, name, error))?;
        let name = interface.name().to_string();
        Self::prepare(sys::tun_descriptor(interface), name, kind)
    }

    /// The same, with a header of `header` bytes before each packet (`IFF_VNET_HDR`), which tun-tap cannot ask for.
    ///
    /// # Errors
    /// As [`Tun::open`].
    pub fn open_with_headers(name: &str, header: usize) -> Result<Self> {
        checked(Kind::Tun, name)?;
        let refused = |error| explain(Kind::Tun, name, error);
        let device = device().map_err(refused)?;
        let name = sys::create_tun_with_headers(device.as_fd(), name, header).map_err(refused)?;
        Self::prepare(device.into(), name, Kind::Tun)
    }

    fn prepare(descriptor: OwnedFd, name: String, kind: Kind) -> Result<Self> {
        // select(2) may call a descriptor readable that is not; then a read must come back instead of waiting.
        fcntl(&descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context(|| format!("cannot prepare {name}"))?;
        // A persistent device keeps what its last user set, if that was killed: without headers, nobody could read what
        // the kernel then leaves undone.
        sys::set_tun_offload(descriptor.as_fd(), 0).context(|| format!("cannot prepare {name}"))?;
        info!("Interface name: {name}");
        Ok(Self { descriptor, name, kind })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What goes through it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads one packet that the kernel sent through the interface; what `buf` has no room for is cut off. Its header comes
    /// first, if the device was opened with headers.
    ///
    /// # Errors
    /// `EAGAIN`: there is none. `EBADFD`: the interface was deleted.
    pub fn recv<'b>(&self, buf: &'b mut [u8]) -> Result<&'b mut [u8], Errno> {
        let length = read(&self.descriptor, buf)?;
        Ok(&mut buf[..length])
    }

    /// Writes one packet, which arrives in the kernel through the interface. Its header comes first, if the device was
    /// opened with headers.
    ///
    /// # Errors
    /// `EINVAL`: it is no IP packet, or shorter than the header of a frame. `EIO`: the interface is down. `EBADFD`: it was deleted.
    pub fn send(&self, packet: &[u8]) -> Result<(), Errno> {
        write(&self.descriptor, packet).map(|_| ())
    }
}

impl Drop for Tun {
    /// Leaves a persistent device without offloads, for programs that know nothing of them.
    fn drop(&mut self) {
        let _ = sys::set_tun_offload(self.descriptor.as_fd(), 0);
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn checked(kind: Kind, name: &str) -> Result<()> {
    check_name(name).map_err(|why| Error::usage(format!("{name:?} cannot name a {kind} device: {why}")))
}

/// What the kernel takes as a name of an interface (`dev_valid_name` in net/core/dev.c) and as a file in
/// /proc/sys/net, with at most one `%d`. tun-tap would cut a longer name off without a word.
fn check_name(name: &str) -> Result<(), &'static str> {
    let digits = name.matches("%d").count();
    if name.is_empty() {
        Err("it is empty")
    } else if name.len() > LONGEST_NAME {
        Err("it is longer than 15 bytes")
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':') {
        Err("only letters, digits and punctuation other than / and : can stand in it")
    } else if digits > 1 || name.matches('%').count() > digits {
        Err("a % can stand in it only as one %d, which becomes a number")
    } else if matches!(name, "." | ".." | "all" | "default") {
        Err("the kernel uses it for something else")
    } else {
        Ok(())
    }
}

/// Opens the device file, and closes it again: whether it is there for this user.
///
/// # Errors
/// It is not; the message says what to do.
pub fn check_device() -> Result<()> {
    device().map(drop).map_err(|error| no_device("", error))
}

fn device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

/// The error for a device file that cannot be opened, after `what` that was for.
fn no_device(what: &str, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("on the machine itself: sudo chmod 0666 {DEVICE}, the mode it has by default")
        }
        _ => "load the kernel's TUN driver, on the machine itself: sudo modprobe tun".into(),
    };
    Error::environment(format!("{what}cannot open {DEVICE}")).because(error).hint(hint)
}

/// Turns the kernel's refusal into what went wrong and what to do about it.
fn explain(kind: Kind, name: &str, error: io::Error) -> Error {
    // The kernel puts a number in the place of %d, but has not come that far.
    let what = match name.contains("%d") {
        true => format!("cannot create a {kind} device"),
        false => format!("cannot create {kind} device {name}"),
    };
    // Whether the device file or the request was refused, tun-tap does not tell; the file itself does.
    if let Err(error) = device() {
        return no_device(&format!("{what}: "), error);
    }
    let taken = if_nametoindex(name).is_ok();
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOTTY) => Error::environment(format!("{what}: {DEVICE} is not the device of the TUN driver"))
            .because(error)
            .hint(format!("make it anew: sudo rm {DEVICE} && sudo mknod -m 0666 {DEVICE} c 10 200")),
        Some(Errno::EPERM) => Error::environment(what).because(error).hint(RUN_AS_ROOT),
        Some(Errno::EBUSY | Errno::EINVAL) if taken => Error::failed(format!("{what}: the name is in use"))
            .because(error)
            .hint(format!("see ip link show {name}, or choose another name with {}", kind.option())),
        _ => Error::failed(what).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_kernel_would_take_is_taken() {
        for name in ["tun0", "tun%d", "t", "a-b_c.d", "exactly15bytes_"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_name_that_would_be_cut_or_misread_is_refused() {
        for name in ["", "sixteen_bytes_xx", "a/b", "a b", "a:b", "t\n", "ü", "%d%d", "a%", "%s", ".", "..", "all"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_bad_name_is_a_usage_error_before_the_kernel_is_asked() {
        let error = Tun::open("a/b").unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Usage);
        assert!(error.to_string().starts_with("\"a/b\" cannot name a TUN device: "), "{error}");
    }
}
