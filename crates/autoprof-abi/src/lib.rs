//! The stable binary interface between autoprof and its plugins.
//!
//! Everything that knows abi_stable and async-ffi is here (`docs/adr/0001-plugin-boundary.md` says why they are used and
//! how to leave them). Behaviour crosses as objects and futures, data as JSON text, bulk bytes without a copy, errors as
//! a kind, a message, a hint and a chain of causes. Plugins and hosts work with core's native traits on both sides.
//!
//! | module | what |
//! |---|---|
//! | `raw` | the types and traits that cross |
//! | [`FfiBytes`] | bytes without a copy |
//! | `adapt_native`, `adapt_ffi` | native → crossing, crossing → native |
//! | `run` | panics become errors, futures run on their own side's runtime |
//! | [`header`] | what a plugin exports, and the check of its layout |
//! | [`note`] | what a plugin says of itself in a file that nobody has run |

mod adapt_ffi;
mod adapt_native;
mod bytes;
mod contain;
pub mod header;
mod json;
#[cfg(test)]
mod layout;
pub mod note;
mod raw;
mod run;

pub use adapt_ffi::{HostFromFfi, Provided};
pub use adapt_native::{LogRecord, Logger, host_to_ffi, registry_to_ffi};
pub use bytes::FfiBytes;
pub use contain::register_contained;
pub use raw::{FfiError, FfiHostObj, FfiRegistry, FfiResult, PluginRoot_Ref};
pub use run::{Executor, guard, note_panic};
