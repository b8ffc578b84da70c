//! What the operating system may not write down about this process.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps, and with them debuggers and `/proc/<pid>/mem` for everybody but root.
///
/// Memory is not locked: a confidential guest's memory is encrypted and has no swap below it, and
/// a model larger than the lock limit would fail where it now runs.
pub fn forbid_memory_dumps() -> io::Result<()> {
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
