//! The only unsafe code: system calls that the well-kept crates do not wrap.
#![allow(unsafe_code)]
