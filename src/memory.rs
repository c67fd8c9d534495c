//! A small resident size: code that has done its part is given back.
//!
//! A tunnel's own data are some hundred kilobytes. What else is resident is the program, mapped from its file: the kernel
//! maps up to 64 KiB around every page that is touched (fault-around, mm/memory.c), so that most of a program is resident
//! once it has parsed its arguments and configured an interface, and the loop that carries packets needs little of it.
//! So [`release`] is called where one phase of the start ends, and only what the next one uses comes back, from the page
//! cache. The largest size ever is that of the largest phase, and not of all of them together.
//!
//! Called at the start, never from the loop. It changes nothing but what is resident.

use crate::sys;

/// Gives back the code and the constants of the program and its libraries, and what it has freed. What is used again comes
/// back by itself.
pub fn release() {
    // A debugger's breakpoints are code that was written to, and would be lost. A release build has no names for them.
    if cfg!(debug_assertions) && is_traced() {
        return;
    }
    sys::release_heap();
    sys::release_code();
}

/// Whether a debugger looks at this process (proc_pid_status(5)).
fn is_traced() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}
