//! `vpnlab grade`: is the step done, and if not, why? Judges anybody's programs by what they do on the wire.

pub mod model;
pub mod report;
