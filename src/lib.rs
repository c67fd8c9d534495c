//! vpnlab: build an IP tunnel step by step, in a lab of its own.
//!
//! # The house
//! | layer | modules | what it does |
//! |---|---|---|
//! | the command line | [`cli`], [`completions`], [`manual`] | one variant and one `Args` per subcommand; what shells and man(1) know of them |
//! | the machine | [`doctor`] | what this machine can do, tried in namespaces that end with it |
//! | the grader | [`grade`] | anybody's programs, judged step by step by what they do on the wire |
//! | the report | [`report`] | a student's evidence, from a running lab |
//! | the x-ray | [`trace`] | one packet's journey through the lab, and why it ended |
//! | the projector | [`watch`] | a running lab, live on a terminal |
//! | the handout | [`steps`] | a file per step; steps never import each other |
//! | the testbed | [`lab`], [`demo`] | hosts as namespaces; the handout as a story |
//! | a step's surroundings | [`lines`], [`counts`], [`logging`], [`recording`], [`upkeep`], [`signals`], [`clock`], [`memory`], [`privileges`], [`keeper`] | what is printed, counted, logged; what is done beside packets; a small resident size; rights: given up, and kept by whom |
//! | the network | [`tun`], [`interface`], [`link`], [`path`], [`mtu`], [`addresses`], [`select`], [`net`], [`forwarding`] | the TUN device, batches of packets, the MTU, waiting, addresses and routes |
//! | the fast path | [`fast`] | behind [`link`]: many packets at a time |
//! | packets | [`packet`] | pure: validate, describe, answer, refuse, rewrite, cut, reassemble |
//! | data | [`topology`], [`error`], [`output`], [`pcapng`], [`page`], [`version`], [`programs`], [`apart`], [`bpf`] | the lab's network; the one error type; printing, and colours; files for Wireshark; pages for a browser; what this program is; where programs are; work in a child process; packet filters |
//! | the kernel | [`sys`] | the only unsafe code |
//!
//! A layer imports from those below it only (`fast` also the `Batch` of `link`, which is its front). `packet` is pure: no descriptor, no clock, no log; so is the arithmetic of
//! `fast`.
//!
//! # One packet's journey
//! `ping userv` on useru: the kernel's route for 10.1.1.0/24 leads to the TUN device. [`select`] says that it is
//! readable; [`tun`] reads the packet, [`link`] sends it as one UDP datagram to the server. There the socket is readable;
//! the packet is written to the server's TUN device, and the server's kernel routes it on to userv.
#![deny(unsafe_code)]

pub mod addresses;
pub mod apart;
pub mod bpf;
pub mod cli;
pub mod clock;
pub mod completions;
pub mod counts;
pub mod demo;
pub mod doctor;
pub mod error;
pub mod fast;
pub mod forwarding;
pub mod grade;
pub mod interface;
pub mod keeper;
pub mod lab;
pub mod lines;
pub mod link;
pub mod logging;
pub mod manual;
pub mod memory;
pub mod mtu;
pub mod net;
pub mod output;
pub mod packet;
pub mod page;
pub mod path;
pub mod pcapng;
pub mod privileges;
pub mod programs;
pub mod recording;
pub mod report;
pub mod select;
pub mod signals;
pub mod steps;
pub mod sys;
pub mod topology;
pub mod trace;
pub mod tun;
pub mod upkeep;
pub mod version;
pub mod watch;
