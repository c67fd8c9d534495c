//! `vpnlab watch`: a running lab, live on a terminal: its hosts and wires, what their interfaces count, and every packet at all
//! the places that it passes.
//!
//! [`run`] opens the sockets, gives up its rights, and goes round: frames and counters from `feed` into `state`, keys into
//! `state`, `state` through `screen` onto the terminal. What is decided is decided in pure code: `headers`, `sight` and `layers`
//! read packets, `packets` puts places together, `sampling` says what is left out under load. Reads only, and changes nothing.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use ratatui::crossterm::event::{self, Event};

use crate::error::{Context, Error, Result};
use crate::lab::{self, Lab, Presence};
use crate::output;
use crate::privileges;
use crate::signals::Signals;

pub mod feed;
pub mod headers;
pub mod keys;
pub mod layers;
pub mod once;
pub mod packets;
#[cfg(test)]
mod samples;
pub mod sampling;
pub mod screen;
pub mod sight;
pub mod state;
pub mod terminal;

use feed::Feed;
use screen::Look;
use sight::Protocol;
use state::{Action, Filter, State};
use terminal::Screen;

/// How often frames are read and the screen is drawn, at most. The eye does not see more, and a slow line has to carry it.
const TURN: Duration = Duration::from_millis(100);

/// How long after a packet's first place the others are waited for, so that they come to the screen together.
const TOGETHER: Duration = Duration::from_millis(20);

/// How often the interfaces' counters are read.
const COUNT: Duration = Duration::from_secs(1);

/// How often it is looked whether the lab is still up. `lab down` waits for whoever holds its namespaces, for some seconds.
const LOOK: Duration = Duration::from_millis(500);

/// How many lines one look has at most, as text.
const ONCE_HEIGHT: u16 = 60;

/// `vpnlab watch`
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The lab
    #[arg(long = "lab", value_name = "NAME", default_value = lab::root::DEFAULT, value_parser = lab::lab_name)]
    lab: String,
    /// Only packets that were at this host
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only packets of this protocol
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    protocol: Option<Protocol>,
    /// Only packets that were in the tunnel
    #[arg(long)]
    tunnel: bool,
    /// Look once, for the time of --seconds, print it, and end
    #[arg(long)]
    once: bool,
    /// Print JSON
    #[arg(long, requires = "once")]
    json: bool,
    /// How long --once looks
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = seconds, requires = "once")]
    seconds: f64,
}

/// The examples of `vpnlab watch --help`.
pub const EXAMPLES: &str = "EXAMPLES:
  vpnlab watch                          the lab, live; ? shows the keys, q quits
  vpnlab watch --protocol icmp          pings alone
  vpnlab watch --host server --tunnel   what passes the server in the tunnel
  vpnlab watch --once                   one look of a second, as text
  vpnlab watch --once --seconds 5 --json | jq '.packets[].says'

It needs a terminal of 80 x 24. docs/watch.md tells how to read it, and has the JSON.";

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 3600".into()),
    }
}

/// Runs `vpnlab watch`.
///
/// # Errors
/// There is no such lab, or no terminal to show it on.
pub fn run(args: &WatchArgs) -> Result<()> {
    lab::refuse_inside_a_host()?;
    if !args.once {
        needs_terminal()?;
    }
    let lab = Lab::open(&args.lab)?;
    let host = args.host.as_deref().map(|host| lab.topology.place(host)).transpose()?;
    let filter = Filter { host, protocol: args.protocol, tunnelled: args.tunnel };
    let state = State::new(&lab.name, &lab.topology, filter);
    let presence = lab.presence()?;
    lab.join()?;
    let feed = Feed::open(&lab)?;
    // From here on it reads what anybody sends. The remedy is an option of the steps, which this has not.
    privileges::bar().and_then(|()| privileges::give_up()).map_err(Error::without_remedy)?;
    // Whoever holds the namespaces keeps `lab down` waiting; the sockets do so for half a second.
    drop(lab);
    let look = Look::of_locale(|name| std::env::var(name).ok(), output::has_colour());
    let watch = Watch { state, feed, presence, look };
    if args.once { watch.once(args) } else { watch.live() }
}

fn needs_terminal() -> Result<()> {
    let hint = "vpnlab watch --once shows it once, with --json for programs";
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Error::usage("standard input and output are not a terminal").hint(hint));
    }
    match std::env::var("TERM").as_deref() {
        Err(_) | Ok("dumb" | "") => {
            Err(Error::environment("the terminal cannot place its cursor (TERM is dumb or not set)").hint(hint))
        }
        Ok(_) => Ok(()),
    }
}

/// What goes round.
struct Watch {
    state: State,
    feed: Feed,
    presence: Presence,
    look: Look,
}

/// Why a round ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    User,
    Lab,
}

impl Watch {
    /// Looks for some seconds, and prints.
    fn once(mut self, args: &WatchArgs) -> Result<()> {
        self.count()?;
        let started = Instant::now();
        let end = started + Duration::from_secs_f64(args.seconds);
        let mut look = started + LOOK;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let timeout = TimeSpec::from(left.min(TURN));
            let mut awaited: Vec<_> = self.feed.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            if !matches!(ppoll(&mut awaited, Some(timeout), None), Ok(0) | Err(Errno::EINTR)) {
                // The other places of a packet, too.
                std::thread::sleep(left.min(TOGETHER));
            }
            self.take()?;
            if Instant::now() >= look {
                look = Instant::now() + LOOK;
                self.still_up()?;
            }
        }
        self.count()?;
        self.still_up()?;
        let seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        match args.json {
            true => output::line(format_args!("{:#}", once::json(&self.state, seconds))),
            false => output::text(screen::text(&self.state, &self.look, ONCE_HEIGHT)),
        }
    }

    fn still_up(&self) -> Result<()> {
        match self.presence.lasts() {
            true => Ok(()),
            false => Err(Error::failed(format!("lab {} is down", self.state.lab))),
        }
    }

    /// Shows it until the user ends it, or the lab.
    fn live(mut self) -> Result<()> {
        let mut signals = Signals::block()?;
        let mut screen = Screen::open(self.look.has_colour)?;
        let end = self.rounds(&mut signals, &mut screen);
        drop(screen);
        if end? == End::Lab {
            output::error_line(format_args!("lab {} is down", self.state.lab));
        }
        Ok(())
    }

    fn rounds(&mut self, signals: &mut Signals, screen: &mut Screen) -> Result<End> {
        let waiting = *signals.waiting();
        let started = Instant::now();
        let mut due = Due { count: started, look: started + LOOK, draw: started, take: None };
        let mut is_new = true;
        loop {
            if signals.arrived()?.ends() {
                return Ok(End::User);
            }
            while event::poll(Duration::ZERO).context(cannot_read)? {
                match event::read().context(cannot_read)? {
                    Event::Key(key) => match keys::action(key) {
                        Some(Action::Quit) => return Ok(End::User),
                        Some(action) => self.act(action, screen)?,
                        None => continue,
                    },
                    Event::Resize(..) => {}
                    _ => continue,
                }
                // A key is answered at once.
                (is_new, due.draw) = (true, Instant::now());
            }
            let now = Instant::now();
            if now >= due.look {
                due.look = now + LOOK;
                if !self.presence.lasts() {
                    return Ok(End::Lab);
                }
            }
            if now >= due.count {
                due.count = now + COUNT;
                is_new |= self.count()?;
            }
            if due.take.is_some_and(|at| now >= at) {
                let taken = self.take()?;
                is_new |= taken;
                // Once more after the last frame, and until every packet is shown again.
                due.take = (taken || self.feed.one_of() > 1).then_some(now + TURN);
            }
            if is_new && now >= due.draw {
                screen.show(|buffer| screen::draw(&self.state, &self.look, buffer))?;
                (is_new, due.draw) = (false, now + TURN);
            }
            if self.wait(&mut due, is_new, &waiting)? == Some(End::User) {
                return Ok(End::User);
            }
        }
    }

    /// Sleeps until something has to be done: a key, a signal, a first packet, the time. Under load it is the time alone: a
    /// frame each would wake it up for.
    fn wait(&self, due: &mut Due, is_new: bool, waiting: &SigSet) -> Result<Option<End>> {
        let keyboard = io::stdin();
        let mut awaited = vec![PollFd::new(keyboard.as_fd(), PollFlags::POLLIN)];
        if due.take.is_none() {
            awaited.extend(self.feed.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        }
        let next = [Some(due.count), Some(due.look), due.take, is_new.then_some(due.draw)];
        let now = Instant::now();
        let left = next.into_iter().flatten().min().map_or(LOOK, |next| next.saturating_duration_since(now));
        match ppoll(&mut awaited, Some(TimeSpec::from(left)), Some(*waiting)) {
            Ok(_) => {}
            // A signal, or another size of the window.
            Err(Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(Error::failed("cannot wait for packets").because(errno)),
        }
        let came = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
        let is_gone = came(&awaited[0]).intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL);
        if awaited[1..].iter().any(|fd| !came(fd).is_empty()) {
            due.take = Some(Instant::now() + TOGETHER);
        }
        Ok(is_gone.then_some(End::User))
    }

    /// Reads the counters; returns whether anything is new.
    fn count(&mut self) -> Result<bool> {
        let links = self.feed.links()?;
        Ok(self.state.count(&links, SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()))
    }

    /// Reads the frames; returns whether there were any.
    fn take(&mut self) -> Result<bool> {
        let turn = self.feed.take()?;
        let is_new = !turn.frames.is_empty() || self.state.one_of != self.feed.one_of();
        for (host, frame) in turn.frames {
            self.state.see(host, frame);
        }
        self.state.one_of = self.feed.one_of();
        self.state.lost += turn.lost;
        Ok(is_new)
    }

    fn act(&mut self, action: Action, screen: &mut Screen) -> Result<()> {
        let was_paused = self.state.is_paused;
        match action {
            Action::Suspend => screen.suspend()?,
            Action::Redraw => screen.clear()?,
            action => self.state.apply(action),
        }
        if self.state.is_paused != was_paused {
            self.feed.hold(self.state.is_paused)?;
        }
        Ok(())
    }
}

/// When something is to be done.
struct Due {
    count: Instant,
    look: Instant,
    draw: Instant,
    /// When frames are read; `None` while none has come.
    take: Option<Instant>,
}

fn cannot_read() -> String {
    "cannot read the keyboard".into()
}
