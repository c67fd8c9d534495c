//! `nc` for machines that have none: a TCP connection, with what is typed going one way and what is printed coming the other.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

use clap::Parser;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

use super::{parse, resolve};
use crate::error::{Context, Error, Result};
use crate::output;

/// Connect to a TCP port, or wait for a connection (vpnlab's own nc, for want of another)
#[derive(Debug, Parser)]
struct Nc {
    /// Wait for a connection
    #[arg(short)]
    listen: bool,
    /// The port to wait on, or to connect from
    #[arg(short, value_name = "PORT")]
    port: Option<u16>,
    /// Say that the connection is there
    #[arg(short)]
    verbose: bool,
    /// Close this way at the end of the input; without it the session goes on until the other end closes
    #[arg(short = 'N')]
    close: bool,
    /// No names
    #[arg(short)]
    numeric: bool,
    /// HOST PORT to connect to; or PORT to wait on
    #[arg(value_name = "HOST PORT", num_args = 0..=2)]
    to: Vec<String>,
}

/// How much is carried at a time.
const PIECE: usize = 16 * 1024;

pub fn run(words: Vec<OsString>) -> Result<u8> {
    let args: Nc = parse("nc", words);
    let connection = match (args.listen, args.port, &args.to[..]) {
        (true, Some(port), []) => wait_on(port, args.verbose)?,
        (true, None, [port]) => wait_on(number(port)?, args.verbose)?,
        (false, None, [host, port]) => {
            let (to, port) = (resolve(host)?, number(port)?);
            let failed = || format!("nc: cannot connect to {host} port {port}");
            let connection = TcpStream::connect((to, port)).context(failed)?;
            if args.verbose {
                output::error_line(format_args!("Connection to {host} {port} port [tcp/*] succeeded!"));
            }
            connection
        }
        _ => return Err(Error::usage("nc: where to?").hint("usage: nc HOST PORT, or nc -l -p PORT")),
    };
    carry(connection, args.close).context(|| "nc".into())?;
    Ok(0)
}

fn number(port: &str) -> Result<u16> {
    port.parse().map_err(|_| Error::usage(format!("nc: {port} is no port number")))
}

fn wait_on(port: u16, verbose: bool) -> Result<TcpStream> {
    let failed = || format!("nc: cannot listen on port {port}");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context(failed)?;
    if verbose {
        output::error_line(format_args!("Listening on 0.0.0.0 {port}"));
    }
    let (connection, from) = listener.accept().context(failed)?;
    if verbose {
        output::error_line(format_args!("Connection received on {} {}", from.ip(), from.port()));
    }
    Ok(connection)
}

/// Carries what comes, both ways, until the other end closes; what is typed may end before, and that is told if `close`.
fn carry(mut connection: TcpStream, close: bool) -> io::Result<()> {
    let stdin = io::stdin();
    let mut piece = vec![0; PIECE];
    let mut typing = true;
    loop {
        let wanted = if typing { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut ends = [PollFd::new(connection.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), wanted)];
        let count = if typing { 2 } else { 1 };
        poll(&mut ends[..count], PollTimeout::NONE)?;
        let [from_peer, typed] = ends.map(|end| end.any().unwrap_or(false));
        if from_peer {
            match connection.read(&mut piece)? {
                0 => return Ok(()),
                length => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&piece[..length])?;
                    stdout.flush()?;
                }
            }
        }
        if typing && typed {
            match read(&stdin, &mut piece)? {
                0 => {
                    typing = false;
                    if close {
                        connection.shutdown(Shutdown::Write)?;
                    }
                }
                length => connection.write_all(&piece[..length])?,
            }
        }
    }
}
