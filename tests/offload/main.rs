//! The fast path of `vpn` on a real kernel: it carries the same packets as any other end, in every mix of its parts; it
//! does without what the kernel lacks; and it leaves nothing behind.

#[path = "../common/mod.rs"]
mod common;
#[path = "../fixtures/mod.rs"]
mod fixtures;

mod downgrade;
mod ending;
mod mixes;
mod persistent;
mod strangers;
mod survival;
