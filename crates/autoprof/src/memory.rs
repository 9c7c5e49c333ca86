//! Keeps passphrases and keys in this process's memory to itself.
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Leaves no core dump of this process, and lets no other process of this user read its memory, environment or open
/// files; only root can, and a debugger that root starts.
///
/// A limit on core dumps would be inherited by the test, whose own are its user's business; this is not: a program that
/// is executed begins anew.
///
/// # Errors
/// When the system does not do it, which Linux always does.
pub fn hide() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
