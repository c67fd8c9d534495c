//! What is really tried, each in a child process: its namespaces, devices and rules end with it, and this process and the
//! machine's network stay as they are.

use std::net::{Ipv4Addr, UdpSocket};

use landlock::RulesetStatus;
use log::{Level, LevelFilter};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getuid, sethostname};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};
use serde::{Deserialize, Serialize};

use crate::apart::apart;
use crate::error::{Context, Error, Result};
use crate::grade::trial::{self, Ran};
use crate::grade::worker;
use crate::lab::capture::Capture;
use crate::lab::{build, host, namespace, reject};
use crate::link;
use crate::net::Net;
use crate::privileges;
use crate::tun::Tun;

/// How an attempt ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tried {
    /// It was not made, since one before it failed.
    #[default]
    Not,
    /// It worked.
    Worked,
    /// It did not: why, and what can be done about it.
    Refused(String, Option<String>),
}

impl Tried {
    /// Whether it worked.
    pub fn worked(&self) -> bool {
        *self == Self::Worked
    }
}

impl<T> From<Result<T>> for Tried {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(_) => Self::Worked,
            Err(error) => {
                let remedy = error.remedy().map(String::from);
                Self::Refused(error.without_remedy().to_string(), remedy)
            }
        }
    }
}

impl From<bool> for Tried {
    fn from(worked: bool) -> Self {
        if worked { Self::Worked } else { Self::Refused(String::new(), None) }
    }
}

/// What a lab is made of, as far as it could be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pieces {
    /// A user namespace as a lab's; root makes none.
    pub user: Tried,
    /// A network namespace.
    pub network: Tried,
    /// A veth pair.
    pub veth: Tried,
    /// A bridge.
    pub bridge: Tried,
    /// The router's rule.
    pub nftables: Tried,
    /// A socket that sees all packets.
    pub capture: Tried,
    /// A TUN device.
    pub tun: Tried,
    /// A TUN device with headers.
    pub headers: Tried,
    /// Large TCP packets on it.
    pub tso: Tried,
    /// Large UDP packets on it.
    pub uso: Tried,
    /// Runs of datagrams, sent.
    pub gso: Tried,
    /// Runs of datagrams, received.
    pub gro: Tried,
    /// Mounts and a hostname of a host's own.
    pub host: Tried,
}

/// Makes the pieces of a lab.
///
/// # Errors
/// The process that tries it cannot be had, or was killed.
pub fn pieces() -> Result<Pieces> {
    apart(
        || "cannot try what a lab is made of".into(),
        || {
            be_quiet();
            make_pieces()
        },
    )
}

fn make_pieces() -> Pieces {
    let mut seen = Pieces::default();
    if !getuid().is_root() {
        seen.user = namespace::new_user_and_processes().into();
        if !seen.user.worked() {
            return seen;
        }
    }
    seen.network = namespace::new_network().into();
    if !seen.network.worked() {
        return seen;
    }
    if !may_change_network() {
        let refused = Error::environment("one was made, but this root may not change it")
            .hint("give the container CAP_NET_ADMIN, or use the machine itself");
        seen.network = Err::<(), _>(refused).into();
        return seen;
    }
    match Net::open(Level::Debug) {
        Ok(net) => {
            seen.veth = veth(&net).context(|| "cannot make a veth pair".into()).into();
            seen.bridge = bridge(&net).context(|| "cannot make a bridge".into()).into();
        }
        Err(error) => seen.veth = Err::<(), _>(error).into(),
    }
    // A network for documentation (RFC 5737): any will do.
    let network = ipnet::Ipv4Net::new(Ipv4Addr::new(192, 0, 2, 0), 24);
    seen.nftables = network.context(String::new).and_then(|network| reject::host_unreachable(&[network])).into();
    seen.capture = Capture::open().into();
    seen.tun = Tun::open("vpnlab%d").into();
    let device = Tun::open_with_headers("vpnlab%d", link::TUN_HEADER);
    if let (Ok(device), Ok(socket)) = (&device, UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))) {
        let offered = link::offered(device, &socket);
        let parts = [offered.tso, offered.uso, offered.gso, offered.gro].map(Tried::from);
        [seen.tso, seen.uso, seen.gso, seen.gro] = parts;
    }
    seen.headers = device.into();
    seen.host = own_mounts().into();
    seen
}

fn veth(net: &Net) -> std::io::Result<()> {
    let peer = LinkMessageBuilder::<LinkUnspec>::default().name("vpnlab1").build();
    net.create(RouteNetlinkMessage::NewLink(build::veth("vpnlab0", 0, peer)))
}

fn bridge(net: &Net) -> std::io::Result<()> {
    net.create(RouteNetlinkMessage::NewLink(LinkBridge::new("vpnlab-bridge").build()))
}

/// What is mounted for a program on a host.
fn own_mounts() -> Result<()> {
    let nothing: Option<&str> = None;
    let failed = || "cannot give a host mounts and a name of its own".to_string();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).context(failed)?;
    sethostname("vpnlab").context(failed)?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).context(failed)?;
    mount(Some("vpnlab"), &host::mount_point(), Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, nothing)
        .context(failed)
}

/// Makes the namespaces in which submissions are graded: those of a plain user, also where root grades.
///
/// # Errors
/// As of [`pieces`].
pub fn graders_namespaces() -> Result<Tried> {
    apart(|| "cannot try the grader's namespaces".into(), || worker::become_root_of_nothing().into())
}

/// Runs commands as submissions are run; see [`trial::run`].
///
/// # Errors
/// What the sandbox lacks.
pub fn sandbox(commands: &[&[&str]]) -> Result<Vec<Ran>> {
    let tried = apart(
        || "cannot try the sandbox".into(),
        || {
            be_quiet();
            trial::run(commands).map_err(|error| {
                let remedy = error.remedy().map(String::from);
                (error.without_remedy().to_string(), remedy)
            })
        },
    )?;
    tried.map_err(|(why, remedy)| match remedy {
        Some(remedy) => Error::environment(why).hint(remedy),
        None => Error::environment(why),
    })
}

/// How much of landlock the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Landlock {
    /// All that is asked for.
    Full,
    /// An older one.
    Part,
    /// None.
    None,
}

/// Gives the file system up.
///
/// # Errors
/// As of [`pieces`]; landlock is there, and refuses.
pub fn landlock() -> Result<Landlock> {
    let tried = apart(
        || "cannot try landlock".into(),
        || match privileges::try_landlock() {
            Ok(RulesetStatus::FullyEnforced) => Ok(Landlock::Full),
            Ok(RulesetStatus::PartiallyEnforced) => Ok(Landlock::Part),
            Ok(RulesetStatus::NotEnforced) => Ok(Landlock::None),
            Err(error) => Err(error.without_remedy().to_string()),
        },
    )?;
    tried.map_err(Error::environment)
}

/// Whether the kernel lets this process change the network that it is in. It is asked to delete an interface that cannot
/// be there: who may not is told so first.
pub fn may_change_network() -> bool {
    let mut nowhere = LinkMessage::default();
    nowhere.header.index = i32::MAX as u32;
    let asked = Net::open(Level::Trace)
        .map(|net| net.request(RouteNetlinkMessage::DelLink(nowhere)).map_err(|error| error.raw_os_error()));
    matches!(asked, Ok(Err(Some(errno))) if errno == Errno::ENODEV as i32)
}

/// What is tried is said in the findings; with `-v` the log tells it, too.
fn be_quiet() {
    if log::max_level() < LevelFilter::Debug {
        log::set_max_level(LevelFilter::Off);
    }
}
