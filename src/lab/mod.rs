//! The testbed: the hosts of a topology as network namespaces of this machine.

use clap::Args;

use crate::error::Result;

/// `vpnlab lab ...`
#[derive(Debug, Args)]
pub struct LabArgs {}

/// Runs `vpnlab lab`.
pub fn run(_args: &LabArgs) -> Result<()> {
    Ok(())
}
