//! vpnlab: build an IP tunnel step by step, in a lab of its own.
#![deny(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod counts;
pub mod error;
pub mod forwarding;
pub mod interface;
pub mod lab;
pub mod lines;
pub mod link;
pub mod logging;
pub mod net;
pub mod packet;
pub mod select;
pub mod signals;
pub mod steps;
pub mod sys;
pub mod topology;
pub mod tun;
